"""What a what-if is at: changes to a scenario, the pinned baseline, and the difference between the two."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.errors import ConfigError, Problem, TwinferError, did_you_mean
from sim.notebook.knobs import custom, derived, layered
from sim.notebook.trial import Trial, quick_duration
from sim.stats.pairs import PairedDifference, paired

if TYPE_CHECKING:
    import pandas as pd

    from sim.config import Scenario
    from sim.notebook.knobs import Knob
    from sim.observe.objectives import Estimate
    from sim.observe.result import Comparison, Result

__all__ = ["Headline", "WhatIf"]

BASELINE, NOW = "baseline", "now"
_SECONDS = 0.7  # of real time, for all replications


@dataclass(frozen=True)
class Headline:
    """One figure of both, and ``now`` less ``baseline`` over the same requests. ``workload`` is None for all requests together;
    ``target`` where an objective bounds it."""

    metric: str
    workload: str | None
    target: float | None
    baseline: Estimate
    now: Estimate
    difference: PairedDifference

    @property
    def key(self) -> str:
        """``ttft_p99``, or ``chat.ttft_p99`` where there are several workloads."""
        return self.metric if self.workload is None else f"{self.workload}.{self.metric}"

    @property
    def certain(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        return abs(self.difference.difference) > self.difference.half_width


class WhatIf:
    """A scenario, changed by hand and held against a baseline. What ``sim.what_if`` returns, which also shows it as a widget.

        w = sim.what_if(scenario)
        w.set({"deployments.chat.replicas": 4})
        w.difference["ttft_p99"].difference, w.difference["ttft_p99"].half_width
        w.pin()                                  # what is now becomes the baseline

    ``changes`` are values by path, as options write them; ``result`` and ``baseline`` are Results of equally many short replications
    on the same requests, ``comparison`` holds both. ``error`` is why the last changes could not be run, in one line; then the rest is
    of the changes before.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        knobs: Mapping[str, Any] | None = None,
        duration: float | None = None,
        replications: int = 3,
    ) -> None:
        self.scenario = scenario
        own = derived(scenario)
        given = [custom(scenario, path, values) for path, values in (knobs or {}).items()]
        replaced = {knob.path for knob in given}
        self.knobs: list[Knob] = [*(knob for knob in own if knob.path not in replaced), *given]
        if duration is None:
            duration = quick_duration(scenario, replications, _SECONDS)
        self.trial = Trial(scenario, duration, replications)
        self.changes: dict[str, Any] = {}
        self.pinned: dict[str, Any] = {}
        self.error = ""
        self.comparison: Comparison
        self._watchers: list[Callable[[], None]] = []
        self._take({}, self.compare({}))

    @property
    def result(self) -> Result:
        """What comes out with the changes."""
        return self.comparison.options[NOW]

    @property
    def baseline(self) -> Result:
        """What came out at what was pinned last; at first, of the scenario as it is."""
        return self.comparison.options[BASELINE]

    @property
    def headlines(self) -> list[Headline]:
        """What the objectives are about (else p99 TTFT and TPOT), SLO attainment and price, of both."""
        return [self._headline(metric, workload, target) for metric, workload, target in _asked(self.result)]

    def headline(self, metric: str) -> Headline:
        """A figure of all requests together, of both."""
        return self._headline(metric, None, None)

    @property
    def difference(self) -> dict[str, PairedDifference]:
        """``result`` less ``baseline`` by figure, with the half-width of its interval: paired, since both saw the same requests."""
        return {headline.key: headline.difference for headline in self.headlines}

    @property
    def verdict(self) -> str:
        """Whether the objectives are met now, at what price, and how the baseline fares."""
        from sim.notebook.words import verdict

        return verdict(self)

    def frame(self) -> pd.DataFrame:
        """The headline figures, a row each: baseline, now, difference, half_width (of the difference)."""
        import pandas as pd

        rows = {
            one.key: (one.baseline.value, one.now.value, one.difference.difference, one.difference.half_width)
            for one in self.headlines
        }
        return pd.DataFrame.from_dict(
            rows, orient="index", columns=[BASELINE, NOW, "difference", "half_width"]
        ).rename_axis("figure")

    def set(self, changes: Mapping[str, Any]) -> None:
        """Take these changes in place of those there were, run them, and show what comes out.

        TwinferError, and nothing changed, if they cannot be run.
        """
        self._take(dict(changes), self.compare(changes))

    @property
    def options(self) -> list[str]:
        """The options whose changes can be applied: none if the scenario is one of them already."""
        return self.scenario.option_names() if self.scenario.option is None else []

    def apply(self, option: str) -> None:
        """Take the changes of an option of the scenario. TwinferError if it has none of that name, or it cannot be run."""
        if option not in self.options:
            own = self.scenario.option
            has = (
                ", ".join(self.options)
                if self.options
                else f"the scenario is {own} already"
                if own
                else "there are none"
            )
            raise ConfigError(
                [
                    Problem(
                        f"{option!r} is not an option to apply{did_you_mean(option, self.options)}; {has}",
                        path="option",
                    )
                ]
            )
        self.set(self.scenario.options[option])

    def pin(self) -> None:
        """What is now becomes the baseline."""
        self.pinned = dict(self.changes)
        self._take(self.changes, self.compare(self.changes))

    def reset(self) -> None:
        """Back to the baseline."""
        self.set(self.pinned)

    def yaml(self, name: str = "what-if") -> str:
        """The changes as an option of the scenario, to paste under ``options:``."""
        from sim.notebook.words import as_option

        own = self.scenario.option
        return as_option(name, layered({} if own is None else self.scenario.options[own], self.changes))

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` whenever there is something new to see."""
        self._watchers.append(watcher)

    # --- in two parts, so that the first can be done in the background

    def compare(self, changes: Mapping[str, Any], stale: Callable[[], bool] = lambda: False) -> Comparison:
        """Run ``changes`` and the pinned baseline. TwinferError if they cannot be."""
        from sim.observe.result import Comparison

        return Comparison({BASELINE: self.trial.run(self.pinned, stale), NOW: self.trial.run(changes, stale)})

    def answered(self, changes: Mapping[str, Any], answer: Comparison | TwinferError) -> None:
        """Take what :meth:`compare` gave for ``changes``, or why it gave nothing."""
        if isinstance(answer, TwinferError):
            self.error = str(answer).splitlines()[0]
            self._tell()
        else:
            self._take(dict(changes), answer)

    def _take(self, changes: dict[str, Any], comparison: Comparison) -> None:
        self.changes, self.comparison, self.error = changes, comparison, ""
        self._tell()

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher()

    def _headline(self, metric: str, workload: str | None, target: float | None) -> Headline:
        now, before = self.result.figures, self.baseline.figures
        pairs = [
            (a, b)
            for a, b in zip(now.values(metric, workload), before.values(metric, workload), strict=False)
            if not math.isnan(a) and not math.isnan(b)
        ]
        test = paired([a for a, _ in pairs], [b for _, b in pairs], now.confidence)
        if test.n == 1 and now.exact and before.exact:  # nothing was left to chance
            test = PairedDifference(test.difference, 0.0, 0.0 if test.difference else 1.0, 1)
        return Headline(
            metric, workload, target, before.estimate(metric, workload), now.estimate(metric, workload), test
        )


def _asked(result: Result) -> list[tuple[str, str | None, float | None]]:
    """The figures to show: (metric, workload, target)."""
    alone = len(result.figures.workloads) < 2
    found: list[tuple[str, str | None, float | None]] = [
        (one.metric, None if alone or not one.workload or one.metric.startswith("itl") else one.workload, one.target)
        for one in result.objectives
    ]
    if not any(workload or target for _, workload, target in found):
        found = [("ttft_p99", None, None), ("tpot_p99", None, None)]
    known = {metric for metric, _, _ in found}
    return found + [(metric, None, None) for metric in ("slo_attainment", "usd_per_hour") if metric not in known]
