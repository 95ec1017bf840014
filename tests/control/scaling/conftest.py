"""What an autoscaler may know beforehand, for those that know something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from sim.control.scaling.view import Knowledge
from sim.perf.steptable import StepTable
from sim.serving.settings import EngineSettings
from sim.testing.tables import constant_step_table

SEATS = 16
STEP = 2.0**-5


@pytest.fixture
def knowledge() -> Callable[..., Knowledge]:
    """Knowledge of a replica with 16 seats whose every step takes 1/32 s, and of the requests that are given."""

    def known(
        *,
        arrival: Sequence[float] = (),
        prompt: Sequence[int] | int = 1,
        output: Sequence[int] | int = 11,
        cold_start: float = 60.0,
        objectives: Mapping[str, float] | None = None,
        step: StepTable | None = None,
        settings: EngineSettings | None = None,
    ) -> Knowledge:
        n = len(arrival)
        return Knowledge(
            step=constant_step_table(STEP, SEATS, 2048) if step is None else step,
            settings=EngineSettings(max_num_seqs=SEATS, max_num_batched_tokens=2048, kv_blocks=10_001)
            if settings is None
            else settings,
            cold_start=cold_start,
            objectives={"ttft_p99": 1.0, "tpot_p99": 0.1} if objectives is None else objectives,
            arrival=np.asarray(arrival, dtype=np.float64),
            prompt_tokens=np.broadcast_to(np.asarray(prompt, dtype=np.int64), (n,)).copy(),
            output_tokens=np.broadcast_to(np.asarray(output, dtype=np.int64), (n,)).copy(),
            horizon=float(max(arrival, default=0.0)),
        )

    return known
