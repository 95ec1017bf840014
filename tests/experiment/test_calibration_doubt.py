"""Intervals that include the calibration's doubt, on systems simple enough to know what they must be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sim
from sim import profiles
from sim.experiment import pool
from sim.profiles.doubt import Doubt
from sim.stats import t_quantile
from tests.experiment.doubtful import PROMPT, SIGMA, TOKEN, coverage, proportional, write_lone

ENGINE = "deployments.chat.engine"


@pytest.fixture
def lone(tmp_path: Path) -> Path:
    """A scenario of requests that never meet, of one output token each."""
    return write_lone(tmp_path, proportional())


def root_mean_square(sigma: float) -> float:
    """Of exp(sigma z) - 1, from the moments of the log-normal distribution."""
    return math.sqrt(math.exp(2 * sigma**2) - 2 * math.exp(sigma**2 / 2) + 1)


def test_the_interval_of_what_is_proportional_to_a_part_is_as_wide_as_the_parts_doubt(
    lone: Path,
) -> None:
    result = sim.simulate(sim.load(lone))
    assert (result.replications, result.draws) == (
        1,
        200,
    )  # the requests are a trace: one run says all, but for the doubt
    ttft = result.summary["ttft_mean"]
    assert ttft.value == pytest.approx(PROMPT * TOKEN, rel=1e-6)
    expected = t_quantile(0.975, 199) * PROMPT * TOKEN * root_mean_square(SIGMA)
    # the standard error of a root mean square of 200 draws is 5 % of it (a little more for the skew): four of them
    assert ttft.half_width == pytest.approx(expected, rel=0.21)
    assert ttft.half_width_doubt == ttft.half_width
    assert result.summary["usd_per_hour"].half_width == 0.0  # in no doubt


def test_the_point_estimates_are_those_of_the_profile_as_measured(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write_doubtful(write, tmp_path)
    plain, doubted = (sim.simulate(sim.load(path, {"run.calibration_doubt": wanted})) for wanted in (False, True))
    for name, estimate in plain.summary.items():
        wider = doubted.summary[name]
        assert (wider.value, wider.n) == (estimate.value, estimate.n) or math.isnan(wider.value), name
        assert estimate.half_width_doubt is None
        assert wider.half_width_doubt is not None
        assert estimate.half_width is not None
        assert wider.half_width == pytest.approx(math.hypot(estimate.half_width, wider.half_width_doubt), abs=1e-15)
    assert doubted.summary["tpot_mean"].half_width_doubt > 0
    assert plain.draws == 0
    assert plain.manifest["calibration_doubt"] is None
    assert doubted.manifest["calibration_doubt"] == {"draws": 3, "from": {"chat": "made up"}}


def write_doubtful(write: Callable[..., Path], folder: Path) -> Path:
    """The small scenario of this folder's tests, with a shipped profile of which something is in doubt."""
    doubt = Doubt(
        parts=("tokens", "decode", "host"),
        covariance=((0.01, 0.002, 0.0), (0.002, 0.02, 0.0), (0.0, 0.0, 0.1)),
        method="made up",
    )
    shipped = profiles.load("h100-sxm/llama-3.1-8b/tp1")
    profiles.save(shipped.model_copy(update={"doubt": doubt}), folder / "mine.json")
    path = write()
    text = path.read_text().replace("pool: h100, replicas", "pool: h100, profile: mine.json, replicas")
    path.write_text(
        text.replace("run: {duration: 60s", "run: {calibration_doubt: true, duration: 20s").replace("10s}", "2s}")
    )
    return path


