"""How far an HPA may follow its metrics: stabilisation over recent recommendations, rate policies, minimum and maximum.

Pure functions over lists that the caller keeps; the order is stabilise, then limit. Source: kubernetes/kubernetes
pkg/controller/podautoscaler/horizontal.go, whose function names these keep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sim.control.scaling.hpa_behavior import Behavior, ScalingRules, scale_down_rules, scale_up_rules
from sim.control.scaling.hpa_pods import MAX_INT32
from sim.control.scaling.hpa_version import CURRENT, HpaVersion

__all__ = [
    "MESSAGES",
    "Limited",
    "Recommendation",
    "ScaleEvent",
    "calculate_scale_down_limit_with_behaviors",
    "calculate_scale_up_limit",
    "calculate_scale_up_limit_with_scaling_rules",
    "convert_desired_replicas_with_behavior_rate",
    "convert_desired_replicas_with_rules",
    "get_replicas_change_per_period",
    "mark_scale_events_outdated",
    "stabilize_recommendation",
    "stabilize_recommendation_with_behaviors",
    "store_scale_event",
]

_MIN_INT32 = -MAX_INT32 - 1


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What the metrics asked for at ``timestamp``, before stabilisation and limits."""

    replicas: int
    timestamp: float


@dataclass(slots=True)
class ScaleEvent:
    """A scaling by ``replica_change`` pods (never negative) at ``timestamp``; ``outdated``: older than every policy looks back."""

    replica_change: int
    timestamp: float
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Limited:
    """A replica count and what made it so: the reason and message of the condition that the controller sets."""

    replicas: int
    reason: str
    message: str


MESSAGES = {
    "ScaleUpStabilized": "recent recommendations were lower than current one, applying the lowest recent recommendation",
    "ScaleDownStabilized": "recent recommendations were higher than current one, applying the highest recent recommendation",
    "ScaleUpLimit": "the desired replica count is increasing faster than the maximum scale rate",
    "ScaleDownLimit": "the desired replica count is decreasing faster than the maximum scale rate",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
    "DesiredWithinRange": "the desired count is within the acceptable range",
}
"""What the controller says with each reason."""


def _limited(replicas: int, reason: str) -> Limited:
    return Limited(replicas, reason, MESSAGES[reason])


def stabilize_recommendation(
    recommendations: list[Recommendation], desired_replicas: int, now: float, window: float = 300.0
) -> int:
    """Without ``behavior``: the highest of ``desired_replicas`` and what was recommended in the last ``window`` seconds.

    Changes ``recommendations``: the last one older than the window gives its place to this one, else it is appended.
    """
    highest = desired_replicas
    old = None
    for i, recommendation in enumerate(recommendations):
        if recommendation.timestamp < now - window:
            old = i
        else:
            highest = max(highest, recommendation.replicas)
    _record(recommendations, old, Recommendation(desired_replicas, now))
    return highest


def stabilize_recommendation_with_behaviors(
    recommendations: list[Recommendation],
    current_replicas: int,
    desired_replicas: int,
    now: float,
    scale_up_window: float = 0.0,
    scale_down_window: float = 300.0,
    version: HpaVersion = CURRENT,
) -> Limited:
    """Move from ``current_replicas`` only as far as all recommendations of the last ``scale_up_window`` and ``scale_down_window``
    seconds agree. Changes ``recommendations`` as :func:`stabilize_recommendation` does, for those older than both windows.
    """
    up_cutoff, down_cutoff = now - scale_up_window, now - scale_down_window
    lowest = highest = desired_replicas
    old = None
    for i, recommendation in enumerate(recommendations):
        if recommendation.timestamp > up_cutoff:
            lowest = min(lowest, recommendation.replicas)
        if recommendation.timestamp > down_cutoff:
            highest = max(highest, recommendation.replicas)
        if recommendation.timestamp < min(up_cutoff, down_cutoff):
            old = i
    upwards = desired_replicas >= current_replicas
    agreed = min(max(current_replicas, lowest), highest)
    own = lowest if upwards else highest
    stabilized = agreed if version.stabilize_both_ways else own
    _record(recommendations, old, Recommendation(desired_replicas, now))
    return _limited(stabilized, "ScaleUpStabilized" if upwards else "ScaleDownStabilized")


def _record(recommendations: list[Recommendation], place: int | None, recommendation: Recommendation) -> None:
    if place is None:
        recommendations.append(recommendation)
    else:
        recommendations[place] = recommendation


def calculate_scale_up_limit(
    current_replicas: int, scale_up_limit_factor: float = 2.0, scale_up_limit_minimum: float = 4.0
) -> int:
    """The legacy limit, without ``behavior``: double, but 4 at least. (Kubernetes' own tests set the factor to 8.)"""
    return int(max(scale_up_limit_factor * current_replicas, scale_up_limit_minimum))


def convert_desired_replicas_with_rules(
    current_replicas: int,
    desired_replicas: int,
    min_replicas: int,
    max_replicas: int,
    scale_up_limit_factor: float = 2.0,
) -> Limited:
    """Without ``behavior``: no fewer than the minimum, no more than the maximum and :func:`calculate_scale_up_limit`."""
    limit = calculate_scale_up_limit(current_replicas, scale_up_limit_factor)
    highest, reason = (limit, "ScaleUpLimit") if max_replicas > limit else (max_replicas, "TooManyReplicas")
    if desired_replicas < min_replicas:
        return _limited(min_replicas, "TooFewReplicas")
    if desired_replicas > highest:
        return _limited(highest, reason)
    return _limited(desired_replicas, "DesiredWithinRange")


