"""What one replication left behind: the rows of its requests, the totals of its replicas, and the facts needed to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.errors import SimulationError
from sim.observe.facts import DeploymentFacts, PoolFacts, WorkloadFacts
from sim.observe.fleet import Fleet
from sim.serving.ledger import OK, OUTCOMES

if TYPE_CHECKING:
    from sim.control.cluster.usage import Usage
    from sim.serving.ledger import Ledger
    from sim.workload.table import RequestTable

__all__ = ["DeploymentFacts", "PoolFacts", "ReplicationRecord", "WorkloadFacts", "latest"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_LITTLE_TOLERANCE = 1e-6

_REQUIRED = {
    "arrival_s": np.float64,
    "prompt_tokens": np.int64,
    "output_tokens": np.int64,
    "workload": np.int64,
    "deployment": np.int64,
    "replica": np.int64,
    "scheduled_s": np.float64,
    "first_token_s": np.float64,
    "end_s": np.float64,
    "outcome": np.int64,
}
_OPTIONAL = {"priority": 0, "cached_tokens": 0, "preemptions": 0, "attempts": 1}
_WHOLE = ("deployment", "ordinal", "node")


def latest(ledger: Ledger, deployments: Sequence[DeploymentFacts]) -> float:
    """When the last thing happened, by the clients' clock."""
    return ledger.end_time + max(deployment.request_overhead for deployment in deployments)


