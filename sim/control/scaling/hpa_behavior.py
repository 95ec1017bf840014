"""``spec.behavior`` of an HPA: scaling rules by direction, their defaults, and reading them as Kubernetes writes them.

Source: kubernetes/kubernetes pkg/apis/autoscaling/v2/defaults.go (GenerateHPAScaleUpRules, GenerateHPAScaleDownRules) and
pkg/apis/autoscaling/validation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

__all__ = [
    "Behavior",
    "ScalingPolicy",
    "ScalingRules",
    "SelectPolicy",
    "behavior_from",
    "scale_down_rules",
    "scale_up_rules",
]

SelectPolicy: TypeAlias = Literal["Max", "Min", "Disabled"]
"""Max: the policy that allows the largest change; Min: the smallest; Disabled: no change in that direction."""


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """At most ``value`` pods, or percent of the pods there were, within any ``period_seconds``. ``type``: Pods or Percent."""

    type: Literal["Pods", "Percent"]
    value: int
    period_seconds: float

    def __post_init__(self) -> None:
        if self.type not in ("Pods", "Percent"):
            raise ValueError(f"behavior: policy type {self.type!r} must be Pods or Percent")
        if self.value <= 0:
            raise ValueError(f"behavior: policy value {self.value} must be greater than 0")
        if not 0 < self.period_seconds <= 1800:
            raise ValueError(f"behavior: periodSeconds {self.period_seconds:g} must be greater than 0 and at most 1800")


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """One direction's rules. What is None is unset: the defaults of the direction fill it, see :func:`scale_up_rules`."""

    stabilization_window_seconds: float | None = None
    select_policy: SelectPolicy | None = None
    policies: tuple[ScalingPolicy, ...] | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        window, tolerance = self.stabilization_window_seconds, self.tolerance
        if window is not None and not 0 <= window <= 3600:
            raise ValueError(f"behavior: stabilizationWindowSeconds {window:g} must be between 0 and 3600")
        if self.select_policy not in (None, "Max", "Min", "Disabled"):
            raise ValueError(f"behavior: selectPolicy {self.select_policy!r} must be Max, Min or Disabled")
        if self.policies is not None and not self.policies:
            raise ValueError("behavior: policies must hold at least one policy")
        if tolerance is not None and tolerance < 0:
            raise ValueError(f"behavior: tolerance {tolerance:g} must not be negative")


@dataclass(frozen=True, slots=True)
class Behavior:
    """Rules of both directions. What is unset takes the defaults as soon as there is a behavior at all."""

    scale_up: ScalingRules = ScalingRules()
    scale_down: ScalingRules = ScalingRules()


_UP = ScalingRules(0.0, "Max", (ScalingPolicy("Pods", 4, 15.0), ScalingPolicy("Percent", 100, 15.0)))
_DOWN = ScalingRules(None, "Max", (ScalingPolicy("Percent", 100, 15.0),))


def scale_up_rules(given: ScalingRules | None = None) -> ScalingRules:
    """``given`` with what is unset filled in: no stabilisation, the larger of 4 pods and 100 % in 15 s."""
    return _filled(given, _UP)


def scale_down_rules(given: ScalingRules | None = None) -> ScalingRules:
    """``given`` with what is unset filled in: 100 % in 15 s. The window stays unset: the controller's own, 300 s, takes its place."""
    return _filled(given, _DOWN)


def _filled(given: ScalingRules | None, default: ScalingRules) -> ScalingRules:
    if given is None:
        return default
    names = ("stabilization_window_seconds", "select_policy", "policies", "tolerance")
    return replace(given, **{name: getattr(default, name) for name in names if getattr(given, name) is None})


def with_window(rules: ScalingRules, seconds: float) -> ScalingRules:
    """``rules`` with the window set to ``seconds`` where it is unset."""
    if rules.stabilization_window_seconds is not None:
        return rules
    return replace(rules, stabilization_window_seconds=seconds)


def behavior_from(given: Mapping[str, Any]) -> Behavior:
    """A behavior as a manifest writes it, camelCase or snake_case. ValueError names what does not fit."""
    keys = _snake(given, "behavior", ("scale_up", "scale_down"))
    return Behavior(*(_rules(keys.get(name), f"behavior.{name}") for name in ("scale_up", "scale_down")))


def _rules(given: object, where: str) -> ScalingRules:
    if given is None:
        return ScalingRules()
    keys = _snake(given, where, ("stabilization_window_seconds", "select_policy", "policies", "tolerance"))
    policies = keys.get("policies")
    if policies is not None and (isinstance(policies, str) or not isinstance(policies, Sequence)):
        raise ValueError(f"{where}.policies must be a list, not {policies!r}")
    return ScalingRules(
        _number(keys, "stabilization_window_seconds", where),
        keys.get("select_policy"),
        None if policies is None else tuple(_policy(policy, f"{where}.policies") for policy in policies),
        _number(keys, "tolerance", where),
    )


def _policy(given: object, where: str) -> ScalingPolicy:
    keys = _snake(given, where, ("type", "value", "period_seconds"))
    missing = [name for name in ("type", "value", "period_seconds") if name not in keys]
    if missing:
        raise ValueError(f"{where}: a policy needs type, value and periodSeconds; {missing[0]} is missing")
    value, period = _number(keys, "value", where), _number(keys, "period_seconds", where)
    if value is None or period is None or value != int(value):
        raise ValueError(f"{where}: a policy's value {keys['value']!r} must be a whole number")
    return ScalingPolicy(keys["type"], int(value), period)


def _number(keys: Mapping[str, Any], name: str, where: str) -> float | None:
    value = keys.get(name)
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}.{name} {value!r} must be a number") from None


def _snake(given: object, where: str, allowed: Sequence[str]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} must be a mapping with {', '.join(allowed)}, not {given!r}")
    keys = {re.sub(r"(?<=[a-z])([A-Z])", r"_\1", str(key)).lower(): value for key, value in given.items()}
    for key in keys:
        if key not in allowed:
            raise ValueError(f"{where}: {key!r} is not one of {', '.join(allowed)}")
    return keys
