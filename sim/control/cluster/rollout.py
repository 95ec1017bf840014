"""How a rolling update goes on: how many of the new, how many fewer of the old. Pure.

kubernetes/kubernetes, pkg/controller/deployment/rolling.go and util/deployment_util.go (ResolveFenceposts, NewRSNewReplicas).
"""

from __future__ import annotations

from math import ceil, floor

__all__ = ["fenceposts", "fewer_old", "new_size"]


def fenceposts(max_surge: int | float, max_unavailable: int | float, desired: int) -> tuple[int, int]:
    """How many replicas may be too many and how many too few; floats are shares of ``desired``, ints are replicas.

    The surge is rounded up, the unavailable down; when both come out as 0, one may be unavailable.
    """
    surge = _count(max_surge, desired, up=True, name="max_surge")
    unavailable = _count(max_unavailable, desired, up=False, name="max_unavailable")
    return surge, 1 if surge == unavailable == 0 else unavailable


def _count(value: int | float, desired: int, *, up: bool, name: str) -> int:
    if value < 0 or (isinstance(value, float) and value > 1.0):
        raise ValueError(f"{name} {value}: a whole number of replicas, or a share from 0.0 to 1.0")
    if not isinstance(value, float):
        return value
    percent = round(value * 100.0, 6) * desired / 100.0  # 0.07 × 100 is 7.000000000000001
    return ceil(percent) if up else floor(percent)


def new_size(desired: int, surge: int, total: int, new: int) -> int:
    """Replicas the new generation shall have, of ``total`` that there are of all generations, ``new`` of them new."""
    if new >= desired:
        return desired
    return min(new + max(desired + surge - total, 0), desired)


def fewer_old(desired: int, unavailable: int, old: int, old_available: int, new: int, new_available: int) -> int:
    """Old replicas to remove now: those not available first, then as many available ones as ``unavailable`` allows."""
    least = desired - unavailable
    allowed = old + new - least - (new - new_available)
    if old == 0 or allowed <= 0:
        return 0
    broken = min(allowed, old - old_available)
    available = old_available + new_available
    return broken + min(old - broken, max(available - least, 0))
