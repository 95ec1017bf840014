"""Profiles composed from kernel tables, against the laws the tables were written from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.importers import import_kernels
from sim.errors import CatalogError, ProfileError
from sim.perf.compile import step_table
from sim.profiles.schema import Curve, Profile
from tests.calibration import tables
from tests.calibration.tables import context_s, gemm_s, generation_s, kernels, moe_s, reduce_s
from tests.paths import shared


def us(curve: Curve, tokens: int) -> float:
    return float(np.interp(tokens, curve.at, curve.us))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernels(tmp_path_factory.mktemp("h100_sxm"))


def test_gemms_of_shapes_that_were_not_measured_follow_the_roofline(folder: Path) -> None:
    parts = import_kernels(folder, "qwen3-32b", "h100-sxm", 2).step.tokens.parts
    for m in tables.GEMM_M:  # 64 layers; (40 + 8) / 2... heads of 128 on each of two GPUs, ffn 25,600
        assert us(parts["qkv_proj"], m) == pytest.approx(64e6 * gemm_s(m, (32 + 2 * 4) * 128, 5120), rel=1e-3)
        assert us(parts["o_proj"], m) == pytest.approx(64e6 * gemm_s(m, 5120, 32 * 128), rel=1e-3)
        assert us(parts["gate_up_proj"], m) == pytest.approx(64e6 * gemm_s(m, 25600, 5120), rel=1e-3)
        assert us(parts["down_proj"], m) == pytest.approx(64e6 * gemm_s(m, 5120, 12800), rel=1e-3)


def test_the_lm_head_is_a_gemm_over_sequences_and_larger_than_the_table(folder: Path) -> None:
    step = import_kernels(folder, "llama-3.1-8b", "h100-sxm", 1).step
    for n in (1, 16, 128):
        assert us(step.sequences.parts["lm_head"], n) == pytest.approx(1e6 * gemm_s(n, 128256, 4096), rel=1e-3)
    assert step.sequences.parts["sampler"].source == "estimated"
    assert "all_reduce" not in step.tokens.parts
    assert "all_gather" not in step.sequences.parts


def test_tensor_parallelism_reduces_twice_a_layer_and_gathers_the_logits(folder: Path) -> None:
    step = import_kernels(folder, "llama-3.1-70b", "h100-sxm", 4).step
    for m in (1, 128, 8192):  # the rows under CUDA graphs: eager ones hold the launch too
        assert us(step.tokens.parts["all_reduce"], m) == pytest.approx(1e6 * 161 * reduce_s(m * 8192), rel=1e-3)
    assert us(step.sequences.parts["all_gather"], 16) == pytest.approx(2e6 * reduce_s(16 * 128256), rel=1e-3)
    assert step.tokens.parts["all_reduce"].source == "measured"


def test_attention_is_that_of_the_heads_on_one_gpu(folder: Path) -> None:
    profile = import_kernels(folder, "llama-3.1-70b", "h100-sxm", 4)
    for length, (value,) in zip(profile.step.prefill.chunks, profile.step.prefill.us, strict=True):
        assert value == pytest.approx(80e6 * context_s(length, 16), rel=1e-3)
    decode = profile.step.decode
    for n, row in zip(decode.sequences, decode.us, strict=True):
        for context, value in zip(decode.contexts, row, strict=True):
            assert value == pytest.approx(80e6 * generation_s(n, context, 2), rel=1e-3)
    assert profile.step.mixed is None
    assert any("attention of chunk and decodes is added" in note for note in profile.provenance.notes)


def test_query_heads_between_measured_ones_are_interpolated(folder: Path, tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": 10,
        "hidden_size": 6144,
    }
    config |= {"num_attention_heads": 48, "num_key_value_heads": 8, "intermediate_size": 16384, "vocab_size": 32000}
    config |= {
        "head_dim": 128,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    profile = import_kernels(folder, str(tmp_path / "config.json"), "h100-sxm", 1)
    assert profile.step.prefill.us[-1][0] == pytest.approx(10e6 * context_s(16384, 48), rel=1e-3)
    assert any("interpolated" in note for note in profile.provenance.notes)


def test_a_mixture_of_experts_takes_its_expert_kernels(folder: Path) -> None:
    profile = import_kernels(folder, "mixtral-8x7b", "h100-sxm", 2)
    parts = profile.step.tokens.parts
    assert "gate_up_proj" not in parts
    for m in tables.GEMM_M:
        assert us(parts["moe"], m) == pytest.approx(32e6 * moe_s(m) / 2, rel=1e-3)
        assert us(parts["router"], m) > 0.0
    table = step_table(profile, 64, 2048)
    assert table.gemm[1024] > 32 * moe_s(1024) / 2


def test_fp8_takes_fp8_gemms_but_a_bf16_head_and_half_the_weights(folder: Path) -> None:
    wide, narrow = (import_kernels(folder, "llama-3.1-70b", "h100-sxm", 4, dtype) for dtype in ("bf16", "fp8"))
    assert us(narrow.step.tokens.parts["qkv_proj"], 1024) == pytest.approx(
        80e6 * gemm_s(1024, 2560, 8192, "fp8"), rel=1e-3
    )
    assert narrow.step.sequences.parts["lm_head"] == wide.step.sequences.parts["lm_head"]
    assert 0.5 < narrow.memory.weights_bytes / wide.memory.weights_bytes < 0.53
    assert narrow.name == "h100-sxm/llama-3.1-70b/tp4-fp8"


def test_without_its_own_all_reduce_vllm_uses_nccl(tmp_path: Path) -> None:
    folder = kernels(tmp_path, custom_allreduce=False)
    step = import_kernels(folder, "llama-3.1-70b", "h100-sxm", 4).step
    assert us(step.tokens.parts["all_reduce"], 1024) == pytest.approx(2e6 * 161 * reduce_s(1024 * 8192), rel=1e-3)


def test_a_card_without_nvlink_and_without_tables_gets_its_pcie_link_and_a_note(tmp_path: Path) -> None:
    folder = kernels(tmp_path, "NVIDIA L40S", custom_allreduce=False, nccl=False)
    profile = import_kernels(folder, "qwen3-32b", "l40s", 2)
    curve = profile.step.tokens.parts["all_reduce"]
    assert curve.source == "assumed"
    moved = 8192 * 5120 * 2.0  # bytes; a ring over two sends each byte once each way
    assert 129 * moved / 32e9 < us(curve, 8192) * 1e-6 < 129 * moved / 10e9
    assert any("not measured" in note and "PCIe" in note for note in profile.provenance.notes)


def test_a_faulty_point_is_left_out_and_said(tmp_path: Path) -> None:
    folder = kernels(tmp_path)
    path = folder / "vllm-0.19.0" / "generation_attention_perf.parquet"
    table = pd.read_parquet(path)
    wrong = (table.batch_size == 4) & (table.step == 255) & (table.num_heads == 32) & (table.num_key_value_heads == 8)
    table.loc[wrong, "latency"] *= 40
    table.to_parquet(path)
    profile = import_kernels(folder, "llama-3.1-8b", "h100-sxm", 1)
    decode = profile.step.decode
    assert decode.us[decode.sequences.index(4)][decode.contexts.index(255)] is None
    assert any("batch 4, context 255" in note for note in profile.provenance.notes)


@pytest.mark.parametrize("part", ["gemm", "context_attention", "generation_attention"])
def test_a_missing_table_is_named(tmp_path: Path, part: str) -> None:
    folder = kernels(tmp_path, **{part: False})
    with pytest.raises(ProfileError, match=rf"{part}_perf\.parquet: no such file"):
        import_kernels(folder, "llama-3.1-8b", "h100-sxm", 1)


def test_a_mixture_of_experts_needs_the_expert_table(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"moe_perf\.parquet: no such file"):
        import_kernels(kernels(tmp_path, moe=False), "mixtral-8x7b", "h100-sxm", 1)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("gemm_perf", "latency"),
        ("gemm_perf", "gemm_dtype"),
        ("context_attention_perf", "isl"),
        ("generation_attention_perf", "step"),
        ("custom_allreduce_perf", "message_size"),
        ("nccl-2.29.2", "num_gpus"),
    ],
)
def test_a_missing_column_is_named_with_its_file(tmp_path: Path, table: str, column: str) -> None:
    folder = kernels(tmp_path)
    path = next(folder.rglob(f"{table}.parquet"))
    pd.read_parquet(path).drop(columns=column).to_parquet(path)
    with pytest.raises(ProfileError, match=rf"{table}\.parquet: no column {column}"):
        import_kernels(folder, "llama-3.1-70b", "h100-sxm", 4)


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_named_with_its_row(tmp_path: Path, value: float) -> None:
    folder = kernels(tmp_path)
    path = folder / "vllm-0.19.0" / "gemm_perf.parquet"
    table = pd.read_parquet(path)
    table.loc[6, "latency"] = value
    table.to_parquet(path)
    with pytest.raises(ProfileError, match="column latency, row 7"):
        import_kernels(folder, "llama-3.1-8b", "h100-sxm", 1)


@pytest.mark.parametrize(
    ("model", "gpu", "tp", "dtype", "message"),
    [
        ("llama-3.1-8b", "a100-sxm", 1, None, "measured on 'NVIDIA H100 80GB HBM3', not on a100-sxm"),
        ("llama-3.1-8b", "h100-sxm", 3, None, "cannot share evenly"),
        ("llama-3.1-8b", "h100-sxm", 1, "int4", "dtype 'int4' cannot be composed"),
        ("llama-3.1-8b", "h100-sxm", 1, "bf17", "dtype 'bf17' is not one of"),
        ("mixtral-8x22b", "h100-sxm", 2, None, "column hidden_size: no rows of 6144 .*has: 4096"),
        ("mixtral-8x7b", "h100-sxm", 8, None, "column moe_tp_size: no rows of 8"),
        ("deepseek-v3", "h100-sxm", 8, "fp8", "latent attention"),
    ],
)
def test_what_the_tables_do_not_cover_is_said(
    folder: Path, model: str, gpu: str, tp: int, dtype: str | None, message: str
) -> None:
    with pytest.raises(ProfileError, match=message) as error:
        import_kernels(folder, model, gpu, tp, dtype)
    assert "\n" not in str(error.value)


def test_names_outside_the_catalog_are_the_catalog_s_to_refuse(folder: Path) -> None:
    with pytest.raises(CatalogError):
        import_kernels(folder, "llama-9", "h100-sxm", 1)
    with pytest.raises(CatalogError):
        import_kernels(folder, "llama-3.1-8b", "h100-sxn", 1)


def test_a_broken_file_is_a_profile_error(tmp_path: Path) -> None:
    folder = kernels(tmp_path)
    (folder / "vllm-0.19.0" / "gemm_perf.parquet").write_bytes(b"PAR1 no such thing")
    with pytest.raises(ProfileError, match=r"gemm_perf\.parquet: cannot be read"):
        import_kernels(folder, "llama-3.1-8b", "h100-sxm", 1)


@pytest.mark.parametrize(
    ("model", "tp", "dtype"), [("mixtral-8x7b", 2, None), ("qwen3-30b-a3b", 1, "fp8"), ("qwen2.5-7b", 1, None)]
)
def test_models_that_are_not_shipped_compose_from_the_published_tables(model: str, tp: int, dtype: str | None) -> None:
    profile: Profile = import_kernels(shared("profiles", "kernels", "h100_sxm"), model, "h100-sxm", tp, dtype)
    table = step_table(profile, 256, 8192)
    assert table.decode_step(1, 100, 0) < table.decode_step(256, 256 * 1000, 0) < 0.1
    held = profile.step.tokens.held_out
    assert held is not None
    assert held.median < 0.05


def test_left_out_shapes_are_predicted_within_four_percent_on_every_card() -> None:
    for gpu in ("a100", "h100", "h200"):
        profile = import_kernels(shared("profiles", "kernels", f"{gpu}_sxm"), "qwen3-32b", f"{gpu}-sxm", 2)
        for held in (profile.step.tokens.held_out, profile.step.sequences.held_out):
            assert held is not None
            assert held.median < 0.06
