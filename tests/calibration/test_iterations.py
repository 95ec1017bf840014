"""Iteration logs of vLLM: how they read, and what each iteration was made of."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.importers.cells import cells_outside, read_cells
from calibration.importers.inference import infer
from calibration.importers.iterations import IterationLog, read_iterations
from calibration.importers.outside import Outside, outside
from calibration.importers.reconstruction import Reconstruction, iteration_samples, reconstruct
from calibration.importers.requests import read_run
from calibration.samples import StepSample
from sim.errors import ProfileError
from sim.serving.settings import EngineSettings
from tests.calibration.served import log_of, run_of, serve
from tests.paths import DATA, shared

RECORDING = "truth/vllm-0.32_cpu_llama-40m"
# vllm/v1/metrics/loggers.py of vLLM 0.32, and the engine's own line of older versions
LINE = (
    "Engine 000: Iteration(6711): 2 context requests, 300 context tokens, 3 generation requests, 3 generation tokens,"
    " iteration elapsed time: 9.44 ms, GPU KV cache usage: 0.1%"
)
OLD_LINE = LINE.removeprefix("Engine 000: ").partition(", GPU")[0]

Composition = tuple[int, int, int, int, int]


def composition(sample: StepSample) -> Composition:
    return sample.prefill_tokens, sample.prefill_work, sample.prompts, sample.decodes, sample.context


def compositions(found: Reconstruction) -> list[Composition | None]:
    return [None if sample is None else composition(sample) for sample in found.samples]


# reading


@pytest.mark.parametrize(
    ("prefix", "at"),
    [
        ("", float("nan")),
        ("INFO 05-16 12:34:27 [loggers.py:193] ", 11_795_667.0),  # 16 May of a leap year, from 1 January
        (
            "\x1b[0;36m(APIServer pid=7)\x1b[0;0m \x1b[32mINFO\x1b[0m \x1b[90m05-16 12:34:27\x1b[0m [x.py:1] ",
            11_795_667.0,
        ),
        ("1795425356.020292 28914 INFO ", 1795425356.020292),
        ("2026-05-16 12:34:27,250 INFO vllm ", None),
    ],
)
def test_a_line_reads_whatever_its_logger_put_before_it(tmp_path: Path, prefix: str, at: float | None) -> None:
    path = tmp_path / "server.log"
    path.write_text(f"starting\n{prefix}{LINE}\nGET /health 200\n", encoding="utf-8")
    log = read_iterations(path)
    assert [column[0] for column in (log.number, log.prompts, log.prompt_tokens, log.decodes, log.decode_tokens)] == [
        6711, 2, 300, 3, 3
    ]  # fmt: skip
    assert log.seconds[0] == pytest.approx(9.44e-3)
    if at is not None:
        since_january = 946_684_800.0 if at < 1e9 else 0.0
        assert log.at[0] == pytest.approx(at + since_january, nan_ok=True)


def test_a_packed_log_reads_as_the_plain_one_and_so_does_the_engines_own_line(tmp_path: Path) -> None:
    path = tmp_path / "server.log.gz"
    path.write_bytes(gzip.compress(f"(EngineCore_0 pid=5) INFO 05-16 12:34:27 [core.py:1] {OLD_LINE}\n".encode()))
    assert read_iterations(path).prompt_tokens.tolist() == [300]


def test_of_several_engines_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text(f"{LINE}\n{LINE.replace('Engine 000', 'Engine 001').replace('300', '400')}\n", encoding="utf-8")
    with pytest.raises(ProfileError, match=r"engines 0, 1: say which one with --engine$"):
        read_iterations(path)
    assert read_iterations(path, engine=1).prompt_tokens.tolist() == [400]
    with pytest.raises(ProfileError, match=r"no iterations of engine 2, only of 0, 1$"):
        read_iterations(path, engine=2)


def test_iterations_of_an_idle_engine_are_left_out(tmp_path: Path) -> None:
    dummy = LINE.replace("2 context requests, 300", "0 context requests, 0").replace(" ms,", " ms (dummy),")
    path = tmp_path / "server.log"
    path.write_text(f"{dummy}\n{LINE}\n", encoding="utf-8")
    assert len(read_iterations(path)) == 1


def test_a_log_without_such_lines_says_which_flag_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("INFO 05-16 12:34:27 [api_server.py:1] Started\n", encoding="utf-8")
    with pytest.raises(ProfileError, match=r"--enable-logging-iteration-details$") as caught:
        read_iterations(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,x,5,0,0,3.0", r":2: column ctx_requests: 'x' is not a whole number of at least 0$"),
        ("1,1,5,0,0", r":2: column elapsed_ms: '' is not a number of at least 0$"),
        ("1,7,5,0,0,3.0", r"iteration 1: has fewer tokens than requests, or none$"),
    ],
)
def test_a_wrong_cell_is_named_by_line_and_column(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "iterations.csv"
    path.write_text(f"iteration,ctx_requests,ctx_tokens,gen_requests,gen_tokens,elapsed_ms\n{row}\n", encoding="utf-8")
    with pytest.raises(ProfileError, match=message):
        read_iterations(path)


def test_a_file_that_breaks_off_is_said_to(tmp_path: Path) -> None:
    path = tmp_path / "server.log.gz"
    path.write_bytes(gzip.compress(LINE.encode() * 100)[:-40])
    with pytest.raises(ProfileError, match=r"server\.log\.gz: "):
        read_iterations(path)


# what each was made of: by hand


def test_prompts_chunks_and_decodes_are_told_apart() -> None:
    lines = [(1, 8, 0, 0), (2, 7, 1, 1), (1, 3, 2, 2), (0, 0, 3, 3), (0, 0, 1, 1)]
    found = reconstruct(log_of(lines), run_of([(8, 4), (3, 3), (7, 3)]))
    # the third prompt has 4 of its 7 tokens in the second iteration and 3 in the third
    assert compositions(found) == [
        (8, 64, 1, 0, 0),
        (7, 3 * 3 + 4 * 4, 2, 1, 8),
        (3, 3 * (2 * 4 + 3), 1, 2, 9 + 3),
        (0, 0, 0, 3, 10 + 4 + 7),
        (0, 0, 0, 1, 8),
    ]
    assert found.share == 1.0
    assert found.done.tolist() == [0, 1, 2]
    assert found.busy.tolist() == [True, True, True, True, False]


def test_a_prompt_found_in_part_in_the_prefix_cache_has_that_much_past() -> None:
    found = reconstruct(log_of([(1, 4, 0, 0), (0, 0, 1, 1)]), run_of([(20, 2)]))
    assert compositions(found) == [(4, 4 * (2 * 16 + 4), 1, 0, 0), (0, 0, 0, 1, 20)]


def test_of_several_prompts_at_once_it_is_not_known_which_was_cached_but_their_contexts_are() -> None:
    found = reconstruct(log_of([(2, 12, 0, 0), (0, 0, 2, 2)]), run_of([(12, 2), (8, 2)]))
    assert compositions(found) == [None, (0, 0, 0, 2, 20)]


def test_requests_that_overtook_each_other_are_found_by_their_length() -> None:
    found = reconstruct(log_of([(1, 5, 0, 0), (1, 40, 1, 1), (0, 0, 2, 2)]), run_of([(40, 2), (5, 3)]))
    assert compositions(found) == [(5, 25, 1, 0, 0), (40, 1600, 1, 1, 5), (0, 0, 0, 2, 6 + 40)]
    assert found.done.tolist() == [1, 0]


def test_a_request_that_ended_by_its_text_may_be_in_one_step_too_many() -> None:
    # asynchronous scheduling formed the third step before it was known that the second had ended the request
    found = reconstruct(log_of([(1, 5, 0, 0), (0, 0, 1, 1), (0, 0, 1, 1), (1, 9, 0, 0)]), run_of([(5, 2), (9, 1)]))
    assert compositions(found) == [(5, 25, 1, 0, 0), (0, 0, 0, 1, 5), (0, 0, 0, 1, 6), (9, 81, 1, 0, 0)]


def test_what_was_served_before_and_after_the_run_is_not_of_it() -> None:
    trial = [(1, 8, 0, 0), (0, 0, 1, 1)]  # a load generator tries the first request once
    run = [(1, 8, 0, 0), (1, 3, 1, 1), (0, 0, 1, 1)]
    found = reconstruct(log_of([*trial, *run, (1, 77, 0, 0)]), run_of([(8, 2), (3, 2)]))
    assert found.log.number.tolist() == [2, 3, 4]
    assert found.share == 1.0


def test_a_departure_is_said_and_the_books_go_on_when_nothing_decodes() -> None:
    good = [(1, 10, 0, 0), (0, 0, 1, 1), (0, 0, 1, 1)]
    requests = [(10, 3)] * 20 + [(5, 3)] * 2 + [(10, 3)] * 20
    odd = [
        (1, 4, 0, 0),
        (3, 6, 0, 0),
        (0, 0, 2, 2),
        (0, 0, 2, 2),
    ]  # no two requests come so, but their tokens are those of two
    found = reconstruct(log_of([*good * 20, *odd, *good * 20]), run_of(requests))
    assert found.departures[0].line == 61
    assert found.departures[0].why == "3 prompts have 6 tokens, which are not those of the next requests"
    known = compositions(found)
    assert known[:60] == known[64:] == [(10, 100, 1, 0, 0), (0, 0, 0, 1, 10), (0, 0, 0, 1, 11)] * 20
    assert known[60:64].count(None) >= 3
    assert len(found.known()) == 124 - known.count(None)


def test_a_log_of_other_requests_is_refused_with_the_place() -> None:
    lines = [(1, 10, 0, 0), (0, 0, 1, 1), (0, 0, 2, 2), *[(0, 0, 2, 2)] * 20]
    with pytest.raises(ProfileError) as caught:
        iteration_samples(log_of(lines), run_of([(10, 5), (20, 5)]))
    assert str(caught.value).startswith(
        "log: only 8.7% of 23 iterations are those of the requests given: at iteration 2 "
    )
    with pytest.raises(
        ProfileError, match=r"no iteration is one of the requests given: the first has 7 prompt tokens$"
    ):
        iteration_samples(log_of(lines), run_of([(7, 1)]))


# against a scheduler


@st.composite
def loads(draw: st.DrawFn, shortest: int = 1) -> list[tuple[int, int, int]]:
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 2, 5, 30]), min_size=1, max_size=30))
    lengths = st.tuples(st.integers(1, 120), st.integers(shortest, 40))
    return [(int(at), *draw(lengths)) for at in np.cumsum(gaps)]


@given(loads(), st.sampled_from([8, 32, 256]), st.sampled_from([2, 8, 32]), st.booleans())
def test_every_step_of_a_scheduler_is_found_from_its_counts(
    requests: list[tuple[int, int, int]], budget: int, seats: int, ahead: bool
) -> None:
    engine = EngineSettings(min(seats, budget), budget, 10_000, async_scheduling=ahead)
    truth = serve(engine, requests)
    found = reconstruct(truth.log, run_of([(prompt, output) for _, prompt, output in requests]))
    assert compositions(found) == truth.steps
    assert not found.departures


@given(loads(shortest=20), st.sampled_from([64, 256]), st.integers(14, 22))
@settings(max_examples=100)
def test_preemption_and_recomputation_are_followed(
    requests: list[tuple[int, int, int]], budget: int, blocks: int
) -> None:
    truth = serve(EngineSettings(8, budget, blocks, block_size=16), requests)
    found = reconstruct(truth.log, run_of([(prompt, output) for _, prompt, output in requests]))
    known = [(got, true) for got, true in zip(compositions(found), truth.steps, strict=True) if got is not None]
    assert all(got == true for got, true in known)
    if not found.departures:
        assert len(known) == len(truth.steps)


def test_preemption_happens_in_what_is_followed() -> None:
    requests = [(0, 100, 40)] * 8
    truth = serve(EngineSettings(8, 256, 40, block_size=16), requests)
    assert truth.preemptions > 0
    assert compositions(reconstruct(truth.log, run_of([(100, 40)] * 8))) == truth.steps


def test_a_real_engine_that_ran_out_of_blocks_is_followed_through_its_preemptions() -> None:
    # vLLM 0.32 on CPU: 60 requests, 19 blocks of 128 tokens for them, prefix caching on; recorded for this test
    log = read_iterations(DATA / "vllm_scarce_kv_iterations.csv")
    found = reconstruct(log, read_run(DATA / "vllm_scarce_kv_requests.csv"))
    recomputing = log.decode_tokens > log.decodes
    assert recomputing.sum() == 14
    assert not found.departures
    assert (found.done >= 0).all()
    assert not found.busy[-1]
    assert found.share > 0.99  # the rest: several prompts at once, some of whose tokens were cached
    for sample, *counts in zip(found.samples, log.prompts, log.decodes, log.tokens, strict=True):
        if sample is not None:
            assert (sample.sequences, sample.tokens) == (counts[0] + counts[1], counts[2])
            assert sample.context + sample.prefill_tokens <= 19 * 128


@given(loads(shortest=2), st.sampled_from([32, 256]), st.booleans())
def test_without_the_requests_what_is_said_of_a_log_is_true(
    requests: list[tuple[int, int, int]], budget: int, ahead: bool
) -> None:
    # prompts of the budget's length or more are left out: whether the next chunk is theirs cannot always be told
    requests = [(at, min(prompt, budget // 2), output) for at, prompt, output in requests]
    truth = serve(EngineSettings(8, budget, 10_000, async_scheduling=ahead), requests)
    numbered = replace(truth.log, seconds=truth.log.number + 1.0)
    for sample in infer(numbered, budget).samples:
        true = truth.steps[int(sample.seconds) - 1]
        if budget not in truth.log.tokens:
            assert composition(sample) == true


def test_without_the_requests_chunks_of_one_prompt_are_told_apart_and_what_is_not_known_is_said() -> None:
    lines = [(1, 16, 0, 0), (1, 4, 0, 0), (1, 7, 1, 1), (0, 0, 2, 2), (0, 0, 1, 1), (1, 9, 1, 1), (0, 0, 2, 2)]
    found = infer(log_of(lines), budget=16)
    assert [composition(sample) for sample in found.samples] == [
        (16, 256, 1, 0, 0),
        (4, 4 * (32 + 4), 1, 0, 0),
        (7, 49, 1, 1, 20),
        (0, 0, 0, 2, 21 + 7),
    ]  # then one of the two ended, and which is not known
    assert "4 of 7 iterations" in found.notes[0]


# the time outside of iterations


def test_the_way_there_and_back_is_what_ttft_has_beyond_the_iteration_on_an_idle_engine() -> None:
    log = log_of([(1, 8, 0, 0), (0, 0, 1, 1), (1, 6, 0, 0)])
    run = replace(run_of([(8, 2), (6, 1)]), sent=np.array([0.0, 5.0]), ttft=np.array([0.016, 0.018]))
    seen = outside(reconstruct(log, run), run)
    assert seen.request_seconds == pytest.approx([0.006, 0.008])
    assert seen.gap_seconds == pytest.approx([0.002])  # log_of has 2 ms between its iterations
    assert seen.gap_requests == pytest.approx([1.0])
    assert seen.request == pytest.approx(0.007)


def test_a_request_that_waited_for_another_says_nothing_of_the_way() -> None:
    run = replace(run_of([(8, 2), (6, 1)]), sent=np.array([0.0, 0.01]))
    seen = outside(reconstruct(log_of([(1, 8, 0, 0), (0, 0, 1, 1), (1, 6, 0, 0)]), run), run)
    assert len(seen.request_seconds) == 1


def test_without_times_in_the_log_the_gaps_are_what_clients_waited_beyond_the_iterations() -> None:
    # 10 ms an iteration and 2 ms between them; the first request is in the iterations 0 to 5, the second in 2 to 4, which is too few
    lines = [(1, 8, 0, 0), (0, 0, 1, 1), (1, 6, 1, 1), (0, 0, 2, 2), (0, 0, 2, 2), (0, 0, 1, 1)]
    run = replace(run_of([(8, 6), (6, 3)]), ttft=np.array([0.02, 0.02]), e2e=np.array([0.08, 0.044]))
    log = replace(log_of(lines), fine=False)
    seen = outside(reconstruct(log, run), run)
    assert seen.gap_seconds == pytest.approx([0.002])
    assert seen.gap_requests == pytest.approx([(1 + 1 + 2 + 2 + 2) / 5])


def test_a_gap_that_grows_with_the_batch_is_a_line_that_outliers_do_not_bend() -> None:
    requests = np.array([1.0, 2.0, 4.0, 8.0, 16.0] * 4)
    gaps = 0.0015 + 0.0001 * requests
    gaps[3] = 0.2
    seen = Outside(np.array([0.005, 0.006, 0.9]), gaps, requests).between()
    assert seen.step == pytest.approx(0.0015, rel=0.05)
    assert seen.sequence == pytest.approx(0.0001, rel=0.1)
    assert seen.request == pytest.approx(0.006 - 0.0016, rel=0.02)


# cells


def cells(folder: Path, rows: Sequence[str], iterations: Sequence[str]) -> Path:
    head = "run,cell,kind,B,T_prompt,max_tokens,extra_tokens,wall_s,ttft_mean_s"
    (folder / "micro_cells.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    head = "run,cell,iter_seq,ctx_requests,ctx_tokens,gen_requests,gen_tokens,elapsed_ms"
    (folder / "micro_iterations.csv").write_text("\n".join([head, *iterations]) + "\n", encoding="utf-8")
    return folder


def test_cells_say_what_each_iteration_held_and_what_is_outside(tmp_path: Path) -> None:
    rows = ["2,0,decode,1,32,4,,0.0545,0.025", "2,1,mixed,2,16,4,64,9,9", "1,0,prefill,1,7,1,,9,9"]
    decode = ["2,0,0,1,32,0,0,20", "2,0,1,0,0,1,1,8", "2,0,2,0,0,1,1,8", "2,0,3,0,0,1,1,9"]
    mixed = ["2,1,0,1,16,0,0,9", "2,1,1,1,16,1,1,9", "2,1,2,1,64,2,2,9", "2,1,3,0,0,2,2,9", "2,1,4,0,0,1,1,9"]
    folder = cells(tmp_path, rows, [*decode, *mixed, "1,0,0,1,7,0,0,5"])
    assert [composition(sample) for sample in read_cells(folder, [2])] == [
        (32, 1024, 1, 0, 0),
        (0, 0, 0, 1, 32),
        (0, 0, 0, 1, 33),
        (0, 0, 0, 1, 34),
        (16, 256, 1, 0, 0),
        (16, 256, 1, 1, 16),
        (64, 4096, 1, 2, 17 + 16),
        (0, 0, 0, 2, 18 + 17),
        (0, 0, 0, 1, 18),
    ]
    seen = cells_outside(folder, [2])
    assert seen.request_seconds == pytest.approx([0.005])
    assert seen.gap_seconds == pytest.approx([(0.0545 - 0.005 - 0.045) / 3])
    with pytest.raises(ProfileError, match=r"has no cells of run 5 \(has: 1, 2\)$"):
        read_cells(folder, [5])


def test_iterations_that_are_not_their_cells_are_named(tmp_path: Path) -> None:
    folder = cells(tmp_path, ["2,7,prefill,2,16,1,,1,1"], ["2,7,0,1,16,0,0,9", "2,7,1,1,15,0,0,9"])
    with pytest.raises(ProfileError, match=r"run 2, cell 7: its 2 iterations are not those of 2 prompts of 16 tokens$"):
        read_cells(folder, [2])


# the recording


@pytest.mark.parametrize(("name", "count"), [("light_a", 4890), ("light_b", 4733), ("medium_a", 2585)])
def test_every_iteration_of_the_recording_is_that_of_its_requests(name: str, count: int) -> None:
    folder = shared(RECORDING)
    run = read_run(folder / f"{name}_requests.csv")
    found = reconstruct(read_iterations(folder / f"{name}_iterations.csv.gz"), run)
    assert len(found.samples) == count
    assert found.share == 1.0
    assert (found.done >= 0).all()
    # the completing iteration was logged before the client had the token, and not long before
    arrived = run.sent + run.ttft + run.about["origin_s"]
    late = arrived - found.log.at[found.done]
    assert np.quantile(np.abs(late), 0.9) < 0.01


def test_the_cells_of_the_recording_are_whole_and_agree_with_its_loads_on_the_time_outside() -> None:
    folder = shared(RECORDING)
    with gzip.open(folder / "micro_iterations.csv.gz", "rt") as file:
        assert len(read_cells(folder)) == sum(line.startswith(("2,", "3,")) for line in file)
    run = read_run(folder / "light_a_requests.csv")
    seen = outside(reconstruct(read_iterations(folder / "light_a_iterations.csv.gz"), run), run)
    known = cells_outside(folder)
    assert known.request == pytest.approx(seen.request, rel=0.1)
    lone, logged = known.between(), seen.between()
    assert lone.step + lone.sequence == pytest.approx(logged.step + logged.sequence, rel=0.1)
    # and what the clients waited agrees with when lines were logged
    coarse = replace(read_iterations(folder / "light_a_iterations.csv.gz"), fine=False)
    waited = outside(reconstruct(coarse, run), run).between()
    assert waited.step + waited.sequence == pytest.approx(logged.step + logged.sequence, rel=0.1)


def test_what_the_recorded_log_says_alone_agrees_with_what_it_says_with_the_requests() -> None:
    folder = shared(RECORDING)
    log = read_iterations(folder / "light_a_iterations.csv.gz")
    numbered = replace(log, seconds=np.arange(len(log)) + 1.0)
    samples = reconstruct(numbered, read_run(folder / "light_a_requests.csv")).samples
    alone = infer(numbered).samples
    assert len(alone) > 1000
    assert all(sample == samples[int(sample.seconds) - 1] for sample in alone)


def test_the_server_log_of_the_recording_reads() -> None:
    log = read_iterations(shared(RECORDING) / "server_start.log.gz")
    assert isinstance(log, IterationLog)
    assert log.prompt_tokens[:2].tolist() == [64, 192]
    assert log.fine
