"""Perfetto's trace processor reads our traces: what SQL counts in them is what the tables of the result hold.

It is Perfetto's own, compiled to WebAssembly, in a browser; the expectations are worked out with pandas, by other ways than the trace was.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import sim
from sim.observe import Result
from sim.report.timeline import write
from tests.report.trace_processor import TraceProcessor, browser, serving, ui_folder

MOST = 300
SCENARIOS = Path(__file__).parents[2] / "scenarios"
CASES = {  # scenario, option, what is set: autoscaling; a zone is lost; retries and rejections; sleeping engines; no steps
    "autoscaled": ("autoscaler_shootout", "hpa-kv", {"run.duration": "14m", "run.steps": True}),
    "zone-lost": ("zone_loss", "autoscaled", {"run.duration": "12m", "run.steps": True}),
    "retries": ("retry_storm", "shedding", {"run.duration": "3m", "run.steps": True}),
    "asleep": ("scale_to_zero", "asleep", {"run.duration": "40m", "run.steps": True}),
    "plain": ("chat_capacity", "4-gpus", {"run.duration": "2m", "run.replications": 2}),
}


class Seen(NamedTuple):
    """A result and its trace, as Perfetto has loaded it; the tables are those of the first replication."""

    result: Result
    sql: Callable[[str], list[tuple[Any, ...]]]
    requests: pd.DataFrame
    steps: pd.DataFrame
    events: pd.DataFrame

    @property
    def first(self) -> pd.DataFrame:
        """The requests that are shown."""
        return self.requests.sort_values(["arrival_s", "request"]).head(MOST)


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Any, str]]:
    with serving(ui_folder()) as address, browser() as opened:
        yield opened, address


@pytest.fixture(scope="module", params=CASES)
def seen(request: pytest.FixtureRequest, place: tuple[Any, str], tmp_path_factory: pytest.TempPathFactory) -> Seen:
    name, option, settings = CASES[request.param]
    scenario = sim.load(SCENARIOS / f"{name}.yaml", {"run.replications": 1, **settings}).with_option(option)
    result = sim.simulate(scenario, jobs=1)
    path = tmp_path_factory.mktemp("timeline") / "timeline.pftrace"
    write(result, path, requests=MOST)
    opened, address = place
    page = opened.new_page()
    page.goto(f"{address}/manifest.json")
    processor = TraceProcessor(page, path.read_bytes())
    tables = [frame[frame.replication == 0] for frame in (result.requests, result.steps, result.events)]
    return Seen(result, processor.query, *tables)


def ns(seconds: Any) -> Any:
    return np.rint(np.asarray(seconds, float) * 1e9).astype(np.int64)


def test_nothing_is_reported_as_wrong(seen: Seen) -> None:
    assert seen.sql("select name, value from stats where severity != 'info' and value != 0") == []
    assert seen.sql("select count(*) as n from slice where dur < 0") == [(0,)]


def test_a_group_a_deployment_and_a_track_a_replica(seen: Seen) -> None:
    groups = {name for (name,) in seen.sql("select name from track where parent_id is null")}
    facts = seen.result.records[0]
    assert groups - {"machines"} == {deployment.name for deployment in facts.deployments}
    tracks = seen.sql(
        "select p.name as deployment, t.name as track from track t join track p on t.parent_id = p.id where t.name glob 'replica [0-9]*'"
    )
    names = [deployment.name for deployment in facts.deployments]
    ordinals = facts.replicas["ordinal"].tolist()
    assert sorted(tracks) == sorted(
        (names[owner], f"replica {n}") for owner, n in zip(facts.owner.tolist(), ordinals, strict=True)
    )


def test_as_many_steps_as_were_kept(seen: Seen) -> None:
    steps = seen.steps
    found = seen.sql(
        "select count(*) as n, min(ts) as first, max(ts + dur) as last, sum(extract_arg(arg_set_id, 'debug.steps')) as steps, "
        "sum(extract_arg(arg_set_id, 'debug.prefill_tokens')) as tokens, "
        "sum(extract_arg(arg_set_id, 'debug.steps') * extract_arg(arg_set_id, 'debug.decodes')) as decodes "
        "from slice where category = 'step'"
    )
    if steps.empty:
        assert found[0][0] == 0
        return
    decodes = int((steps.steps * steps.decodes).sum())
    # what the steps are held against was counted apart: totals of the ledger
    record = seen.result.records[0]
    lost = steps[steps.steps == 0]
    assert decodes == record.replicas["decode_tokens"].sum()
    assert steps.prefill_tokens.sum() == record.replicas["prefill_tokens"].sum() + lost.prefill_tokens.sum()
    assert found == [
        (
            len(steps), ns(steps.start_s.min()), ns(steps.end_s.max()), int(record.replicas["steps"].sum()),
            int(steps.prefill_tokens.sum()), decodes,
        )
    ]  # fmt: skip
    by_replica = seen.sql(
        "select g.name as deployment, r.name as replica, count(*) as n from slice s join track t on s.track_id = t.id "
        "join track r on t.parent_id = r.id join track g on r.parent_id = g.id where t.name = 'steps' group by 1, 2"
    )
    counted = steps.groupby(["deployment", "replica"]).size()
    assert sorted(by_replica) == sorted((name, f"replica {replica}", n) for (name, replica), n in counted.items())


def test_the_first_requests_one_by_one(seen: Seen) -> None:
    shown = seen.first
    left = shown.end_s.fillna(seen.result.course.end)
    found = seen.sql(
        "select extract_arg(arg_set_id, 'debug.request') as request, ts, ts + dur as until, "
        "extract_arg(arg_set_id, 'debug.outcome') as outcome, extract_arg(arg_set_id, 'debug.prompt_tokens') as prompt, "
        "extract_arg(arg_set_id, 'debug.output_tokens') as output, extract_arg(arg_set_id, 'debug.preemptions') as preemptions "
        "from slice where category = 'request' order by request"
    )
    rows = shown.assign(ts=ns(shown.arrival_s), until=ns(left)).sort_values("request")
    columns = ["request", "ts", "until", "outcome", "prompt_tokens", "output_tokens", "preemptions"]
    assert found == list(rows[columns].itertuples(index=False, name=None))


def test_phases_of_requests(seen: Seen) -> None:
    shown = seen.first
    left = shown.end_s.fillna(seen.result.course.end)
    found = dict(seen.sql("select name, sum(dur) as dur from slice where category = 'phase' group by name"))
    counts = dict(seen.sql("select name, count(*) as n from slice where category = 'phase' group by name"))
    decoding = shown.first_token_s.notna()
    assert counts.get("decode", 0) == int((ns(left[decoding]) > ns(shown.first_token_s[decoding])).sum())
    assert found.get("decode", 0) == int((ns(left[decoding]) - ns(shown.first_token_s[decoding])).sum())
    served = shown[shown.outcome == "ok"]
    slices = seen.sql(
        "select extract_arg(p.arg_set_id, 'debug.request') as request, s.name as name, s.dur as dur from slice s "
        "join slice p on s.parent_id = p.id where s.category = 'phase'"
    )
    durations = (
        pd.DataFrame(slices, columns=["request", "name", "dur"]).pivot_table("dur", "request", "name").fillna(0.0)
    )
    for name, column in (("prefill", served.first_token_s - served.scheduled_s), ("queue", served.queue_s)):
        mine = durations[name].reindex(served.request).fillna(0.0)
        assert np.abs(mine.to_numpy() / 1e9 - column.to_numpy()).max() < 3e-9


def test_arrows_from_requests_to_the_steps_that_took_them_in(seen: Seen) -> None:
    keys = ["deployment", "replica"]
    joined = seen.first.merge(seen.steps, left_on=[*keys, "scheduled_s"], right_on=[*keys, "start_s"])
    found = seen.sql(
        "select count(*) as n, sum(o.category = 'phase' and i.category = 'step' and o.ts = i.ts) as right "
        "from flow f join slice o on f.slice_out = o.id join slice i on f.slice_in = i.id"
    )
    if seen.steps.empty:
        assert found[0][0] == 0
        return
    assert found == [(len(joined), len(joined))]
    assert len(joined) >= 0.9 * (seen.first.outcome == "ok").sum() > 0


def test_every_event_is_an_instant(seen: Seen) -> None:
    shown = seen.events[~seen.events.kind.isin(["reject", "extrapolated", "exhausted"])]
    found = seen.sql(
        "select ts, name, extract_arg(arg_set_id, 'debug.reason') as reason from slice where category = 'event' and dur = 0"
    )
    assert Counter((ts, name.split()[0], reason) for ts, name, reason in found) == Counter(
        zip(ns(shown.t_s).tolist(), shown.kind, shown.reason, strict=True)
    )
    scaled = [json.loads(detail) for detail in shown[shown.kind == "scale"].detail]
    numbers = seen.sql(
        "select extract_arg(arg_set_id, 'debug.before') as b, extract_arg(arg_set_id, 'debug.after') as a from slice "
        "where category = 'event' and name glob 'scale *'"
    )
    assert Counter(numbers) == Counter((one["before"], one["after"]) for one in scaled)


def test_requests_in_flight(seen: Seen) -> None:
    for name in seen.requests.deployment.unique():
        mine = seen.requests[seen.requests.deployment == name]
        found = seen.sql(
            "select max(c.value) as most, count(*) as n from counter c join track t on c.track_id = t.id join track p on "
            f"t.parent_id = p.id where t.name = 'requests in flight' and p.name = '{name}'"
        )
        moments = np.unique(np.concatenate([mine.arrival_s, mine.end_s.dropna()]))
        present = (mine.arrival_s.to_numpy()[:, None] <= moments) & ~(mine.end_s.to_numpy()[:, None] <= moments)
        number = present.sum(axis=0)
        assert found == [(number.max(), 1 + int((np.diff(number) != 0).sum()))]


@pytest.mark.parametrize(("track", "column"), [("running", "running"), ("waiting", "waiting"), ("KV cache", "kv_used")])
def test_counters_of_replicas(seen: Seen, track: str, column: str) -> None:
    found = seen.sql(
        "select p.name as deployment, r.name as replica, max(c.value) as most from counter c join track t on c.track_id = t.id "
        f"join track r on t.parent_id = r.id join track p on r.parent_id = p.id where t.name = '{track}' group by 1, 2"
    )
    timeline = seen.result.timeline
    source = timeline[timeline.replication == 0] if seen.steps.empty else seen.steps
    most = source.groupby(["deployment", "replica"])[column].max()
    seen_by_replica = {(name, int(replica.split()[1])): value for name, replica, value in found}
    assert {key: seen_by_replica[key] for key in most.index} == most.to_dict()


def test_lives_of_replicas(seen: Seen) -> None:
    """The time replicas were ready is that of the cluster's own books."""
    record = seen.result.records[0]
    replicas, end = record.replicas, record.end
    gone = np.where(np.isnan(replicas["gone_s"]), end, np.minimum(replicas["gone_s"], end))
    closed = np.where(np.isnan(replicas["closed_s"]), gone, np.minimum(replicas["closed_s"], gone))
    ready = closed - replicas["ready_s"]
    found = seen.sql(
        "select sum(dur) / 1e9 as seconds, count(*) as n from slice where category = 'life' and name = 'ready'"
    )
    assert found[0][0] == pytest.approx(float(np.nansum(ready)), rel=0.002)
    starting = seen.sql(
        "select count(*) as n, min(s.ts >= p.ts and s.ts + s.dur <= p.ts + p.dur) as inside from slice s join slice p "
        "on s.parent_id = p.id where p.name = 'starting'"
    )
    phases = [json.loads(detail)["phases"] for detail in seen.events[seen.events.kind == "ready"].detail]
    assert starting[0][0] == sum(1 for one in phases for seconds in one.values() if seconds)
    assert starting[0][0] == 0 or starting[0][1] == 1
