"""Procedures are right as often as they promise: briefly here, thoroughly in `make verify`, whose figures docs/statistics.md gives."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sim.theory import MM1
from tests.paths import ROOT
from tests.stats.studies import STUDIES, Study, ar1, mm1, mm1_mirrored, row

PAGE = (ROOT / "docs" / "statistics.md").read_text("utf-8")

_QUICK = {  # repeats that take about a second or less
    "t_interval": 300,
    "upper_bound": 2_000,
    "share_lower_bound": 2_000,
    "paired": 1_000,
    "welch": 1_000,
    "equivalent": 1_000,
    "against_control": 400,
    "benjamini_hochberg": 200,
    "Stopping": 60,
    "KimNelson": 100,
    "Feasibility": 200,
    "screen": 500,
    "batch_means": 100,
    "controlled": 100,
    "antithetic": 100,
}


def _called(study: Study) -> str:
    return f"{study.procedure}: {study.system}"


@pytest.mark.parametrize("study", [each for each in STUDIES if each.procedure in _QUICK], ids=_called)
def test_it_is_about_as_often_right_as_it_promises(study: Study) -> None:
    _, _, high = study.run(_QUICK[study.procedure])
    assert high >= study.least


@pytest.mark.verify
@pytest.mark.parametrize("study", STUDIES, ids=_called)
def test_it_is_as_often_right_as_the_page_says(study: Study) -> None:
    share, low, high = study.run(study.repeats)
    assert share >= study.least
    assert low - 0.001 <= _on_page(study) <= high + 0.001  # the page rounds


def _on_page(study: Study) -> float:
    beginning = row(study, 0.0).split(" | 0.0% | ")[0]
    (line,) = [each for each in PAGE.splitlines() if each.startswith(beginning)]
    found, repeats = re.findall(r"([\d.]+)% \| ([\d,]+) \|$", line)[0]
    assert int(repeats.replace(",", "")) == study.repeats
    return float(found) / 100.0


def test_the_page_has_a_row_for_every_study() -> None:
    assert all(0.0 < _on_page(study) <= 1.0 for study in STUDIES)


def test_the_systems_are_what_theory_says_they_are() -> None:
    generator = np.random.default_rng(1)
    assert ar1(generator, 0.8, (2_000, 30)).var(axis=0) == pytest.approx(np.full(30, 1.0 / 0.36), rel=0.2)
    queue = MM1(0.7, 1.0)
    for series in (mm1(generator, 0.7, (3_000, 40))[0], *mm1_mirrored(generator, 0.7, (3_000, 40))):
        assert series.mean(axis=0) == pytest.approx(np.full(40, queue.wait), rel=0.15)
        assert (series[:, -1] > 5.0).mean() == pytest.approx(0.7 * np.exp(-0.3 * 5.0), abs=0.03)
        assert (series[:, 0] == 0.0).mean() == pytest.approx(0.3, abs=0.04)
