"""What one replication left behind: the rows of its requests, the totals of its replicas, and the facts needed to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.errors import SimulationError
from sim.serving.ledger import OK, OUTCOMES

if TYPE_CHECKING:
    from sim.serving.ledger import Ledger
    from sim.workload.table import RequestTable

__all__ = ["DeploymentFacts", "ReplicationRecord", "WorkloadFacts", "latest"]

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


@dataclass(frozen=True)
class WorkloadFacts:
    """One workload as its rows are read: the model it asks for, its tenant, its objectives (``{"ttft_p99": 2.0}``, seconds)."""

    name: str
    model: str = ""
    tenant: str = "default"
    objectives: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DeploymentFacts:
    """One deployment as its replicas are read.

    ``gpus`` and ``usd_per_hour`` are those of the whole deployment, all replicas together; ``kv_blocks`` is what one replica can
    give to requests (vLLM's count less the reserved block 0). ``request_overhead`` seconds pass until a request that was sent is
    seen by the engine: its ledger's clock, on which a request arrives when it is sent, is late by as much.
    """

    name: str
    replicas: int
    gpus: int
    usd_per_hour: float
    kv_blocks: int
    request_overhead: float = 0.0


def latest(ledger: Ledger, deployments: Sequence[DeploymentFacts]) -> float:
    """When the last thing happened, by the clients' clock."""
    return ledger.end_time + max(deployment.request_overhead for deployment in deployments)


@dataclass(eq=False)
class ReplicationRecord:
    """One replication.

    ``columns`` holds arrays of one length, a row a request, in the order of the request table: ``arrival_s``,
    ``prompt_tokens``, ``output_tokens``, ``workload`` and ``deployment`` (indices into the facts), ``replica`` (global index,
    -1: never routed), ``scheduled_s``, ``first_token_s``, ``end_s`` (seconds, NaN for what never happened), ``outcome`` (index into
    :data:`sim.serving.ledger.OUTCOMES`); and, if there is anything to say, ``queued_s`` (else the arrival), ``priority``,
    ``cached_tokens``, ``preemptions`` (else 0), ``attempts`` (else 1). Rows that never arrived (closed-loop rows that no user came to
    issue: arrival NaN, or after ``end``) are dropped, and a column ``request`` keeps the row numbers, which pair the
    requests of one option with those of another.

    ``itl_counts[i]`` tokens came ``[itl_edges[i], itl_edges[i + 1])`` seconds after the one before; ``itl_total`` is their exact sum.
    ``replicas`` holds arrays by global replica: ``busy_s``, ``sequence_seconds``, ``peak_blocks``, and further totals.
    ``timeline`` holds arrays of samples: ``t_s``, ``replica`` (global), ``running``, ``waiting``, ``kv_used`` (blocks), ``busy_s``
    (seconds in steps since the start), on the engines' clocks. ``events`` are decisions other than rejections, which are read from
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
    replicas: dict[str, Floats]
    area_requests: float
    horizon: float
    end: float
    timeline: dict[str, Floats] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workloads = tuple(self.workloads)
        self.deployments = tuple(self.deployments)
        self.itl_counts = np.asarray(self.itl_counts, np.int64)
        self.itl_edges = np.asarray(self.itl_edges, np.float64)
        self.replicas = {name: np.asarray(values, np.float64) for name, values in self.replicas.items()}
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
        columns["queued_s"] = np.asarray(given.get("queued_s", columns["arrival_s"]), np.float64)
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
    def usd_per_hour(self) -> float:
        """The price of the whole fleet, dollars an hour."""
        return sum(deployment.usd_per_hour for deployment in self.deployments)

    @property
    def owner(self) -> npt.NDArray[np.int64]:
        """The deployment of each replica."""
        return np.repeat(np.arange(len(self.deployments)), [deployment.replicas for deployment in self.deployments])

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

    def reason_column(self) -> list[str]:
        """Why each request was not served; empty where it was."""
        return (
            [self.reasons.get(row, "") for row in self.columns["request"].tolist()]
            if self.reasons
            else [""] * len(self)
        )

    @staticmethod
    def outcome_names() -> tuple[str, ...]:
        """The names that ``outcome`` indexes."""
        return OUTCOMES

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
    ) -> ReplicationRecord:
        """The record of a fleet's ledger, by the clients' clock. ``deployment_of[w]`` serves workload ``w``; the rest as in the class.

        What an engine did to a request, turning it away included, the client sees later by the deployment's request overhead.
        """
        deployment = np.asarray(deployment_of, np.int64)[table.workload]
        late = np.array([facts.request_overhead for facts in deployments])[deployment]
        came = np.asarray(ledger.arrival, np.float64) <= ledger.end_time  # False for NaN
        arrival, ended = np.where(came, ledger.arrival, np.nan), np.asarray(ledger.end, np.float64)
        end = latest(ledger, deployments)
        stays_longer = np.where(np.isnan(ended), end - ledger.end_time, late)
        return cls(
            replication=replication,
            columns={
                "arrival_s": arrival,
                "queued_s": arrival + late,
                "prompt_tokens": table.prompt_tokens,
                "output_tokens": table.output_tokens,
                "priority": table.priority,
                "workload": table.workload,
                "deployment": deployment,
                "replica": np.asarray(ledger.replica, np.int64),
                "scheduled_s": np.asarray(ledger.scheduled, np.float64) + late,
                "first_token_s": np.asarray(ledger.first_token, np.float64) + late,
                "end_s": ended + late,
                "preemptions": np.asarray(ledger.preemptions, np.int64),
                "outcome": np.asarray(ledger.outcome, np.int64),
            },
            workloads=tuple(workloads),
            deployments=tuple(deployments),
            itl_counts=np.asarray(ledger.itl.counts, np.int64),
            itl_edges=np.asarray(ledger.itl.edges, np.float64),
            itl_total=ledger.itl.total,
            replicas={
                "busy_s": np.asarray(ledger.busy, np.float64),
                "steps": np.asarray(ledger.steps, np.float64),
                "sequence_seconds": np.asarray(ledger.sequence_seconds, np.float64),
                "prefill_tokens": np.asarray(ledger.prefill_tokens, np.float64),
                "decode_tokens": np.asarray(ledger.decode_tokens, np.float64),
                "peak_running": np.asarray(ledger.peak_running, np.float64),
                "peak_blocks": np.asarray(ledger.peak_blocks, np.float64),
            },
            area_requests=ledger.area + float(stays_longer[came].sum()),
            horizon=horizon,
            end=end,
            timeline=dict(timeline or {}),
            events=[dict(event) for event in events],
            reasons=dict(ledger.reason),
        )
