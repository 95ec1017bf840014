"""Replications on all cores, and options side by side: ``simulate`` and ``compare``.

What comes out depends on the scenario alone: not on how many workers ran it, nor on which finished first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import TYPE_CHECKING

from sim.errors import ConfigError, Problem
from sim.experiment.build import build, leaves_nothing_to_chance
from sim.experiment.replication import replicate

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.observe.record import ReplicationRecord
    from sim.observe.result import Comparison, Result

__all__ = ["Progress", "compare", "simulate"]

Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is to do (as far as is known), and what was done last."""

_WORTH_WORKERS_S = 4.0  # of work left, below which starting worker processes costs more than it saves
_BATCH = 5  # replications added at a time until a wanted precision is reached


def simulate(
    scenario: Scenario,
    *,
    jobs: int | None = None,
    seed: int | None = None,
    replications: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Simulate ``scenario`` (options left aside), its replications on ``jobs`` processes (default: all cores).

    ``seed`` and ``replications`` take the place of the scenario's own. Raises a TwinferError when it cannot be run.
    """
    _check(scenario, jobs=jobs, seed=seed, replications=replications)
    scenario = _with_run(scenario, seed, replications)
    return _simulate({"": scenario}, jobs, progress)[""]


def compare(
    scenario: Scenario,
    *,
    jobs: int | None = None,
    seed: int | None = None,
    replications: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Simulate every option of ``scenario`` on the same requests and the same noise, and say which to choose."""
    from sim.observe.result import Comparison

    _check(scenario, jobs=jobs, seed=seed, replications=replications)
    names = scenario.option_names()
    if not names:
        file = str(scenario.path) if scenario.path else None
        raise ConfigError([Problem("a comparison needs options: none are given", path="options", file=file)])
    options = {name: _with_run(scenario.with_option(name), seed, replications) for name in names}
    return Comparison(options=_simulate(options, jobs, progress))


_LEAST = {"jobs": 1, "seed": 0, "replications": 1}


def _check(scenario: object, **numbers: object) -> None:
    """ConfigError unless ``scenario`` is one and ``numbers`` are whole and not too small, or None."""
    from sim.config import Scenario

    problems = []
    if not isinstance(scenario, Scenario):
        problems.append(Problem(f"{scenario!r:.80} is not a scenario: sim.load(path) gives one", path="scenario"))
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
            problems.append(Problem(f"{value!r:.80} is not a whole number", path=name))
        elif isinstance(value, Integral) and int(value) < _LEAST[name]:
            problems.append(Problem(f"{value} is less than {_LEAST[name]}", path=name))
    if problems:
        raise ConfigError(problems)


def _with_run(scenario: Scenario, seed: int | None, replications: int | None) -> Scenario:
    given = (("seed", seed), ("replications", replications))
    changes = {name: int(value) for name, value in given if value is not None}
    return scenario.model_copy(update={"run": scenario.run.model_copy(update=changes)}) if changes else scenario


def _simulate(options: dict[str, Scenario], jobs: int | None, progress: Progress | None) -> dict[str, Result]:
    for scenario in options.values():
        build(scenario)  # faults show before any work is done
    records: dict[str, list[ReplicationRecord]] = {name: [] for name in options}
    workers = _Workers(int(jobs or os.cpu_count() or 1))
    exact = all(leaves_nothing_to_chance(scenario) for scenario in options.values())
    wanted = {name: 1 if exact else scenario.run.replications for name, scenario in options.items()}
    done = 0
    while True:
        tasks = [
            (name, number)
            for number in range(max(wanted.values()))
            for name in options
            if len(records[name]) <= number < wanted[name]
        ]
        if not tasks:
            break
        total = done + len(tasks)
        for (name, _), record in zip(tasks, workers.run([(options[n], r) for n, r in tasks]), strict=True):
            records[name].append(record)
            done += 1
            if progress is not None:
                progress(done, total, name)
        if exact or not _more_wanted(options, records, wanted):
            break
    return {name: _result(options[name], records[name], exact) for name in options}


def _result(scenario: Scenario, records: list[ReplicationRecord], exact: bool) -> Result:
    from sim.experiment.manifest import manifest
    from sim.observe.result import Result

    reasons = {event["reason"] for record in records for event in record.events if event["kind"] == "exhausted"}
    made_from = manifest(scenario, len(records), exact=exact)
    return Result(scenario=scenario, records=records, manifest=made_from, warnings=sorted(reasons))


def _more_wanted(
    options: dict[str, Scenario], records: dict[str, list[ReplicationRecord]], wanted: dict[str, int]
) -> bool:
    """Raise ``wanted`` by a batch while any option's interval is wider than asked; all alike, so that they stay paired."""
    more = 0
    for name, scenario in options.items():
        precision = scenario.run.precision
        if precision is None or len(records[name]) >= precision.max_replications:
            continue
        estimate = _result(scenario, records[name], False).summary[precision.metric]
        if estimate.half_width is None or estimate.half_width > precision.half_width * abs(estimate.value):
            more = max(more, min(len(records[name]) + _BATCH, precision.max_replications))
    for name in options:
        wanted[name] = max(wanted[name], more)
    return more > 0


class _Workers:
    """Runs tasks in order of their results: here until it is clear that there is work enough for worker processes."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def run(self, tasks: list[tuple[Scenario, int]]) -> Iterator[ReplicationRecord]:
        begin = time.monotonic()
        for count, (scenario, replication) in enumerate(tasks, 1):
            yield replicate(scenario, replication)
            left = (time.monotonic() - begin) / count * (len(tasks) - count)
            if self.jobs > 1 and left > _WORTH_WORKERS_S:
                yield from self._parallel(tasks[count:])
                return

    def _parallel(self, tasks: list[tuple[Scenario, int]]) -> Iterator[ReplicationRecord]:
        from joblib import Parallel, delayed

        pool = Parallel(n_jobs=min(self.jobs, len(tasks)), return_as="generator")
        yield from pool(delayed(replicate)(scenario, replication) for scenario, replication in tasks)
