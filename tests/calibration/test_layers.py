"""Profiles from layer timings, against the laws the tables were written from."""

from __future__ import annotations

import math
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.importers import import_layers
from sim.errors import ProfileError
from sim.perf.compile import step_table
from sim.profiles.schema import Curve
from tests.calibration.tables import TOKENS, decode_us, layer_us, layers, prefill_us
from tests.paths import shared

META = """
vllm_version: 0.19.0
gpu: NVIDIA RTX PRO 6000 Blackwell Server Edition
hardware: RTXPRO6000
profiled_at: '2026-04-24T12:44:27+00:00'
model: meta-llama/Llama-3.1-8B
variant: bf16
tp_degrees: [1, 2]
engine_effective: {tensor_parallel_size: 1, hf_overrides: {num_hidden_layers: 1, num_attention_heads: 16}}
"""
ARGUMENTS = ("llama-3.1-8b", "rtx-pro-6000", 1)


def us(curve: Curve, at: int) -> float:
    return float(np.interp(at, curve.at, curve.us))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layers(tmp_path_factory.mktemp("layers"), meta=META)


def test_layers_are_counted_as_a_step_runs_them(folder: Path) -> None:
    profile = import_layers(folder, *ARGUMENTS)
    parts = profile.step.tokens.parts
    for t in TOKENS:
        assert us(parts["embedding"], t) == pytest.approx(layer_us(t))
        assert us(parts["final_layernorm"], t) == pytest.approx(layer_us(t))
        assert us(parts["layernorm"], t) == pytest.approx(64 * layer_us(t))
        assert us(parts["qkv_proj"], t) == pytest.approx(32 * layer_us(t))
    once_and_again = 2 + 2 * 32 + 6 * 32
    table = step_table(profile, 64, 2048)
    assert table.gemm[2048] == pytest.approx(once_and_again * layer_us(2048) * 1e-6, rel=1e-4)
    assert table.sample[16] == pytest.approx((620 + 2 * 16) * 1e-6, rel=1e-4)


def test_attention_alone_and_together_comes_out_as_measured(folder: Path) -> None:
    table = step_table(import_layers(folder, *ARGUMENTS), 64, 2048)
    assert table._prefill_attention(1024, 512) == pytest.approx(32e-6 * prefill_us(1024, 512), rel=1e-3)
    both = 1.4 * (prefill_us(1024, 512) + decode_us(8, 512))
    assert table._mixed_attention(1024, 512, 8, 512) == pytest.approx(32e-6 * both, rel=1e-3)


def test_the_skew_sweep_is_brought_to_the_scale_of_the_attention_table(folder: Path) -> None:
    profile = import_layers(folder, *ARGUMENTS)
    spread = profile.step.spread
    assert spread is not None
    for n, decode, mixed in zip(spread.sequences, spread.decode_us, spread.mixed_us, strict=True):
        assert decode == pytest.approx(32 * 0.0005 * n, rel=0.05)
        assert mixed == pytest.approx(32 * 0.0005 * n, rel=0.05)
    assert any("3.00 times those of the attention table" in note for note in profile.provenance.notes)


def test_the_provenance_says_what_was_measured_where(folder: Path) -> None:
    profile = import_layers(folder, *ARGUMENTS, command="twinfer calibrate import layers DIR")
    assert profile.provenance.host == "NVIDIA RTX PRO 6000 Blackwell Server Edition"
    assert profile.provenance.measured_at == "2026-04-24T12:44:27+00:00"
    assert profile.engine == "vllm 0.19.0"
    assert profile.step.host.us == 0.0
    assert profile.step.host.source == "assumed"
    assert profile.provenance.points == 9 * len(TOKENS) + 2 * 3 + 12 + 9 + 108


