"""What a replica keeps in memory, counted as tensors ask for it; and where memory ends, found by going there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibration.campaign import Campaign
from calibration.device import find
from calibration.probes import boundary, memory
from calibration.probes.allocation import allocated
from calibration.probes.decoder import Decoder
from calibration.probes.memory import covering, growth, measure_memory
from calibration.probes.subject import decoder_layers
from sim.errors import ProfileError
from sim.hardware.memory import activation_bytes, kv_blocks
from sim.profiles.schema import Memory
from tests.calibration import subjects
from tests.calibration.subjects import TINY

MIB = 2**20
Found = tuple[Memory, list[str], Campaign]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A decoder of eight layers, one of which is built; measured in processes of its own."""
    folder = tmp_path_factory.mktemp("memory")
    with Campaign(folder / "profile.json", {"model": "tiny"}) as campaign:
        part, notes = measure_memory(
            campaign,
            device=find("cpu"),
            build=partial(Decoder.whole, TINY),
            make=partial(decoder_layers, TINY, 1, torch.bfloat16, "cpu"),
            itemsize=2,
            shape=TINY,
            budgets=(512, 1024, 2048),
            rows=(8, 16, 32),
        )
    return part, notes, campaign


def test_weights_are_two_bytes_a_parameter_of_the_whole_model(tiny: Found) -> None:
    assert tiny[0].weights_bytes == 2 * TINY.parameters() == TINY.weight_bytes("bf16")
    assert tiny[0].source["weights_bytes"] == "composed"  # of one layer of eight


def test_kv_bytes_are_those_of_the_architecture(tiny: Found) -> None:
    assert tiny[0].kv_bytes_per_token == TINY.kv_bytes_per_token("bf16")


def test_activations_grow_with_the_tokens(tiny: Found) -> None:
    record = tiny[2].records["memory/parts"]
    tokens, peaks = record["tokens"], record["token_peaks"]
    slopes = [(b - a) / (n - m) for m, n, a, b in zip(tokens, tokens[1:], peaks, peaks[1:], strict=False)]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.02)
    # A token's residual, its gate and up rows, their product, in two bytes each, are all alive at once.
    least = 2 * (TINY.hidden + 2 * TINY.ffn + TINY.ffn)
    assert least <= tiny[0].activation_bytes_per_token <= 2 * least


def test_logits_of_a_sequence_are_at_least_one_row_in_float32(tiny: Found) -> None:
    row = 4 * TINY.vocab
    assert row <= tiny[0].logits_bytes_per_sequence <= 4 * row


def test_every_peak_that_was_seen_fits_in_what_the_profile_says(tiny: Found) -> None:
    part, _, campaign = tiny
    record = campaign.records["memory/parts"]
    spare = part.context_bytes - record["context"]
    for tokens, peak in zip(record["tokens"], record["token_peaks"], strict=True):
        assert peak <= activation_bytes(part, tokens, 32) + spare


def test_the_context_is_a_process_with_torch(tiny: Found) -> None:
    assert 50 * MIB < tiny[0].context_bytes < 2000 * MIB


def test_memory_ends_within_one_block_of_what_was_predicted(tiny: Found) -> None:
    record = tiny[2].records["memory/boundary"]
    assert record["block_bytes"] == 16 * TINY.kv_bytes_per_token()
    assert record["predicted"] > 1
    assert abs(record["found"] - record["predicted"]) <= 1
    assert f"{record['found']} KV blocks of 128 KiB fitted" in tiny[1][-1]


def test_the_journal_is_all_that_is_needed_to_say_it_again(tiny: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "fresh", lambda *_: pytest.fail("a process was started"))
    part, notes, campaign = tiny
    with Campaign(campaign.path.with_name("profile.json"), {"model": "tiny"}) as again:
        found = measure_memory(
            again,
            device=find("cpu"),
            build=lambda: None,
            make=lambda: pytest.fail("made"),
            itemsize=2,
            shape=TINY,
        )
    assert found == (part, notes)


def test_a_model_that_keeps_no_cache_has_none(tmp_path: Path) -> None:
    with Campaign(tmp_path / "profile.json", {}) as campaign:
        part, _ = measure_memory(
            campaign,
            device=find("cpu"),
            build=partial(subjects.untied, "meta"),
            make=subjects.plain,
            itemsize=2,
            budgets=(8, 64),
            rows=(1, 2),
        )
    assert part.kv_bytes_per_token == 0
    assert part.weights_bytes == 2 * 64 * 64
    # Two rows of 64 values in two bytes are alive at once: what is scaled, and the product.
    assert part.activation_bytes_per_token == 2 * 2 * 64
    assert "memory/boundary" not in campaign


def test_a_subject_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with Campaign(tmp_path / "profile.json", {}) as campaign, pytest.raises(ProfileError, match="last words"):
        measure_memory(
            campaign, device=find("cpu"), build=partial(subjects.untied, "meta"), make=subjects.dies, itemsize=2
        )
    assert campaign.records == {}


# -- counting -------------------------------------------------------------------------------------------------------


def test_allocations_are_counted_at_their_peak_and_as_they_are_left() -> None:
    def run() -> Any:
        kept = torch.empty(3 * MIB, dtype=torch.uint8)
        gone = torch.empty(5 * MIB, dtype=torch.uint8)
        del gone
        torch.empty(MIB, dtype=torch.uint8)
        return kept

    peak, left, kept = allocated(find("cpu"), run)
    assert (peak, left, kept.nbytes) == (8 * MIB, 3 * MIB, 3 * MIB)


