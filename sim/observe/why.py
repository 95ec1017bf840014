"""Why an objective is missed, or nearly: what the requests in its tail spent their time on, against a typical request.

- The *tail* of an objective that is missed are the requests beyond its limit; of any other those at or beyond the quantile it is on (of a
  mean: all requests). Warm-up left out, served requests only: what became of the others is counted (:func:`unserved`).
- A *typical* request is one of the half between the quartiles.
- A cause's share is its seconds over all seconds of these requests, in each replication; the interval is Student's t over replications.
- An objective on ITL is read from the requests' TPOT, their mean ITL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.observe.causes import CAUSES, FAMILIES, split
from sim.observe.metrics import STATISTICS
from sim.observe.objectives import WHOLE_RUN, Estimate, Standing, known
from sim.observe.presence import Presence
from sim.serving.ledger import OK, OUTCOMES
from sim.stats.intervals import t_interval
from sim.stats.quantiles import quantiles

if TYPE_CHECKING:
    from sim.observe.record import ReplicationRecord

__all__ = ["Attribution", "Group", "Unserved", "attributions", "unserved"]

Floats = npt.NDArray[np.float64]

_MEANWHILE = ("cold start", "failure")
_NOISE = 1e-9  # a share that is left of rounding


@dataclass(frozen=True)
class Group:
    """Some requests, over replications. ``requests`` a replication, ``latency`` their mean in seconds, ``shares`` of it by cause (not 0).

    ``meanwhile``: of the seconds lost to attempts that failed, the share in which replicas were on their way, or missing by a fault.
    """

    requests: float
    latency: float
    shares: Mapping[str, Estimate]
    meanwhile: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As a mapping fit for JSON."""
        return {
            "requests": self.requests,
            "latency": self.latency,
            "shares": {cause: share.to_json() for cause, share in self.shares.items()},
            "meanwhile": dict(self.meanwhile),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Group:
        """What :meth:`to_json` gave."""
        return cls(
            float(saved["requests"]),
            float(saved["latency"]),
            {cause: _estimate(saved["shares"][cause]) for cause in CAUSES if cause in saved["shares"]},
            {str(cause): float(share) for cause, share in saved["meanwhile"].items()},
        )


@dataclass(frozen=True)
class Attribution:
    """One objective of one workload. ``beyond``: the tail is what is beyond its limit, as it is missed. No group: no such request."""

    workload: str
    metric: str
    beyond: bool
    tail: Group | None
    typical: Group | None

    def to_json(self) -> dict[str, Any]:
        """As a mapping fit for JSON."""
        groups = {"tail": self.tail, "typical": self.typical}
        return {
            "workload": self.workload,
            "metric": self.metric,
            "beyond": self.beyond,
            **{name: None if group is None else group.to_json() for name, group in groups.items()},
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Attribution:
        """What :meth:`to_json` gave. KeyError, TypeError or ValueError if it is anything else."""
        groups = [None if saved[name] is None else Group.from_json(saved[name]) for name in ("tail", "typical")]
        return cls(str(saved["workload"]), str(saved["metric"]), bool(saved["beyond"]), *groups)


@dataclass(frozen=True)
class Unserved:
    """Requests of a workload that ended otherwise than served: ``share`` of those that came, for one ``reason``.

    ``meanwhile``: the share of them that ended while replicas were on their way, or missing by a fault.
    """

    workload: str
    outcome: str
    reason: str
    share: float
    meanwhile: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As a mapping fit for JSON."""
        return vars(self) | {"meanwhile": dict(self.meanwhile)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Unserved:
        """What :meth:`to_json` gave."""
        meanwhile = {str(cause): float(share) for cause, share in saved["meanwhile"].items()}
        return cls(
            str(saved["workload"]), str(saved["outcome"]), str(saved["reason"]), float(saved["share"]), meanwhile
        )


def attributions(
    records: Sequence[ReplicationRecord], standings: Sequence[Standing], warmup: float, confidence: float, exact: bool
) -> list[Attribution]:
    """The tail of every objective of ``standings`` that is on a latency, by cause. ``exact``: nothing is left to chance."""
    wanted = [one for one in standings if one.workload != WHOLE_RUN and _family(one.metric) in FAMILIES]
    found: list[list[_Pair]] = [[] for _ in wanted]
    for record in records:
        latencies = record.latencies()
        presences: dict[int, Presence] = {}
        for place, standing in enumerate(wanted):
            found[place].append(_of_record(record, standing, latencies, warmup, presences))
    return [
        Attribution(
            standing.workload,
            standing.metric,
            _beyond(standing),
            _group([tail for tail, _ in pairs], confidence, exact),
            _group([typical for _, typical in pairs], confidence, exact),
        )
        for standing, pairs in zip(wanted, found, strict=True)
    ]


def unserved(records: Sequence[ReplicationRecord], warmup: float) -> list[Unserved]:
    """What became of the requests that were not served, the most frequent first within a workload."""
    groups: dict[tuple[int, int, str], npt.NDArray[np.float64]] = {}
    came = np.zeros(len(records[0].workloads), np.int64)
    for record in records:
        columns = record.columns
        counted = columns["arrival_s"] >= warmup
        came += np.bincount(columns["workload"][counted], minlength=len(came))
        names, reason = record.reason_index()
        rows = np.flatnonzero(counted & (columns["outcome"] != OK))
        code = (columns["workload"][rows] * len(OUTCOMES) + columns["outcome"][rows]) * len(names) + reason[rows]
        kinds, of = np.unique(code, return_inverse=True)
        weights = (np.ones(len(rows)), *_at_the_end(record, rows))
        sums = [np.bincount(of, weights=part, minlength=len(kinds)) for part in weights]
        for place, key in enumerate(kinds.tolist()):
            kind, why = divmod(key, len(names))
            workload, outcome = divmod(kind, len(OUTCOMES))
            group = groups.setdefault((workload, outcome, names[why]), np.zeros(len(sums)))
            group += [part[place] for part in sums]
    workloads = records[0].workloads
    return [
        Unserved(
            workloads[workload].name,
            OUTCOMES[outcome],
            reason,
            count / int(came[workload]),
            _shares(count, dict(zip(_MEANWHILE, during, strict=True))),
        )
        for (workload, outcome, reason), (count, *during) in sorted(
            ((key, group.tolist()) for key, group in groups.items()),
            key=lambda item: (item[0][0], -item[1][0], item[0]),
        )
    ]


def _at_the_end(record: ReplicationRecord, rows: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """1 for each request that ended while replicas of its deployment were on their way, or missing by a fault, else 0."""
    deployment = record.columns["deployment"][rows]
    ended = record.columns["end_s"][rows]
    ended = np.where(np.isnan(ended), record.end, ended)
    coming, failed = np.zeros(len(rows)), np.zeros(len(rows))
    for number in np.unique(deployment).tolist():
        whose = deployment == number
        presence = Presence.of(record, number)
        moments = ended[whose] - record.deployments[number].request_overhead
        coming[whose], failed[whose] = presence.coming.at(moments), presence.failed.at(moments)
    return coming, failed


def _shares(whole: float, parts: Mapping[str, float]) -> dict[str, float]:
    """Those that are more than 0."""
    return {name: part / whole for name, part in parts.items() if part > 0.0 and whole > 0.0}


@dataclass(frozen=True)
class _Sums:
    """Of one replication: seconds by cause of ``requests``."""

    requests: int
    seconds: Mapping[str, float]
    meanwhile: Mapping[str, float]


_Pair = tuple[_Sums, _Sums]


def _family(metric: str) -> str:
    latency = metric.rpartition("_")[0]
    return "tpot" if latency == "itl" else latency


def _beyond(standing: Standing) -> bool:
    """Whether the figure itself is beyond its limit (lost requests may be all that it is missed for), and one of requests."""
    own = not standing.metric.startswith("itl")
    return own and standing.status == "misses" and standing.estimate.value > standing.target


def _of_record(
    record: ReplicationRecord,
    standing: Standing,
    latencies: Mapping[str, Floats],
    warmup: float,
    presences: dict[int, Presence],
) -> _Pair:
    family, columns = _family(standing.metric), record.columns
    number = [workload.name for workload in record.workloads].index(standing.workload)
    values = latencies[family]
    rows = np.flatnonzero(
        (columns["workload"] == number) & (columns["arrival_s"] >= warmup) & ~np.isnan(values) & record.ok
    )
    own = values[rows]
    if not len(own):
        return _sums(record, family, rows, presences), _sums(record, family, rows, presences)
    share = STATISTICS.get(standing.metric.rpartition("_")[2])
    cut, low, high = quantiles(own, [share or 0.0, 0.25, 0.75]).tolist()
    tail = own > standing.target if _beyond(standing) else own >= cut
    middle = (own >= low) & (own <= high)
    return _sums(record, family, rows[tail], presences), _sums(record, family, rows[middle], presences)


def _sums(record: ReplicationRecord, family: str, rows: npt.NDArray[np.int64], presences: dict[int, Presence]) -> _Sums:
    parts = split(record, family, rows, presences)
    seconds = {cause: float(part.sum()) for cause, part in parts.items()}
    meanwhile = dict.fromkeys(_MEANWHILE, 0.0)
    if seconds["retry"] > 0.0:
        columns = record.columns
        served_by = columns["deployment"][rows]
        for number in np.unique(served_by).tolist():
            whose = rows[served_by == number]
            lost = columns["arrival_s"][whose], columns["began_s"][whose]
            meanwhile["cold start"] += float(presences[number].coming.within(*lost).sum())
            meanwhile["failure"] += float(presences[number].failed.within(*lost).sum())
    return _Sums(len(rows), seconds, meanwhile)


def _group(sums: Sequence[_Sums], confidence: float, exact: bool) -> Group | None:
    some = [one for one in sums if one.requests]
    if not some:
        return None
    totals = [sum(one.seconds.values()) for one in some]
    shares = {}
    for cause in CAUSES:
        values = [one.seconds[cause] / total if total else math.nan for one, total in zip(some, totals, strict=True)]
        interval = t_interval(known(values), confidence)
        if interval.n and interval.mean > _NOISE:
            half = interval.half_width if interval.n > 1 else 0.0 if exact else None
            shares[cause] = Estimate(interval.mean, half, interval.n)
    retried = sum(one.seconds["retry"] for one in some)
    return Group(
        requests=sum(one.requests for one in sums) / len(sums),
        latency=sum(totals) / sum(one.requests for one in some),
        shares=shares,
        meanwhile=_shares(retried, {cause: sum(one.meanwhile[cause] for one in some) for cause in _MEANWHILE}),
    )


def _estimate(saved: Mapping[str, Any]) -> Estimate:
    half = saved["half_width"]
    return Estimate(float(saved["value"]), None if half is None else float(half), 1)