def test_a_variant_s_name_gives_the_formats_of_weights_and_cache(tmp_path: Path) -> None:
    layers(tmp_path, mixed=0.0, skew=False, meta=META.replace("variant: bf16", "variant: fp8-kvfp8"))
    profile = import_layers(tmp_path, *ARGUMENTS)
    assert (profile.dtype, profile.kv_dtype) == ("fp8", "fp8")
    assert profile.memory.kv_bytes_per_token == 65_536
    assert profile.name == "rtx-pro-6000/llama-3.1-8b/tp1-fp8"


def test_without_mixed_and_skew_tables_the_profile_says_so(tmp_path: Path) -> None:
    profile = import_layers(layers(tmp_path, mixed=0.0, skew=False), *ARGUMENTS)
    assert profile.step.mixed is None
    assert profile.step.spread is None
    said = " ".join(profile.provenance.notes)
    assert "attention of chunk and decodes is added" in said
    assert "decodes of unequal context cost as much as equal ones" in said


def test_tensor_parallel_tables_lie_in_their_own_folder_and_gain_the_collectives(tmp_path: Path) -> None:
    layers(tmp_path / "tp1", mixed=0.0, skew=False)
    layers(tmp_path / "tp2", mixed=0.0, skew=False)
    (tmp_path / "meta.yaml").write_text(META)
    profile = import_layers(tmp_path, "llama-3.1-8b", "rtx-pro-6000", 2)
    curve = profile.step.tokens.parts["all_reduce"]
    # Measured with NCCL between two of these cards on PCIe 5: 41 µs for 1 MB (casys-kaist/LLMServingSim, hardware.yaml).
    assert curve.source == "assumed"
    assert us(curve, 128) / 65 == pytest.approx(41.0, rel=0.1)
    assert profile.step.sequences.parts["all_gather"].source == "assumed"
    assert any("PCIe" in note for note in profile.provenance.notes)
    assert profile.memory.kv_bytes_per_token == 65_536
    with pytest.raises(ProfileError, match=r"no tables for tp4 \(has: tp1, tp2\)"):
        import_layers(tmp_path, "llama-3.1-8b", "rtx-pro-6000", 4)


@pytest.mark.parametrize("with_ep", [False, True])
def test_experts_are_priced_at_the_number_that_tokens_are_expected_to_reach(tmp_path: Path, with_ep: bool) -> None:
    layers(tmp_path, moe=True)
    if with_ep:  # newer tables also hold expert-parallel rows
        table = pd.read_csv(tmp_path / "moe.csv")
        other = table.assign(ep=2, time_us=table.time_us / 2)
        pd.concat([table.assign(ep=1), other]).to_csv(tmp_path / "moe.csv", index=False)
    parts = import_layers(tmp_path, "mixtral-8x7b", "rtx-pro-6000", 1).step.tokens.parts
    for tokens in (1, 16, 2048):
        reached = 8 * (1 - (1 - 2 / 8) ** tokens)
        assert us(parts["moe"], tokens) == pytest.approx(32 * (10 + 5 * reached + 0.1 * tokens), rel=0.01)


@pytest.mark.parametrize("name", ["dense.csv", "per_sequence.csv", "attention.csv"])
def test_a_missing_table_is_named(tmp_path: Path, name: str) -> None:
    layers(tmp_path)
    for path in tmp_path.glob(f"{name}*"):
        path.unlink()
    with pytest.raises(ProfileError, match=rf"{name}: no such file"):
        import_layers(tmp_path, *ARGUMENTS)


def test_a_mixture_of_experts_needs_its_expert_table(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"moe\.csv: no such file"):
        import_layers(layers(tmp_path), "mixtral-8x7b", "rtx-pro-6000", 1)


@pytest.mark.parametrize(
    ("name", "column"), [("dense.csv", "tokens"), ("attention.csv.gz", "kv_decode"), ("skew.csv", "nb")]
)
def test_a_missing_column_is_named_with_its_file(tmp_path: Path, name: str, column: str) -> None:
    layers(tmp_path)
    pd.read_csv(tmp_path / name).drop(columns=column).to_csv(tmp_path / name, index=False)
    with pytest.raises(ProfileError, match=rf"{name}: no column {column}"):
        import_layers(tmp_path, *ARGUMENTS)


