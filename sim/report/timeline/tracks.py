"""From what happened to a trace: a group of tracks for each deployment, and one for the machines."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from sim.report.timeline.lives import lives
from sim.report.timeline.trace import Trace, Track, Value

if TYPE_CHECKING:
    import pyarrow as pa

    from sim.observe.course import Line
    from sim.report.timeline.lives import Life, Period
    from sim.report.timeline.moments import Moments

__all__ = ["draw"]

_STATES = {"running": ("running", "requests"), "waiting": ("waiting", "requests"), "kv_used": ("KV cache", "blocks")}
_SHOWN = ("prompt_tokens", "output_tokens", "outcome", "reason", "ttft_s", "tpot_s", "e2e_s", "queue_s", "preempted_s",
          "preemptions", "attempts", "priority", "replica", "request")  # fmt: skip

Step = tuple[str, int, float]
"""Its deployment, replica and start."""
Flows = Mapping[Step, list[int]]
"""The numbers of the arrows to steps."""


def draw(moments: Moments, most: int) -> Trace:
    """All of it, but for requests past the first ``most``."""
    trace = Trace()
    steps, samples = _by_replica(moments.steps), _by_replica(moments.samples)
    known = lives(moments)
    lines = {line.deployment: line for line in moments.lines}
    for name, replicas in moments.deployments.items():
        group = trace.track(name)
        _events(trace, group, [row for row in moments.events if row["deployment"] == name])
        if name in lines:
            _fleet(trace, group, moments, lines[name])
        _in_flight(trace, group, moments, name)
        rows = _first(moments, name, most)
        flows = _arrows(moments, rows)
        _requests(trace, group, moments, rows, flows)
        for replica in replicas:
            key = (name, replica)
            track = trace.track(f"replica {replica}", group)
            _life(trace, track, moments, known[key])
            if key in steps:
                _steps(trace, trace.track("steps", track), steps[key], flows)
            states = _states_in_steps(steps[key]) if key in steps else _states_sampled(samples.get(key), moments)
            for column, series in states.items():
                title, unit = _STATES[column]
                _count(trace, trace.counter(title, track, unit, f"{name} {title}"), series)
    machines = [row for row in moments.events if not row["deployment"]]
    if machines:
        _events(trace, trace.track("machines"), machines)
    return trace


# --- what a deployment has


def _events(trace: Trace, group: Track, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    track = trace.track("events", group)
    for row in rows:
        detail: dict[str, Any] = json.loads(row["detail"] or "{}")
        name = row["kind"]
        if name == "scale":
            name = f"scale {detail['before']} → {detail['after']}"
        elif row["replica"] >= 0:
            name = f"{name} replica {row['replica']}"
        trace.instant(track, row["t_s"], name, "event", {"reason": row["reason"], **_flat(detail)})


def _flat(detail: Mapping[str, Any]) -> dict[str, Value]:
    """Numbers and words; what holds several, as text."""
    return {
        key: value if isinstance(value, int | float | str) else json.dumps(value)
        for key, value in detail.items()
        if value is not None
    }


def _fleet(trace: Trace, group: Track, moments: Moments, line: Line) -> None:
    for title, values in (("asked for", line.target), ("ready", line.ready), ("starting", line.starting)):
        track = trace.counter(f"replicas {title}", group, "replicas", f"{line.deployment} replicas")
        _count(trace, track, _within(moments, list(line.times), list(values)))


def _in_flight(trace: Trace, group: Track, moments: Moments, name: str) -> None:
    """Requests that have come and have not ended, from the first moment of the stretch to its last."""
    import pyarrow.compute as pc

    table = moments.requests
    mine = table.filter(pc.equal(table["deployment"], name))
    changes = [(when, 1) for when in mine["arrival_s"].to_pylist()]
    changes += [(when, -1) for when in mine["end_s"].to_pylist() if when is not None]
    series: dict[float, int] = {}
    number = 0
    for when, change in sorted(changes):
        number += change
        if when <= moments.stop:
            series[max(when, moments.start)] = number
    track = trace.counter("requests in flight", group, "requests", f"{name} in flight")
    _count(trace, track, list(series.items()))


def _first(moments: Moments, name: str, most: int) -> list[dict[str, Any]]:
    """Those of the deployment among the first ``most`` requests."""
    import pyarrow.compute as pc

    first = moments.requests.slice(0, most)
    rows: list[dict[str, Any]] = first.filter(pc.equal(first["deployment"], name)).to_pylist()
    return rows


def _arrows(moments: Moments, rows: list[dict[str, Any]]) -> Flows:
    """From each request to the step that first served it, if that was kept."""
    columns = ("deployment", "replica", "start_s")
    kept = set(zip(*(moments.steps[column].to_pylist() for column in columns), strict=True))
    flows: dict[Step, list[int]] = defaultdict(list)
    for row in rows:
        step = (row["deployment"], row["replica"], row["scheduled_s"])
        if step in kept:
            flows[step].append(row["request"] + 1)
    return flows


def _requests(trace: Trace, group: Track, moments: Moments, rows: list[dict[str, Any]], flows: Flows) -> None:
    """In as few lanes as hold them."""
    lanes: list[Track] = []
    free: list[tuple[float, int]] = []  # when a lane is free again, and which
    for row in rows:
        end = moments.end if row["end_s"] is None else row["end_s"]
        if free and free[0][0] <= row["arrival_s"]:
            lane = heappop(free)[1]
        else:
            lane = len(lanes)
            lanes.append(trace.track("requests", group, last=True))
        heappush(free, (end, lane))
        fate = "" if row["outcome"] == "ok" else f" ({row['outcome']})"
        whose = "request" if row["tenant"] == "default" else row["tenant"]
        shown: dict[str, Value] = {key: row[key] for key in _SHOWN if row[key] not in (None, "")}
        trace.begin(lanes[lane], row["arrival_s"], f"{whose} {row['request']}{fate}", "request", shown)
        for phase, begin, until in _phases(row, end):
            joined = phase == "prefill" and (row["deployment"], row["replica"], begin) in flows
            trace.slice(lanes[lane], begin, until, phase, "phase", flows=[row["request"] + 1] if joined else ())
        trace.end(lanes[lane], end)


def _phases(row: Mapping[str, Any], end: float) -> Iterator[tuple[str, float, float]]:
    """What a request spent its time on, in order: name, begin and end, each within the request."""
    began = row["arrival_s"] + (row["retry_s"] or 0.0)
    routed = row["replica"] >= 0
    got = began + (row["gateway_s"] or 0.0) if routed else end
    marks = [("retry", row["arrival_s"], began), ("gateway", began, got)]
    if routed:
        scheduled, first = row["scheduled_s"], row["first_token_s"]
        marks.append(("queue", row["queued_s"], end if scheduled is None else scheduled))
        if scheduled is not None:
            marks.append(("prefill", scheduled, end if first is None else first))
        if first is not None:
            marks.append(("decode", first, end))
    at = row["arrival_s"]
    for name, begin, until in marks:
        since, last = max(begin, at), min(until, end)
        if since < last:
            yield name, since, last
            at = last


# --- what a replica has


def _life(trace: Trace, track: Track, moments: Moments, life: Life) -> None:
    for period in life.periods(moments.end):
        _period(trace, track, moments, period)


def _period(trace: Trace, track: Track, moments: Moments, period: Period) -> None:
    """As much of it as lies in the stretch: it may be much longer."""
    begin, end = max(period.begin, moments.start), min(period.end, moments.stop)
    if begin < end:
        trace.begin(track, begin, period.name, "life")
        for part in period.parts:
            _period(trace, track, moments, part)
        trace.end(track, end)


def _steps(trace: Trace, track: Track, columns: Mapping[str, list[Any]], flows: Flows) -> None:
    key = (columns["deployment"][0], columns["replica"][0])
    names = ("start_s", "end_s", "steps", "prompts", "prefill_tokens", "decodes", "context_tokens")
    for start, end, steps, prompts, tokens, decodes, context in zip(*(columns[name] for name in names), strict=True):
        arguments: dict[str, Value] = {"steps": steps, "decodes": decodes, "context_tokens": context}
        if prompts:
            arguments |= {"prompts": prompts, "prefill_tokens": tokens}
        kind = "lost" if steps == 0 else "decode" if not prompts else "prefill + decode" if decodes else "prefill"
        trace.slice(track, start, end, kind, "step", arguments, flows.get((*key, start), ()))


def _states_in_steps(columns: Mapping[str, list[Any]]) -> dict[str, list[tuple[float, int]]]:
    """As each step began, and nothing once the replica is idle."""
    starts, ends = columns["start_s"], columns["end_s"]
    found: dict[str, list[tuple[float, int]]] = {}
    for column in _STATES:
        series: list[tuple[float, int]] = []
        last = None
        for start, end, value in zip(starts, ends, columns[column], strict=True):
            if last is not None and last < start:
                series.append((last, 0))
            series.append((start, value))
            last = end
        series.append((ends[-1], 0))
        found[column] = series
    return found


def _states_sampled(columns: Mapping[str, list[Any]] | None, moments: Moments) -> dict[str, list[tuple[float, int]]]:
    """At each sample, and nothing once the replica is not sampled any more."""
    if columns is None:
        return {}
    after = columns["t_s"][-1] + moments.period
    end = [(after, 0)] if after <= min(moments.end, moments.stop) else []
    return {column: [*zip(columns["t_s"], columns[column], strict=True), *end] for column in _STATES}


def _count(trace: Trace, track: Track, series: list[tuple[float, int]]) -> None:
    """Write where the value changes."""
    before = None
    for when, value in series:
        if value != before:
            trace.count(track, when, value)
            before = value


def _within(moments: Moments, times: list[float], values: list[int]) -> list[tuple[float, int]]:
    """A series of steps within the stretch, from the value that holds as it begins."""
    series = [(when, value) for when, value in zip(times, values, strict=True) if when <= moments.stop]
    later = [place for place, (when, _) in enumerate(series) if when > moments.start]
    first = (later[0] if later else len(series)) - 1
    return [(max(when, moments.start), value) for when, value in series[max(first, 0) :]]


def _by_replica(table: pa.Table) -> dict[tuple[str, int], dict[str, list[Any]]]:
    """The columns of each replica's rows."""
    found: dict[tuple[str, int], dict[str, list[Any]]] = {}
    pairs = table.group_by(["deployment", "replica"]).aggregate([])
    import pyarrow.compute as pc

    for name, replica in zip(pairs["deployment"].to_pylist(), pairs["replica"].to_pylist(), strict=True):
        mine = table.filter(pc.and_(pc.equal(table["deployment"], name), pc.equal(table["replica"], replica)))
        found[name, replica] = {column: mine[column].to_pylist() for column in mine.column_names}
    return found
