"""The request table: every request of a run, drawn before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.errors import ConfigError, Problem, TraceError
from sim.kernel.streams import generator
from sim.workload import trace as transforms
from sim.workload.arrivals import arrive, to_grid
from sim.workload.lengths import JointLengths, Recorded
from sim.workload.spec import arrivals_kind, joint_lengths, open_loop
from sim.workload.spec import field as get

if TYPE_CHECKING:
    from sim.workload.trace import Trace

__all__ = ["RequestTable", "draw"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


MAX_ROWS = 50_000_000
"""Of one workload. More is a mistake in a unit sooner than a wish, and would not fit into memory."""

_FASTEST_TOKEN = 0.002
_CLOSED_LOOP_ROWS = 1_000_000


@dataclass(slots=True)
class RequestTable:
    """One row a request, as columns of one length.

    ``arrival`` in seconds, on the time grid. Open-loop rows come first, in order of arrival (workloads as listed where two
    arrive together); then, workload by workload, the rows that closed-loop users will issue, in that order, with
    arrival NaN. ``workload`` indexes ``workload_names``. Lengths are tokens, at least 1. ``session`` is -1 where there is
    none.
    """

    arrival: Floats
    workload: npt.NDArray[np.int16]
    prompt_tokens: Integers
    output_tokens: Integers
    priority: Integers
    session: Integers
    workload_names: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.arrival)

    def equals(self, other: RequestTable) -> bool:
        """Whether ``other`` holds the very same requests."""
        return np.array_equal(self.arrival, other.arrival, equal_nan=True) and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("workload", "prompt_tokens", "output_tokens", "priority", "session")
        )


@dataclass(slots=True)
class _Part:
    """The rows of one workload."""

    arrival: Floats
    prompt_tokens: Integers
    output_tokens: Integers
    priority: Integers
    session: Integers
    closed: bool = False


def draw(specs: Sequence[Any], horizon: float | None, limit: int | None, seed: int, replication: int) -> RequestTable:
    """The requests of one replication.

    ``specs`` are the workloads of a scenario (``sim.config.Workload``). Arrivals are in [0, ``horizon``) seconds, at most
    ``limit`` of each workload; one of the two may be None, and both when every workload replays a trace. Arrivals and lengths
    of a workload come from streams of their own, named after it: they are the same whatever else the scenario holds, and a
    longer horizon continues them. Raises TraceError for a trace that cannot be read.
    """
    parts = [_draw_part(spec, horizon, limit, seed, replication) for spec in specs]
    opened = [index for index, part in enumerate(parts) if not part.closed]
    closed = [index for index, part in enumerate(parts) if part.closed]
    order = [*opened, *closed]
    arrival = _join([parts[index].arrival for index in order], np.float64)
    # NaN sorts last, and a stable sort leaves the closed-loop rows in their order
    by_time = np.argsort(arrival, kind="stable") if len(opened) > 1 else np.arange(len(arrival))
    workload = np.repeat(np.array(order, dtype=np.int16), [len(parts[index].arrival) for index in order])
    return RequestTable(
        arrival=arrival[by_time],
        workload=workload[by_time],
        prompt_tokens=_join([parts[index].prompt_tokens for index in order], np.int64)[by_time],
        output_tokens=_join([parts[index].output_tokens for index in order], np.int64)[by_time],
        priority=_join([parts[index].priority for index in order], np.int64)[by_time],
        session=_join([parts[index].session for index in order], np.int64)[by_time],
        workload_names=[str(spec.name) for spec in specs],
    )


def _join(columns: list[Any], dtype: type[np.generic]) -> Any:
    return np.concatenate(columns) if columns else np.zeros(0, dtype)


def _draw_part(spec: Any, horizon: float | None, limit: int | None, seed: int, replication: int) -> _Part:
    kind = arrivals_kind(spec.arrivals)
    lengths = joint_lengths(spec)
    if kind == "trace":
        return _replay(spec, lengths, horizon, limit, seed, replication)
    if lengths is None:
        raise ConfigError(
            [Problem("needs lengths: only presets and traces bring their own", path=f"workloads.{spec.name}")]
        )
    if horizon is None and limit is None:
        problem = "never ends: give the run a duration or a number of requests"
        raise ConfigError([Problem(problem, path=f"workloads.{spec.name}.arrivals")])
    if kind == "closed_loop":
        _, output = lengths.draw(generator(seed, replication, f"lengths/{spec.name}"), 1_000)
        fastest = float(output.mean()) * _FASTEST_TOKEN + float(get(spec.arrivals, "think", 0.0))
        users = int(get(spec.arrivals, "closed_loop"))
        arrival = np.full(_closed_loop_rows(users, fastest, horizon, limit), np.nan)
    else:
        process = open_loop(spec.arrivals)
        streams = (
            generator(seed, replication, f"arrivals/{spec.name}"),
            generator(seed, replication, f"arrivals/{spec.name}/rate"),
        )
        end = math.inf if horizon is None else horizon * process.compression
        _check_size(process.clock.expected(end) if limit is None else float(limit), spec.name)
        arrival = arrive(process.clock, process.gaps, streams, end, limit) / process.compression
        shake = float(get(spec.arrivals, "jitter", 0.0))
        if shake > 0.0:
            moved = generator(seed, replication, f"arrivals/{spec.name}/jitter").uniform(-shake, shake, len(arrival))
            arrival = np.sort(np.abs(arrival + moved))
        arrival = to_grid(arrival)
        if horizon is not None:
            arrival = arrival[arrival < horizon]
    count = len(arrival)
    prompt, output = lengths.draw(generator(seed, replication, f"lengths/{spec.name}"), count)
    return _Part(
        arrival,
        prompt,
        output,
        np.full(count, int(get(spec, "priority", 0)), dtype=np.int64),
        np.full(count, -1, dtype=np.int64),
        closed=kind == "closed_loop",
    )


def _check_size(requests: float, workload: str) -> None:
    if not requests <= MAX_ROWS:
        problem = f"would draw about {requests:.3g} requests; a run can hold {MAX_ROWS:,} of a workload"
        raise ConfigError([Problem(problem, path=f"workloads.{workload}.arrivals")])


def _closed_loop_rows(users: int, fastest: float, horizon: float | None, limit: int | None) -> int:
    """How many requests to have ready: more than the users can issue if none takes less than ``fastest`` seconds."""
    if limit is not None:
        return limit
    seconds = horizon or 0.0
    usual = max(10_000, users * 200) * math.ceil(max(seconds, 1.0) / 600.0)
    return int(min(max(usual, users * seconds / fastest), max(_CLOSED_LOOP_ROWS, 2 * users)))


def _replay(
    spec: Any,
    lengths: JointLengths | Recorded | None,
    horizon: float | None,
    limit: int | None,
    seed: int,
    replication: int,
) -> _Part:
    from sim.workload.readers import read_cached

    given = spec.arrivals
    read = read_cached(str(get(given, "trace")), str(get(given, "format", "auto")), lengths=lengths is None)
    trace = transforms.spread(read, generator(seed, replication, f"arrivals/{spec.name}/ticks"))
    window = get(given, "slice")
    if window is not None:
        start, end = window
        trace = transforms.slice_(trace, float(start), math.inf if end is None else float(end))
        if not len(trace):
            raise TraceError(f"{read.source}: no request arrives in slice [{start}, {end}] of its {read.span:.6g} s")
    factor = float(get(given, "scale", 1.0))
    periods = _periods(trace, get(given, "loop", False), horizon, limit, factor, spec.name)
    _check_size(float(periods) * len(trace), spec.name)
    trace = transforms.scale(transforms.loop(trace, periods), factor)
    trace = transforms.jitter(
        trace, float(get(given, "jitter", 0.0)), generator(seed, replication, f"arrivals/{spec.name}/jitter")
    )
    arrival = to_grid(trace.arrival_s)
    count = len(arrival) if horizon is None else int(np.searchsorted(arrival, horizon))
    count = count if limit is None else min(count, limit)
    prompt, output = trace.prompt_tokens[:count], trace.output_tokens[:count]
    if lengths is not None:
        prompt, output = lengths.draw(generator(seed, replication, f"lengths/{spec.name}"), count)
    priority, session = trace.priority, trace.session
    return _Part(
        arrival[:count],
        prompt,
        output,
        np.full(count, int(get(spec, "priority", 0)), dtype=np.int64) if priority is None else priority[:count],
        np.full(count, -1, dtype=np.int64) if session is None else session[:count],
    )


def _periods(
    trace: Trace, loop: bool | int, horizon: float | None, limit: int | None, factor: float, workload: str
) -> int:
    """How often to go through ``trace``, and no oftener than the run can use."""
    if loop is False:
        return 1
    wanted = math.inf if loop is True else int(loop)
    if horizon is not None:
        wanted = min(wanted, math.ceil(horizon * factor / max(trace.span, 1e-9)))
    if limit is not None:
        wanted = min(wanted, math.ceil(limit / len(trace)))
    if not math.isfinite(wanted):
        problem = "loops for ever: give a count, or give the run a duration or a number of requests"
        raise ConfigError([Problem(problem, path=f"workloads.{workload}.arrivals.loop")])
    return max(1, int(wanted))
