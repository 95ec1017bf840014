"""Deployments that no measured profile is shipped for run on a predicted one, and every result says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import sim
from sim import profiles
from sim.experiment.build import build
from sim.experiment.manifest import manifest

Write = Callable[..., Path]

L40S = {"cluster.pools.h100": {"name": "h100", "gpu": "l40s", "price": 2.0, "nodes": 4}}
BAND = "step times are predicted, not measured: median error (90th percentile) of steps on GPUs left out of the fit: decode "


def profile_of(scenario: sim.Scenario) -> str:
    return str(manifest(scenario, 1, exact=False)["deployments"]["chat"]["profile"])


def test_without_a_measured_profile_one_is_predicted_and_the_result_says_how_far_off_it_may_be(write: Write) -> None:
    changes = {**L40S, "workloads.chat.arrivals.rate": "2/s", "run.duration": "20s", "run.warmup": 0}
    result = sim.simulate(sim.load(write(), changes), replications=1)
    assert any(warning.startswith(f"deployments.chat: {BAND}") for warning in result.warnings)
    about = result.manifest["deployments"]["chat"]
    assert about["profile"] == "roofline/l40s/llama-3.1-8b/tp1"
    assert about["profile_source"].startswith("predicted by roofline from ")
    # 15 GB of weights at 864 GB/s take 17 ms; nothing reads them faster, and an idle replica hardly slower
    assert 0.017 < result.summary["tpot_p50"].value < 0.04


def test_a_measured_profile_is_used_where_there_is_one_and_needs_no_such_warning(write: Write) -> None:
    scenario = sim.load(write())
    assert profile_of(scenario) == "h100-sxm/llama-3.1-8b/tp1"
    assert not any("predicted" in warning for warning in build(scenario).warnings)


def test_a_prediction_can_be_asked_for_where_there_is_a_measured_profile(write: Write) -> None:
    scenario = sim.load(write(), {"deployments.chat.profile": profiles.ROOFLINE})
    assert profile_of(scenario) == "roofline/h100-sxm/llama-3.1-8b/tp1"
    assert any(BAND in warning for warning in build(scenario).warnings)


def test_the_format_of_weights_and_cache_is_that_of_the_model(write: Write) -> None:
    changes = {**L40S, "models.llama.dtype": "fp8", "models.llama.kv_dtype": "fp8"}
    scenarios = [sim.load(write(), {**L40S, **more}) for more in ({}, changes)]
    wide, narrow = (build(scenario).deployments[0] for scenario in scenarios)
    assert profile_of(scenarios[1]) == "roofline/l40s/llama-3.1-8b/tp1-fp8-kv-fp8"
    assert narrow.settings.kv_blocks > 2 * wide.settings.kv_blocks  # half as large each, and 7 GB more for them
    assert narrow.step.decode_step(1, 1000, 0) < 0.65 * wide.step.decode_step(1, 1000, 0)


def test_a_cache_format_that_was_not_measured_is_said(write: Write) -> None:
    system = build(sim.load(write(), {"models.llama.kv_dtype": "fp8"}))
    assert any("keeps its KV cache in bf16, the deployment in fp8" in warning for warning in system.warnings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"models.llama.architecture": "deepseek-v2-lite"},
            "needs profile: none is shipped for deepseek-v2-lite on h100-sxm at tensor_parallel 1, bf16, and deepseek-v2-lite cannot",
        ),
        ({"models.llama.dtype": "int4"}, "and dtype 'int4' cannot be predicted: no kernels of it were fitted"),
        (
            {"cluster.pools.h100": {"name": "h100", "gpu": "a100-sxm", "price": 2.0, "nodes": 4}, "models.llama.dtype": "fp8"},
            "and a100-sxm has no fp8 arithmetic",
        ),
    ],
)  # fmt: skip
def test_what_can_be_neither_found_nor_predicted_is_one_line_with_its_place(
    write: Write, changes: dict[str, object], said: str
) -> None:
    path = write()
    with pytest.raises(sim.ConfigError) as caught:
        build(sim.load(path, changes))
    message = str(caught.value)
    assert said in message
    assert "deployments.chat" in message
    assert f"{path}:12:" in message
    assert "\n" not in message


def test_a_predicted_profile_from_a_file_warns_as_well(write: Write, tmp_path: Path) -> None:
    from sim import catalog
    from sim.perf.roofline import predict

    profiles.save(predict(catalog.model("llama-3.1-8b"), catalog.gpu("h100-sxm")), tmp_path / "p.json")
    system = build(sim.load(write(), {"deployments.chat.profile": str(tmp_path / "p.json")}))
    assert any(BAND in warning for warning in system.warnings)
