"""What the HPA's code has changed over the years: one flag a difference, the newest behaviour being the default.

Read in kubernetes/kubernetes, pkg/controller/podautoscaler/{horizontal,replica_calculator}.go, at commit 0006726 (with the API
v2beta2: :data:`V2BETA2`) and as on the main branch of 2026 (forks omerap12 a769d58, adrianmoisey 786f7bb: :data:`CURRENT`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CURRENT", "V2BETA2", "HpaVersion"]


@dataclass(frozen=True, slots=True)
class HpaVersion:
    """Which of the differences between versions hold.

    ``tolerance_as_bounds``: within tolerance is 1 − down <= ratio <= 1 + up (False: \\|1 − ratio\\| <= tolerance, which in binary
    floating point differs at 1.1 itself). ``tolerance_in_behavior``: ``behavior`` may set it by direction (gate
    HPAConfigurableTolerance). ``missing_at_target``: on the way down a pod without metric counts as max(100, target) % of its
    request (False: as 100 %). ``zero_when_at_target``: at a ratio of exactly 1 a missing pod of a plain metric counts as 0, as once.
    ``pods_keep_direction``: a plain metric whose correction would reverse the direction keeps the replicas, as utilisation always
    did. ``drop_ignored_metrics``: metrics of pods that are deleted or have failed are left out. ``succeeded_is_ignored``: so are
    those of pods that have succeeded. ``refuse_down_on_failure``: no scale-down while any metric fails (False: what is left
    decides). ``stabilize_both_ways``: the windows of both directions bound every recommendation (False: only that of its own).
    ``both_event_lists``: rate policies count additions and deletions (False: only their own). ``min_policy_works``: selectPolicy Min
    allows the smallest change (False: none at all, a fault of then). ``scale_from_zero``: at 0 replicas
    the HPA works when ``"min-replicas"`` is 0, or (gate HPAScaleToZero of 2026) on the ``"condition"`` that it has itself scaled to
    zero, or ``"never"`` (that gate off).
    """

    tolerance_as_bounds: bool = True
    tolerance_in_behavior: bool = True
    missing_at_target: bool = True
    zero_when_at_target: bool = False
    pods_keep_direction: bool = True
    drop_ignored_metrics: bool = True
    succeeded_is_ignored: bool = True
    refuse_down_on_failure: bool = True
    stabilize_both_ways: bool = True
    both_event_lists: bool = True
    min_policy_works: bool = True
    scale_from_zero: Literal["min-replicas", "condition", "never"] = "min-replicas"


CURRENT = HpaVersion()
"""As it is now, but scaling from zero as in every release to date: where ``min_replicas`` is 0."""
V2BETA2 = HpaVersion(
    tolerance_as_bounds=False,
    tolerance_in_behavior=False,
    missing_at_target=False,
    zero_when_at_target=True,
    pods_keep_direction=False,
    drop_ignored_metrics=False,
    succeeded_is_ignored=False,
    refuse_down_on_failure=False,
    stabilize_both_ways=False,
    both_event_lists=False,
    min_policy_works=False,
)
"""As in 2020 (commit 0006726)."""
