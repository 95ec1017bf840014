"""What the cluster can do to the data plane, and what the data plane tells it. Calls come after all that happens at their moment."""

from __future__ import annotations

from typing import Protocol

__all__ = ["DataPlane", "Log"]


class DataPlane(Protocol):
    """The replicas as requests meet them. Replicas are numbered over the whole fleet, in order of creation, and numbers are not reused.

    When a closed replica has nothing left to serve, or a request waits for a deployment that has no replica at all, whoever drives
    the plane is told (:func:`sim.kernel.drive.drive`).
    """

    def create(self, deployment: int) -> int:
        """A new replica, not yet ready: no request goes there. Its number."""
        ...

    def open(self, replica: int, now: float) -> None:
        """It is ready: requests go there, those that wait at the gateway first."""
        ...

    def close(self, replica: int, now: float) -> None:
        """It gets nothing new and serves what it has."""
        ...

    def idle(self, replica: int) -> bool:
        """Whether it has nothing to serve."""
        ...

    def kill(self, replica: int, now: float, reason: str) -> int:
        """It is gone, at once. What it was serving fails for ``reason``; how many requests that were."""
        ...

    def pace(self, replica: int, factor: float, now: float) -> None:
        """From its next step on, its steps take ``factor`` times what its profile says."""
        ...

    def cut(self, replica: int, on: bool, now: float) -> None:
        """Whether the gateway can no longer reach it: what it was serving fails, and what is sent to it will."""
        ...


class Log(Protocol):
    """Writes down a decision: what, when, of whom, why, and the numbers it was made from."""

    def __call__(
        self, kind: str, now: float, reason: str, /, *, deployment: str = "", replica: int = -1, **numbers: object
    ) -> None:
        """``replica`` is its number in the fleet."""
        ...
