"""What one replica can serve: by hand where a step takes one time, and against simulations of real step times."""

from __future__ import annotations

from math import exp, expm1, inf, isfinite, sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim
from sim.control.scaling.capacity import Model, Traffic, capacity, operating
from sim.control.scaling.limits import Limit, limits
from sim.experiment.build import build
from sim.perf.compile import step_table as compiled
from sim.profiles import library
from sim.serving.settings import EngineSettings
from sim.testing.tables import constant_step_table, step_table

STEP = 2.0**-6  # on the time grid


def settings(**changed: object) -> EngineSettings:
    plain: dict[str, object] = {"max_num_seqs": 64, "max_num_batched_tokens": 2048, "kv_blocks": 10_001}
    return EngineSettings(**plain | changed)  # type: ignore[arg-type]


CONSTANT = constant_step_table(STEP, 64, 2048)


def test_steps_of_one_length_are_an_infinite_server_queue() -> None:
    # every step takes STEP: a request of 11 tokens decodes for 10 steps, so n = rate * 10 * STEP = 32 * 10 / 64 = 5 (Little)
    at = operating(CONSTANT, settings(), Traffic(1.0, 11.0), 32.0)
    assert at.batch == pytest.approx(5.0, rel=1e-6)
    assert at.step == STEP
    assert at.latency("tpot", None) == STEP
    assert at.latency("itl", 0.99) == STEP
    # half of them come in a step: the share of steps with a prompt is 1 - exp(-1/2)
    assert at.share == pytest.approx(-expm1(-0.5), rel=1e-6)
    # an arrival finds nobody with probability exp(-5.5); otherwise it waits for half a step. Backlog of a token or two is nothing
    busy = 1.0 - exp(-5.5)
    assert at.latency("queue", None) == pytest.approx(busy * STEP / 2.0, rel=1e-2)
    assert at.latency("ttft", None) == pytest.approx(busy * STEP / 2.0 + STEP, rel=1e-2)
    assert at.latency("e2e", None) == pytest.approx(busy * STEP / 2.0 + 11.0 * STEP, rel=1e-2)
    assert at.concurrency == pytest.approx(32.0 * at.latency("e2e", None))


def test_a_step_formed_ahead_is_one_more_to_wait_for() -> None:
    plain = operating(CONSTANT, settings(), Traffic(1.0, 11.0), 32.0)
    ahead = operating(CONSTANT, settings(async_scheduling=True), Traffic(1.0, 11.0), 32.0)
    gained = ahead.latency("ttft", None) - plain.latency("ttft", None)
    assert gained == pytest.approx((1.0 - exp(-5.5)) * STEP, rel=1e-6)


def test_seats_hold_the_batch_and_three_deviations() -> None:
    # n + 3 sqrt(n) + a = 64 with n = 10 a: 1.1 n + 3 sqrt(n) - 64 = 0
    root = (-3.0 + sqrt(9.0 + 4.0 * 1.1 * 64.0)) / 2.2
    found = capacity(CONSTANT, settings(), Traffic(1.0, 11.0))
    assert found.bound_by == "max_num_seqs"
    assert found.rate == pytest.approx(root**2 / 10.0 / STEP, rel=1e-5)


def test_blocks_bound_long_contexts() -> None:
    # context 320 + 16/2 = 328 tokens, 7.5 more to fill blocks of 16: 20.97 blocks each, 400 blocks hold 19.08 requests
    found = capacity(CONSTANT, settings(kv_blocks=401), Traffic(320.0, 16.0))
    assert found.bound_by == "kv_blocks"
    held = found.at.batch if found.at else inf
    assert held + 3.0 * sqrt(held) + held / 15.0 == pytest.approx(400.0 / (335.5 / 16.0), rel=1e-4)


def test_the_token_budget_bounds_long_prompts() -> None:
    # a step takes at most 2048 - 1 - n tokens; one output token means nobody decodes: a = 2047 / 1000 prompts a step
    found = capacity(CONSTANT, settings(), Traffic(1000.0, 1.0))
    assert found.bound_by == "max_num_batched_tokens"
    assert found.rate == pytest.approx(2.047 / STEP, rel=1e-4)


def test_a_limit_that_a_lone_request_breaks_leaves_nothing() -> None:
    found = capacity(CONSTANT, settings(), Traffic(10.0, 10.0), limits({"tpot_p99": STEP / 2.0}))
    assert (found.rate, found.concurrency, found.bound_by, found.at) == (0.0, 0.0, "tpot_p99", None)


def test_above_what_fits_latencies_have_no_end() -> None:
    at = operating(CONSTANT, settings(), Traffic(1.0, 11.0), 10_000.0)
    assert at.bound_by == "max_num_seqs"
    assert at.latency("ttft", None) == inf


def test_the_simulation_s_count_of_steps_outside_is_left_alone() -> None:
    table = step_table(64, 2048, 1)
    table.outside = 7
    capacity(table, settings(), Traffic(500.0, 50.0), limits({"ttft_p99": 1.0}))
    assert table.outside == 7


TABLE = compiled(library.load("h100-sxm/llama-3.1-8b/tp1"), 64, 2048)


@given(
    prompt=st.floats(1.0, 5000.0),
    output=st.floats(1.0, 2000.0),
    scv=st.floats(0.0, 3.0),
    share=st.floats(0.05, 0.95),
    quantile=st.sampled_from([None, 0.5, 0.9, 0.99]),
)
def test_every_load_that_fits_has_finite_latencies(
    prompt: float, output: float, scv: float, share: float, quantile: float | None
) -> None:
    traffic = Traffic(prompt, output, scv, scv)
    model = Model(TABLE, settings(), traffic)
    at = model.at(share * model.most)
    for metric in ("ttft", "tpot", "itl", "e2e", "queue"):
        assert isfinite(at.latency(metric, quantile))
        assert at.latency(metric, quantile) >= 0.0
    assert at.latency("e2e", None) >= at.latency("ttft", None) >= at.latency("queue", None)


