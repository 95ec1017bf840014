"""A calibration of an engine whose steps are known, in simulated time: every sample must be a step the engine ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.campaign import Campaign
from calibration.endpoint.client import Client
from calibration.endpoint.faults import EndpointError
from calibration.endpoint.observations import Observations, observations, save_requests
from calibration.endpoint.run import Wanted, calibrate
from calibration.importers.requests import read_run
from calibration.samples import StepSample
from sim.errors import ProfileError
from tests.calibration.endpoint.engine import App, Engine, Memory, VirtualLoop, seconds

Composition = tuple[int, int, int, int, int]


def calibrated(app: App, out: Path, **wanted: Any) -> Observations:
    with (
        Client("http://fake/v1", transport=Memory(app), loop_factory=VirtualLoop) as client,
        Campaign(out, {"endpoint": "fake"}) as campaign,
    ):
        return calibrate(client, campaign, Wanted(**{"budget": 60.0, "concurrency": 8} | wanted))


def ran(engine: Engine) -> set[Composition]:
    """What the engine's steps were made of."""
    return {
        (
            sum(q for q, _ in chunks),
            sum(q * (2 * p + q) for q, p in chunks),
            len(chunks),
            len(contexts),
            sum(contexts),
        )
        for chunks, contexts in engine.log
    }


def expected(sample: StepSample, host: float) -> float:
    """What a step of that composition takes, with what passes until the next."""
    work = 1e-4 * sample.tokens + 5e-4 * sample.sequences + 1e-7 * sample.prefill_work + 1e-6 * sample.context
    return 5e-3 + work + host


def test_each_sample_is_a_step_that_the_engine_ran_and_took_as_long(tmp_path: Path) -> None:
    app = App(Engine(budget=512))
    seen = calibrated(app, tmp_path / "o", budget=120.0, concurrency=12)
    compositions = ran(app.engine)
    mixed = [sample for sample in seen.samples if sample.prompts]
    decodes = [sample for sample in seen.samples if not sample.prompts]
    assert {sample.decodes for sample in decodes} >= {1, 8, 12}
    assert {sample.decodes for sample in mixed} >= {1, 12}
    assert any(sample.prefill_work > sample.prefill_tokens**2 for sample in mixed)  # chunks after others
    for sample in mixed:
        made_of = (sample.prefill_tokens, sample.prefill_work, sample.prompts, sample.decodes, sample.context)
        assert made_of in compositions
    for sample in seen.samples:
        assert sample.whole
        assert sample.seconds == pytest.approx(expected(sample, app.engine.host), rel=1e-3)
    assert any(sample.prompts == 4 and sample.prefill_tokens == 4 * 64 for sample in mixed)  # sent together
    assert not [note for note in seen.notes if "cannot be matched" in note]


def test_first_tokens_of_lone_prompts_are_their_steps_and_what_passes_between(tmp_path: Path) -> None:
    app = App(Engine(budget=256), delay=2e-3)
    seen = calibrated(app, tmp_path / "o")
    lone = {one.prompt: one for one in seen.prompted if not one.beside}
    assert {1, 2040} <= set(lone)
    assert [tokens for tokens, _ in lone[2040].chunks] == [256] * 7 + [248]
    for one in lone.values():
        steps = sum(seconds([chunk], []) for chunk in one.chunks)
        between = app.engine.host * (len(one.chunks) - 1)
        assert one.ttft == pytest.approx(app.delay + steps + between, rel=1e-3)
        assert one.repeats >= 3
    assert seen.facts.round_trip == pytest.approx(app.delay)


@pytest.mark.parametrize("budget", [256, 512, 1024])
def test_the_token_budget_is_found_from_how_prompts_are_split(tmp_path: Path, budget: int) -> None:
    seen = calibrated(App(Engine(budget=budget)), tmp_path / "o")
    assert seen.facts.token_budget == budget
    assert not any(line.startswith("token budget") for line in seen.unidentified)


def test_a_token_budget_that_no_prompt_reaches_is_said_to_be_unknown_but_for_its_least(tmp_path: Path) -> None:
    seen = calibrated(App(Engine(budget=8192)), tmp_path / "o")
    assert seen.facts.token_budget is None
    assert any(line.startswith("token budget: at least 2041: no prompt was split") for line in seen.unidentified)
    assert any(sample.prefill_tokens == 2040 for sample in seen.samples)  # unsplit all the same


def test_the_number_of_seats_is_found_where_requests_have_to_wait(tmp_path: Path) -> None:
    seen = calibrated(App(Engine(seats=6)), tmp_path / "o", concurrency=16)
    assert seen.facts.max_num_seqs == 6
    assert max(sample.decodes for sample in seen.samples) <= 6
    assert any("no more than 6 requests ran at once" in note for note in seen.notes)


def test_what_the_server_and_the_user_say_is_in_the_facts(tmp_path: Path) -> None:
    seen = calibrated(App(Engine()), tmp_path / "o", token_budget=256, max_num_seqs=12)
    facts = seen.facts
    assert (facts.engine, facts.model, facts.max_model_len) == ("vllm", "m", 2048)
    assert (facts.kv_tokens, facts.block_tokens, facts.prefix_cache) == (100_000, 16, False)
    assert (facts.token_budget, facts.max_num_seqs) == (256, 12)
    assert seen.unidentified == ()


def test_without_metrics_it_works_and_says_what_it_does_not_know(tmp_path: Path) -> None:
    seen = calibrated(App(Engine(), metrics=False, max_model_len=None), tmp_path / "o")
    assert seen.samples
    said = [line.partition(":")[0] for line in seen.unidentified]
    assert {"max_num_seqs", "max_model_len", "KV cache", "other clients"} <= set(said)


