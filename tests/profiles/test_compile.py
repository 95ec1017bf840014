"""The compiled step table against the laws its profile was written from."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import ProfileError
from sim.kernel.clock import QUANTUM
from sim.perf.compile import capture_sizes, step_table
from sim.perf.steptable import StepTable
from sim.profiles.schema import (
    ContextGrid,
    Curve,
    Curves,
    Host,
    MixedAttention,
    MixedBlock,
    PromptGrid,
    Spread,
)
from tests.profiles.shapes import CHUNKS, CONTEXTS, PASTS, SEQUENCES, chunk_us, decode_us, gemm_us, profile

US = 1e-6


def attention(table: StepTable, n: int, context: int) -> float:
    piece = bisect_left(table.knots[n], context)
    return table.attention_base[n][piece] + table.attention_slope[n][piece] * context


@pytest.fixture(scope="module")
def table() -> StepTable:
    return step_table(profile(), max_num_seqs=64, max_num_batched_tokens=4096)


def test_a_decode_step_is_gemm_sampling_and_attention(table: StepTable) -> None:
    for n in SEQUENCES:
        for context in CONTEXTS:
            expected = (gemm_us(n) + 9.0 + n + decode_us(n, context)) * US
            assert table.decode_step(n, n * context, 0) == pytest.approx(
                expected, rel=2e-3
            )  # 2 ns a token on a grid of 15 ps


def test_batches_between_measured_ones_are_interpolated_at_equal_mean_context(table: StepTable) -> None:
    for n, context in ((3, 64), (11, 700), (24, 1024), (30, 3000)):
        assert attention(table, n, n * context) == pytest.approx(
            decode_us(n, context) * US, rel=5e-3
        )  # 2 ns on a 15 ps grid


def test_contexts_and_batches_past_the_measured_ones_go_on_in_proportion_to_the_work(table: StepTable) -> None:
    assert attention(table, 32, 32 * 50_000) == pytest.approx(decode_us(32, 50_000) * US, rel=5e-3)
    assert attention(table, 64, 64 * 2048) == pytest.approx(decode_us(64, 2048) * US, rel=5e-3)
    assert table.gemm[4096] == pytest.approx(gemm_us(4096) * US, rel=1e-6)


def test_below_the_smallest_measured_context_the_time_is_held(table: StepTable) -> None:
    assert attention(table, 4, 4) == attention(table, 4, 4 * CONTEXTS[0])


def test_measured_prompts_come_out_as_measured(table: StepTable) -> None:
    for chunk in CHUNKS:
        for past in PASTS:
            seconds = table.mixed_step(chunk, chunk * (2 * past + chunk), 0, 0, 0, 1)
            expected = (gemm_us(chunk) + 10.0 + chunk_us(chunk, past)) * US
            assert seconds == pytest.approx(expected, rel=2e-3)  # 2 ns a token on a grid of 15 ps


@given(st.integers(16, 4096), st.integers(0, 20_000))
@settings(max_examples=200, deadline=None)
def test_chunks_between_and_past_measured_ones_follow_the_parabola_within_two_percent(chunk: int, past: int) -> None:
    table = step_table(profile(), 64, 4096)
    assert table._prefill_attention(chunk, past) == pytest.approx(chunk_us(chunk, past) * US, rel=0.02)


def test_without_mixed_measurements_prefill_and_decode_attention_are_added(table: StepTable) -> None:
    together = table.mixed_step(256, 256 * 256, 8, 8 * 1024, 0, 9)
    expected = gemm_us(264) + 9.0 + 9.0 + chunk_us(256, 0) + decode_us(8, 1024)
    assert together == pytest.approx(expected * US, rel=1e-3)


def test_whole_prompts_alone_give_chunks_by_difference_and_the_start_of_a_kernel() -> None:
    lengths = (1, 16, 64, 256, 1024, 2048, 4096, 8192)
    whole = PromptGrid(chunks=lengths, pasts=(0,), us=tuple((chunk_us(q, 0),) for q in lengths))
    table = step_table(profile(prefill=whole), 64, 4096)
    for chunk, past in ((256, 256), (512, 2048), (2048, 4096)):
        assert table._prefill_attention(chunk, past) == pytest.approx(chunk_us(chunk, past) * US, rel=0.02)
    assert table._prefill_attention(2048, 0) == pytest.approx(chunk_us(2048, 0) * US, rel=1e-6)


def test_a_short_chunk_over_a_long_past_takes_at_least_the_reading_of_the_cache() -> None:
    lengths = (16, 256, 4096)
    cheap = PromptGrid(chunks=lengths, pasts=(0,), us=((6.0,), (6.1,), (6.2,)))
    table = step_table(profile(prefill=cheap), 64, 4096)
    assert table._prefill_attention(16, 4096) >= decode_us(1, 4096) * US * 0.999


def test_contexts_too_long_to_measure_in_large_batches_grow_as_in_smaller_ones() -> None:
    holes = tuple(tuple(decode_us(n, c) if n * c <= 8192 or c <= 64 else None for c in CONTEXTS) for n in SEQUENCES)
    table = step_table(profile(decode=ContextGrid(sequences=SEQUENCES, contexts=CONTEXTS, us=holes)), 32, 4096)
    assert attention(table, 32, 32 * 4096) == pytest.approx(decode_us(32, 4096) * US, rel=0.01)


def mixed_us(chunk: float, past: float, n: float, context: float) -> float:
    return 1.5 * (chunk_us(chunk, past) + decode_us(n, context))


def mixed() -> MixedAttention:
    values = tuple(mixed_us(q, p, n, c) for q in CHUNKS for p in PASTS for n in SEQUENCES for c in CONTEXTS)
    wide = MixedBlock(chunks=CHUNKS, pasts=PASTS, sequences=SEQUENCES, contexts=CONTEXTS, us=values)
    chunks, pasts, contexts = (400, 1500), (0, 4096), (256, 4096)
    more = tuple(mixed_us(q, p, n, c) for q in chunks for p in pasts for n in SEQUENCES for c in contexts)
    narrow = MixedBlock(chunks=chunks, pasts=pasts, sequences=SEQUENCES, contexts=contexts, us=more)
    return MixedAttention(blocks=(wide, narrow))


@given(st.integers(16, 2048), st.integers(0, 4096), st.integers(1, 32), st.integers(16, 4096))
@settings(max_examples=200, deadline=None)
def test_mixed_attention_is_the_measured_one_not_the_sum(chunk: int, past: int, n: int, context: int) -> None:
    table = step_table(profile(mixed()), 64, 2048)
    assert table._mixed_attention(chunk, past, n, context) == pytest.approx(
        mixed_us(chunk, past, n, context) * US, rel=0.025
    )


def test_mixed_chunks_larger_than_measured_add_what_the_lone_chunk_adds() -> None:
    table = step_table(profile(mixed()), 64, 8192)
    expected = mixed_us(2048, 0, 8, 1024) + chunk_us(8192, 0) - chunk_us(2048, 0)
    assert table._mixed_attention(8192, 0, 8, 1024) == pytest.approx(expected * US, rel=0.02)


def test_unequal_contexts_add_by_their_standard_deviation() -> None:
    unequal = Spread(sequences=(2, 4), decode_us=(0.01, 0.03), mixed_us=(0.02, 0.04))
    table = step_table(profile(spread=unequal), 8, 2048)
    contexts = (100, 300, 100)
    n, total = 3, sum(contexts)
    spread = n * sum(c * c for c in contexts) - total**2
    deviation = spread**0.5 / n
    assert table.decode_step(n, total, spread) - table.decode_step(n, total, 0) == pytest.approx(
        0.02 * US * deviation, rel=1e-3
    )
    alone = table.mixed_step(64, 64 * 64, n, total, spread, 4) - table.mixed_step(64, 64 * 64, n, total, 0, 4)
    assert alone == pytest.approx(0.03 * US * deviation, rel=1e-3)


def test_cuda_graph_sizes_are_those_of_vllm() -> None:
    # `cudagraph_capture_sizes` of a recorded server with max_num_seqs 128 and 2048 tokens (casys-kaist/LLMServingSim,
    # bench/examples/RTXPRO6000/Qwen3-32B/vllm/meta.json); above 256 vLLM goes in steps of 16, up to 512.
    assert capture_sizes(128, 2048) == [1, 2, 4, *range(8, 257, 8)]
    assert capture_sizes(1024, 8192) == [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)]
    assert capture_sizes(3, 2048) == [1, 2, 4]
    assert capture_sizes(1, 1) == [1]


def test_with_cuda_graphs_batches_take_as_long_as_the_next_captured_size() -> None:
    table = step_table(profile(host=Host(cuda_graphs=True)), 64, 2048)
    assert table.gemm[5] == table.gemm[8] == pytest.approx(gemm_us(8) * US)
    assert table.gemm[129] == pytest.approx(gemm_us(129) * US)  # past twice max_num_seqs nothing is captured
    assert table.decode_step(5, 5 * 64, 0) == pytest.approx((gemm_us(8) + 14.0 + decode_us(5, 64)) * US, rel=1e-4)


def test_the_profile_s_host_time_is_added_and_can_be_replaced() -> None:
    measured = profile(host=Host(us=250.0, source="measured", cuda_graphs=False))
    plain, with_host, replaced = (
        step_table(profile(), 8, 256),
        step_table(measured, 8, 256),
        step_table(measured, 8, 256, host_overhead=1e-3),
    )
    for call in (lambda t: t.decode_step(2, 100, 0), lambda t: t.mixed_step(64, 4096, 0, 0, 0, 1)):
        assert call(with_host) - call(plain) == pytest.approx(250e-6, abs=1e-9)
        assert call(replaced) - call(plain) == pytest.approx(1e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("sequences", "tokens", "host"), [(0, 256, None), (8, 0, None), (8, 256, -1.0), (8, 256, float("nan"))]
)
def test_limits_that_cannot_be_are_refused(sequences: int, tokens: int, host: float | None) -> None:
    with pytest.raises(ProfileError, match="test/line/tp1"):
        step_table(profile(), sequences, tokens, host)


def test_wave_quantisation_is_kept_and_noise_that_falls_with_work_is_not() -> None:
    steps = Curve(at=(1, 128, 129, 256, 257), us=(100.0, 100.0, 180.0, 180.0, 260.0))
    noise = Curve(at=(1, 128, 129, 256, 257), us=(10.0, 8.0, 9.0, 9.0, 9.0))
    table = step_table(profile(tokens=Curves(parts={"a": steps, "b": noise})), 8, 257)
    assert table.gemm[128] == pytest.approx(109e-6, rel=0.01)
    assert table.gemm[129] == pytest.approx(189e-6, rel=0.01)
    assert table.gemm[256] == pytest.approx(189e-6, rel=0.01)
    assert table.gemm == sorted(table.gemm)


def test_everything_is_on_the_time_grid_so_spans_are_exact(table: StepTable) -> None:
    for n in (1, 7, 33, 64):
        for values in (table.base[n], table.slope[n], table.attention_base[n]):
            assert all((value / QUANTUM).is_integer() for value in values)
        knots, base, slope = table.knots[n], table.base[n], table.slope[n]
        assert len(base) == len(slope) == len(knots) + 1
        for i, knot in enumerate(knots):  # neighbouring pieces meet exactly
            assert base[i] + slope[i] * knot == base[i + 1] + slope[i + 1] * knot
    assert all((value / QUANTUM).is_integer() for value in table.gemm + table.sample)