@dataclass(eq=False)
class ReplicationRecord:
    """One replication.

    ``columns`` holds arrays of one length, a row a request, in the order of the request table: ``arrival_s``,
    ``prompt_tokens``, ``output_tokens``, ``workload`` and ``deployment`` (indices into the facts), ``replica`` (global index,
    -1: never routed), ``scheduled_s``, ``first_token_s``, ``end_s`` (seconds, NaN for what never happened), ``outcome`` (index into
    :data:`sim.serving.ledger.OUTCOMES`); and, if there is anything to say, ``began_s`` (when the attempt that was answered, or the
    last, was sent; else the arrival), ``queued_s`` (when it got to the engine; else ``began_s``), ``lost_s`` (seconds preempted; else
    0), ``priority``, ``cached_tokens``, ``preemptions`` (else 0), ``attempts`` (else 1). Rows that never arrived (closed-loop rows
    that no user came to issue: arrival NaN, or after ``end``) are dropped, and a column ``request`` keeps the row numbers,
    which pair the requests of one option with those of another.

    ``itl_counts[i]`` tokens came ``[itl_edges[i], itl_edges[i + 1])`` seconds after the one before; ``itl_total`` is their exact sum.
    ``replicas`` holds arrays by global replica (its number in the fleet): ``busy_s``, ``sequence_seconds``, ``peak_blocks``, further
    totals, and who it was: ``deployment``, ``ordinal`` (index within it), ``gpus``, ``node`` (-1: none), ``created_s``, ``placed_s``
    (it had its GPUs), ``ready_s``, ``closed_s`` (it got no more requests), ``gone_s``; NaN for what never happened. ``machines`` holds
    ``pool`` (index into ``pools``), ``node``, ``zone``, ``start_s`` (asked for), ``joined_s``, ``end_s``, ``ended`` (how; empty: it is
    there). ``holdings`` say who had GPUs, asleep or not: ``replica``, ``deployment``, ``gpus``, ``start_s``, ``end_s``, ``asleep``.
    What is left out of these is made from the facts: replicas and machines that are there from 0 to ``end``.
    ``timeline`` holds arrays of samples: ``t_s``, ``replica`` (global), ``running``, ``waiting``, ``kv_used`` (blocks), ``busy_s``
    (seconds in steps since the start), on the engines' clocks. ``steps`` holds what the engines did, if it was kept: the columns of
    :class:`sim.serving.recorded.StepLog`, on the clients' clock. ``events`` are decisions other than rejections, which are read from
    the rows: dicts with ``t_s``, ``kind`` and, where they apply, ``deployment``, ``replica``, ``request``, ``reason``; other keys
    become details. ``reasons`` says why a row (by its number) was not served. ``area_requests`` is the time integral of the number of
    requests in the system, counted apart from the rows. No request arrives after ``horizon`` (infinite: the last arrival counts
    instead); the last thing happens at ``end``.

    Raises SimulationError when the columns do not fit each other or Little's law does not hold.
    """

    replication: int
    columns: dict[str, Array]
    workloads: tuple[WorkloadFacts, ...]
    deployments: tuple[DeploymentFacts, ...]
    itl_counts: Array
    itl_edges: Floats
    itl_total: float
    replicas: dict[str, Array]
    area_requests: float
    horizon: float
    end: float
    timeline: dict[str, Floats] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    pools: tuple[PoolFacts, ...] = ()
    machines: dict[str, Array] = field(default_factory=dict)
    holdings: dict[str, Array] = field(default_factory=dict)
    steps: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workloads = tuple(self.workloads)
        self.deployments = tuple(self.deployments)
        if not self.machines:
            fleet = Fleet.fixed(self.deployments, self.pools, self.end)
            self.pools, self.machines, self.holdings = fleet.pools, fleet.machines, fleet.holdings
            self.replicas = fleet.replicas | dict(self.replicas)
        self.itl_counts = np.asarray(self.itl_counts, np.int64)
        self.itl_edges = np.asarray(self.itl_edges, np.float64)
        self.replicas = {
            name: np.asarray(values, np.int64 if name in _WHOLE else np.float64)
            for name, values in self.replicas.items()
        }
        self.timeline = {name: np.asarray(values, np.float64) for name, values in self.timeline.items()}
        self.columns = self._checked_columns(self.columns)
        self._check_little()
        if not np.isfinite(self.horizon):
            self.horizon = float(self.columns["arrival_s"].max()) if len(self) else 0.0

    def _checked_columns(self, given: Mapping[str, Any]) -> dict[str, Array]:
        missing = [name for name in _REQUIRED if name not in given]
        if missing:
            raise SimulationError(f"replication {self.replication}: no column {', '.join(missing)} in its record")
        columns: dict[str, Array] = {name: np.asarray(given[name], kind) for name, kind in _REQUIRED.items()}
        rows = len(columns["arrival_s"])
        columns["began_s"] = np.asarray(given.get("began_s", columns["arrival_s"]), np.float64)
        columns["queued_s"] = np.asarray(given.get("queued_s", columns["began_s"]), np.float64)
        columns["lost_s"] = np.asarray(given.get("lost_s", np.zeros(rows)), np.float64)
        for name, default in _OPTIONAL.items():
            columns[name] = np.asarray(given[name] if name in given else np.full(rows, default), np.int64)
        columns["request"] = np.arange(rows)
        uneven = [name for name, values in columns.items() if len(values) != rows]
        if uneven:
            raise SimulationError(
                f"replication {self.replication}: {rows} arrivals, but not as many {', '.join(uneven)}"
            )
        arrived = columns["arrival_s"] <= self.end  # False for NaN
        return columns if arrived.all() else {name: values[arrived] for name, values in columns.items()}

    def _check_little(self) -> None:
        """Little (1961): the integral of the number in the system is the sum of the times each spent there, however it was served."""
        columns = self.columns
        left = np.where(np.isnan(columns["end_s"]), self.end, columns["end_s"])
        stays = float((left - columns["arrival_s"]).sum())
        if abs(stays - self.area_requests) > _LITTLE_TOLERANCE * max(abs(stays), abs(self.area_requests), 1e-9):
            raise SimulationError(
                f"replication {self.replication}: Little's law does not hold: requests spent {stays!r} s in the system, "
                f"but the number in it integrates to {self.area_requests!r} s"
            )

    def __len__(self) -> int:
        return len(self.columns["arrival_s"])

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Which requests were served to their last token."""
        return np.asarray(self.columns["outcome"] == OK)

    @property
    def owner(self) -> npt.NDArray[np.int64]:
        """The deployment of each replica."""
        return self.replicas["deployment"]

    @property
    def pool_of(self) -> npt.NDArray[np.int64]:
        """The pool of each deployment."""
        numbers = {pool.name: number for number, pool in enumerate(self.pools)}
        try:
            return np.array([numbers[one.pool or one.name] for one in self.deployments], np.int64)
        except KeyError as error:
            raise SimulationError(f"replication {self.replication}: there is no pool {error} in its record") from None

    def latencies(self) -> dict[str, Floats]:
        """``queue``, ``ttft``, ``tpot``, ``e2e`` of each request in seconds; NaN unless it was served to its last token.

        TTFT = first token - arrival; E2E = end - arrival; TPOT = (E2E - TTFT) / (output tokens - 1), NaN for one token;
        queue = start of the first step that served it - the moment it was queued.
        """
        columns = self.columns
        arrival, first = columns["arrival_s"], columns["first_token_s"]
        end = np.where(self.ok, columns["end_s"], np.nan)
        gaps = np.where(columns["output_tokens"] > 1, columns["output_tokens"] - 1, np.nan)
        unless_served = 0.0 * end  # 0, or NaN
        return {
            "queue": columns["scheduled_s"] - columns["queued_s"] + unless_served,
            "ttft": first - arrival + unless_served,
            "tpot": (end - first) / gaps,
            "e2e": end - arrival,
        }

    def reason_index(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Why each request was not served: the reasons there are, and for each request which of them. The first is empty: it was."""
        names = ["", *sorted(set(self.reasons.values()) - {""})]
        number = {name: place for place, name in enumerate(names)}
        rows = np.fromiter(self.reasons, np.int64, len(self.reasons))
        places = np.fromiter((number[reason] for reason in self.reasons.values()), np.int64, len(rows))
        of_row = np.zeros(1 + max(int(rows.max(initial=0)), int(self.columns["request"].max(initial=0))), np.int64)
        of_row[rows] = places
        return names, of_row[self.columns["request"]]

    def reason_column(self) -> list[str]:
        """Why each request was not served; empty where it was."""
        names, index = self.reason_index()
        return [names[place] for place in index.tolist()]

    @staticmethod
    def outcome_names() -> tuple[str, ...]:
        """The names that ``outcome`` indexes."""
        return OUTCOMES

    def waits(self) -> dict[str, Floats]:
        """``retry`` and ``gateway`` of each request in seconds: from its arrival until the attempt that counts was sent, and from then
        until a replica got it (or, if none did, until it ended), without the way to the engine."""
        columns = self.columns
        overhead = np.array([facts.request_overhead for facts in self.deployments])[columns["deployment"]]
        left = np.where(columns["replica"] >= 0, columns["queued_s"], columns["end_s"])
        began = columns["began_s"]
        return {"retry": began - columns["arrival_s"], "gateway": np.maximum(left - began - overhead, 0.0)}

    @classmethod
    def of(
        cls,
        replication: int,
        table: RequestTable,
        ledger: Ledger,
        *,
        workloads: Sequence[WorkloadFacts],
        deployments: Sequence[DeploymentFacts],
        deployment_of: Sequence[int],
        horizon: float,
        timeline: Mapping[str, Any] | None = None,
        events: Sequence[Mapping[str, Any]] = (),
        pools: Sequence[PoolFacts] = (),
        usage: Usage | None = None,
        tries: Mapping[int, int] | None = None,
        began: Mapping[int, float] | None = None,
        sent: Mapping[int, float] | None = None,
        until: float = 0.0,
        steps: Mapping[str, Any] | None = None,
    ) -> ReplicationRecord:
        """The record of a fleet's ledger, by the clients' clock. ``deployment_of[w]`` serves workload ``w``; the rest as in the class.

        What an engine did to a request, turning it away included, the client sees later by the deployment's request overhead. Of the
        ledger only the rows of ``table`` are requests; those past them are attempts. ``tries``, ``began`` and ``sent`` are a gateway's,
        by row: attempts, when the one that was answered was sent, when a replica got it (the engine's clock). The record ends when the
        last thing happened, or at ``until`` if that is later; ``usage`` must have been cut there. Without usage the replicas and
        machines of the facts were there all the time.
        """
        rows = len(table.workload)
        facts = tuple(deployments)
        planned = np.asarray(deployment_of, np.int64)[table.workload]
        replica = _column(ledger.replica, rows, np.int64)
        end = max(latest(ledger, facts), until)
        fleet = None if usage is None else Fleet.of(usage, facts, pools, end)
        owner = (Fleet.fixed(facts, pools, end) if fleet is None else fleet).replicas["deployment"]
        count = len(owner)  # one that was created at the very end is in the ledger, but never was anything
        if replica.max(initial=-1) >= count:
            raise SimulationError(f"a request went to replica {int(replica.max())}, of which nothing is known")
        deployment = planned
        if count:  # a request may have been sent elsewhere than its workload's are, by a cascade or a choice of pools
            deployment = np.where(replica >= 0, owner[np.maximum(replica, 0)], planned)
        late = np.array([one.request_overhead for one in facts])[deployment]
        arrival = _column(ledger.arrival, rows)
        came = arrival <= ledger.end_time  # False for NaN
        arrival = np.where(came, arrival, np.nan)
        start = _put(arrival.copy(), began)
        ended = _column(ledger.end, rows)
        stays_longer = np.where(np.isnan(ended), end - ledger.end_time, late)
        return cls(
            replication=replication,
            columns={
                "arrival_s": arrival,
                "began_s": start,
                "queued_s": _put(start.copy(), sent) + late,
                "prompt_tokens": table.prompt_tokens,
                "output_tokens": table.output_tokens,
                "priority": table.priority,
                "workload": table.workload,
                "deployment": deployment,
                "replica": replica,
                "scheduled_s": _column(ledger.scheduled, rows) + late,
                "first_token_s": _column(ledger.first_token, rows) + late,
                "end_s": ended + late,
                "preemptions": _column(ledger.preemptions, rows, np.int64),
                "lost_s": _column(ledger.lost, rows),
                "attempts": _put(np.ones(rows, np.int64), tries),
                "outcome": _column(ledger.outcome, rows, np.int64),
            },
            workloads=tuple(workloads),
            deployments=facts,
            itl_counts=np.asarray(ledger.itl.counts, np.int64),
            itl_edges=np.asarray(ledger.itl.edges, np.float64),
            itl_total=ledger.itl.total,
            replicas=({} if fleet is None else fleet.replicas)
            | {
                "busy_s": _column(ledger.busy, count),
                "steps": _column(ledger.steps, count),
                "sequence_seconds": _column(ledger.sequence_seconds, count),
                "prefill_tokens": _column(ledger.prefill_tokens, count),
                "decode_tokens": _column(ledger.decode_tokens, count),
                "peak_running": _column(ledger.peak_running, count),
                "peak_blocks": _column(ledger.peak_blocks, count),
            },
            area_requests=ledger.area + float(stays_longer[came].sum()),
            horizon=horizon,
            end=end,
            timeline=_of_known(timeline or {}, count),
            events=[dict(event) for event in events],
            reasons={row: reason for row, reason in ledger.reason.items() if row < rows},
            pools=tuple(pools),
            machines={} if fleet is None else fleet.machines,
            holdings={} if fleet is None else fleet.holdings,
            steps=_for_clients(_of_known(steps or {}, count), owner, facts),
        )


