"""Reading a HuggingFace ``config.json`` as an ``Architecture``.

Families whose layers are not all plain attention plus feed-forward (state-space, linear attention, encoder-decoder,
per-layer shapes) are refused rather than counted wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sim.catalog.architecture import Architecture
from sim.errors import CatalogError

__all__ = ["read_config"]

_LARGEST = 2**40
_NESTED = ("text_config", "llm_config", "language_config")

# Keys under which families write the same thing, in the order they are looked for.
_KEYS = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "n_embed"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"),
    "head_dim": ("head_dim", "kv_channels"),
    "ffn": ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"),
    "vocab": ("vocab_size", "padded_vocab_size"),
    "max_model_len": ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "experts_per_token": ("num_experts_per_tok", "experts_per_token", "num_experts_per_token", "moe_topk"),
    "moe_ffn": ("moe_intermediate_size", "expert_ffn_hidden_size"),
    "shared_experts": ("n_shared_experts", "num_shared_experts"),
    "dense_layers": ("first_k_dense_replace",),
}

_REFUSED_TYPES = {
    "t5", "mt5", "bart", "mbart", "whisper", "bert", "roberta", "xlm-roberta", "distilbert", "clip", "vit", "mamba",
    "mamba2", "rwkv", "jamba", "bamba", "zamba", "zamba2", "recurrent_gemma", "falcon_mamba", "falcon_h1", "minimax",
    "nemotron_h", "deepseek_v4", "lfm2", "granitemoehybrid",
}  # fmt: skip
_REFUSED_KEYS = ("hybrid_override_pattern", "ssm_state_size", "state_size", "mamba_d_state", "block_configs",
                 "global_head_dim", "linear_num_key_heads", "linear_attn_config")  # fmt: skip
_TIED = ("gemma", "gemma2", "gemma3", "gpt2", "opt", "bloom", "cohere", "gpt_bigcode")
_UNGATED = ("gpt2", "opt", "bloom", "gpt_neox", "gpt_bigcode", "gptj", "gpt_neo", "phi", "starcoder2", "falcon")
_QK_NORM = ("qwen3", "gemma3", "glm4_moe", "minimax_m2", "olmo2")
_ALL_WINDOWED = ("mistral", "phi3", "starcoder2", "phimoe")
# Defaults of transformers' own configuration classes, for configs that are written without them.
_DEFAULTS: dict[str, dict[str, int]] = {
    "gemma3": {"heads": 8, "kv_heads": 4, "head_dim": 256, "vocab": 262_208, "max_model_len": 131_072},
    "gemma2": {"kv_heads": 4, "head_dim": 256, "max_model_len": 8_192},
}
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16", "float": "fp32"}
_QUANTS = {
    "fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4", "modelopt": "fp8", "modelopt_fp4": "nvfp4", "fp8_e4m3": "fp8",
    "float-quantized": "fp8", "int-quantized": "int8", "pack-quantized": "int4", "nvfp4-pack-quantized": "nvfp4",
    "nvfp4": "nvfp4", "gptq": "int4", "awq": "int4", "auto-round": "int4", "bitsandbytes": "int8",
}  # fmt: skip


def read_config(path: Path) -> Architecture:
    """The architecture in ``path``: a ``config.json``, or a folder that holds one.

    CatalogError names the file and the key if anything needed is missing, of the wrong type, or contradictory.
    """
    file = path / "config.json" if path.is_dir() else path
    config = _Config(file, _load(file))
    config.refuse_what_is_not_a_decoder()
    return _architecture(config, name=path.name if path.is_dir() else _stem(file))


def _stem(file: Path) -> str:
    return file.resolve().parent.name or "config" if file.name == "config.json" else file.stem


def _load(file: Path) -> dict[str, Any]:
    try:
        if file.exists() and not file.is_file():
            raise CatalogError(
                f"{file}: is not a file (a model is a catalog name, a config.json, or a folder with one)"
            )
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CatalogError(
            f"{file}: no such file (a model is a catalog name, a config.json, or a folder with one)"
        ) from None
    except (OSError, UnicodeDecodeError) as fault:
        raise CatalogError(f"{file}: cannot be read: {fault}") from None
    except (ValueError, RecursionError) as fault:
        raise CatalogError(f"{file}: is not JSON: {fault}") from None
    if not isinstance(content, dict):
        raise CatalogError(f"{file}: must be a JSON object, not {type(content).__name__}")
    for key in _NESTED:
        nested = content.get(key)
        if isinstance(nested, dict) and not any(k in content for k in _KEYS["layers"]):
            # A vision-language model: the language model's shape is nested, a few settings stand outside.
            return {**{k: v for k, v in content.items() if k not in _NESTED}, **nested}
    return content


class _Config:
    """A config.json's keys with checked types; every complaint names file and key."""

    def __init__(self, file: Path, content: Mapping[str, Any]) -> None:
        self.file = file
        self.content = content
        kind = content.get("model_type", "")
        if not isinstance(kind, str):
            self.fail("model_type", f"must be a string, not {_short(kind)}")
        self.kind: str = kind

    def fail(self, key: str, what: str) -> NoReturn:
        raise CatalogError(f"{self.file}: {key}: {what}")

    def has(self, key: str) -> bool:
        return self.content.get(key) is not None

    def is_kind(self, prefixes: Sequence[str]) -> bool:
        return any(self.kind == p or self.kind.startswith((p + "_", p + "-")) for p in prefixes)

    def number(self, key: str, least: int = 0) -> int:
        value = self.content[key]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
            self.fail(key, f"must be a whole number of at least {least}, not {_short(value)}")
        return value

    def size(self, field: str, default: int | None = None, least: int = 1) -> int:
        """The value of the first of the field's keys that is present and not null."""
        for key in _KEYS.get(field, (field,)):
            if self.has(key):
                return self.number(key, least)
        for family, defaults in _DEFAULTS.items():
            if self.is_kind((family,)) and field in defaults:
                return defaults[field]
        if default is None:
            keys = _KEYS.get(field, (field,))
            others = f" (or {', '.join(keys[1:])})" if len(keys) > 1 else ""
            self.fail(keys[0], f"is missing{others}")
        return default

    def flag(self, key: str, default: bool) -> bool:
        value = self.content.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fail(key, f"must be true or false, not {_short(value)}")
        return value

    def section(self, key: str) -> Mapping[str, Any]:
        value = self.content.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fail(key, f"must be an object, not {_short(value)}")
        return value

    def layer_types(self) -> list[str]:
        value = self.content.get("layer_types")
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail("layer_types", f"must be a list of names, not {_short(value)}")
        return value

    def refuse_what_is_not_a_decoder(self) -> None:
        if self.kind in _REFUSED_TYPES:
            self.fail(
                "model_type", f"{self.kind!r} is not a decoder of like attention layers, which is what is modelled"
            )
        for key in _REFUSED_KEYS:
            if self.has(key):
                self.fail(key, "layers of several kinds (state-space, linear attention, own shapes) are not modelled")
        if self.flag("is_encoder_decoder", False):
            self.fail("is_encoder_decoder", "encoder-decoder models are not modelled")
        odd = [name for name in self.layer_types() if not name.endswith("_attention") or name == "linear_attention"]
        if odd:
            self.fail("layer_types", f"{_short(odd[0])} layers are not modelled")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _architecture(config: _Config, name: str) -> Architecture:
    layers, hidden, heads = config.size("layers"), config.size("hidden"), config.size("heads")
    kv_heads = config.size("kv_heads", default=1 if config.flag("multi_query", False) else heads)
    if heads % kv_heads:
        config.fail("num_key_value_heads", f"{kv_heads} does not divide num_attention_heads ({heads})")
    kv_lora_rank = config.size("kv_lora_rank", default=0, least=0)
    head_dim = config.size("head_dim", default=hidden // heads or None)
    mla: dict[str, Any] = {}
    if kv_lora_rank:
        mla = {
            "kv_lora_rank": kv_lora_rank,
            "q_lora_rank": config.size("q_lora_rank", default=0, least=0),
            "qk_nope_head_dim": config.size("qk_nope_head_dim"),
            "qk_rope_head_dim": config.size("qk_rope_head_dim"),
            "v_head_dim": config.size("v_head_dim"),
            "index_heads": config.size("index_n_heads", default=0, least=0),
            "index_head_dim": config.size("index_head_dim", default=0, least=0),
        }
        head_dim = mla["qk_nope_head_dim"] + mla["qk_rope_head_dim"]
    moe = _experts(config, layers)
    ffn_default = 4 * hidden if config.is_kind(("gpt2", "bloom", "gpt_bigcode", "falcon")) else None
    ffn = config.size("ffn", default=ffn_default)
    if config.is_kind(("llama4",)):
        ffn = config.size("intermediate_size_mlp", default=ffn)
    window, windowed = _window(config, layers)
    learned = config.is_kind(("gpt2", "opt", "gpt_bigcode"))
    max_model_len = config.size("max_model_len")
    return Architecture(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=ffn,
        vocab=config.size("vocab"),
        max_model_len=_stretched(config, max_model_len),
        tie_embeddings=config.flag("tie_word_embeddings", config.is_kind(_TIED)),
        sliding_window=window,
        sliding_layers=windowed,
        gated_ffn=not config.is_kind(_UNGATED),
        qkv_bias=config.is_kind(("qwen2", "gpt2", "opt", "bloom", "phi")) or config.flag("attention_bias", False),
        output_bias=config.is_kind(("gpt_oss", "gpt2", "opt", "bloom", "phi", "gpt_neox")),
        qk_norm=config.is_kind(_QK_NORM) or config.flag("use_qk_norm", False),
        norms_per_layer=4 if config.is_kind(("gemma2", "gemma3")) else 2,
        position_embeddings=max_model_len if learned else 0,
        native_dtype=_native_dtype(config),
        hf_id=str(config.content.get("_name_or_path") or ""),
        sources={"*": str(config.file)},
        **moe,
        **mla,
    )


def _experts(config: _Config, layers: int) -> dict[str, Any]:
    """The mixture-of-experts fields, empty for a dense model."""
    experts = config.size("experts", default=0, least=0)
    if experts <= 1:
        return {}
    per_token = config.size("experts_per_token")
    if per_token > experts:
        config.fail("num_experts_per_tok", f"{per_token} is more than the {experts} experts there are")
    # Mixtral, gpt-oss, MiniMax-M2 and Llama 4 write the width of an expert as the width of the feed-forward block.
    width = config.size("moe_ffn", default=config.size("ffn", default=0) or None)
    dense = config.size("dense_layers", default=0, least=0)
    if config.has("moe_layer_freq") and isinstance(config.content["moe_layer_freq"], list):
        dense = sum(1 for step in config.content["moe_layer_freq"] if step == 0)
    if config.is_kind(("llama4",)):
        dense = layers - layers // config.size("interleave_moe_layer_step", default=1)
    if dense > layers:
        config.fail(_KEYS["dense_layers"][0], f"{dense} is more than the {layers} layers there are")
    shared = config.size("shared_experts", default=1 if config.is_kind(("llama4",)) else 0, least=0)
    shared_ffn = config.size("shared_expert_intermediate_size", default=shared * width, least=0)
    return {
        "experts": experts,
        "experts_per_token": per_token,
        "moe_ffn": width,
        "shared_experts": shared or (1 if shared_ffn else 0),
        "shared_ffn": shared_ffn,
        "dense_layers": dense,
    }


def _window(config: _Config, layers: int) -> tuple[int, int]:
    """(tokens a windowed layer sees, how many layers are windowed); (0, 0) if none is."""
    window = config.size("sliding_window", default=0, least=0)
    if not window or not config.flag("use_sliding_window", True):
        return 0, 0
    types = config.layer_types()
    if types:
        if len(types) != layers:
            config.fail("layer_types", f"names {len(types)} layers, but there are {layers}")
        windowed = sum(1 for kind in types if kind == "sliding_attention")
    elif config.is_kind(("gemma2", "gpt_oss")):
        windowed = (layers + 1) // 2
    elif config.is_kind(("gemma3",)):
        windowed = layers - layers // config.size("sliding_window_pattern", default=6)
    elif config.is_kind(("qwen2",)):
        windowed = max(0, layers - config.size("max_window_layers", default=layers, least=0))
    else:
        windowed = layers if config.is_kind(_ALL_WINDOWED) else 0
    return (window, windowed) if windowed else (0, 0)


def _stretched(config: _Config, positions: int) -> int:
    """Context length after rope scaling. vLLM multiplies for linear, dynamic and YaRN scaling and for no other."""
    rope = config.section("rope_scaling") or config.section("rope_parameters")
    kind = rope.get("rope_type", rope.get("type"))
    if kind not in ("linear", "dynamic", "yarn") or config.is_kind(("gemma3",)):
        return positions
    factor = rope.get("factor", 1.0)
    original = rope.get("original_max_position_embeddings", positions) if kind == "yarn" else positions
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= 10_000:
        config.fail("rope_scaling.factor", f"must be a number of at least 1, not {_short(factor)}")
    if isinstance(original, bool) or not isinstance(original, int) or not 1 <= original <= _LARGEST:
        config.fail("rope_scaling.original_max_position_embeddings", f"must be a whole number, not {_short(original)}")
    return max(1, int(original * factor))


def _native_dtype(config: _Config) -> str:
    quant = config.section("quantization_config")
    for key in ("quant_algo", "format", "quant_method"):
        name = quant.get(key)
        if isinstance(name, str) and name.lower() in _QUANTS:
            narrow = _QUANTS[name.lower()]
            return "int8" if narrow == "int4" and quant.get("bits") == 8 else narrow
    name = config.content.get("torch_dtype") or config.content.get("dtype")
    return _DTYPES.get(name, "bf16") if isinstance(name, str) else "bf16"