def test_the_mix_is_kept_aside_and_can_be_written_as_a_run(tmp_path: Path) -> None:
    app = App(Engine())
    with (
        Client("http://fake/v1", transport=Memory(app), loop_factory=VirtualLoop) as client,
        Campaign(tmp_path / "o", {}) as campaign,
    ):
        seen = calibrate(client, campaign, Wanted(budget=60.0, concurrency=8))
        del campaign.records["mix"]
        without = observations(campaign)
    assert without.samples == seen.samples
    assert without.mix is None
    assert seen.mix is not None
    assert len(seen.mix) >= 20
    assert seen.mix.ok.all()
    save_requests(seen.mix, tmp_path / "mix.csv")
    read = read_run(tmp_path / "mix.csv")
    for name in ("sent", "prompt", "output", "ttft", "e2e"):
        assert getattr(read, name) == pytest.approx(getattr(seen.mix, name), abs=2e-6)


def test_times_of_the_mix_are_those_of_the_engine(tmp_path: Path) -> None:
    seen = calibrated(App(Engine()), tmp_path / "o")
    assert seen.mix is not None
    assert seen.mix.token_times is not None
    for sent, ttft, e2e, output, times in zip(
        seen.mix.sent, seen.mix.ttft, seen.mix.e2e, seen.mix.output, seen.mix.token_times, strict=True
    ):
        assert len(times) == output
        assert times[0] == pytest.approx(sent + ttft, abs=3e-6)
        assert times[-1] == pytest.approx(sent + e2e, abs=3e-6)


def test_prompts_run_apart_from_decodes_are_samples_of_their_own(tmp_path: Path) -> None:
    app = App(Engine(budget=4096, apart=True))
    seen = calibrated(app, tmp_path / "o")
    alone = [sample for sample in seen.samples if sample.prompts and not sample.decodes]
    assert alone
    assert not any(sample.prompts and sample.decodes for sample in seen.samples)
    for sample in alone:
        assert sample.seconds == pytest.approx(expected(sample, app.engine.host), rel=1e-3)
    assert any("as SGLang does" in note for note in seen.notes)


def test_tokens_that_come_several_at_a_time_still_show_the_pace_of_decoding(tmp_path: Path) -> None:
    app = App(Engine(), several=4, token_ids=False)
    seen = calibrated(app, tmp_path / "o")
    assert not any(sample.prompts for sample in seen.samples)
    for sample in seen.samples:
        assert sample.seconds == pytest.approx(expected(sample, app.engine.host), rel=0.1)
    assert any("came several tokens at a time" in note for note in seen.notes)
    assert any(line.startswith("prompts beside decodes") for line in seen.unidentified)


def test_a_stream_that_breaks_off_once_is_measured_again_and_counted(tmp_path: Path) -> None:
    app = App(Engine(), breaking={20})
    seen = calibrated(app, tmp_path / "o")
    assert "1 loads failed or were disturbed, and were measured again" in seen.notes


def test_a_fault_that_stays_keeps_what_was_measured_and_the_same_command_goes_on_from_there(tmp_path: Path) -> None:
    out = tmp_path / "o"
    whole = App(Engine())
    calibrated(whole, tmp_path / "other")
    with pytest.raises(EndpointError, match=r"mid-stream.*; \d+ measurements are kept in .*o.points.jsonl"):
        calibrated(App(Engine(), breaking=set(range(60, 10_000))), out)
    before = [json.loads(line) for line in (tmp_path / "o.points.jsonl").read_text().splitlines()[1:]]
    assert len(before) > 10
    rest = App(Engine())
    seen = calibrated(rest, out)
    after = [json.loads(line) for line in (tmp_path / "o.points.jsonl").read_text().splitlines()[1:]]
    assert after[: len(before)] == before
    assert len({record["key"] for record in after}) == len(after)
    assert len(rest.bodies) < len(whole.bodies)
    assert seen.mix is not None


def test_a_journal_of_another_model_is_refused(tmp_path: Path) -> None:
    calibrated(App(Engine()), tmp_path / "o")
    with pytest.raises(ProfileError, match="has measurements of the model 'm', the server has 'n': remove it"):
        calibrated(App(Engine(), model="n"), tmp_path / "o")


def test_a_server_that_others_use_is_refused_at_the_beginning(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="3 requests of others are on it: calibrate a server that nobody uses"):
        calibrated(App(Engine(), others=3), tmp_path / "o")


def test_loads_beside_those_of_others_are_measured_again_and_not_used_in_the_end(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="shows a step: others are using the server"):
        calibrated(App(Engine(), intruders=1), tmp_path / "o")


def test_hits_in_a_prefix_cache_are_said(tmp_path: Path) -> None:
    seen = calibrated(App(Engine(), cached=16), tmp_path / "o")
    assert any("tokens of prompts in its prefix cache" in note for note in seen.notes)


def test_a_server_that_was_restarted_meanwhile_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(EndpointError):
        calibrated(App(Engine(), breaking=set(range(60, 10_000))), tmp_path / "o")
    seen = calibrated(App(Engine(), started=1.8e9), tmp_path / "o")
    assert any("restarted between loads (2 processes)" in note for note in seen.notes)


def test_a_prompt_of_text_has_the_length_that_the_server_counts(tmp_path: Path) -> None:
    seen = calibrated(App(Engine(), ids=False, chat_only=True), tmp_path / "o")
    lone = sorted(one.prompt for one in seen.prompted if not one.beside)
    assert lone[0] == 7  # a word is two tokens here, and five are around it
    assert np.max(lone) > 2000
    assert any("/chat/completions" in note for note in seen.notes)
