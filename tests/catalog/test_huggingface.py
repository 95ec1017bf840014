"""A config.json is read as the same shape as the catalog's row, and a broken one is refused by file and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import CatalogError, catalog

# The keys that matter of the published config.json files, as they are on the hub.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "max_position_embeddings": 131072, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "attention_bias": False, "mlp_bias": False,
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3",
                         "original_max_position_embeddings": 8192},
    },
    "llama-3.2-1b": {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "head_dim": 64, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    },
    "mistral-7b": {
        "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768, "max_position_embeddings": 32768,
        "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    },
    "mixtral-8x7b": {
        "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
        "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": None, "torch_dtype": "bfloat16",
    },
    "qwen2.5-7b": {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768,
        "max_window_layers": 28, "sliding_window": 131072, "use_sliding_window": False, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "qwen3-32b": {
        "model_type": "qwen3", "hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64, "head_dim": 128,
        "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 40960,
        "max_window_layers": 64, "sliding_window": None, "use_sliding_window": False, "tie_word_embeddings": False,
        "attention_bias": False, "rope_scaling": None, "torch_dtype": "bfloat16",
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
        "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "vocab_size": 151936, "max_position_embeddings": 40960, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    },
    "deepseek-v3": {
        "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
        "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "n_routed_experts": 256,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "moe_layer_freq": 1,
        "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "vocab_size": 129280, "max_position_embeddings": 163840, "num_nextn_predict_layers": 1,
        "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
        "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
        "torch_dtype": "bfloat16",
    },
    "deepseek-v2-lite": {
        "model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408,
        "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16, "n_routed_experts": 64,
        "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "kv_lora_rank": 512,
        "q_lora_rank": None, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 102400,
        "max_position_embeddings": 163840, "torch_dtype": "bfloat16",
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24, "head_dim": 64,
        "num_attention_heads": 64, "num_key_value_heads": 8, "num_local_experts": 32, "num_experts_per_tok": 4,
        "experts_per_token": 4, "sliding_window": 128, "attention_bias": True, "vocab_size": 201088,
        "layer_types": ["sliding_attention", "full_attention"] * 12, "max_position_embeddings": 131072,
        "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096},
        "quantization_config": {"quant_method": "mxfp4"}, "tie_word_embeddings": False,
    },
    "gemma-2-9b": {
        "model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000,
        "max_position_embeddings": 8192, "sliding_window": 4096, "torch_dtype": "bfloat16",
    },
    "gemma-3-4b": {  # nested, and silent about what transformers has as defaults
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "torch_dtype": "bfloat16",
        "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                        "num_hidden_layers": 34, "sliding_window": 1024,
                        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
        "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16},
    },
    "phi-3-mini": {
        "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096,
        "sliding_window": 2047, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    },
    "llama-4-maverick": {
        "model_type": "llama4", "text_config": {
            "model_type": "llama4_text", "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
            "interleave_moe_layer_step": 2, "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8,
            "head_dim": 128, "num_local_experts": 128, "num_experts_per_tok": 1, "vocab_size": 202048,
            "max_position_embeddings": 1048576, "attention_chunk_size": 8192, "torch_dtype": "bfloat16"},
    },
    "glm-4.5": {
        "model_type": "glm4_moe", "hidden_size": 5120, "intermediate_size": 12288, "moe_intermediate_size": 1536,
        "num_hidden_layers": 92, "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128,
        "n_routed_experts": 160, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
        "attention_bias": True, "use_qk_norm": True, "vocab_size": 151552, "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    },
    "opt-125m": {
        "model_type": "opt", "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "vocab_size": 50272, "max_position_embeddings": 2048, "word_embed_proj_dim": 768, "torch_dtype": "float16",
    },
    "gpt2": {
        "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "n_ctx": 1024,
        "vocab_size": 50257,
    },
}  # fmt: skip


def written(folder: Path, config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    return file


def read_or_refused(file: Path) -> catalog.Architecture | str:
    """The architecture in ``file``, or what the refusal says; any other exception fails the test."""
    try:
        return catalog.model(str(file))
    except CatalogError as refused:
        return str(refused)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_read_as_the_shape_the_catalog_has(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    file = written(folder, CONFIGS[name])
    read, known = catalog.model(str(file)), catalog.model(name)
    assert read.name == "my-model"
    assert read.parameters() == pytest.approx(known.parameters(), rel=1e-4)
    assert read.active_parameters() == pytest.approx(known.active_parameters(), rel=1e-4)
    for field in (
        "layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "max_model_len", "tie_embeddings", "experts",
        "experts_per_token", "moe_ffn", "shared_experts", "shared_ffn", "dense_layers", "kv_lora_rank", "q_lora_rank",
        "qk_rope_head_dim", "sliding_window", "sliding_layers",
    ):  # fmt: skip
        assert getattr(read, field) == getattr(known, field), field
    assert read.kv_bytes_per_token() == known.kv_bytes_per_token()
    assert catalog.model(str(folder)) == read
    assert catalog.model(folder) == read
    if name != "gpt2":  # whose config names no dtype
        assert read.native_dtype == known.native_dtype


def test_yarn_lengthens_the_context_as_vllm_does(tmp_path: Path) -> None:
    config = CONFIGS["qwen3-32b"] | {
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    }
    assert catalog.model(written(tmp_path, config)).max_model_len == 131072


@pytest.mark.parametrize(
    "key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"]
)
def test_a_missing_key_is_named_with_its_file(key: str, tmp_path: Path) -> None:
    config = {name: value for name, value in CONFIGS["llama-3.1-8b"].items() if name != key}
    file = written(tmp_path, config)
    with pytest.raises(CatalogError) as caught:
        catalog.model(str(file))
    assert str(caught.value).startswith(f"{file}: {key}: is missing")


@pytest.mark.parametrize("bad", [0, -1, 1.5, "32", True, [], {}, 2**60, 1e400])
def test_a_size_that_is_not_a_whole_number_is_refused(bad: object, tmp_path: Path) -> None:
    file = written(tmp_path, CONFIGS["llama-3.1-8b"] | {"num_hidden_layers": bad})
    with pytest.raises(CatalogError, match="num_hidden_layers: must be a whole number"):
        catalog.model(str(file))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_key_value_heads": 5}, "num_key_value_heads: 5 does not divide"),
        ({"model_type": "t5"}, "model_type: 't5' is not a decoder"),
        ({"model_type": 7}, "model_type: must be a string"),
        (
            {"layer_types": ["full_attention", "linear_attention"]},
            "layer_types: 'linear_attention' layers are not modelled",
        ),
        (
            {"sliding_window": 128, "layer_types": ["sliding_attention"]},
            "layer_types: names 1 layers, but there are 32",
        ),
        ({"hybrid_override_pattern": "M-M*"}, "hybrid_override_pattern: layers of several kinds"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder: encoder-decoder models are not modelled"),
        ({"num_local_experts": 8}, "num_experts_per_tok: is missing"),
        ({"num_local_experts": 8, "num_experts_per_tok": 9}, "num_experts_per_tok: 9 is more than the 8 experts"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": "big"}}, "rope_scaling.factor: must be a number"),
        ({"rope_scaling": [1]}, "rope_scaling: must be an object"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings: must be true or false"),
    ],
)
def test_a_contradiction_is_named(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    file = written(tmp_path, CONFIGS["llama-3.1-8b"] | change)
    with pytest.raises(CatalogError) as caught:
        catalog.model(str(file))
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", "null", '"llama"', "{'a': 1}", "[" * 100_000, "\ufeff{}", '{"a": NaN']
)
def test_what_is_not_a_json_object_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError, match=r"config\.json"):
        catalog.model(str(file))


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(CatalogError, match="cannot be read"):
        catalog.model(str(file))


def test_a_path_to_nothing_and_a_folder_without_a_config_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path, tmp_path / "a\0b.json"):
        with pytest.raises(CatalogError):
            catalog.model(str(path))
        with pytest.raises(CatalogError):
            catalog.model(path)


def test_a_name_of_the_catalog_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "llama-3.1-8b", CONFIGS["gpt2"])
    monkeypatch.chdir(tmp_path)
    assert catalog.model("llama-3.1-8b").layers == 32
    assert catalog.model("./llama-3.1-8b").layers == 12


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
ODD = (
    st.sampled_from([0, -1, 1, 3, 2**31, 2**70, 1.0, True, None, "", "yarn", [], {}, [None], ["sliding_attention"]])
    | JSON
)
KEYS = sorted(
    {key for config in CONFIGS.values() for key in config} | {"hybrid_override_pattern", "index_head_dim", "dtype"}
)


@given(
    name=st.sampled_from(sorted(CONFIGS)),
    changes=st.dictionaries(st.sampled_from(KEYS), ODD, max_size=3),
    nested=st.dictionaries(
        st.sampled_from(["factor", "type", "quant_method", "bits", "num_hidden_layers"]), ODD, max_size=2
    ),
    drop=st.sets(st.sampled_from(KEYS), max_size=2),
)
def test_a_mutated_config_is_read_or_refused_and_never_anything_else(
    name: str,
    changes: dict[str, Any],
    nested: dict[str, Any],
    drop: set[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    config = CONFIGS[name] | changes
    for key in ("rope_scaling", "quantization_config", "text_config"):
        if isinstance(config.get(key), dict):
            config[key] = config[key] | nested
    file = written(
        tmp_path_factory.getbasetemp() / "mutated", {key: value for key, value in config.items() if key not in drop}
    )
    read = read_or_refused(file)
    if isinstance(read, str):
        assert read.startswith(str(file))
        assert "\n" not in read
        return
    assert read.parameters() > 0
    assert 0 < read.active_parameters() <= read.parameters()
    assert read.kv_bytes_per_token("fp8") > 0
    assert read.kv_bytes(4096) > 0
    for dtype in catalog.DTYPE_BYTES:
        assert read.weight_bytes(dtype) > 0


@given(name=st.sampled_from(sorted(CONFIGS)), data=st.data())
def test_a_config_damaged_as_text_is_read_or_refused(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = json.dumps(CONFIGS[name])
    at = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 12))
    patch = data.draw(st.binary(max_size=6))
    file = tmp_path_factory.getbasetemp() / "damaged.json"
    file.write_bytes(text[:at].encode() + patch + text[at + length :].encode())
    read = read_or_refused(file)
    assert read.startswith(str(file)) if isinstance(read, str) else read.parameters() > 0
