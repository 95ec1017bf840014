"""Factors turn what they say, by as much as they say, and leave the random numbers alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sim
from sim.config.loading import load_text
from sim.errors import ConfigError
from sim.study.sensitivity.factors import FACTORS, missing, resolve
from sim.study.sensitivity.parameters import defaults, given
from sim.workload.table import RequestTable, draw

TEXT = """\
run: {{duration: 200s, warmup: 0, replications: 2, seed: 3}}
models: {{llama: {{architecture: llama-3.1-8b}}}}
cluster: {{pools: [{{name: h100, gpu: h100-sxm, price: 2.5, nodes: 8}}]}}
workloads:
  - {{name: chat, model: llama, arrivals: {arrivals}, lengths: {lengths}, objectives: {{ttft_p99: 1s}}}}
deployments:
  - {{name: chat, model: llama, pool: h100, replicas: 2, engine: {{max_num_seqs: 64, max_num_batched_tokens: 96}}}}
options:
  three: {{deployments.chat.replicas: 3}}
"""
FIXED = "{prompt: 1000, output: 100}"


def scenario(arrivals: str = "{rate: 20/s}", lengths: str = FIXED) -> sim.Scenario:
    return load_text(TEXT.format(arrivals=arrivals, lengths=lengths))


def drawn(one: sim.Scenario, point: dict[str, Any]) -> RequestTable:
    changed = one.with_changes(resolve(one, point)[0])
    return draw(changed.workloads, changed.run.duration, changed.run.requests, changed.run.seed, 0)


ARRIVALS = [
    "{rate: 20/s}",
    "{rate: 5/s, scale: 4}",
    "{mmpp: {rates: [5/s, 35/s], dwell: [2s, 2s]}}",
    "{curve: [[0, 20/s], [200s, 20/s]]}",
]


@pytest.mark.parametrize("arrivals", ARRIVALS)
def test_load_multiplies_the_requests_of_every_kind_of_arrivals(arrivals: str) -> None:
    one = scenario(arrivals)
    base, double = len(drawn(one, {})), len(drawn(one, {"load": 2.0}))
    # about 4,000 requests, √n of chance: 2 n - n' within 4 √(4 n + 2 n); the states of the MMPP are the same in both
    assert base > 2000
    assert double == pytest.approx(2 * base, abs=4.0 * (6.0 * base) ** 0.5)
    assert drawn(one, {"load": 1.0}).equals(drawn(one, {}))


def test_load_of_a_preset_is_its_time_compressed() -> None:
    one = scenario("{preset: azure-2023-conv, scale: 4}")
    base, double = drawn(one, {}), drawn(one, {"load": 2.0})
    assert len(base) > 1000
    assert np.asarray(double.arrival)[: len(base)] == pytest.approx(np.asarray(base.arrival) / 2.0, abs=1e-9)


def test_load_of_a_closed_loop_is_its_users() -> None:
    changes, _ = resolve(scenario("{closed_loop: 10}"), {"load": 1.26})
    assert changes == {"workloads.0.arrivals.closed_loop": 13}


LENGTHS = [
    FIXED,
    "{prompt: {lognormal: {median: 300, sigma: 0.7}, max: 4000}, output: {lognormal: {mean: 80, cv: 1.5}}, correlation: 0.3}",
    "{prompt: {quantiles: {p5: 20, p50: 300, p99: 4000}}, output: {quantiles: [[0.1, 10], [0.9, 500]]}}",
    "{preset: azure-2023-conv}",
]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("which", ["prompt", "output"])
def test_lengths_are_multiplied_request_by_request(lengths: str, which: str) -> None:
    one = scenario(lengths=lengths)
    base, more = drawn(one, {}), drawn(one, {f"{which}_tokens": 3.0})
    other = {"prompt": "output", "output": "prompt"}[which]
    was, now = np.asarray(getattr(base, f"{which}_tokens")), np.asarray(getattr(more, f"{which}_tokens"))
    # each is a rounded number: three times one within a half is three times the other, within two; beyond the outermost quantiles that
    # are given nothing is said but that there is a token at least
    inside = (was >= 100) if lengths == FIXED else (was > 20) & (was < 500)
    assert inside.mean() > 0.3
    assert np.abs(now - 3.0 * was)[inside].max() <= 2.0
    assert (np.asarray(getattr(more, f"{other}_tokens")) == np.asarray(getattr(base, f"{other}_tokens"))).all()
    assert drawn(one, {f"{which}_tokens": 1.0}).equals(base)


def test_both_lengths_at_once_are_both_multiplied() -> None:
    changes, _ = resolve(scenario(), {"prompt_tokens": 2.0, "output_tokens": 0.5})
    assert changes["workloads.0.lengths"] == {"prompt": {"fixed": 2000}, "output": {"fixed": 50}, "correlation": 0.0}


def test_lengths_of_a_preset_of_arrivals_are_its_own() -> None:
    text = TEXT.format(arrivals="{preset: azure-2023-conv, scale: 4}", lengths="X").replace(", lengths: X", "")
    one = load_text(text)
    assert drawn(one, {"prompt_tokens": 1.0}).equals(drawn(one, {}))


def test_a_factor_is_of_what_the_rest_of_the_point_says() -> None:
    changes, times = resolve(scenario("{rate: 5/s, scale: 4}"), {"workloads.chat.arrivals.scale": 2.0, "load": 1.5})
    assert changes["workloads.0.arrivals.scale"] == 3.0
    assert times == 1.0


def test_step_times_change_nothing_of_the_scenario() -> None:
    assert resolve(scenario(), {"step_times": 1.1}) == ({}, 1.1)


def test_price_is_that_of_every_machine() -> None:
    assert resolve(scenario(), {"price": 0.8})[0] == {"cluster.pools.0.price": 2.0}


def test_factors_are_those_that_a_scenario_may_name() -> None:
    from sim.config import space

    assert tuple(FACTORS) == space.FACTORS


def test_lengths_of_a_trace_cannot_be_multiplied(tmp_path: Any) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,5\n1,20,6\n", encoding="utf-8")
    text = TEXT.format(arrivals=f"{{trace: {trace}}}", lengths="X").replace(", lengths: X", "")
    one = load_text(text)
    assert missing(one, "prompt_tokens")
    assert {"prompt_tokens", "output_tokens"}.isdisjoint(parameter.name for parameter in defaults(one))
    with pytest.raises(ConfigError, match="every workload takes its lengths from a trace"):
        given(one, {"prompt_tokens": "0.8..1.2"})


def test_defaults_are_around_what_the_scenario_has_and_say_why() -> None:
    found = {parameter.name: parameter for parameter in defaults(scenario())}
    steps = {name: [value for _, value in parameter.steps] for name, parameter in found.items()}
    assert steps == {
        "load": [0.8, 1.2],
        "prompt_tokens": [0.8, 1.2],
        "output_tokens": [0.8, 1.2],
        "step_times": [0.9, 1.1],
        "deployments.chat.replicas": [1, 3],
        # not more sequences than tokens in a step, nor fewer tokens than sequences
        "deployments.chat.engine.max_num_seqs": [32, 96],
        "deployments.chat.engine.max_num_batched_tokens": [64, 192],
        "deployments.chat.engine.gpu_memory_utilization": [0.87, 0.97],
    }
    assert all(parameter.why for parameter in found.values())
    assert "price" in {parameter.name for parameter in defaults(scenario(), costs=True)}
    for parameter in found.values():
        for _, value in parameter.steps:
            scenario().with_changes(resolve(scenario(), {parameter.name: value})[0])


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"laod": "0.8..1.2"}, "did you mean 'load'"),
        ({"load": "0..2"}, "'0' is not a factor"),
        ({"load": "1/s..2/s"}, "is not a factor"),
        ({"load": ["a"]}, "'a' is not a factor"),
        ({"load": [True]}, "is not a factor"),
        ({"deployments.chat.replica": "1..2"}, "did you mean 'replicas'"),
        ({"option": ["tree"]}, "did you mean 'three'"),
        ({"option": "1..2"}, "not an option"),
        ({"deployments.chat.replicas": "2..1"}, "is not less than"),
        ({"deployments.chat.replicas": []}, "is empty"),
    ],
)
def test_what_cannot_be_varied_is_said_with_its_place(over: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        given(scenario(), over, "--over")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"--over {next(iter(over))}: ")


def test_every_fault_of_what_is_varied_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        given(scenario(), {"load": "0..2", "x": "1..2", "step_times": "0.9..1.1"})
    assert len(caught.value.problems) == 2


def test_a_scenario_may_name_factors_among_what_is_varied() -> None:
    text = (
        TEXT.format(arrivals="{rate: 20/s}", lengths=FIXED)
        + "sensitivity: {over: {load: 0.9..1.1}, metrics: [chat.e2e_p50]}\n"
    )
    assert load_text(text).sensitivity is not None
    with pytest.raises(ConfigError, match=r"sensitivity.over.laod"):
        load_text(text.replace("load:", "laod:"))
    with pytest.raises(ConfigError, match=r"is not a metric.*did you mean 'e2e_p9"):
        load_text(text.replace("e2e_p50", "e2e_p5"))
