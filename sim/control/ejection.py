"""Outlier detection at work: the replicas of one deployment that its proxy avoids for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.control.station import Station

if TYPE_CHECKING:
    from sim.control.clients.outliers import OutlierDetection
    from sim.control.floor import Floor

__all__ = ["Ejection"]


class Ejection:
    """Tells ``outlier`` what became of requests, and takes its word for which replicas may be chosen. Replicas by their number within
    the deployment."""

    __slots__ = ("floor", "outlier", "station")

    def __init__(self, floor: Floor, station: Station, outlier: OutlierDetection) -> None:
        self.floor = floor
        self.station = station
        self.outlier = outlier

    def opened(self, index: int, now: float) -> None:
        """A replica is there: who is avoided may change, as not too many may be."""
        self.outlier.add(index)
        self.review(now)

    def closed(self, index: int, now: float) -> None:
        """A replica is no longer to be sent anything."""
        self.outlier.remove(index)
        self.review(now)

    def answered(self, index: int, now: float) -> None:
        """A replica has answered a request."""
        self.outlier.report(index, now, True)

    def failed(self, index: int, now: float, code: int) -> None:
        """It has not. The proxy's own errors are 503 (no connection) and 504 (too late)."""
        self.outlier.report(index, now, False, code)
        self.review(now)

    def tick(self, now: float) -> None:
        """An interval has ended: rates are judged, and some come back."""
        self.outlier.tick(now)
        self.review(now)

    def review(self, now: float) -> None:
        """Have the router choose among those that are not avoided."""
        floor, station = self.floor, self.station
        avoided = self.outlier.avoided(now)
        for index in list(station.eligible):
            if index in avoided:
                floor.exclude(station.numbers[index])
        for index in sorted(station.away):
            number = station.numbers[index]
            if index not in avoided and number not in floor.closed:
                floor.include(number)
