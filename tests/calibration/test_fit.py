"""Fitting step times: what is put in comes out, what the data cannot say is said, and the profile's step table is the fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import fitted
from calibration.fit import fit_steps
from calibration.samples import Prompted, StepSample
from sim.errors import ProfileError
from sim.perf.compile import step_table
from sim.profiles.schema import Memory, Profile, Provenance

RNG = np.random.default_rng(3)


def truth(sample: StepSample, between: float = 0.0017) -> float:
    """An engine that takes 9 ms a step, 0.3 ms a token, 0.2 ms a request, attention by work, and 1.3 µs a token of context."""
    seconds = 0.009 + 3e-4 * sample.tokens + 2e-4 * sample.sequences + 1.25e-7 * sample.prefill_work
    seconds += 1.3e-6 * sample.context + (0.002 if sample.prefill_tokens else 0.0)
    return seconds + (between if sample.whole else 0.0)


def compositions(whole: bool = False) -> Iterator[StepSample]:
    for tokens in (1, 16, 64, 128, 256, 512):
        for past in (0, 512, 1024) if tokens == 512 else (0,):
            yield StepSample(tokens, tokens * (2 * past + tokens), 1, 0, 0, 0.0, whole)
    for n in (1, 2, 4, 8, 16):
        for context in (32, 256, 1024, 1900):
            yield StepSample(0, 0, 0, n, n * context, 0.0, whole)
    for n in (4, 12):
        for tokens in (64, 256):
            yield StepSample(tokens, tokens * tokens, 1, n, n * 140, 0.0, whole)


def timed(samples: Iterator[StepSample], noise: float = 0.0) -> list[StepSample]:
    return [
        StepSample(**{**vars(sample), "seconds": truth(sample) * (float(RNG.lognormal(0.0, noise)) if noise else 1.0)})
        for sample in samples
    ]


def profile(fit: object) -> Profile:
    return Profile(
        version=1,
        name="fitted",
        model="m",
        gpu="cpu",
        engine="vllm",
        tensor_parallel=1,
        dtype="bf16",
        kv_dtype="bf16",
        provenance=Provenance(source="test", licence="none", command="none", points=1),
        step=fitted.step(fit),  # type: ignore[arg-type]
        memory=Memory(
            weights_bytes=1,
            context_bytes=0,
            activation_bytes_per_token=0,
            logits_bytes_per_sequence=0,
            kv_bytes_per_token=1,
        ),
    )


def test_times_without_noise_are_found_again_at_compositions_never_seen() -> None:
    fit = fit_steps(timed(compositions()))
    unseen = [
        StepSample(300, 300 * 300, 1, 0, 0, 0.0, False),
        StepSample(512, 512 * (2 * 700 + 512), 1, 0, 0, 0.0, False),
        StepSample(0, 0, 0, 6, 6 * 700, 0.0, False),
        StepSample(100, 100 * 100, 1, 9, 9 * 500, 0.0, False),
    ]
    assert fit.seconds(unseen) == pytest.approx([truth(sample) for sample in unseen], rel=0.01)


def test_what_the_engine_does_between_iterations_is_told_apart_where_some_samples_have_it() -> None:
    fit = fit_steps([*timed(compositions()), *timed(compositions(whole=True))])
    host = dict(zip((name for _, name in fit.basis.columns()), fit.coefficients, strict=True))["between iterations"]
    assert host == pytest.approx(0.0017, rel=0.05)
    assert fitted.step(fit).host.us == pytest.approx(1700, rel=0.05)
    assert fitted.step(fit).host.source == "fitted"


@given(tokens=st.integers(1, 512), past=st.integers(0, 1500), n=st.integers(0, 15), context=st.integers(1, 2000))
@settings(max_examples=200, deadline=None)
def test_the_step_table_of_a_fitted_profile_gives_the_fit(tokens: int, past: int, n: int, context: int) -> None:
    fit, table = FITTED
    prompt = min(tokens, 512 - n)
    mixed = StepSample(prompt, prompt * (2 * past + prompt), 1, n, n * context, 0.0)
    got = table.mixed_step(prompt, mixed.prefill_work, n, mixed.context, 0, mixed.sequences)
    assert got == pytest.approx(float(fit.seconds([mixed])[0]), rel=0.02)
    if n:
        decode = StepSample(0, 0, 0, n, n * context, 0.0)
        assert table.decode_step(n, n * context, 0) == pytest.approx(float(fit.seconds([decode])[0]), rel=0.02)


FIT = fit_steps([*timed(compositions(), 0.05), *timed(compositions(whole=True), 0.05)])
FITTED = (FIT, step_table(profile(FIT), 16, 512))


def test_attention_of_a_prompt_to_what_decodes_beside_it_have_cached_is_found_and_is_in_the_step_table() -> None:
    def dense(sample: StepSample) -> StepSample:
        return replace(sample, seconds=truth(sample) + 2e-8 * sample.prefill_tokens * sample.context)

    more = (
        StepSample(q, q * q, 1, n, n * context, 0.0, False)
        for q in (64, 256, 480)
        for n in (1, 4, 12)
        for context in (100, 1000)
    )
    fit = fit_steps([dense(sample) for sample in (*compositions(), *more)])
    table = step_table(profile(fit), 16, 512)
    for q, n, context in ((128, 8, 500), (400, 12, 1500), (300, 2, 300)):
        exact = dense(StepSample(q, q * q, 1, n, n * context, 0.0, False)).seconds
        assert table.mixed_step(q, q * q, n, n * context, 0, n + 1) == pytest.approx(exact, rel=0.03)


def test_a_lone_request_gives_what_it_spends_outside_of_steps() -> None:
    prompts = [Prompted.of(tokens, 512, 0.0) for tokens in (1, 64, 512, 1300)]
    waits = [replace(one, seconds=0.0043 + sum(truth(step) for step in one.steps)) for one in prompts]
    fit = fit_steps([*timed(compositions(whole=True)), *waits])
    assert fitted.step(fit).host.request_us == pytest.approx(4300, rel=0.05)
    assert fitted.step(fit).host.request_source == "fitted"
    assert [step.prefill_tokens for step in prompts[3].steps] == [512, 512, 276]
    assert [step.prefill_work for step in prompts[3].steps] == [512 * 512, 512 * 1536, 276 * (2 * 1024 + 276)]


def test_held_out_samples_are_never_seen_by_the_fit() -> None:
    samples = timed(compositions())
    absurd = [
        StepSample(**{**vars(sample), "seconds": 9.0 * sample.seconds, "held_out": True}) for sample in samples[::3]
    ]
    with_them, without = fit_steps([*samples, *absurd]), fit_steps(samples)
    assert with_them.coefficients == pytest.approx(without.coefficients)
    assert with_them.held_out is not None
    assert with_them.held_out.median == pytest.approx(8 / 9, abs=0.01)


def test_an_iteration_that_something_else_disturbed_is_left_out_and_counted() -> None:
    samples = timed(compositions(), 0.01) * 3
    spoilt = [*samples, StepSample(**{**vars(samples[0]), "seconds": 40.0 * samples[0].seconds})]
    fit = fit_steps(spoilt)
    assert fit.left_out == 1
    assert fit.coefficients == pytest.approx(fit_steps(samples).coefficients, rel=0.05, abs=1e-6)


def test_the_mean_error_of_noisy_samples_is_not_short() -> None:
    samples = [sample for _ in range(5) for sample in timed(compositions(), 0.15)]
    fit = fit_steps(samples)
    exact = [truth(sample) * float(np.exp(0.15**2 / 2)) for sample in fit.samples]
    assert float(np.mean(fit.seconds(fit.samples) / exact)) == pytest.approx(1.0, abs=0.02)


def test_the_covariance_covers_the_truth() -> None:
    inside = total = 0
    for _ in range(25):
        fit = fit_steps(timed(compositions(), 0.05))
        rows = fit.basis.matrix(fit.samples)
        sd = np.sqrt(np.clip(np.einsum("ij,jk,ik->i", rows, fit.covariance, rows), 0.0, None))
        exact = np.array([truth(sample) for sample in fit.samples]) * float(np.exp(0.05**2 / 2))
        inside += int(np.sum(np.abs(fit.seconds(fit.samples) - exact) < 2.0 * sd))
        total += len(exact)
    assert 0.85 < inside / total <= 1.0


def test_what_the_samples_cannot_tell_is_said() -> None:
    decodes = [sample for sample in compositions() if not sample.prefill_tokens]
    said = " · ".join(fit_steps(timed(iter(decodes))).unidentified())
    assert "between iterations" in said
    assert "no iteration had a prompt" in said
    whole = [sample for sample in compositions() if sample.prefill_work <= sample.prefill_tokens**2]
    assert "chunks after cached tokens" in " · ".join(fit_steps(timed(iter(whole))).unidentified())


def test_doubt_scales_parts_and_shares_what_is_common() -> None:
    plain, shared = fitted.doubt(FIT), fitted.doubt(FIT, common=0.1)
    assert plain is not None
    assert shared is not None
    added = np.array(shared.covariance) - np.array(plain.covariance)
    assert added == pytest.approx(np.full_like(added, 0.01), rel=1e-3)
    assert np.linalg.eigvalsh(np.array(shared.covariance)).min() > -1e-9


def test_too_little_variety_is_refused() -> None:
    alike = timed(StepSample(0, 0, 0, 1, 100 + i % 2, 0.0) for i in range(100))
    with pytest.raises(ProfileError, match="too few to fit step times"):
        fit_steps(alike)


def test_parts_that_are_not_told_apart_share_a_factor() -> None:
    fit = fit_steps(timed(sample for sample in compositions() if not sample.prefill_tokens))  # tokens are requests here
    found = fitted.doubt(fit)
    assert found is not None
    assert np.sqrt(np.diag(found.covariance)).max() < 0.3
