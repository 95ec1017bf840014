"""What a report shows of a fleet over time and of its money: replicas in the first replication, starts and pools over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.observe.costs import account, energy, knows_power, machine_seconds
from sim.observe.fleet import begun, replica_counts
from sim.observe.metrics import met_objectives
from sim.observe.objectives import Estimate
from sim.stats.intervals import t_interval

if TYPE_CHECKING:
    from sim.observe.record import ReplicationRecord

__all__ = ["Course", "Kept", "Line", "PoolBill", "Starts"]

Floats = npt.NDArray[np.float64]

_POINTS = 600  # of a line; more cannot be told apart
_STRETCHES = 60  # of a run, for what became of objectives over time
_HOUR = 3600.0
_KWH = 3.6e6


@dataclass(frozen=True)
class Line:
    """Replicas of one deployment: ``ready``, ``starting`` and asked for (``target``) from each of ``times`` to the next."""

    deployment: str
    times: Sequence[float]
    ready: Sequence[int]
    starting: Sequence[int]
    target: Sequence[int]


@dataclass(frozen=True)
class Starts:
    """Starts of a deployment's replicas, all replications: how many ``a_run``, seconds from wanted to ready, and those of each phase
    in order (name, mean; ``waited``: for GPUs). A process that is started again begins when it is."""

    deployment: str
    a_run: float
    median: float
    longest: float
    phases: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class PoolBill:
    """One pool: what was paid a run, the share of it that paid for GPUs no replica had, machine-hours, and kWh where that is known."""

    name: str
    gpu: str
    usd: Estimate
    idle_share: Estimate
    machine_hours: Estimate
    kwh: Estimate | None


@dataclass(frozen=True)
class Kept:
    """Requests of one workload, all replications, warm-up included, by when they came: ``came`` in equal stretches from 0 to ``end``
    seconds, and how many of them were served within every objective (``kept``)."""

    workload: str
    end: float
    came: Sequence[int]
    kept: Sequence[int]


@dataclass(frozen=True)
class Course:
    """``lines`` are of the replication number ``replication``, which ended at ``end`` seconds."""

    replication: int = 0
    end: float = 0.0
    lines: Sequence[Line] = ()
    starts: Sequence[Starts] = ()
    pools: Sequence[PoolBill] = field(default=())
    kept: Sequence[Kept] = ()

    @property
    def changes(self) -> bool:
        """Whether replicas came or went."""
        return any(len(set(values)) > 1 for one in self.lines for values in (one.ready, one.target, one.starting))

    @classmethod
    def of(cls, records: Sequence[ReplicationRecord], confidence: float, exact: bool) -> Course:
        """Of all replications."""
        first = records[0]
        pools = _pools(records, confidence, exact)
        return cls(first.replication, first.end, _lines(first), _starts(records), pools, _kept(records))

    def to_json(self) -> dict[str, Any]:
        """As a mapping fit for JSON."""
        return {
            "replication": self.replication,
            "end": self.end,
            "lines": [vars(one) for one in self.lines],
            "starts": [vars(one) for one in self.starts],
            "pools": [
                {name: value.to_json() if isinstance(value, Estimate) else value for name, value in vars(one).items()}
                for one in self.pools
            ],
            "kept": [vars(one) for one in self.kept],
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Course:
        """What :meth:`to_json` gave; empty if that is nothing. KeyError, TypeError or ValueError if it is anything else."""
        if not saved:
            return cls()
        return cls(
            int(saved["replication"]),
            float(saved["end"]),
            [Line(**one) for one in saved["lines"]],
            [Starts(**one) for one in saved["starts"]],
            [PoolBill(**{name: _read(value) for name, value in one.items()}) for one in saved["pools"]],
            [Kept(**one) for one in saved.get("kept", ())],
        )


def _read(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    half = value["half_width"]
    known = value["value"]
    return Estimate(float("nan") if known is None else float(known), None if half is None else float(half), 1)


def _lines(record: ReplicationRecord) -> list[Line]:
    counts = replica_counts(record)
    places = np.arange(len(counts.times))
    if len(places) > _POINTS:
        moments = np.linspace(0.0, record.end, _POINTS)
        places = np.unique(np.searchsorted(counts.times, moments, "right") - 1)
    return [
        Line(
            facts.name,
            counts.times[places].tolist(),
            counts.ready[number][places].tolist(),
            counts.starting[number][places].tolist(),
            counts.target[number][places].tolist(),
        )
        for number, facts in enumerate(record.deployments)
    ]


def _starts(records: Sequence[ReplicationRecord]) -> list[Starts]:
    found = []
    for number, facts in enumerate(records[0].deployments):
        taken: list[float] = []
        totals: dict[str, float] = {"waited": 0.0}
        for record in records:
            replicas, since = record.replicas, begun(record)
            own = {int(replicas["ordinal"][one]): int(one) for one in np.flatnonzero(record.owner == number)}
            for event in record.events:
                if event["kind"] != "ready" or event.get("deployment") != facts.name or event["replica"] not in own:
                    continue
                one = own[event["replica"]]
                taken.append(float(event["t_s"] - since[one]))
                totals["waited"] += float(replicas["placed_s"][one] - since[one])
                for phase, spent in event["phases"].items():
                    totals[phase] = totals.get(phase, 0.0) + float(spent or 0.0)
        if taken:
            phases = [(phase, total / len(taken)) for phase, total in totals.items() if total > 0.0]
            median = float(np.median(taken))
            found.append(Starts(facts.name, len(taken) / len(records), median, max(taken), phases))
    return found


def _kept(records: Sequence[ReplicationRecord]) -> list[Kept]:
    """Of the workloads that have objectives."""
    arrived = [np.isfinite(record.columns["arrival_s"]) for record in records]
    last = [record.columns["arrival_s"][came].max(initial=0.0) for record, came in zip(records, arrived, strict=True)]
    edges = np.linspace(0.0, float(max(last)) or 1.0, _STRETCHES + 1)
    found = []
    for number, facts in enumerate(records[0].workloads):
        if not facts.objectives:
            continue
        counts = np.zeros((2, _STRETCHES), np.int64)
        for record, came in zip(records, arrived, strict=True):
            mine = came & (record.columns["workload"] == number)
            for place, rows in enumerate((mine, mine & met_objectives(record))):
                counts[place] += np.histogram(record.columns["arrival_s"][rows], edges)[0]
        found.append(Kept(facts.name, float(edges[-1]), counts[0].tolist(), counts[1].tolist()))
    return found


def _pools(records: Sequence[ReplicationRecord], confidence: float, exact: bool) -> list[PoolBill]:
    paid, idle, hours, joules = [], [], [], []
    for record in records:
        spent = account(record)
        usd = np.array([one.usd for one in spent.bills])
        unused = np.bincount(record.pool_of, weights=spent.idle_usd, minlength=len(record.pools))
        paid.append(usd)
        idle.append(np.divide(unused, usd, out=np.zeros(len(usd)), where=usd > 0.0))
        hours.append(machine_seconds(record, 0.0, record.end) / _HOUR)
        if knows_power(record):
            joules.append(energy(record, record.replicas["busy_s"], 0.0, record.end) / _KWH)

    def estimate(rows: Sequence[Floats], place: int) -> Estimate:
        interval = t_interval([float(row[place]) for row in rows], confidence)
        half = interval.half_width if interval.n > 1 else 0.0 if exact else None
        return Estimate(interval.mean, half, interval.n)

    return [
        PoolBill(
            pool.name,
            pool.gpu,
            estimate(paid, place),
            estimate(idle, place),
            estimate(hours, place),
            estimate(joules, place) if len(joules) == len(records) else None,
        )
        for place, pool in enumerate(records[0].pools)
    ]