def get_replicas_change_per_period(period_seconds: float, events: Sequence[ScaleEvent], now: float) -> int:
    """Replicas changed by ``events`` in the last ``period_seconds``, one exactly that old left out."""
    return sum(event.replica_change for event in events if event.timestamp > now - period_seconds)


def _starts(
    current: int, up: Sequence[ScaleEvent], down: Sequence[ScaleEvent], rules: ScalingRules, now: float
) -> list[int]:
    """Replicas there were when each policy's period began."""
    return [
        current
        - get_replicas_change_per_period(policy.period_seconds, up, now)
        + get_replicas_change_per_period(policy.period_seconds, down, now)
        for policy in rules.policies or ()
    ]


def calculate_scale_up_limit_with_scaling_rules(
    current_replicas: int,
    scale_up_events: Sequence[ScaleEvent],
    scale_down_events: Sequence[ScaleEvent],
    rules: ScalingRules,
    now: float,
    version: HpaVersion = CURRENT,
) -> int:
    """How many replicas the policies of ``rules`` allow at most; it may be below ``current_replicas``."""
    rules = scale_up_rules(rules)
    if rules.select_policy == "Disabled":
        return current_replicas
    if rules.select_policy == "Min" and not version.min_policy_works:
        return 0
    down = scale_down_events if version.both_event_lists else ()
    limits = [
        start + policy.value
        if policy.type == "Pods"
        else min(math.ceil(float(start) * (1 + float(policy.value) / 100)), MAX_INT32)
        for policy, start in zip(
            rules.policies or (), _starts(current_replicas, scale_up_events, down, rules, now), strict=True
        )
    ]
    return min(limits) if rules.select_policy == "Min" else max(limits)


def calculate_scale_down_limit_with_behaviors(
    current_replicas: int,
    scale_up_events: Sequence[ScaleEvent],
    scale_down_events: Sequence[ScaleEvent],
    rules: ScalingRules,
    now: float,
    version: HpaVersion = CURRENT,
) -> int:
    """How few replicas the policies of ``rules`` allow; it may be above ``current_replicas``, or negative."""
    rules = scale_down_rules(rules)
    if rules.select_policy == "Disabled":
        return current_replicas
    if rules.select_policy == "Min" and not version.min_policy_works:
        return MAX_INT32
    up = scale_up_events if version.both_event_lists else ()
    limits = [
        start - policy.value
        if policy.type == "Pods"
        else max(math.trunc(float(start) * (1 - float(policy.value) / 100)), _MIN_INT32)
        for policy, start in zip(
            rules.policies or (), _starts(current_replicas, up, scale_down_events, rules, now), strict=True
        )
    ]
    return max(limits) if rules.select_policy == "Min" else min(limits)


def convert_desired_replicas_with_behavior_rate(
    current_replicas: int,
    desired_replicas: int,
    min_replicas: int,
    max_replicas: int,
    behavior: Behavior,
    scale_up_events: Sequence[ScaleEvent] = (),
    scale_down_events: Sequence[ScaleEvent] = (),
    now: float = 0.0,
    version: HpaVersion = CURRENT,
) -> Limited:
    """With ``behavior``: no faster than its policies allow, between minimum and maximum. ``desired_replicas`` is stabilised already."""
    if desired_replicas > current_replicas:
        limit = calculate_scale_up_limit_with_scaling_rules(
            current_replicas, scale_up_events, scale_down_events, behavior.scale_up, now, version
        )
        limit = max(limit, current_replicas)  # rather wait than go back
        highest, reason = (limit, "ScaleUpLimit") if max_replicas > limit else (max_replicas, "TooManyReplicas")
        if desired_replicas > highest:
            return _limited(highest, reason)
    elif desired_replicas < current_replicas:
        limit = calculate_scale_down_limit_with_behaviors(
            current_replicas, scale_up_events, scale_down_events, behavior.scale_down, now, version
        )
        limit = min(limit, current_replicas)
        lowest, reason = (limit, "ScaleDownLimit") if min_replicas < limit else (min_replicas, "TooFewReplicas")
        if desired_replicas < lowest:
            return _limited(lowest, reason)
    return _limited(desired_replicas, "DesiredWithinRange")


def mark_scale_events_outdated(events: Sequence[ScaleEvent], longest_policy_period: float, now: float) -> None:
    """Mark those of ``events`` that are older than ``longest_policy_period`` seconds."""
    for event in events:
        if event.timestamp < now - longest_policy_period:
            event.outdated = True


def store_scale_event(
    behavior: Behavior | None,
    prev_replicas: int,
    new_replicas: int,
    scale_up_events: list[ScaleEvent],
    scale_down_events: list[ScaleEvent],
    now: float,
) -> None:
    """Note a scaling in the list of its direction, in place of the last outdated event if there is one; without behavior nothing."""
    if behavior is None:
        return
    if new_replicas > prev_replicas:
        events, rules = scale_up_events, scale_up_rules(behavior.scale_up)
    else:
        events, rules = scale_down_events, scale_down_rules(behavior.scale_down)
    mark_scale_events_outdated(events, max(policy.period_seconds for policy in rules.policies or ()), now)
    event = ScaleEvent(abs(new_replicas - prev_replicas), now)
    outdated = [i for i, known in enumerate(events) if known.outdated]
    if outdated:
        events[outdated[-1]] = event
    else:
        events.append(event)
