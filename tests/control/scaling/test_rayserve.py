"""Ray Serve's autoscaling against its own tests' numbers, and as an autoscaler of a deployment."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim.control.scaling.rayserve import (
    DelayState,
    RayServeConfig,
    RayServePolicy,
    apply_delay_logic,
    apply_scaling_factors,
    calculate_desired_num_replicas,
    defaults,
)
from sim.control.scaling.rayserve_scaler import RayServeScaler
from sim.control.scaling.rayserve_series import aggregate_timeseries, merge_instantaneous_total, time_weighted_average
from sim.control.scaling.view import READY, STARTING, Autoscaler, DeploymentView, ReplicaView
from tests.paths import DATA, ROOT

CASES = yaml.safe_load((DATA / "control" / "rayserve_cases.yaml").read_text())


def cases(part: str) -> Any:
    return pytest.mark.parametrize("case", CASES[part], ids=lambda case: case["name"])


@cases("desired")
def test_desired_replicas(case: dict[str, Any]) -> None:
    assert (
        calculate_desired_num_replicas(RayServeConfig(**case["config"]), case["total"], case["running"]) == case["want"]
    )


@cases("factors")
def test_scaling_factors(case: dict[str, Any]) -> None:
    assert apply_scaling_factors(case["desired"], case["current"], RayServeConfig(**case["config"])) == case["want"]


@pytest.mark.parametrize("unit", ["wall-clock", "iterations"])
@cases("policy")
def test_policy_asked_every_tenth_of_a_second(case: dict[str, Any], unit: Any) -> None:
    """Both units agree where a loop takes 0.1 s."""
    policy = RayServePolicy(RayServeConfig(**case["config"]), unit=unit, to_zero=case.get("to_zero", "through-one"))
    tick = 0
    for times, total, running, target, answer in case["steps"]:
        for again in range(times):
            got = policy.decide(total, running, target, tick / 10, bounded=case.get("bounded", True))
            assert got == answer, f"{total} on {running} of {target}, call {again}"
            tick += 1


@cases("delay")
def test_delays(case: dict[str, Any]) -> None:
    config, state = RayServeConfig(**case["config"]), DelayState()
    for now, desired, target, answer in case["steps"]:
        got = apply_delay_logic(desired, target, config, state, now, unit=case.get("unit", "wall-clock"))
        assert got == answer, now


@cases("slow_loops")
def test_delays_when_loops_are_slow(case: dict[str, Any]) -> None:
    config, state = RayServeConfig(max_replicas=10, upscale_delay_s=100), DelayState()
    loop = 0
    while apply_delay_logic(5, 1, config, state, loop * case["loop"], unit=case["unit"]) == 1:
        loop += 1
    assert case["least"] - 1e-9 <= loop * case["loop"] <= case["most"] + 1e-9


@cases("average")
def test_time_weighted_average(case: dict[str, Any]) -> None:
    got = time_weighted_average(case["series"], case.get("start"), case.get("end"), case.get("last", 1.0))
    assert got == (None if case["want"] is None else pytest.approx(case["want"]))


@cases("merge")
def test_merged_totals(case: dict[str, Any]) -> None:
    assert merge_instantaneous_total(case["series"]) == [tuple(point) for point in case["want"]]


def test_aggregation_can_leave_out_what_is_early() -> None:
    """test_metrics_utils.py: with the window from 100.2 on only the 30 counts, from the start the 10 before it too."""
    series = [(100.1, 10.0), (100.2, 30.0)]
    assert aggregate_timeseries(series, "mean", 1.0, window_start=100.2) == pytest.approx(30)
    mean = aggregate_timeseries(series, "mean", 1.0)
    assert mean is not None
    assert mean < 30
    assert (aggregate_timeseries(series, "max"), aggregate_timeseries(series, "min")) == (30, 10)
    assert aggregate_timeseries([], "max") is None


def test_defaults_by_version() -> None:
    """Pull 45943, in 2.32: two ongoing requests a replica, before it one; num_replicas="auto": up to 100 replicas."""
    assert [defaults(version).target_ongoing_requests for version in ("2.9.3", "2.31", "2.32", "latest")] == [
        1,
        1,
        2,
        2,
    ]
    assert (defaults().min_replicas, defaults().max_replicas, defaults(auto=True).max_replicas) == (1, 1, 100)
    latest = defaults()
    assert (latest.metrics_interval_s, latest.look_back_period_s) == (10, 30)
    assert (latest.upscale_delay_s, latest.downscale_delay_s, latest.to_zero_delay) == (30, 600, 600)


def test_no_replica_has_no_ratio() -> None:
    with pytest.raises(ValueError, match="num_running_replicas: 0"):
        calculate_desired_num_replicas(RayServeConfig(), 5, 0)


@given(
    st.integers(0, 5),
    st.integers(5, 40),
    st.floats(0.1, 20),
    st.floats(0, 1000),
    st.integers(1, 40),
    st.floats(0.05, 5),
)
def test_the_answer_is_within_bounds_and_follows_the_load(
    low: int, high: int, target: float, total: float, running: int, factor: float
) -> None:
    config = RayServeConfig(
        min_replicas=low, max_replicas=high, target_ongoing_requests=target, smoothing_factor=factor
    )
    desired = calculate_desired_num_replicas(config, total, running)
    assert low <= desired <= high
    assert calculate_desired_num_replicas(config, total * 1.5, running) >= desired


# ---- the adapter


class Deployment:
    """A deployment whose requests a test sets by the second; ``cold`` seconds pass until a replica is ready."""

    def __init__(self, scaler: RayServeScaler, replicas: int, cold: float = 0.0, step: float = 1.0) -> None:
        self.scaler, self.cold, self.step = scaler, cold, step
        self.view = DeploymentView(0.0, replicas, [ReplicaView(i, READY, 0.0) for i in range(replicas)])
        self._made = replicas
        self._tick = 0

    def run(self, seconds: float, requests: int) -> list[tuple[float, int]]:
        changes = []
        view = self.view
        for _ in range(round(seconds / self.step)):
            for replica in view.replicas:
                if replica.phase == STARTING and view.now - replica.created >= self.cold:
                    replica.phase = READY
            view.queued = 0 if view.ready else requests
            for replica in view.replicas:
                replica.running = requests // view.ready if view.ready and replica.phase == READY else 0
            if self._due(self.scaler.sample_period):
                self.scaler.observe(view)
            if self._due(self.scaler.period):
                wanted = self.scaler.decide(view).replicas
                if wanted is not None:
                    changes.append((view.now, wanted))
                    self._scale(wanted)
            self._tick += 1
            view.now = self._tick * self.step
            view.request_seconds += requests * self.step
        return changes

    def _due(self, period: float) -> bool:
        return math.isclose(self.view.now / period, round(self.view.now / period), abs_tol=1e-9)

    def _scale(self, wanted: int) -> None:
        view = self.view
        view.target = wanted
        kept = list(view.replicas)[:wanted]
        for _ in range(wanted - len(kept)):
            kept.append(ReplicaView(self._made, STARTING if self.cold else READY, view.now))
            self._made += 1
        view.replicas = kept


def test_the_adapter_is_an_autoscaler() -> None:
    scaler = RayServeScaler()
    assert isinstance(scaler, Autoscaler)
    assert (scaler.period, scaler.sample_period) == (1.0, 10.0)


def test_up_after_push_and_delay_to_what_the_mean_asks_for() -> None:
    """20 requests from t=0, two a replica. The first sample says 20 at once, so 10 replicas are wanted from t=0 on, had at t=30."""
    deployment = Deployment(RayServeScaler(max_replicas=50), 1)
    assert deployment.run(60, 20) == [(30.0, 10)]


def test_the_look_back_period_dilutes_a_jump() -> None:
    """4 requests for 100 s, then 40: pushes at 110, 120, 130 see means over 30 s of 16, 28 and 40, that is 8, 14 and 20 replicas. Wanted
    more than 2 since the push at 110, so the jump comes at 140, by the push of 130 (the last 30 s are 40)."""
    deployment = Deployment(RayServeScaler(max_replicas=50), 2)
    assert deployment.run(100, 4) == []
    assert deployment.run(60, 40) == [(140.0, 20)]


@pytest.mark.parametrize(
    "load", [[(40, 9), (90, 30), (400, 3), (50, 60), (900, 1)], [(25, 50), (25, 2), (25, 50), (300, 7)]]
)
def test_a_period_of_a_second_decides_as_one_of_a_tenth(load: list[tuple[int, int]]) -> None:
    given: dict[str, Any] = {"max_replicas": 40, "downscale_delay": 60.0, "upscaling_factor": 0.7}
    coarse = Deployment(RayServeScaler(**given), 2, cold=7.0, step=0.1)
    fine = Deployment(RayServeScaler(**given, period=0.1), 2, cold=7.0, step=0.1)
    seen = [[change for seconds, requests in load for change in each.run(seconds, requests)] for each in (coarse, fine)]
    assert [replicas for _, replicas in seen[0]] == [replicas for _, replicas in seen[1]]
    assert seen[0]
    assert all(0 <= late - when < 1.0 for (late, _), (when, _) in zip(*seen, strict=True))


def test_to_zero_and_back_at_once() -> None:
    deployment = Deployment(
        RayServeScaler(min_replicas=0, max_replicas=4, downscale_delay=60, downscale_to_zero_delay=100), 1
    )
    assert deployment.run(20, 2) == []
    # means of 4/3, 2/3 and 0 at 30, 40 and 50 (with what was sampled): none wanted from the push at 50 on
    [(when, none)] = deployment.run(200, 0)
    assert (when, none) == (150.0, 0)
    back = deployment.view.now
    assert deployment.run(5, 3) == [(back, 1)]


def test_an_outage_longer_than_two_pushes_looks_like_no_requests() -> None:
    """drop_stale_handle_metrics: nothing for max(2 * 10 s, 10 s) and the metrics are dropped; 60 s later replicas go."""
    deployment = Deployment(RayServeScaler(max_replicas=50, downscale_delay=60), 5)
    assert deployment.run(101, 10) == []
    deployment.view.metrics = False
    assert deployment.run(200, 10) == [(180.0, 1)]  # last push at 100, dropped at 120


def test_initial_replicas_come_first_and_bounds_hold() -> None:
    assert Deployment(RayServeScaler(min_replicas=1, max_replicas=9, initial_replicas=4), 1).run(1, 8) == [(0.0, 4)]
    assert Deployment(RayServeScaler(min_replicas=3, max_replicas=9), 1).run(1, 2) == [(0.0, 3)]


def test_slow_loops_delay_a_decision_that_counts_them() -> None:
    given: dict[str, Any] = {"max_replicas": 50, "delay": "iterations"}
    assert Deployment(RayServeScaler(**given), 1).run(60, 20) == [(30.0, 10)]
    slow = Deployment(RayServeScaler(**given, loop_period=0.6), 1)
    assert slow.run(240, 20) == [(180.0, 10)]  # 300 loops of 0.6 s


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_replicas": 0}, "max_replicas: 0; must be positive"),
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas: 2; must be at least min_replicas, 3"),
        ({"initial_replicas": 7}, "initial_replicas: 7; must be from min_replicas, 1, to max_replicas, 1"),
        ({"target_ongoing_requests": 0}, "target_ongoing_requests: 0; must be positive"),
        ({"upscale_delay": -1}, "upscale_delay: -1 s; must be at least 0"),
        ({"delay": "loops"}, "delay: 'loops'; must be 'wall-clock' or 'iterations'"),
    ],
)
def test_what_ray_refuses_is_refused_in_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        RayServeScaler(**given)
    assert str(caught.value) == said


def test_the_page_runs() -> None:
    text = (ROOT / "docs" / "controllers" / "rayserve.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    assert blocks
    for block in blocks:
        exec(compile(block, "rayserve.md", "exec"), {})
