"""What goes wrong in a run, and what operators do on purpose: the entries of ``faults``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from sim.config import units
from sim.config.startup import Spread
from sim.config.units import number, shown
from sim.config.values import (
    DURATION_SCHEMA,
    FRACTION_SCHEMA,
    Flag,
    Name,
    Part,
    Period,
    Reader,
    Seconds,
    Share,
    checked,
    choice,
    fault,
    real,
    whole,
)

if TYPE_CHECKING:
    from sim.catalog.rows import Failure
    from sim.control.cluster.distribution import Distribution
    from sim.control.faults import FaultPlan
    from sim.control.faults.times import When

__all__ = ["KINDS", "Fault", "Moments", "plans", "references"]

_TIMES = ("at", "rate", "mtbf", "shape", "scale", "after", "until")
_WHOLE = ("at", "mtbf", "shape", "scale", "after", "until")
_WHO = ("zone", "count", "share")

_APPLIES: Final[dict[str, tuple[str, ...]]] = {
    "gpu-failure": (*_TIMES, "pool", *_WHO, "takes", "repair", "detected_after"),
    "node-failure": (*_TIMES, "pool", *_WHO, "repair", "detected_after"),
    "replica-crash": (*_WHOLE, "deployment", "count", "share", "detected_after"),
    "straggler": (*_WHOLE, "pool", "deployment", *_WHO, "of", "factor", "lasts"),
    "thermal-throttling": (*_WHOLE, "pool", *_WHO, "factor", "lasts"),
    "partition": (*_WHOLE, "pool", "deployment", *_WHO, "lasts"),
    "spot-reclaim": (*_TIMES, "pool", *_WHO, "together", "notice", "drain_on_notice", "returns", "detected_after"),
    "zone-loss": (*_WHOLE, "zone", "lasts", "detected_after"),
    "rollout": (
        "at", "deployment", "pace", "ready", "new_image", "max_surge", "max_unavailable", "progress_deadline",
        "rollback_after", "rollback_on_deadline",
    ),
    "metrics-outage": (*_WHOLE, "lasts"),
}  # fmt: skip

_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "straggler": ("factor",),
    "partition": ("lasts",),
    "spot-reclaim": ("pool",),
    "zone-loss": ("zone",),
    "rollout": ("deployment", "at"),
    "metrics-outage": ("lasts",),
}

KINDS = tuple(_APPLIES)
"""What can go wrong."""

_Kind = Literal[
    "gpu-failure", "node-failure", "replica-crash", "straggler", "thermal-throttling", "partition", "spot-reclaim",
    "zone-loss", "rollout", "metrics-outage",
]  # fmt: skip

_RATES: Final = {
    "gpu-failure": ("gpu", "llama3-405b"),
    "node-failure": ("node", "llama3-405b-node"),
    "spot-reclaim": ("spot", None),
}
"""What the rates of a kind must be of, and the row that is taken when nothing is said."""

_REPAIR: Final = (3600.0, 1.0)
"""Median and sigma of a repair where nothing is said: an hour, two in three from 22 min to 2.7 h. Assumed: nobody publishes it."""
_NOTICE: Final = 30.0
_SLOWDOWN: Final = 2.0
_LONG: Final = 1e12


def _rate(name: str) -> object:
    from sim import catalog

    return catalog.failure(name)


def _moments(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Moments = Annotated[
    tuple[Seconds, ...],
    Reader(
        _moments, {"anyOf": [dict(DURATION_SCHEMA), {"type": "array", "minItems": 1, "items": dict(DURATION_SCHEMA)}]}
    ),
]
"""One time, or several."""


def _some(value: Any) -> int | float:
    """Replicas: a whole number of them, or a share."""
    found = number(value)
    if isinstance(value, int) and found is not None and found >= 0:
        return value
    try:
        share = units.fraction(value)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{shown(value)} is neither a number of replicas like 1 nor a share of them like 25%")
    return share


_Some = Annotated[int | float, Reader(_some, {"anyOf": [{"type": "integer", "minimum": 0}, *FRACTION_SCHEMA["anyOf"]]})]


class Fault(Part):
    """One thing that goes wrong: at given times (``at``), or at random (``rate`` or ``mtbf``), each GPU, machine or replica by itself."""

    kind: Annotated[_Kind, choice(*KINDS)] = Field(description="What goes wrong.")
    name: Name | None = Field(
        default=None,
        description="What reports call it; its random numbers hang on it: options that name it alike meet the same. Default: its kind.",
    )
    at: Moments | None = Field(default=None, description="When, from the start; several times in rising order.")
    rate: Annotated[str, checked(_rate, "failures")] | None = Field(
        default=None,
        description="A published rate. Default without at and mtbf: llama3-405b of gpu-failure, llama3-405b-node of node-failure.",
    )
    mtbf: (
        Annotated[float, real(0.0, _LONG, above=True, read=units.duration, schema=DURATION_SCHEMA, unit=" s")] | None
    ) = Field(
        default=None,
        description="Mean time between, of one GPU, machine or replica; of partition, zone-loss, metrics-outage: of the whole.",
    )
    shape: Annotated[float, real(0.1, 10.0)] = Field(
        default=1.0,
        description="Of the Weibull times between: 1 exponential; less: what broke lately breaks sooner.",
    )
    scale: Annotated[float, real(0.0, 1e9, above=True)] = Field(
        default=1.0, description="Multiplies the rate: 100 makes a year's failures those of four days."
    )
    after: Seconds | None = Field(default=None, description="At random only from then on.")
    until: Seconds | None = Field(default=None, description="At random only until then.")
    pool: Name | None = Field(default=None, description="Of whose machines. Default: all, where it need not be said.")
    deployment: Name | None = Field(
        default=None, description="Of whose replicas. Default: all, where it need not be said."
    )
    zone: Name | None = Field(default=None, description="Only there.")
    count: Annotated[int, whole(1, 100_000)] | None = Field(
        default=None, description="So many of those that stand, at each time of at. Default: 1; of partition: all."
    )
    share: Share | None = Field(
        default=None, description="Such a share of those that stand, rounded up, in place of count."
    )
    takes: Annotated[Literal["node", "replica"], choice("node", "replica")] = Field(
        default="node",
        description="What a failed GPU takes with it: its machine until it is repaired, or the replica, which starts again.",
    )
    repair: Spread | None = Field(
        default=None, description="Until a machine is back. Default: lognormal, median 1 h, sigma 1; assumed."
    )
    detected_after: Seconds | None = Field(
        default=None, description="Until it is noticed. Default: as the pool says; of replica-crash: at once."
    )
    of: Annotated[Literal["node", "replica"], choice("node", "replica")] | None = Field(
        default=None,
        description="What is slow: a machine with all on it, or one replica. Default: node with a pool, else replica.",
    )
    factor: Annotated[float, real(0.01, 1000.0)] | None = Field(
        default=None,
        description="Steps take so many times as long. Default of thermal-throttling: 2, as NVIDIA's hardware slowdown halves clocks.",
    )
    lasts: Spread | None = Field(
        default=None, description="For how long. Default, where it need not be said: to the end."
    )
    together: Annotated[float, real(0.0, 1.0, read=units.fraction, schema=FRACTION_SCHEMA)] = Field(
        default=0.0,
        description="Machines of a zone go together: each with this chance, all the rarer, so that each goes as often as before.",
    )
    notice: Seconds | None = Field(
        default=None,
        description="From when the cloud says so until it takes the machine. Default: the rate's, else 30 s.",
    )
    drain_on_notice: Flag = Field(
        default=True,
        description="Replicas are drained and replaced at the notice; else they serve until they are gone.",
    )
    returns: Spread | None = Field(
        default=None, description="Until that zone has machines of the pool again. Default: it has at once."
    )
    pace: Annotated[float, real(0.01, 1000.0)] = Field(
        default=1.0, description="Steps of the new version take so many times as long."
    )
    ready: Flag = Field(default=True, description="Whether the new version gets ready; else it hangs in its start.")
    new_image: Flag = Field(default=True, description="The new version has an image of its own, to be pulled.")
    max_surge: _Some = Field(default=0.25, description="So many replicas more than wanted meanwhile: 1, or 25%.")
    max_unavailable: _Some = Field(default=0.25, description="So many fewer ready ones meanwhile: 0, or 25%.")
    progress_deadline: Period = Field(
        default=600.0, description="A rollout that has not come on for so long is stuck (progressDeadlineSeconds)."
    )
    rollback_after: Seconds | None = Field(default=None, description="So long after its start it is rolled back.")
    rollback_on_deadline: Flag = Field(default=False, description="It is rolled back when it is stuck.")

    @model_validator(mode="after")
    def _goes_together(self) -> Fault:
        kind, given = self.kind, self.model_fields_set - {"kind", "name"}
        for name in type(self).model_fields:
            if name in given and name not in _APPLIES[kind]:
                raise fault(f"has no meaning with {kind}; it takes {', '.join(_APPLIES[kind])}", name)
        for name in _NEEDS.get(kind, ()):
            if name not in given:
                raise fault(f"{kind} needs {name}: {_meaning(name)}")
        if kind != "rollout":
            self._when()
        self._who()
        try:
            self.plan(kind)
        except ValueError as error:
            raise fault(str(error)) from None
        return self

    def _when(self) -> None:
        given = self.model_fields_set
        ways = [name for name in ("at", "rate", "mtbf") if name in given]
        if len(ways) > 1:
            raise fault(f"{' and '.join(ways)} are given: one of them", ways[1])
        if not ways and _RATES.get(self.kind, ("", None))[1] is None:
            known = "at, rate or mtbf" if "rate" in _APPLIES[self.kind] else "at or mtbf"
            raise fault(f"{self.kind} needs {known}: when it happens, or how often")
        if "at" in given:
            if not self.at or list(self.at) != sorted(self.at):
                raise fault("needs one or more times in rising order", "at")
            for name in ("shape", "scale", "after", "until", "together"):
                if name in given:
                    raise fault("has no meaning with at", name)
        elif self.kind != "partition":
            for name in ("count", "share"):
                if name in given:
                    raise fault("needs at: at random each is hit by itself", name)
        if self.rate is not None:
            row, wanted = self._row(), _RATES[self.kind][0]
            if row is not None and row.of != wanted:
                raise fault(
                    f"{shown(self.rate)} is the rate of one {row.of}; {self.kind} needs that of one {wanted}", "rate"
                )
        if self.after is not None and self.until is not None and self.until <= self.after:
            raise fault(f"{self.until:g} s is not later than after, {self.after:g} s", "until")

    def _who(self) -> None:
        if self.count is not None and self.share is not None:
            raise fault("has no meaning with count", "share")
        if self.kind == "rollout" and self.at is not None and len(self.at) != 1:
            raise fault("a rollout has one time", "at")
        if self.kind == "straggler" and self.of == "node" and self.deployment is not None:
            raise fault("a deployment's replicas are slow one by one; of: node takes a pool", "of")

    def _row(self) -> Failure | None:
        from sim import catalog

        default = None if self.at or self.mtbf else _RATES.get(self.kind, ("", None))[1]
        name = self.rate or default
        return None if name is None else catalog.failure(name)

    def _times(self) -> When:
        from sim.control.faults import At, Renewal

        if self.at is not None:
            return At(self.at)
        row = self._row()
        mean = self.mtbf if row is None else row.mtbf
        assert mean is not None
        until = float("inf") if self.until is None else self.until
        return Renewal(mean / self.scale, self.shape, self.after or 0.0, until)

    def plan(self, name: str) -> FaultPlan:
        """Resolved, under this name."""
        from sim.control import faults as of

        if self.kind == "rollout":
            return self._rollout(name)
        pools = () if self.pool is None else (self.pool,)
        deployments = () if self.deployment is None else (self.deployment,)
        lasts = None if self.lasts is None else self.lasts.distribution()
        some: dict[str, Any] = {"name": name, "when": self._times(), "count": self._count(), "share": self.share}
        if self.kind == "gpu-failure":
            return of.GpuFailure(
                pools=pools,
                zone=self.zone,
                repair=self._repair(),
                detected_after=self.detected_after,
                takes=self.takes,
                **some,
            )
        if self.kind == "node-failure":
            return of.NodeFailure(
                pools=pools, zone=self.zone, repair=self._repair(), detected_after=self.detected_after, **some
            )
        if self.kind == "replica-crash":
            return of.ReplicaCrash(deployments=deployments, detected_after=self.detected_after or 0.0, **some)
        if self.kind in ("straggler", "thermal-throttling"):
            hot = self.kind == "thermal-throttling"
            node = hot or self.of == "node" or (self.of is None and self.pool is not None and self.deployment is None)
            factor = _SLOWDOWN if self.factor is None else self.factor
            return of.Slowdown(
                kind=self.kind, of="node" if node else "replica", factor=factor, lasts=lasts, pools=pools,
                deployments=deployments, zone=self.zone, **some,
            )  # fmt: skip
        if self.kind == "partition":
            assert lasts is not None
            return of.Partition(lasts=lasts, pools=pools, deployments=deployments, zone=self.zone, **some)
        if self.kind == "spot-reclaim":
            return self._spot(some)
        if self.kind == "zone-loss":
            return of.ZoneLoss(
                name=name, when=self._times(), zone=str(self.zone), lasts=lasts, detected_after=self.detected_after
            )
        assert lasts is not None
        return of.MetricsOutage(name=name, when=self._times(), lasts=lasts)

    def _rollout(self, name: str) -> FaultPlan:
        from sim.control.faults import Rollout

        assert self.at is not None
        return Rollout(
            name=name,
            at=self.at[0],
            deployment=str(self.deployment),
            pace=self.pace,
            ready=self.ready,
            new_image=self.new_image,
            max_surge=self.max_surge,
            max_unavailable=self.max_unavailable,
            progress_deadline=self.progress_deadline,
            rollback_after=self.rollback_after,
            rollback_on_deadline=self.rollback_on_deadline,
        )

    def _spot(self, some: dict[str, Any]) -> FaultPlan:
        from sim.control.faults import SpotReclaim

        row = self._row()
        notice = self.notice
        if notice is None:
            notice = _NOTICE if row is None or row.notice is None else row.notice
        return SpotReclaim(
            pool=str(self.pool),
            notice=notice,
            zone=self.zone,
            together=self.together,
            returns=None if self.returns is None else self.returns.distribution(),
            drain_on_notice=self.drain_on_notice,
            detected_after=self.detected_after,
            **some,
        )

    def _count(self) -> int | None:
        everything = self.kind == "partition" or self.share is not None or self.at is None
        return self.count if everything or self.count is not None else 1

    def _repair(self) -> Distribution:
        from sim.control.cluster.distribution import LogNormal

        return LogNormal(*_REPAIR) if self.repair is None else self.repair.distribution()


def _meaning(name: str) -> str:
    """What a field is for, as the beginning of a sentence goes on."""
    said = str(Fault.model_fields[name].description).rstrip(".")
    return said[0].lower() + said[1:]


def references(entry: Fault) -> list[tuple[str, str, str]]:
    """What it names of the scenario: field, what of (pool, deployment, zone), name."""
    return [
        (field, field, value)
        for field in ("pool", "deployment", "zone")
        if (value := getattr(entry, field)) is not None
    ]


def plans(entries: Sequence[Fault]) -> list[FaultPlan]:
    """All of a scenario, resolved; those without a name are called by their kind, and by a number from the second on."""
    taken = {entry.name for entry in entries if entry.name is not None}
    found = []
    for entry in entries:
        name, again = entry.name or entry.kind, 1
        while entry.name is None and name in taken:
            again += 1
            name = f"{entry.kind}-{again}"
        taken.add(name)
        found.append(entry.plan(name))
    return found