def _column(values: Sequence[Any], rows: int, kind: Any = np.float64) -> Array:
    """The first ``rows`` of ``values``."""
    return np.fromiter(values, kind, rows)


def _for_clients(steps: dict[str, Floats], owner: Array, deployments: Sequence[DeploymentFacts]) -> dict[str, Array]:
    """Steps by the clock that requests are on, whole numbers as such."""
    if not steps:
        return {}
    whole: dict[str, Array] = {
        name: np.asarray(values, np.int64) for name, values in steps.items() if name[-2:] != "_s"
    }
    late = np.array([one.request_overhead for one in deployments])[owner[whole["replica"]]]
    return whole | {name: steps[name] + late for name in ("start_s", "end_s")}


def _of_known(timeline: Mapping[str, Any], count: int) -> dict[str, Floats]:
    """The samples, or steps, of the first ``count`` replicas."""
    columns = {name: np.asarray(values, np.float64) for name, values in timeline.items()}
    known = columns["replica"] < count if columns else np.ones(0, bool)
    return columns if known.all() else {name: values[known] for name, values in columns.items()}


def _put(column: Array, values: Mapping[int, Any] | None) -> Array:
    """``column`` with ``values`` by row, those past its end left out."""
    if values:
        where = np.fromiter(values, np.int64, len(values))
        what = np.fromiter(values.values(), column.dtype, len(values))
        own = where < len(column)
        column[where[own]] = what[own]
    return column
