"""Short runs of a scenario as it might be: all equally long, on the same requests, quick enough to wait for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sim.notebook.latest import Superseded

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.observe.result import Result

__all__ = ["Trial", "quick_duration"]

_DURATIONS = (
    5,
    10,
    15,
    20,
    30,
    45,
    60,
    90,
    120,
    180,
    240,
    300,
    420,
    600,
    900,
    1200,
    1800,
    2700,
    3600,
    7200,
    14400,
    28800,
    86400,
)
_KEPT = 16  # results


class Trial:
    """``scenario`` with changes, simulated for ``duration`` seconds (not longer than it says itself), ``replications`` times.

    Replication r sees the same requests whatever the changes: they are paired. A scenario that asks for intervals with the doubt of
    calibration, or for a precision, does not get them here. The last results are kept.
    """

    def __init__(self, scenario: Scenario, duration: float, replications: int) -> None:
        self.scenario = scenario
        own = scenario.run.duration
        self.duration = duration if own is None else min(duration, own)
        self.replications = replications
        self._results: OrderedDict[str, Result] = OrderedDict()

    @property
    def whole(self) -> bool:
        """Whether it is as long as the scenario says."""
        return self.scenario.run.duration is not None and self.duration >= self.scenario.run.duration

    def changed(self, changes: Mapping[str, Any]) -> Scenario:
        """The scenario that is run. ConfigError if it cannot be."""
        return _short(self.scenario.with_changes(changes), self.duration, self.replications)

    def run(self, changes: Mapping[str, Any], stale: Callable[[], bool] = lambda: False) -> Result:
        """Simulate it, or say again what came out. Superseded as soon as ``stale`` between replications; TwinferError if it cannot
        be run."""
        from sim.experiment import simulate

        def look(done: int, total: int, name: str) -> None:
            if stale():
                raise Superseded

        scenario = self.changed(changes)
        digest = scenario.digest()
        if digest not in self._results:
            self._results[digest] = simulate(scenario, jobs=1, progress=look)
            while len(self._results) > _KEPT:
                self._results.popitem(last=False)
        self._results.move_to_end(digest)
        return self._results[digest]


def _short(scenario: Scenario, duration: float, replications: int) -> Scenario:
    run = {"duration": duration, "replications": replications, "precision": None, "calibration_doubt": False}
    return scenario.model_copy(update={"run": scenario.run.model_copy(update=run)})


def quick_duration(scenario: Scenario, replications: int, seconds: float) -> float:
    """How long, of simulated time, replications may last so that all of them take about ``seconds``: found by trying, and one of a few
    round figures, so that the same machine finds the same again. TwinferError if the scenario cannot be run."""
    from sim.experiment import simulate

    most = scenario.run.duration or float(_DURATIONS[-1])
    plain = scenario.with_changes({})
    chosen = float(_DURATIONS[0])
    simulate(_short(plain, chosen, 1), jobs=1)  # imports, reads and compiles what all later runs find at hand
    for duration in _DURATIONS:
        if duration >= most:
            return most
        begin = time.perf_counter()
        simulate(_short(plain, float(duration), 1), jobs=1)
        if (time.perf_counter() - begin) * replications > seconds:
            break
        chosen = float(duration)
    return chosen
