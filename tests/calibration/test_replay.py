"""Replaying recorded requests: a server whose steps all take one time does what one can work out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.replay import replay
from calibration.runs import RequestLog
from sim.errors import ConfigError, ProfileError
from sim.profiles.schema import Hardware, Served
from tests.calibration.toys import batches, constant

STEP = 1e-3
ENGINE = {"max_num_seqs": 8, "max_num_batched_tokens": 512, "kv_blocks": 1000, "async_scheduling": False}


def log(sent: list[float], prompt: list[int], output: list[int], **more: Any) -> RequestLog:
    times = np.full(len(sent), np.nan)
    return RequestLog(np.array(sent, float), np.array(prompt), np.array(output), times, times, **more)


def test_alone_on_the_server_a_request_takes_a_step_a_chunk_of_its_prompt_and_a_step_a_token() -> None:
    predicted = replay(constant(), log([0.0, 1.0, 2.0], [100, 512, 1030], [1, 5, 10]), engine=ENGINE)
    np.testing.assert_allclose(predicted.ttft, [STEP, STEP, 3 * STEP], atol=1e-9)
    np.testing.assert_allclose(predicted.e2e, [STEP, 5 * STEP, 12 * STEP], atol=1e-9)
    np.testing.assert_allclose(predicted.tpot, [np.nan, STEP, STEP], atol=1e-9)
    assert predicted.about["itl"]["mean"] == pytest.approx(STEP)
    assert predicted.about["itl"]["p99"] == pytest.approx(STEP, rel=0.005)  # histogram bins are 0.5 % wide


def test_results_are_in_the_order_of_the_log_whenever_requests_were_sent() -> None:
    predicted = replay(constant(), log([2.0, 0.0, 1.0], [10, 10, 10], [3, 1, 2]), engine=ENGINE)
    np.testing.assert_allclose(predicted.e2e, [3 * STEP, STEP, 2 * STEP], atol=1e-9)
    assert predicted.sent.tolist() == [2.0, 0.0, 1.0]


def test_a_closed_loop_sends_the_requests_in_order_each_when_a_user_is_free() -> None:
    one = replay(constant(), log([0.0] * 3, [10] * 3, [4, 2, 3], concurrency=1), engine=ENGINE)
    np.testing.assert_allclose(one.sent, [0.0, 4 * STEP, 6 * STEP], atol=1e-9)
    # the first request starts at once, so that the second joins a step later: it ends after 3 steps, the first after 4
    two = replay(constant(), log([0.0] * 4, [10] * 4, [4, 2, 9, 1], concurrency=2), engine=ENGINE)
    np.testing.assert_allclose(two.sent, [0.0, 0.0, 3 * STEP, 4 * STEP], atol=STEP / 10)


def test_what_cannot_be_simulated_has_no_times_and_the_rest_goes_on() -> None:
    run = log([0.0, 1.0, 2.0], [10, 100, 20_000], [2, 0, 5])  # the second failed, the third is longer than the cache
    predicted = replay(constant(), run, engine=ENGINE)
    np.testing.assert_allclose(predicted.e2e, [2 * STEP, np.nan, np.nan], atol=1e-9)
    assert any("KV cache holds 15,984 tokens" in warning for warning in predicted.about["warnings"])


def test_steps_and_contexts_past_what_was_measured_are_said() -> None:
    engine = ENGINE | {"max_num_batched_tokens": 8192}
    warnings = replay(constant(), log([0.0], [6000], [2]), engine=engine).about["warnings"]
    assert "1 steps were priced outside what profile toy/constant measured" in warnings
    assert "1 requests grow longer than the 4,096 tokens of context that were measured" in warnings


def test_what_a_request_spends_outside_of_steps_is_in_its_times() -> None:
    profile = constant()
    host = profile.steps.host.model_copy(update={"request_us": 5000.0, "request_source": "fitted"})
    profile = profile.model_copy(update={"step": profile.steps.model_copy(update={"host": host})})
    run = log([0.0, 1.0], [100, 100], [1, 5])
    predicted = replay(profile, run, engine=ENGINE)
    np.testing.assert_allclose(predicted.ttft, 0.005 + STEP, atol=1e-9)
    np.testing.assert_allclose(predicted.e2e, [0.005 + STEP, 0.005 + 5 * STEP], atol=1e-9)
    without = replay(profile, run, engine=ENGINE | {"request_overhead": 0.0})
    np.testing.assert_allclose(without.ttft, STEP, atol=1e-9)


def test_a_device_the_catalog_does_not_know_is_as_the_profile_found_it() -> None:
    profile = constant(gpu="cpu-2", hardware=Hardware(title="two cores", memory_bytes=64 * 2**30))
    engine = {name: value for name, value in ENGINE.items() if name != "kv_blocks"}
    predicted = replay(profile, log([0.0], [100], [3]), engine=engine)
    np.testing.assert_allclose(predicted.e2e, 3 * STEP, atol=1e-9)
    assert predicted.about["engine"]["kv_blocks"] > 1000


def test_an_architecture_may_be_a_file_beside_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 500,
    }
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 300} | shape))
    monkeypatch.chdir(tmp_path)
    run = log([0.0, 1.0], [100, 299], [3, 10])  # the second is longer than the model takes
    predicted = replay(constant(), run, engine=ENGINE, architecture="config.json")
    np.testing.assert_allclose(predicted.e2e, [3 * STEP, np.nan], atol=1e-9)


def test_settings_of_the_measured_server_stand_in_for_what_is_not_given() -> None:
    profile = constant(served=Served(max_num_seqs=3, max_num_batched_tokens=64, kv_blocks=777, block_size=128))
    engine = replay(profile, log([0.0], [100], [3]), engine={"max_num_batched_tokens": 32}).about["engine"]
    assert (engine["max_num_seqs"], engine["kv_blocks"], engine["block_size"]) == (3, 777, 128)
    assert engine["max_num_batched_tokens"] == 32


def test_the_same_requests_twice_give_the_same_times() -> None:
    run = log([0.0, 0.1, 0.1], [300, 400, 500], [20, 30, 40])
    first, second = (replay(constant(), run, engine=ENGINE) for _ in range(2))
    np.testing.assert_array_equal(first.e2e, second.e2e)


@pytest.mark.parametrize(
    ("engine", "architecture", "said"),
    [
        ({"max_num_seq": 8}, None, r"^engine: unknown key 'max_num_seq' \(did you mean 'max_num_seqs'"),
        ({"max_num_seqs": 0}, None, r"^engine.max_num_seqs: '0' is out of range"),
        ({}, "llama-3.1-8c", r"did you mean 'llama-3.1-8b'"),
    ],
)
def test_a_wrong_setting_is_named_without_the_file_it_was_put_in(
    engine: dict[str, Any], architecture, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        replay(constant(), log([0.0], [10], [2]), engine=engine, architecture=architecture)
    assert "replay" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_or_device_that_nobody_knows_is_named_as_the_profile_names_it() -> None:
    with pytest.raises(ConfigError, match=r"^architecture: 'm40' is not in the catalog of models"):
        replay(constant(model="m40"), log([0.0], [10], [2]), engine=ENGINE)
    with pytest.raises(
        ProfileError, match=r"^toy/constant: gpu 'h100-smx' is not in the catalog \(did you mean 'h100-sxm'\?\)"
    ):
        replay(constant(gpu="h100-smx"), log([0.0], [10], [2]), engine=ENGINE)


def test_no_request_at_all_and_a_model_that_does_not_generate_are_refused() -> None:
    with pytest.raises(ProfileError, match=r"^night\.csv: has no request with prompt and output tokens$"):
        replay(constant(), log([0.0], [10], [0], source="night.csv"), engine=ENGINE)
    with pytest.raises(ProfileError, match="of a model that does not generate"):
        replay(batches(), log([0.0], [10], [2]), engine=ENGINE)
