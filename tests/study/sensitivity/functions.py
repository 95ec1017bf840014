"""Functions in the place of a simulation: what they do to a figure is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sim.study.sensitivity.readings import Figure, Reading, Run

LATENCY = Figure("chat", "ttft_p99")
LOST = Figure("chat", "lost_share")

Values = Callable[[Mapping[str, Any], int, int | None], Mapping[Figure, float]]


class Function:
    """``values(point, replication, draw)`` as readings; ``asked`` keeps the runs."""

    def __init__(self, values: Values, exact: bool = False) -> None:
        self.values = values
        self.exact = exact
        self.asked: list[Run] = []

    def __call__(self, runs: Sequence[Run]) -> Iterator[Reading]:
        for run in runs:
            self.asked.append(run)
            try:
                rows = [self.values(run.point, run.first + number, run.draw) for number in range(run.count)]
            except ValueError as error:
                yield Reading(error=str(error))
                continue
            yield Reading({figure: np.array([row[figure] for row in rows]) for figure in rows[0]}, exact=self.exact)
