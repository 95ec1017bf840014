"""Predicted profiles obey physics, wherever they are asked for; and say so where they cannot be had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import catalog, profiles
from sim.errors import ProfileError
from sim.perf import efficiency as times
from sim.perf import operations
from sim.perf.compile import step_table
from sim.perf.efficiency import Efficiency, Rates
from sim.perf.roofline import caution, fitted, predict

E = Efficiency(**fitted().efficiency)
H100, L40S = catalog.gpu("h100-sxm"), catalog.gpu("l40s")
GPUS = st.sampled_from(catalog.names("gpus")).map(catalog.gpu)
SIZES = st.integers(1, 40_000)
WIDTHS = st.integers(64, 60_000)
PERFECT = replace(E, prefill_start=1e-12, prefill_compute=1.0, prefill_path=1e-12, decode_memory=1.0)
"""Starts at once and runs at the peaks: seconds are then work over rate."""


@given(GPUS, SIZES, WIDTHS, WIDTHS, st.booleans())
def test_no_product_is_faster_than_the_peaks_allow(gpu: catalog.Gpu, m: int, n: int, k: int, narrow: bool) -> None:
    flops, size = (gpu.fp8_flops, 1) if narrow else (gpu.bf16_flops, 2)
    if flops is None:
        return
    seconds = float(times.gemm(E, Rates.of(gpu), m, n, k, narrow=narrow))
    moved = size * (m * k + n * k) + 2 * m * n
    assert seconds > max(2 * m * n * k / flops, moved / gpu.memory_bandwidth)


@given(GPUS, SIZES, WIDTHS, WIDTHS, st.integers(0, 2), st.integers(1, 5_000))
def test_a_larger_product_never_takes_less_time(gpu: catalog.Gpu, m: int, n: int, k: int, axis: int, more: int) -> None:
    rates, shape = Rates.of(gpu), [m, n, k]
    larger = [size + (more if index == axis else 0) for index, size in enumerate(shape)]
    assert times.gemm(E, rates, *larger) >= times.gemm(E, rates, *shape) * (1 - 1e-12)


def test_a_product_of_a_few_rows_takes_as_long_as_of_a_whole_tile_and_one_row_more_begins_the_next() -> None:
    rates = Rates.of(catalog.gpu("t4"))  # little arithmetic for its bandwidth: tiles show
    one, full, over = (float(times.gemm(E, rates, m, 8192, 8192)) for m in (1, 128, 129))
    assert full < 1.05 * one
    assert over > 1.3 * full


@given(
    GPUS,
    st.integers(1, 16_384),
    st.integers(0, 100_000),
    st.sampled_from([(8, 1), (32, 8), (64, 64)]),
    st.integers(1, 4096),
)
def test_attention_of_a_chunk_is_bounded_by_the_peaks_and_rises_with_its_past(
    gpu: catalog.Gpu, chunk: int, past: int, heads: tuple[int, int], more: int
) -> None:
    rates, (query, kv) = Rates.of(gpu), heads
    seconds, longer, further = (
        float(times.prefill(E, rates, q, p, query, kv, 128))
        for q, p in ((chunk, past), (chunk + more, past), (chunk, past + more))
    )
    assert seconds > 4 * query * 128 * chunk * (past + chunk / 2) / gpu.bf16_flops
    assert seconds > 4 * kv * 128 * (past + chunk) / gpu.memory_bandwidth
    assert longer >= seconds
    assert further >= seconds


@given(
    GPUS, st.integers(1, 1024), st.integers(1, 131_072), st.integers(1, 64), st.integers(1, 16), st.sampled_from([1, 2])
)
def test_attention_of_decodes_is_bounded_by_the_peaks_and_rises_with_each_of_them(
    gpu: catalog.Gpu, n: int, context: int, kv: int, group: int, size: int
) -> None:
    rates = Rates.of(gpu)
    seconds, wider, longer = (
        float(times.decode(E, rates, batch, seen, kv * group, kv, 128, cache_bytes=size))
        for batch, seen in ((n, context), (n + 1, context), (n, context + 1))
    )
    assert seconds > 2 * n * context * kv * 128 * size / gpu.memory_bandwidth
    assert seconds > 4 * n * context * kv * group * 128 / gpu.bf16_flops
    assert wider > seconds
    assert longer > seconds


@given(st.integers(1, 300), st.integers(0, 500), st.integers(1, 400))
def test_a_window_counts_the_pairs_that_are_seen(chunk: int, past: int, window: int) -> None:
    """Against counting them: query j of the chunk sees what is before it, itself included, as far as the window reaches. The
    formula takes tokens as a continuum, so it is half a pair a query off where the window does not bind."""
    seconds = float(times.prefill(PERFECT, Rates.of(H100), chunk, past, 4096, 1, 128, window=window))
    pairs = seconds * H100.bf16_flops / (4 * 4096 * 128)
    counted = sum(min(past + j, window) for j in range(1, chunk + 1))
    assert counted - chunk / 2 - 1e-6 <= pairs <= counted + 1e-6


def test_the_experts_that_are_read_are_those_that_tokens_choose() -> None:
    rng = np.random.default_rng(3)
    count, chosen, hidden, width = 64, 6, 2048, 1024
    alone = replace(E, experts_start=1e-12, experts_memory=1.0, experts_compute=1e9)
    for tokens in (1, 4, 16, 64):
        drawn = [len(np.unique(np.argsort(rng.random((tokens, count)))[:, :chosen])) for _ in range(2_000)]
        read = float(times.experts(alone, Rates.of(H100), tokens, hidden, width, chosen, count)) * H100.memory_bandwidth
        activations = 2 * tokens * chosen * (2 * hidden + 3 * width)
        assert (read - activations) / (3 * hidden * width * 2) == pytest.approx(np.mean(drawn), rel=0.01)


@pytest.mark.parametrize(("size", "us"), [(4096, 12.7), (2**20, 41.0), (21e6, 587.0)])
def test_a_sum_over_pcie_takes_as_long_as_nccl_was_measured_to(size: float, us: float) -> None:
    # casys-kaist/LLMServingSim, profiler/perf/RTXPRO6000/hardware.yaml: two RTX PRO 6000 on PCIe 5 x16
    rates = Rates.of(catalog.gpu("rtx-pro-6000"))
    assert float(times.all_reduce(E, rates, size, 2)) * 1e6 == pytest.approx(us, rel=0.05)


@given(GPUS, st.sampled_from([2, 4, 8]), st.integers(1, 2**30), st.integers(1, 2**24))
def test_a_collective_is_bounded_by_its_link_and_rises_with_its_size(
    gpu: catalog.Gpu, tp: int, size: int, more: int
) -> None:
    rates = Rates.of(gpu)
    link = gpu.nvlink_bandwidth or gpu.pcie_bandwidth
    for collective, passes in ((times.all_reduce, 2), (times.all_gather, 1)):
        seconds, larger = (float(collective(E, rates, of, tp)) for of in (size, size + more))
        assert seconds > passes * (tp - 1) / tp * size / link
        assert larger >= seconds


@pytest.mark.parametrize("gpu", catalog.names("gpus"))
def test_every_gpu_of_the_catalog_is_predicted_and_no_step_beats_its_hardware(gpu: str) -> None:
    shape, card = catalog.model("llama-3.1-8b"), catalog.gpu(gpu)
    table = step_table(predict(shape, card), 64, 4096)
    weights = 2 * (shape.parameters() - shape.embedding_parameters())
    assert table.decode_step(1, 1, 0) > weights / card.memory_bandwidth
    assert table.mixed_step(4096, 4096**2, 0, 0, 0, 1) > 2 * 4096 * shape.layer_parameters() / card.bf16_flops


@given(
    GPUS, st.sampled_from(["llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "qwen3-30b-a3b"]), st.sampled_from([1, 2, 4])
)
def test_more_gpus_never_slow_the_products(gpu: catalog.Gpu, model: str, tp: int) -> None:
    shape = catalog.model(model)
    names = [*operations.products(shape, tp), *(["moe"] if shape.is_moe else [])]
    few, many = (predict(shape, gpu, degree).steps for degree in (tp, 2 * tp))
    for name in names:
        pairs = zip(few.tokens.parts[name].us, many.tokens.parts[name].us, strict=True)
        assert all(b <= a * (1 + 1e-4) for a, b in pairs)  # profiles keep five digits
    heads = zip(few.sequences.parts["lm_head"].us, many.sequences.parts["lm_head"].us, strict=True)
    assert all(b <= a * (1 + 1e-4) for a, b in heads)


@pytest.mark.parametrize("model", [name for name in catalog.names("models") if not catalog.model(name).is_mla])
def test_every_shape_of_the_catalog_is_predicted_and_reads_at_least_the_weights_that_a_token_uses(model: str) -> None:
    """Mixtures, windows, shared experts, ungated and tied shapes included."""
    shape = catalog.model(model)
    table = step_table(predict(shape, H100, 1), 64, 2048)
    used = shape.active_parameters(embedding=False) - shape.vocab * shape.hidden
    one, many, longer = (table.decode_step(n, n * context, 0) for n, context in ((1, 128), (64, 128), (64, 1024)))
    assert 2 * used / H100.memory_bandwidth < one < many < longer


def test_layers_with_a_window_cost_no_more_beyond_it() -> None:
    shape = catalog.model("gemma-3-27b")
    assert shape.sliding_layers
    grid = predict(shape, H100, 2).steps.decode
    whole = predict(replace(shape, sliding_layers=0, sliding_window=0), H100, 2).steps.decode
    rise, all_rise = (one.us[-5][-1] - one.us[-5][-2] for one in (grid, whole))
    assert rise == pytest.approx(all_rise * (shape.layers - shape.sliding_layers) / shape.layers, rel=0.01)


def test_eight_bits_halve_what_is_read() -> None:
    shape = catalog.model("llama-3.1-70b")
    wide, narrow = (predict(shape, H100, 4, dtype, dtype).steps for dtype in ("bf16", "fp8"))
    for name in ("gate_up_proj", "down_proj"):
        assert 0.45 < narrow.tokens.parts[name].us[0] / wide.tokens.parts[name].us[0] < 0.65
    assert narrow.sequences.parts["lm_head"] == wide.sequences.parts["lm_head"]  # kept in 16 bits
    assert 0.5 < narrow.decode.us[-1][-1] / wide.decode.us[-1][-1] < 0.51


def test_all_of_it_is_called_predicted_and_carries_its_error() -> None:
    profile = predict(catalog.model("qwen3-14b"), L40S)
    step = profile.steps
    assert {curve.source for curves in (step.tokens, step.sequences) for curve in curves.parts.values()} == {
        "predicted"
    }
    assert profile.provenance.source.startswith("predicted by roofline from")
    assert profile.provenance.points == 0
    assert profile.name == "roofline/l40s/qwen3-14b/tp1"
    for part in (step.tokens, step.sequences, step.prefill, step.decode):
        assert part.held_out is not None
        assert part.held_out.points > 50
    assert profile.doubt is not None
    assert profile.doubt.parts == ("tokens", "sequences", "prefill", "decode")
    assert np.linalg.eigvalsh(profile.doubt.covariance).min() >= 0.0
    said = caution(profile)
    assert said is not None
    assert said.startswith("step times are predicted, not measured: median error")
    assert "left out" in said


def test_experts_and_makers_that_were_not_fitted_widen_the_doubt_and_are_named() -> None:
    dense, mixture = (predict(catalog.model(name), catalog.gpu("mi300x")) for name in ("qwen3-32b", "qwen3-30b-a3b"))
    assert dense.doubt is not None
    assert mixture.doubt is not None
    assert mixture.doubt.covariance[0][0] > dense.doubt.covariance[0][0]
    assert any("every GPU of the fit is NVIDIA's" in note for note in dense.provenance.notes)
    assert any("experts were fitted on the h100-sxm alone" in note for note in mixture.provenance.notes)


def test_measured_profiles_need_no_caution() -> None:
    assert all(caution(profiles.load(name)) is None for name in profiles.names())


def test_a_predicted_profile_is_the_same_from_its_file_and_still_says_that_it_is_predicted(tmp_path: Path) -> None:
    profile = predict(catalog.model("llama-3.1-70b"), catalog.gpu("b200-sxm"), 2, "fp8", "fp8")
    profiles.save(profile, tmp_path / "p.json")
    read = profiles.load(tmp_path / "p.json")
    assert read == profile
    assert caution(read) == caution(profile)


@pytest.mark.parametrize(
    ("model", "gpu", "tp", "dtype", "kv_dtype", "said"),
    [
        ("deepseek-v3", H100, 8, "bf16", "bf16", "deepseek-v3 cannot be predicted: no kernels of latent attention"),
        ("llama-3.1-8b", H100, 1, "int4", "bf16", "dtype 'int4' cannot be predicted"),
        ("llama-3.1-8b", H100, 1, "bf16", "int8", "dtype 'int8' cannot be predicted"),
        ("llama-3.1-8b", catalog.gpu("a100-sxm"), 1, "fp8", "bf16", "a100-sxm has no fp8 arithmetic"),
        ("llama-3.1-8b", H100, 3, "bf16", "bf16", "32 heads (8 KV), which 3 GPUs cannot share evenly"),
        ("llama-3.1-8b", replace(H100, sm_count=None), 1, "bf16", "bf16", "h100-sxm cannot be predicted: its sm_count must be"),
        ("llama-3.1-8b", replace(H100, bf16_flops=0.0), 1, "bf16", "bf16", "its bf16_flops must be known"),
        (
            "llama-3.1-8b",
            replace(H100, memory_bandwidth=0.0, sm_count=None),
            1,
            "bf16",
            "bf16",
            "its memory_bandwidth and sm_count must be known",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_predicted_is_said_in_one_line(
    model: str, gpu: catalog.Gpu, tp: int, dtype: str, kv_dtype: str, said: str
) -> None:
    with pytest.raises(ProfileError) as caught:
        predict(catalog.model(model), gpu, tp, dtype, kv_dtype)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
