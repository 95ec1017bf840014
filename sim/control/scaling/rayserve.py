"""Ray Serve's default autoscaling policy: replicas by ongoing requests, smoothed, delayed, bounded.

ray-project/ray: python/ray/serve/autoscaling_policy.py and config.py; the bounds: _private/autoscaling_state.py. The versions differ in two
ways, both parameters of :class:`RayServePolicy`: what a delay counts, and whether the way to zero stops at one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

__all__ = [
    "CONTROL_LOOP_INTERVAL",
    "DelayState",
    "RayServeConfig",
    "RayServePolicy",
    "apply_bounds",
    "apply_delay_logic",
    "apply_scaling_factors",
    "calculate_desired_num_replicas",
    "defaults",
    "from_zero",
]

CONTROL_LOOP_INTERVAL: Final = 0.1
_UNBOUNDED: Final = 2**31 - 1
_EPSILON: Final = 1e-6  # seconds that may be missing from a delay: differences of clock readings are not exact

DelayUnit = Literal["wall-clock", "iterations"]
ToZero = Literal["through-one", "direct"]


@dataclass(frozen=True, slots=True)
class RayServeConfig:
    """``AutoscalingConfig``. Durations in seconds. ``downscale_to_zero_delay_s`` None: as ``downscale_delay_s``.

    A factor that is None takes the deprecated ``upscale_smoothing_factor`` / ``downscale_smoothing_factor``, and without these
    ``smoothing_factor``. ``aggregation_function``: of a metric over the look-back period.
    """

    min_replicas: int = 1
    initial_replicas: int | None = None
    max_replicas: int = 1
    target_ongoing_requests: float = 2.0
    metrics_interval_s: float = 10.0
    look_back_period_s: float = 30.0
    smoothing_factor: float = 1.0
    upscale_smoothing_factor: float | None = None
    downscale_smoothing_factor: float | None = None
    upscaling_factor: float | None = None
    downscaling_factor: float | None = None
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None
    aggregation_function: Literal["mean", "max", "min"] = "mean"

    def __post_init__(self) -> None:
        positive = (
            "max_replicas",
            "target_ongoing_requests",
            "metrics_interval_s",
            "look_back_period_s",
            "smoothing_factor",
            "upscale_smoothing_factor",
            "downscale_smoothing_factor",
            "upscaling_factor",
            "downscaling_factor",
        )
        for name in positive:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}: {value:g}; must be positive")
        for name in ("min_replicas", "upscale_delay_s", "downscale_delay_s", "downscale_to_zero_delay_s"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name}: {value:g}; must be at least 0")
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas: {self.max_replicas}; must be at least min_replicas, {self.min_replicas}")
        if self.initial_replicas is not None and not self.min_replicas <= self.initial_replicas <= self.max_replicas:
            raise ValueError(
                f"initial_replicas: {self.initial_replicas}; must be from min_replicas, {self.min_replicas},"
                f" to max_replicas, {self.max_replicas}"
            )
        if self.aggregation_function not in ("mean", "max", "min"):
            raise ValueError(f"aggregation_function: {self.aggregation_function!r}; must be 'mean', 'max' or 'min'")

    @property
    def up(self) -> float:
        """The gain on the way up (``get_upscaling_factor``)."""
        return self.upscaling_factor or self.upscale_smoothing_factor or self.smoothing_factor

    @property
    def down(self) -> float:
        """The gain on the way down (``get_downscaling_factor``)."""
        return self.downscaling_factor or self.downscale_smoothing_factor or self.smoothing_factor

    @property
    def to_zero_delay(self) -> float:
        """The delay from one replica to none."""
        delay = self.downscale_to_zero_delay_s
        return self.downscale_delay_s if delay is None else delay


def defaults(version: str = "latest", *, auto: bool = False) -> RayServeConfig:
    """The defaults of a Ray version ("2.9", "2.31.0", "latest"): until 2.31 one ongoing request a replica, then two.

    ``auto``: those of ``num_replicas="auto"``: 1 to 100 replicas, two requests each.
    """
    if auto:
        return RayServeConfig(min_replicas=1, max_replicas=100, target_ongoing_requests=2.0)
    if version == "latest":
        return RayServeConfig()
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        raise ValueError(f"version: {version!r}; must be like '2.32', or 'latest'") from None
    return RayServeConfig(target_ongoing_requests=1.0 if (major, minor) < (2, 32) else 2.0)


def apply_bounds(num_replicas: int, min_replicas: int, max_replicas: int) -> int:
    """``_apply_bounds``; the lower bound wins."""
    return max(min_replicas, min(max_replicas, num_replicas))


def calculate_desired_num_replicas(
    config: RayServeConfig,
    total_num_requests: float,
    num_running_replicas: int,
    override_min_replicas: int | None = None,
    override_max_replicas: int | None = None,
) -> int:
    """``_calculate_desired_num_replicas``: what so many requests, queued and ongoing, averaged, ask for. ValueError without a replica.

    A downscale that its factor rounds away is one replica at least.
    """
    if num_running_replicas == 0:
        raise ValueError("num_running_replicas: 0; must be at least 1")
    ratio = total_num_requests / (config.target_ongoing_requests * num_running_replicas)
    factor = config.up if ratio >= 1 else config.down
    desired = math.ceil(num_running_replicas * (1 + (ratio - 1) * factor))
    if math.ceil(num_running_replicas * ratio) < num_running_replicas and desired == num_running_replicas:
        desired -= 1
    lower = config.min_replicas if override_min_replicas is None else override_min_replicas
    upper = config.max_replicas if override_max_replicas is None else override_max_replicas
    return apply_bounds(desired, lower, upper)


def apply_scaling_factors(desired: float, current: int, config: RayServeConfig) -> int:
    """``_apply_scaling_factors``: the same smoothing for a number that a policy wants. From zero there is none."""
    if current == 0:
        return math.ceil(desired)
    factor = config.up if desired > current else config.down
    scaled = math.ceil(current + factor * (desired - current))
    if math.ceil(desired) < current and scaled == current:
        scaled -= 1
    return scaled


def from_zero(config: RayServeConfig, total_num_requests: float, target: int) -> int | None:
    """What happens while no replica runs: requests start ``ceil(factor)`` at once. None: nothing."""
    if total_num_requests > 0:
        return max(math.ceil(config.up), target)
    return None


@dataclass(slots=True)
class DelayState:
    """How long one direction has been wanted: loops (negative: down), and since when."""

    counter: int = 0
    since: float | None = None


def apply_delay_logic(
    desired: int,
    target: int,
    config: RayServeConfig,
    state: DelayState,
    now: float,
    *,
    unit: DelayUnit = "wall-clock",
    to_zero: ToZero = "through-one",
    loops: int = 1,
) -> int:
    """``_apply_delay_logic``: ``desired`` once it was wanted, up or down, for its delay; until then ``target``. Updates ``state``.

    A wish for the other direction, or for none, starts anew. ``unit``: the delay in seconds since the first wish (newer), or more than
    int(delay / 0.1) loops, whatever they take (older). ``to_zero`` "through-one" (newer): zero is reached from one only, after its own
    delay. ``loops``: control loops that this call stands for.
    """
    if desired == target:
        state.counter, state.since = 0, None
        return target
    up = desired > target
    if (up and state.counter < 0) or (not up and state.counter > 0):
        state.counter, state.since = 0, None
    state.counter += loops if up else -loops
    if up:
        delay = config.upscale_delay_s
    else:
        delay = config.downscale_delay_s
        if to_zero == "through-one":
            if target == 1:
                delay = config.to_zero_delay
            else:
                desired = max(1, desired)
    if state.since is None:
        state.since = now
    by_loops = abs(state.counter) > int(delay / CONTROL_LOOP_INTERVAL)
    by_clock = now - state.since + _EPSILON >= delay
    if not (by_loops if unit == "iterations" else by_clock):
        return target
    state.counter, state.since = 0, None
    return desired


class RayServePolicy:
    """``replica_queue_length_autoscaling_policy`` with its state. ``unit`` and ``to_zero``: see :func:`apply_delay_logic`.

    The newer ways are the default: wall clock since pull request 62144 (2.54 still counts loops), through one since 56573 (2.50).
    """

    __slots__ = ("config", "state", "to_zero", "unit")

    def __init__(
        self, config: RayServeConfig, *, unit: DelayUnit = "wall-clock", to_zero: ToZero = "through-one"
    ) -> None:
        if unit not in ("wall-clock", "iterations"):
            raise ValueError(f"unit: {unit!r}; must be 'wall-clock' or 'iterations'")
        if to_zero not in ("through-one", "direct"):
            raise ValueError(f"to_zero: {to_zero!r}; must be 'through-one' or 'direct'")
        self.config = config
        self.unit: DelayUnit = unit
        self.to_zero: ToZero = to_zero
        self.state = DelayState()

    def update(self, **changes: object) -> None:
        """Change fields of the configuration; the state stays."""
        self.config = replace(self.config, **changes)  # type: ignore[arg-type]

    def decide(
        self,
        total_num_requests: float,
        num_running_replicas: int,
        target_num_replicas: int,
        now: float = 0.0,
        *,
        bounded: bool = True,
        loops: int = 1,
    ) -> int:
        """The new target. ``num_running_replicas`` sets the ratio, ``target_num_replicas`` is what a delay is measured against.

        ``bounded``: within the bounds, as the controller has it. False: what the policy alone answers since pull request 61844; before,
        it was bounded itself but for a start from zero.
        """
        config = self.config
        if num_running_replicas == 0:
            started = from_zero(config, total_num_requests, target_num_replicas)
            decision = target_num_replicas if started is None else started
        else:
            bounds = (None, None) if bounded else (0, _UNBOUNDED)
            desired = calculate_desired_num_replicas(config, total_num_requests, num_running_replicas, *bounds)
            decision = apply_delay_logic(
                desired,
                target_num_replicas,
                config,
                self.state,
                now,
                unit=self.unit,
                to_zero=self.to_zero,
                loops=loops,
            )
        return apply_bounds(decision, config.min_replicas, config.max_replicas) if bounded else decision
