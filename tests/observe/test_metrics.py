"""Every figure of a run, worked out on paper."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.observe import DeploymentFacts, ReplicationRecord, WorkloadFacts
from sim.observe.metrics import measure, met_objectives, metrics, window
from sim.observe.warmup import common_start_up, scenario_warmup, start_up
from sim.serving.ledger import ItlHistogram
from tests.observe.making import record, rejected, request, scenario, served

FOUR = [
    request(0.0, 1.0, 2.0, 4.0, output=11),  # queue 1, ttft 2, e2e 4, tpot 0.2
    request(10.0, 10.0, 10.5, 11.5, output=11),  # queue 0, ttft 0.5, e2e 1.5, tpot 0.1
    request(20.0, 22.0, 23.0, 23.0, output=1),  # queue 2, ttft 3, e2e 3, no tpot
    request(30.0, 30.0, 31.0, 61.0, output=301, preemptions=2),  # queue 0, ttft 1, e2e 31, tpot 0.1
]


def test_latencies_are_those_of_their_definitions() -> None:
    figures = metrics(record(FOUR, horizon=100.0))
    assert figures["queue_mean"] == 3.0 / 4.0
    assert figures["ttft_mean"] == 6.5 / 4.0
    assert figures["e2e_mean"] == 39.5 / 4.0
    assert figures["tpot_mean"] == pytest.approx(0.4 / 3.0)
    assert figures["ttft_p50"] == 1.5
    assert figures["ttft_p99"] == pytest.approx(2.97)  # type 7: 2.97 of the way from the first to the last of four
    assert figures["preemptions_per_request"] == 0.5


def test_rates_count_what_ends_in_the_window() -> None:
    figures = metrics(record(FOUR, horizon=50.0))
    assert figures["throughput_rps"] == 3.0 / 50.0
    assert figures["output_tokens_per_s"] == 23.0 / 50.0
    assert figures["requests"] == 4.0


def test_a_burst_is_rated_over_the_whole_run() -> None:
    burst = record([request(0.0, 0.0, 1.0, 5.0 * (i + 1)) for i in range(4)])
    assert window(burst, 0.0) == (0.0, 20.0)
    assert metrics(burst)["throughput_rps"] == 4.0 / 20.0


def test_the_warm_up_is_left_out_of_latencies_attainment_and_rates() -> None:
    figures = metrics(record(FOUR, horizon=100.0), warmup=15.0)
    assert figures["requests"] == 2.0
    assert figures["ttft_mean"] == 2.0
    assert figures["throughput_rps"] == 2.0 / 85.0


def test_goodput_and_attainment_ask_every_objective_of_each_request() -> None:
    workload = WorkloadFacts("chat", objectives={"ttft_p99": 2.0, "tpot_mean": 0.15, "e2e_p50": 30.0})
    rows = [*FOUR, rejected(40.0), request(99.0, 99.0, 99.5)]
    made = record(rows, workloads=(workload,), horizon=100.0, end=100.0)
    assert met_objectives(made).tolist() == [False, True, False, False, False, False]
    figures = metrics(made)
    assert figures["slo_attainment"] == 1.0 / 6.0
    assert figures["goodput_rps"] == 1.0 / 100.0
    assert (figures["rejected"], figures["unfinished"]) == (1.0, 1.0)
    assert figures["lost_share"] == 1.0 / 6.0


def test_a_request_of_one_token_meets_any_tpot() -> None:
    one = record(
        [request(0.0, 0.0, 1.0, 1.0, output=1)], workloads=(WorkloadFacts("chat", objectives={"tpot_p99": 1e-9}),)
    )
    assert met_objectives(one).tolist() == [True]


def test_the_tightest_of_two_limits_counts_and_one_on_itl_is_asked_of_tpot() -> None:
    limits = WorkloadFacts("chat", objectives={"ttft_p50": 0.9, "ttft_p99": 2.0, "itl_p99": 0.15})
    assert met_objectives(record(FOUR, workloads=(limits,))).tolist() == [False, True, False, False]


def test_each_workload_has_its_own_objectives_and_figures() -> None:
    rows = [request(0.0, 0.0, 1.0, 2.0), request(1.0, 1.0, 6.0, 7.0, workload=1), request(2.0, 2.0, 7.0, 9.0)]
    workloads = (
        WorkloadFacts("chat", objectives={"ttft_p99": 2.0}),
        WorkloadFacts("batch", objectives={"ttft_p99": 60.0}),
    )
    found = measure(record(rows, workloads=workloads, horizon=10.0))
    assert found.workloads["chat"]["slo_attainment"] == 0.5
    assert found.workloads["batch"]["slo_attainment"] == 1.0
    assert found.workloads["batch"]["ttft_mean"] == 5.0
    assert found.overall["slo_attainment"] == pytest.approx(2.0 / 3.0)
    assert "itl_mean" not in found.workloads["chat"]
    assert "cost_usd" not in found.workloads["chat"]


def test_the_only_workload_has_the_figures_of_all_requests_but_none_of_the_fleet() -> None:
    found = measure(record(FOUR))
    assert found.workloads["chat"].items() <= found.overall.items()
    assert "itl_p99" in found.workloads["chat"]
    assert "gpu_utilization" not in found.workloads["chat"]


def test_itl_is_of_tokens_and_interpolated_inside_a_bin() -> None:
    histogram = ItlHistogram()
    histogram.add(0.020, 900)
    histogram.add(0.500, 100)
    figures = metrics(record(FOUR, itl=histogram))
    assert figures["itl_mean"] == pytest.approx(0.068)
    assert figures["itl_p50"] == pytest.approx(0.020, rel=0.005)
    assert figures["itl_p95"] == pytest.approx(0.500, rel=0.005)


def test_cost_is_the_price_of_the_fleet_and_tokens_are_priced_by_the_window() -> None:
    deployments = (DeploymentFacts("a", 1, 8, 36.0, 100), DeploymentFacts("b", 2, 2, 3.6, 100))
    figures = metrics(record(FOUR, deployments=deployments, horizon=100.0, end=200.0))
    assert figures["usd_per_hour"] == pytest.approx(39.6)
    assert figures["cost_usd"] == pytest.approx(39.6 * 200.0 / 3600.0)
    assert figures["gpu_hours"] == pytest.approx(10.0 * 200.0 / 3600.0)
    # 400 prompt and 324 output tokens were served in a window of 100 s
    assert figures["usd_per_1m_tokens"] == pytest.approx(39.6 * 100.0 / 3600.0 / 724.0 * 1e6)
    assert figures["usd_per_1m_output_tokens"] == pytest.approx(39.6 * 100.0 / 3600.0 / 324.0 * 1e6)


def test_utilisation_is_of_the_window_and_weighted_by_gpus() -> None:
    """Replica 0 (3 GPUs) is busy from 0 to 50, replica 1 (1 GPU) all the time; the window is 20 to 100 of 110."""
    moments = np.repeat([0.0, 50.0, 100.0], 2)
    timeline = {
        "t_s": moments,
        "replica": np.tile([0.0, 1.0], 3),
        "running": np.ones(6),
        "waiting": np.zeros(6),
        "kv_used": np.array([0.0, 0.0, 40.0, 20.0, 80.0, 60.0]),
        "busy_s": np.array([0.0, 0.0, 50.0, 50.0, 50.0, 100.0]),
    }
    replicas = {"busy_s": [50.0, 110.0], "sequence_seconds": [100.0, 220.0], "peak_blocks": [90, 30]}
    deployments = (DeploymentFacts("a", 1, 3, 1.0, 100), DeploymentFacts("b", 1, 1, 1.0, 100))
    made = record(FOUR, deployments=deployments, timeline=timeline, replicas=replicas, horizon=100.0, end=110.0)
    figures = metrics(made, warmup=20.0)
    assert figures["gpu_utilization"] == pytest.approx((30.0 * 3 + 80.0) / (4 * 80.0))
    assert figures["kv_usage_mean"] == pytest.approx((60.0 + 40.0) / 200.0)
    assert figures["kv_usage_peak"] == 0.9
    assert figures["batch_mean"] == 2.0


def test_without_a_timeline_the_whole_run_stands_for_the_window() -> None:
    figures = metrics(record(FOUR, horizon=100.0, end=100.0), warmup=20.0)
    assert figures["gpu_utilization"] == pytest.approx(0.5)
    assert math.isnan(figures["kv_usage_mean"])


def test_figures_of_nothing_are_not_numbers() -> None:
    figures = metrics(record([rejected(1.0)], end=2.0, horizon=2.0))
    assert math.isnan(figures["ttft_p99"])
    assert math.isnan(figures["itl_mean"])
    assert math.isnan(figures["usd_per_1m_tokens"])
    assert figures["throughput_rps"] == 0.0
    assert figures["slo_attainment"] == 0.0


@given(st.integers(0, 10_000), st.floats(0.0, 15.0))
def test_figures_keep_their_order_and_bounds(seed: int, warmup: float) -> None:
    figures = metrics(served(seed, count=60, objectives={"ttft_p99": 0.4}), warmup)
    if not figures["requests"]:
        return
    for latency in ("queue", "ttft", "tpot", "e2e"):
        cuts = [figures[f"{latency}_{statistic}"] for statistic in ("p50", "p90", "p95", "p99")]
        assert cuts == sorted(cuts)
    assert figures["queue_mean"] <= figures["ttft_mean"] <= figures["e2e_mean"]
    assert 0.0 <= figures["slo_attainment"] <= 1.0
    assert figures["goodput_rps"] <= figures["throughput_rps"]


def starting(slow: int, seed: int, burst: int | None = None) -> ReplicationRecord:
    """A request a second: the first ``slow`` take long, and so do 20 from ``burst`` on."""
    noise = np.random.default_rng(seed).uniform(0.0, 0.1, 500).tolist()
    late = set(range(slow)) | (set(range(burst, burst + 20)) if burst is not None else set())
    return record([request(float(i), i, i + 1, i + 2 + noise[i] + (9.0 if i in late else 0.0)) for i in range(500)])


def test_the_start_up_is_left_out_and_little_more() -> None:
    seconds, why = start_up([starting(40, seed) for seed in range(4)])
    assert 40.0 <= seconds <= 60.0
    assert why == ""


def test_bursts_that_each_replication_has_at_its_own_time_are_no_start_up() -> None:
    bursts = range(60, 480, 20)
    alone = start_up([starting(40, 0, burst=200)])[0]
    together = start_up([starting(40, burst, burst=burst) for burst in bursts])[0]
    assert alone >= 200.0
    assert 40.0 <= together <= 60.0


@given(st.integers(0, 1_000), st.integers(1, 4))
def test_the_start_up_is_never_longer_than_half_the_time_in_which_requests_arrive(seed: int, replications: int) -> None:
    records = [served(seed + i, count=120, noise=0.5) for i in range(replications)]
    assert 0.0 <= start_up(records)[0] <= max(made.horizon for made in records) * 0.6


def test_an_overload_has_no_start_up_and_it_is_said() -> None:
    growing = record([request(float(i), i, i + 1, 2.0 * i + 2) for i in range(300)])
    warnings: list[str] = []
    assert common_start_up([growing], warnings) == 0.0
    assert "none found (no steady state" in warnings[0]


def test_a_run_that_served_nobody_has_no_start_up() -> None:
    assert start_up([record([rejected(1.0)], end=2.0)]) == (0.0, "too short: 0 observations, at least 50 are needed")


@pytest.mark.parametrize(
    ("warmup", "kinds", "expected"),
    [
        (30.0, ["rate"], 30.0),
        ("auto", ["trace"], None),
        (None, ["rate"], None),
        (None, ["trace", "closed_loop"], 0.0),
        (None, ["trace", "rate"], None),
    ],
)
def test_the_warm_up_left_open_is_auto_unless_all_arrivals_are_given(
    warmup: float | str | None, kinds: list[str], expected: float | None
) -> None:
    assert scenario_warmup(scenario(warmup, kinds=kinds)) == expected
    assert scenario_warmup(SimpleNamespace()) is None