def test_memory_that_an_operation_takes_and_gives_back_is_counted() -> None:
    x = torch.ones(1024, 1024)
    peak, left, _ = allocated(find("cpu"), lambda: (x.double() + 1.0).sum().item())
    assert (peak // MIB, left) == (16, 0)  # the doubles and their sum, 8 MiB each


def test_on_a_gpu_the_caching_allocators_counters_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([100, 140])
    for name, answer in {
        "synchronize": lambda device: None,
        "reset_peak_memory_stats": lambda device: None,
        "memory_allocated": lambda device: next(held),
        "max_memory_allocated": lambda device: 260,
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    device: Any = SimpleNamespace(kind="cuda", torch="cuda:0")
    assert allocated(device, lambda: "kept") == (160, 40, "kept")


def test_what_the_driver_gives_beyond_torchs_allocator_is_context(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = {
        "allocated_bytes.all.peak": 900 * MIB,
        "reserved_bytes.all.peak": 950 * MIB,
        "reserved_bytes.all.current": 930 * MIB,
        "inactive_split_bytes.all.current": 7 * MIB,
    }
    for name, answer in {
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 640 * MIB,
        "memory_reserved": 930 * MIB,
        "memory_stats": stats,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    card: Any = SimpleNamespace(used_bytes=lambda: 1800 * MIB, processes=lambda: 1)
    device: Any = SimpleNamespace(kind="cuda", torch="cuda:0", synchronize=lambda: None)
    found = memory._driver(card, device, subjects.plain(), 400 * MIB, 600 * MIB, 8, 1)
    # 1,400 MiB are the process's; torch reserved 930 of them, and holds 40 for cuBLAS beside 600 of weights.
    assert found["context"] == (1400 - 930 + 40) * MIB
    assert found["allocator"] == 50 * MIB
    assert found["driver"] == 1400 * MIB
    note = memory._said(device, found | {"context_at_start": 300 * MIB})[0]
    assert "NVML counts 1,400 MiB, torch's allocator 930 MiB of it (7 MiB in fragments): the rest, 470 MiB" in note


# -- lines and limits -----------------------------------------------------------------------------------------------


def test_a_straight_line_is_found_again() -> None:
    assert covering([100, 200, 400], [1700, 2700, 4700]) == (pytest.approx(10.0), pytest.approx(700.0))


def test_a_single_peak_grows_with_its_size() -> None:
    assert covering([512], [5120]) == (pytest.approx(10.0), 0.0)


@given(
    st.lists(st.tuples(st.integers(1, 8192), st.integers(0, 2**30)), min_size=1, max_size=6, unique_by=lambda p: p[0])
)
def test_no_peak_lies_above_its_line(points: list[tuple[int, int]]) -> None:
    sizes, peaks = zip(*sorted(points), strict=True)
    slope, constant = covering(sizes, peaks)
    assert slope >= 0.0
    assert constant >= 0.0
    assert all(slope * x + constant >= y * (1.0 - 1e-6) for x, y in zip(sizes, peaks, strict=True))
    if len(points) > 1:  # and it is no higher than it must be: it touches one peak at least
        assert any(slope * x + constant <= y * (1.0 + 1e-6) + 1e-6 for x, y in zip(sizes, peaks, strict=True))


def test_logits_hide_a_workspace_that_layers_alone_would_need() -> None:
    # Layers: 100 bytes a token and 5,000; logits of 32 rows take more than that, so nothing is added for the 5,000.
    assert growth([10, 100], [6_000, 15_000], [1, 32], [1_000, 32_000]) == (100, 1_000, 0)
    assert growth([10, 100], [6_000, 15_000], [1, 2], [1_000, 2_000]) == (100, 1_000, 5_000)


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_end_is_found_from_any_guess(end: int, guess: int) -> None:
    asked: list[int] = []

    def fits(count: int) -> bool:
        asked.append(count)
        return count <= end

    assert boundary.most(fits, guess) == end
    assert min(asked) >= 0
    assert len(asked) <= 4 + 2 * max(abs(end - guess), 1).bit_length()


def test_where_nothing_fits_the_end_is_below_none() -> None:
    assert boundary.most(lambda count: False, 5) == -1
    assert boundary.most(lambda count: False, 0) == -1


@given(
    limit=st.integers(0, 2**37),
    tokens=st.integers(1, 16384),
    rows=st.integers(1, 1024),
    kv=st.integers(1, 2**20),
)
def test_blocks_are_counted_as_the_simulator_counts_them(limit: int, tokens: int, rows: int, kv: int) -> None:
    part = Memory(
        weights_bytes=16 * 2**30,
        context_bytes=500 * MIB,
        activation_bytes_per_token=120_000,
        logits_bytes_per_sequence=1_000_000,
        kv_bytes_per_token=kv,
    )
    # Rows beyond the token budget cannot be scheduled, which the simulator's settings allow to be asked for.
    rows = min(rows, tokens)
    assert boundary.blocks(limit, part, tokens, rows) == kv_blocks(limit, 1.0, part, tokens, 16, rows)


def test_a_page_that_is_not_whole_holds_no_block() -> None:
    part = Memory(
        weights_bytes=1,
        context_bytes=0,
        activation_bytes_per_token=0,
        logits_bytes_per_sequence=0,
        kv_bytes_per_token=2**16,
    )
    # 3.5 pages of 2 MiB hold three blocks of 1 MiB a half page, if pages are given whole: six.
    assert boundary.blocks(7 * MIB + 1, part, 1, 1, page=2 * MIB) == 6
    assert boundary.blocks(7 * MIB + 1, part, 1, 1) == 7