def test_draws_serve_the_same_requests_and_differ_between_replications(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    result = sim.simulate(sim.load(write_doubtful(write, tmp_path)))
    assert len(result.drawn) == len(result.records) == 3
    for drawn, nominal in zip(result.drawn, result.records, strict=True):
        for name in ("arrival_s", "prompt_tokens", "output_tokens"):
            assert np.array_equal(drawn.columns[name], nominal.columns[name])
        assert drawn.itl_total != nominal.itl_total


def test_options_that_use_one_profile_see_one_draw_of_it(lone: Path) -> None:
    path = lone
    path.write_text(path.read_text() + f"options: {{fast: {{}}, slow: {{{ENGINE}.host_overhead: 50ms}}}}\n")
    comparison = sim.compare(sim.load(path), replications=20)
    fast, slow = (comparison.options[name].summary["ttft_mean"] for name in ("fast", "slow"))
    assert fast.half_width == pytest.approx(slow.half_width)
    assert fast.half_width > 0.01
    # slow = fast + 50 ms, whatever the factor: of the difference nothing is in doubt
    pair = next(pair for pair in comparison.pairs if pair.metric == "e2e_p99")
    assert abs(pair.difference) == pytest.approx(0.05)
    assert pair.half_width == pytest.approx(0.0, abs=1e-9)
    assert pair.n == 20
    assert pair.significant


def test_doubts_of_two_profiles_are_independent(lone: Path, tmp_path: Path) -> None:
    path = lone
    profiles.save(proportional("test/other/tp1", token=2 * TOKEN), tmp_path / "other.json")
    path.write_text(path.read_text() + "options: {one: {}, other: {deployments.chat.profile: ./other.json}}\n")
    comparison = sim.compare(sim.load(path))
    pair = next(pair for pair in comparison.pairs if pair.metric == "e2e_p99")
    one, two = PROMPT * TOKEN, 2 * PROMPT * TOKEN
    mean = math.exp(SIGMA**2 / 2) - 1
    square = (one**2 + two**2) * root_mean_square(SIGMA) ** 2 - 2 * one * two * mean**2
    assert pair.half_width == pytest.approx(t_quantile(0.975, 199) * math.sqrt(square), rel=0.21)
    assert abs(pair.difference) == pytest.approx(one, rel=1e-6)


def test_an_option_with_a_profile_in_no_doubt_is_compared_with_one_that_is(lone: Path, tmp_path: Path) -> None:
    path = lone
    profiles.save(proportional().model_copy(update={"doubt": None}), tmp_path / "sure.json")
    path.write_text(path.read_text() + "options: {one: {}, sure: {deployments.chat.profile: ./sure.json}}\n")
    comparison = sim.compare(sim.load(path), replications=30)
    pair = next(pair for pair in comparison.pairs if pair.metric == "e2e_p99")
    assert pair.difference == 0.0
    assert pair.half_width == pytest.approx(comparison.options["one"].summary["e2e_p99"].half_width)
    sure = comparison.options["sure"]
    assert (sure.draws, sure.summary["e2e_p99"].half_width) == (0, 0.0)
    assert "says nothing of its doubt: intervals cannot include it" in sure.warnings[0]


def test_the_same_scenario_gives_the_same_bytes_with_one_worker_and_with_two(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = sim.load(write_doubtful(write, tmp_path))

    def saved(jobs: int) -> dict[str, bytes]:
        folder = tmp_path / str(jobs)
        sim.compare(scenario, jobs=jobs).save(folder)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    alone = saved(1)
    monkeypatch.setattr(pool, "_WORTH_S", -1.0)  # hand over to worker processes at once
    assert saved(2) == alone


def test_a_result_is_read_back_with_its_doubt(lone: Path, tmp_path: Path) -> None:
    result = sim.simulate(sim.load(lone), replications=5)
    result.save(tmp_path / "run")
    loaded = sim.Result.load(tmp_path / "run")
    assert loaded.summary == result.summary
    assert loaded.draws == 5
    figure = json.loads((tmp_path / "run" / "summary.json").read_text())["summary"]["ttft"]["mean"]
    assert figure["half_width_doubt"] == figure["half_width"] == result.summary["ttft_mean"].half_width


def test_replications_are_added_for_chance_alone(write: Callable[..., Path], tmp_path: Path) -> None:
    wanted = {"metric": "e2e_mean", "half_width": "8%", "max_replications": 60}
    path = write_doubtful(write, tmp_path)
    plain, doubted = (
        sim.simulate(
            sim.load(
                path, {"run.precision": wanted, "run.calibration_doubt": doubt, "run.duration": "5s", "run.warmup": 0}
            )
        )
        for doubt in (False, True)
    )
    assert doubted.replications == plain.replications == doubted.draws
    estimate = doubted.summary["e2e_mean"]
    assert estimate.half_width is not None
    assert estimate.half_width > 0.08 * estimate.value  # it is the doubt that is left


def test_an_objective_inside_the_doubt_is_not_settled_by_more_replications(lone: Path) -> None:
    changes: dict[str, Any] = {"workloads.alone.objectives": {"ttft_p99": 1.02 * PROMPT * TOKEN}}
    (standing,) = sim.simulate(sim.load(lone, changes), replications=10).objectives
    assert (standing.status, standing.more) == ("undecided", None)
    assert standing.why.endswith("more replications cannot settle it, a better calibration can")


def test_one_draw_says_nothing_of_the_doubt(lone: Path) -> None:
    result = sim.simulate(sim.load(lone), replications=1)
    assert result.summary["ttft_mean"].half_width is None


def test_intervals_hold_a_truth_drawn_from_the_doubt_about_as_often_as_they_say(lone: Path) -> None:
    # 60 studies: 0.95 less three standard errors of the share is 0.866
    assert coverage(lone, 60, 8, SIGMA, {}) >= 0.866