def test_a_missing_layer_is_named(tmp_path: Path) -> None:
    layers(tmp_path)
    table = pd.read_csv(tmp_path / "dense.csv")
    table[table.layer != "o_proj"].to_csv(tmp_path / "dense.csv", index=False)
    with pytest.raises(ProfileError, match=r"dense\.csv: column layer: no rows of o_proj"):
        import_layers(tmp_path, *ARGUMENTS)


@pytest.mark.parametrize("value", ["-1", "nan", "fast", ""])
def test_a_time_that_cannot_be_is_named_with_its_row(tmp_path: Path, value: str) -> None:
    layers(tmp_path)
    lines = (tmp_path / "dense.csv").read_text().splitlines()
    lines[3] = lines[3].rsplit(",", 1)[0] + f",{value}"
    (tmp_path / "dense.csv").write_text("\n".join(lines))
    with pytest.raises(ProfileError, match=r"dense\.csv: column time_us, row 3"):
        import_layers(tmp_path, *ARGUMENTS)


def test_a_count_that_is_not_whole_is_named_with_its_row(tmp_path: Path) -> None:
    layers(tmp_path)
    table = pd.read_csv(tmp_path / "dense.csv").astype({"tokens": float})
    table.loc[4, "tokens"] = 1.5
    table.to_csv(tmp_path / "dense.csv", index=False)
    with pytest.raises(ProfileError, match=r"column tokens, row 5: 1\.5 is not a positive whole number"):
        import_layers(tmp_path, *ARGUMENTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("qwen3-32b", "rtx-pro-6000", 1), "measured 'meta-llama/Llama-3.1-8B', not qwen3-32b"),
        (("llama-3.1-8b", "h100-sxm", 1), "measured on .*RTX PRO 6000.*, not on h100-sxm"),
        (("llama-3.1-8b", "rtx-pro-6000", 4), "measured for 1, 2, not 4"),
        (("llama-3.1-8b", "rtx-pro-6000", 1, "fp8"), "measured as bf16, not fp8"),
    ],
)
def test_tables_of_something_else_are_refused(folder: Path, arguments: tuple[str, str, int], message: str) -> None:
    with pytest.raises(ProfileError, match=message) as error:
        import_layers(folder, *arguments)
    assert "\n" not in str(error.value)


def test_the_published_tables_give_a_step_time_near_the_memory_s_limit() -> None:
    profile = import_layers(shared("profiles", "vllm-0.19_rtxpro6000_llama-3.1-8b"), *ARGUMENTS)
    table = step_table(profile, 128, 2048)
    # 15 GB of weights (the embedding is not read) at 1.6 TB/s, the bandwidth the card's own driver reports
    assert table.decode_step(1, 128, 0) == pytest.approx((16.06e9 - 1.05e9) / 1.6e12, rel=0.25)
    assert math.isclose(profile.memory.kv_bytes_per_token, 131_072)


def test_damaged_tables_raise_nothing_but_profile_errors(tmp_path: Path) -> None:
    whole = layers(tmp_path / "whole", meta=META)
    draw = random.Random(20)
    read = refused = 0
    for number in range(60):
        folder = shutil.copytree(whole, tmp_path / str(number))
        path = draw.choice(sorted(folder.iterdir()))
        data = bytearray(path.read_bytes())
        start = draw.randrange(len(data))
        data[start : start + draw.randrange(60)] = bytes(draw.choices(b"0123456789,-.x\n", k=draw.randrange(12)))
        path.write_bytes(bytes(data))
        try:
            import_layers(folder, *ARGUMENTS)
            read += 1
        except ProfileError as error:
            refused += "\n" not in str(error)
    assert read + refused == 60
    assert refused > 0