@given(
    prompt=st.floats(1.0, 1500.0),
    output=st.floats(2.0, 500.0),
    seconds=st.floats(0.001, 1.0),
    looser=st.floats(1.0, 3.0),
    metric=st.sampled_from(["ttft", "tpot"]),
)
def test_a_looser_limit_never_allows_less(
    prompt: float, output: float, seconds: float, looser: float, metric: str
) -> None:
    traffic = Traffic(prompt, output, 1.0, 1.0)
    strict = capacity(TABLE, settings(), traffic, [Limit(metric, 0.99, seconds)])
    loose = capacity(TABLE, settings(), traffic, [Limit(metric, 0.99, seconds * looser)])
    assert loose.rate >= strict.rate * (1.0 - 1e-6)
    if strict.at is not None:
        assert strict.at.latency(metric, 0.99) <= seconds


SCENARIO = """\
question: How far off is the model?
run: {{duration: {duration:.0f}s, replications: 1, seed: 5, warmup: 30s}}
models: {{llama: {{architecture: llama-3.1-8b}}}}
cluster: {{pools: [{{name: h100, instance: aws/p5.4xlarge, nodes: 1}}]}}
workloads:
  - {{name: chat, model: llama, arrivals: {{rate: {rate:.4f}/s}}, lengths: {lengths}}}
deployments:
  - {{name: chat, model: llama, pool: h100, profile: h100-sxm/llama-3.1-8b/tp1, replicas: 1}}
"""
EQUAL = "{prompt: 1000, output: 200}"
VARIED = "{prompt: {lognormal: {median: 500, sigma: 0.8}}, output: {lognormal: {median: 80, sigma: 0.6}}}"
# mean = median exp(sigma² / 2), squared coefficient of variation = exp(sigma²) - 1
LENGTHS = {
    EQUAL: Traffic(1000.0, 200.0),
    VARIED: Traffic(500.0 * exp(0.32), 80.0 * exp(0.18), expm1(0.64), expm1(0.36)),
}


def _simulated(folder: Path, lengths: str, rate: float, requests: int) -> dict[str, float]:
    path = folder / "scenario.yaml"
    path.write_text(SCENARIO.format(duration=30.0 + requests / rate, rate=rate, lengths=lengths))
    return {name: figure.value for name, figure in sim.simulate(sim.load(path)).summary.items()}


def _served(folder: Path, lengths: str) -> tuple[object, EngineSettings]:
    path = folder / "scenario.yaml"
    path.write_text(SCENARIO.format(duration=60.0, rate=1.0, lengths=lengths))
    placed = build(sim.load(path)).deployments[0]
    return placed.step, placed.settings


@pytest.mark.parametrize(
    ("lengths", "rate", "off"),
    [(EQUAL, 8.0, 0.05), (EQUAL, 20.0, 0.07), (VARIED, 15.0, 0.08), (VARIED, 30.0, 0.16)],
    ids=["equal lengths, a third of the most", "equal, two thirds", "varied lengths, a third", "varied, two thirds"],
)
def test_means_of_a_simulated_replica(tmp_path: Path, lengths: str, rate: float, off: float) -> None:
    step, engine = _served(tmp_path, lengths)
    at = operating(step, engine, LENGTHS[lengths], rate)  # type: ignore[arg-type]
    found = _simulated(tmp_path, lengths, rate, 4000)
    for metric in ("ttft", "tpot", "e2e"):
        assert at.latency(metric, None) == pytest.approx(found[f"{metric}_mean"], rel=off), metric


@pytest.mark.parametrize(("lengths", "off"), [(EQUAL, 0.06), (VARIED, 0.2)], ids=["equal lengths", "varied lengths"])
def test_the_rate_at_which_a_simulated_replica_breaks_its_objective(tmp_path: Path, lengths: str, off: float) -> None:
    step, engine = _served(tmp_path, lengths)
    rate = capacity(step, engine, LENGTHS[lengths], limits({"ttft_p99": 1.0, "tpot_p99": 0.03})).rate  # type: ignore[arg-type]
    assert _simulated(tmp_path, lengths, rate * (1.0 - off), 4000)["tpot_p99"] <= 0.03
    assert _simulated(tmp_path, lengths, rate * (1.0 + off), 4000)["tpot_p99"] > 0.03


def test_limits_are_the_latency_objectives() -> None:
    found = limits({"ttft_p99": 2.0, "e2e_mean": 10.0, "goodput_rps": 3.0, "usd_per_1m_tokens": 1.0})
    assert found == (Limit("ttft", 0.99, 2.0), Limit("e2e", None, 10.0))
    assert [limit.name for limit in found] == ["ttft_p99", "e2e_mean"]
    with pytest.raises(ValueError, match=r"ttft_p99 is 0; a latency objective is a number of seconds above 0"):
        limits({"ttft_p99": 0.0})


@pytest.mark.parametrize(("name", "value"), [("prompt", 0.5), ("output", 0.0), ("prompt_scv", -1.0), ("output", inf)])
def test_traffic_that_cannot_be(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Traffic(**{"prompt": 10.0, "output": 10.0} | {name: value})  # type: ignore[arg-type]
