"""Intervals with the calibration's doubt hold the truth as often as they say, when the truth is drawn from that doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.experiment.doubtful import PROMPT, coverage, proportional, write_lone

# prompts of PROMPT tokens on average, a second between requests: chance beside the doubt, and nobody waits for anybody
RANDOM: dict[str, Any] = {
    "workloads.alone.arrivals": {"rate": 1, "process": "deterministic"},
    "workloads.alone.lengths": {"prompt": {"lognormal": {"mean": PROMPT, "cv": 0.3}}, "output": 1},
    "run.requests": 3,
}


@pytest.mark.verify
@pytest.mark.parametrize(
    ("sigma", "changes"),
    [(0.1, {}), (0.05, RANDOM), (0.02, RANDOM)],
    ids=["doubt alone", "doubt and chance alike", "chance mostly"],
)
def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path: Path, sigma: float, changes: dict[str, Any]) -> None:
    """Either error alone gives Student's interval, both together one that is a little wide: their errors are estimated apart."""
    share = coverage(write_lone(tmp_path, proportional(sigma=sigma)), 500, 10, sigma, changes)
    assert 0.93 <= share <= 0.985
