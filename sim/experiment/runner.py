"""Replications on all cores, and options side by side: ``simulate`` and ``compare``.

What comes out depends on the scenario alone: not on how many workers ran it, nor on which finished first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sim.errors import ConfigError, Problem
from sim.experiment.build import build, leaves_nothing_to_chance
from sim.experiment.pool import Pool
from sim.experiment.replication import replicate

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.observe.record import ReplicationRecord
    from sim.observe.result import Comparison, Result

__all__ = ["Progress", "compare", "simulate"]

Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is to do (as far as is known), and what was done last."""


class _Run(NamedTuple):
    """A replication, with step times as measured or as draw number ``draw`` has them."""

    replication: int
    draw: int | None = None


_Runs: TypeAlias = "dict[_Run, ReplicationRecord]"  # in the order of their numbers

_BATCH = 5  # replications added at a time until a wanted precision is reached


def simulate(
    scenario: Scenario,
    *,
    jobs: int | None = None,
    backend: str = "loky",
    seed: int | None = None,
    replications: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Simulate ``scenario`` (options left aside), its replications on ``jobs`` processes (default: all cores) of ``backend``.

    ``backend``: ``loky``, this machine; ``ray`` or ``dask``, a cluster (:class:`sim.experiment.pool.Pool`).
    ``seed`` and ``replications`` take the place of the scenario's own. Raises a TwinferError when it cannot be run.
    """
    _check(scenario, jobs=jobs, seed=seed, replications=replications)
    scenario = _with_run(scenario, seed, replications)
    return _simulate({"": scenario}, jobs, backend, progress)[""]


def compare(
    scenario: Scenario,
    *,
    jobs: int | None = None,
    backend: str = "loky",
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
    return Comparison(options=_simulate(options, jobs, backend, progress))


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


def _simulate(
    options: dict[str, Scenario], jobs: int | None, backend: str, progress: Progress | None
) -> dict[str, Result]:
    systems = {name: build(scenario) for name, scenario in options.items()}  # faults show before any work is done
    done: dict[str, _Runs] = {name: {} for name in options}
    pool = Pool(None if jobs is None else int(jobs), backend)
    exact = all(leaves_nothing_to_chance(scenario) for scenario in options.values())
    wanted = {name: scenario.run.replications for name, scenario in options.items()}
    while True:
        tasks = [
            (name, run)
            for number in range(max(wanted.values()))
            for name in options
            if number < wanted[name]
            for run in _runs(number, exact=exact, doubtful=systems[name].doubtful)
            if run not in done[name]
        ]
        before = sum(map(len, done.values()))
        records = pool.run(_replicate, [(options[name], run) for name, run in tasks], len(tasks))
        for count, ((name, run), record) in enumerate(zip(tasks, records, strict=True), before + 1):
            done[name][run] = record
            if progress is not None:
                progress(count, before + len(tasks), name)
        if exact or not _more_wanted(options, done, wanted):
            break
    return {name: _result(options[name], done[name], exact) for name in options}


def _runs(number: int, *, exact: bool, doubtful: bool) -> Iterator[_Run]:
    """What replication ``number`` is made of. Of an ``exact`` scenario only the first is run, and again with every draw."""
    if number == 0 or not exact:
        yield _Run(number)
    if doubtful:
        yield _Run(0 if exact else number, draw=number)


def _result(scenario: Scenario, runs: _Runs, exact: bool) -> Result:
    from sim.experiment.manifest import manifest
    from sim.observe.result import Result

    records = [record for run, record in runs.items() if run.draw is None]
    drawn = [record for run, record in runs.items() if run.draw is not None]
    reasons = {event["reason"] for record in records for event in record.events if event["kind"] == "exhausted"}
    made_from = manifest(scenario, len(records), exact=exact, draws=len(drawn))
    return Result(scenario=scenario, records=records, manifest=made_from, drawn=drawn, warnings=sorted(reasons))


def _replicate(task: tuple[Scenario, _Run]) -> ReplicationRecord:
    scenario, run = task
    return replicate(scenario, *run)


def _more_wanted(options: dict[str, Scenario], done: dict[str, _Runs], wanted: dict[str, int]) -> bool:
    """Raise ``wanted`` by a batch until every option is :func:`~sim.stats.precise`; all alike, so that they stay paired.

    Of intervals without the doubt of profiles, which replications do not make narrower.
    """
    from sim.observe.objectives import known
    from sim.stats.stopping import precise

    more = 0
    for name, scenario in options.items():
        precision = scenario.run.precision
        runs = {run: record for run, record in done[name].items() if run.draw is None}
        if precision is None or len(runs) >= precision.max_replications:
            continue
        values = known(_result(scenario, runs, False).figures.values(precision.metric))
        if not precise(values, precision.half_width, scenario.run.confidence):
            more = max(more, min(len(runs) + _BATCH, precision.max_replications))
    for name in options:
        wanted[name] = max(wanted[name], more)
    return more > 0
