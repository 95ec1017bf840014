"""How a replica starts, from what was measured of starts: a profile's load part or a shipped cold start. Pure.

What was not measured is left out, and said; where nothing at all is known, :func:`typical` puts published figures together, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sim.control.cluster.distribution import SIGMA, Distribution, Empirical, LogNormal, Scaled, of_samples
from sim.control.cluster.plans import Start

if TYPE_CHECKING:
    from sim.profiles.schema import Load

__all__ = ["AFTER", "BEFORE", "PCIE", "RATES", "Known", "known", "provision", "typical", "wake"]

BEFORE: Final = ("process", "context")
AFTER: Final = ("deserialise", "build", "compile", "graph_capture", "warm_up", "engine")
"""Phases before and after the reading of weights, in order, by the names of :data:`sim.profiles.startup.Phase`."""

RATES: Final[Mapping[str, float]] = {
    "object_store": 3.2911e9,  # runai-streamer-s3-llama-3-8b
    "network_disk": 1.12e9,  # runai-streamer-gp3-llama-3-8b
    "local_disk": 3.56385e9,  # safetensors-h100-nvme-llama-3.1-8b
    "page_cache": 6.4617e9,  # safetensors-h100-nvme-deepseek-r1-distill-qwen-32b
}
"""Bytes a second of one load, where the cold start says nothing of a tier: medians of shipped cold starts."""

PCIE: Final = 25e9
"""Bytes a second from pinned host memory to one GPU, as the scheduler of ServerlessLLM assumes."""

WAKE: Final = 0.1
"""Seconds that waking an engine takes beside its weights: the shortest wake of blog.vllm.ai/2025/10/26/sleep-mode (0.6B, 0.1 s)."""

_SOURCES: Final = ("object_store", "network_disk", "local_disk")


@dataclass(frozen=True)
class Known:
    """What is known of a start, and of what it loads with. ``provision``: seconds until a machine is had, None if not known.

    ``disk`` and ``volume``: bytes a second that a node's own disk and its network volume gave all loads at once. ``warnings``: what is
    assumed, left out or of another model, a line each.
    """

    start: Start
    provision: Distribution | None = None
    disk: float | None = None
    volume: float | None = None
    warnings: tuple[str, ...] = ()


def provision() -> LogNormal:
    """Seconds until a GPU node can be used, where nobody says: 3 min, a third more or less. Assumed."""
    return LogNormal(180.0, 0.3)


def wake(level: int, weights_bytes: float, gpus: int, pcie: float = PCIE) -> LogNormal:
    """Seconds in which a vLLM engine wakes: at level 1 its weights come from host memory, each GPU's over its own link; at level 2
    they are read as in a start, which is not in here."""
    copied = weights_bytes / gpus / pcie if level == 1 else 0.0
    return LogNormal(copied + WAKE, SIGMA)


def known(
    load: Load | None,
    *,
    name: str = "",
    weights_bytes: float = 0.0,
    weights_name: str = "",
    source: str | None = None,
    phases: Mapping[str, Distribution] | None = None,
    image: str = "",
    image_bytes: float = 0.0,
    readiness_period: float = 10.0,
    endpoint_delay: float = 0.0,
    factor: float = 1.0,
) -> Known:
    """The start of a replica of ``weights_bytes``, as ``load`` (called ``name``) has it and ``phases`` say otherwise.

    ``source``: the tier weights come from, by default the one they were measured from. The reading of weights is scaled by their
    bytes, nothing else is; ``factor`` scales all but the machine's provisioning. A ``ready`` that is more than its parts is taken to
    hold an ``engine`` part of the rest. Of ``load`` None there are only ``phases``.
    """
    given = dict(phases or {})
    warnings: list[str] = []
    measured: dict[str, Distribution] = {}
    if load is not None:
        measured = {str(phase): of_samples(samples.values) for phase, samples in load.phases.items()}
    _rest(measured)
    weights, tier = _weights(load, measured, given, weights_bytes, source, name, warnings)
    parts = measured | given
    if load is not None:
        missing = [phase for phase in ("process", "compile", "graph_capture", "warm_up") if phase not in parts]
        if missing and "engine" not in parts:
            warnings.append(f"cold start {name}: nothing was measured of {', '.join(missing)}: 0 s")
        if load.bytes and weights_bytes and not 0.9 <= weights_bytes / load.bytes <= 1.1:
            warnings.append(
                f"cold start {name}: measured with {load.bytes / 1e9:.3g} GB of weights, used for {weights_bytes / 1e9:.3g} GB:"
                " reading them is scaled, the other phases are not"
            )

    def scaled(distribution: Distribution) -> Distribution:
        return distribution if factor == 1.0 else Scaled(distribution, factor)

    start = Start(
        image=image,
        image_bytes=image_bytes,
        pull=scaled(parts["image_pull"]) if "image_pull" in parts else None,
        extract=scaled(parts["image_extract"]) if "image_extract" in parts else None,
        before={phase: scaled(parts[phase]) for phase in BEFORE if phase in parts},
        weights_name=weights_name,
        weights_bytes=weights_bytes,
        source=tier,
        weights={where: scaled(seconds) for where, seconds in weights.items()},
        after={phase: scaled(parts[phase]) for phase in AFTER if phase in parts},
        readiness_period=readiness_period,
        endpoint_delay=endpoint_delay,
    )
    return Known(
        start,
        parts.get("node"),
        _all_at_once(load, "local_disk"),
        _all_at_once(load, "network_disk"),
        tuple(warnings),
    )


def typical(weights_bytes: float, **options: object) -> Known:
    """A start of which nothing is known: the engine of ``vllm-0.8.5-h100-llama-3.1-8b``, a process of 16 s (vllm-project/vllm#44881), the
    weights at :data:`RATES`. ``options`` as of :func:`known`."""
    from sim.profiles import coldstarts

    measured = coldstarts.load("vllm-0.8.5-h100-llama-3.1-8b").load
    own = {phase: samples for phase, samples in measured.phases.items() if phase != "weights"}
    load = measured.model_copy(update={"phases": own, "read": {}, "bytes": max(int(weights_bytes), 1)})
    given = options.pop("phases", None)
    phases: dict[str, Distribution] = {"process": LogNormal(16.0, SIGMA)}
    phases |= given if isinstance(given, Mapping) else {}
    found = known(load, name="typical", weights_bytes=weights_bytes, phases=phases, **options)  # type: ignore[arg-type]
    said = (
        f"nothing is known of its cold start: a vLLM's on an H100 is assumed, {found.start.process:.0f} s, no image to pull"
        if found.start.pull is None
        else f"nothing is known of its cold start: a vLLM's on an H100 is assumed, {found.start.process:.0f} s"
    )
    return Known(found.start, found.provision, found.disk, found.volume, (said, *found.warnings))


def _rest(measured: dict[str, Distribution]) -> None:
    """What ``ready`` holds beyond its parts becomes ``engine``."""
    ready = measured.pop("ready", None)
    if ready is None:
        return
    parts = sum(measured[phase].median for phase in (*BEFORE, "weights", *AFTER) if phase in measured)
    rest = ready.median - parts
    if rest > 0.0:
        before = measured["engine"].median if "engine" in measured else 0.0
        measured["engine"] = LogNormal(before + rest, SIGMA)


def _weights(
    load: Load | None,
    measured: dict[str, Distribution],
    given: dict[str, Distribution],
    weights_bytes: float,
    source: str | None,
    name: str,
    warnings: list[str],
) -> tuple[dict[str, Distribution], str]:
    """Seconds to read the weights by tier, and the tier they come from."""
    own = measured.pop("weights", None)
    said = given.pop("weights", None)
    rates = {} if load is None else {tier: transfer.bytes_per_second.values for tier, transfer in load.read.items()}
    seconds: dict[str, Distribution] = {
        tier: of_samples([weights_bytes / rate for rate in values if rate > 0.0])
        for tier, values in rates.items()
        if tier != "host_memory" and weights_bytes > 0.0
    }
    from_where = next((tier for tier in _SOURCES if tier in rates), "local_disk")
    if own is not None and load is not None:
        ratio = weights_bytes / load.bytes if weights_bytes > 0.0 else 1.0
        seconds[from_where] = Scaled(own, ratio) if ratio != 1.0 else own
    tier = from_where if source is None else source
    if said is not None:
        seconds[tier] = said
    elif tier not in seconds and weights_bytes > 0.0 and (source is not None or (load and "engine" not in measured)):
        # where an engine's start was timed as a whole, the weights are in it
        rate = RATES[tier]
        seconds[tier] = LogNormal(weights_bytes / rate, SIGMA)
        whose = f"cold start {name}" if name else "cold start"
        warnings.append(f"{whose}: nothing was measured of weights from {tier}: {rate / 1e9:.3g} GB/s are assumed")
    return seconds, tier


def _all_at_once(load: Load | None, tier: str) -> float | None:
    """Bytes a second that all loads at once have had of a tier."""
    transfer = None if load is None else {str(key): value for key, value in load.read.items()}.get(tier)
    if transfer is None:
        return None
    return max(Empirical(transfer.bytes_per_second.values).median, *transfer.together.values(), 0.0)
