"""The shape of a decoder-only transformer, and what follows from it: parameters, weight bytes, KV bytes.

Every figure is computed from the shape, so a model nobody has catalogued is as good as one we have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from sim.catalog.dtypes import DTYPE_BYTES, dtype_bytes

__all__ = ["Architecture"]

_FLOATS_16 = ("fp32", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder-only transformer's shape. Sizes count elements or layers; nothing here is in bytes.

    Attention is grouped-query (``kv_heads`` of ``head_dim``) unless ``kv_lora_rank`` is set, which makes it multi-head
    latent attention (DeepSeek-V2, arXiv 2405.04434): then a token's cache holds ``kv_lora_rank + qk_rope_head_dim``
    values a layer whatever the number of heads.

    A mixture of experts has ``experts > 0``: each layer but ``dense_layers`` holds ``experts`` feed-forward blocks of
    width ``moe_ffn``, of which a token visits ``experts_per_token``, and shared ones of total width ``shared_ffn`` that
    every token visits. The ``dense_layers`` have one feed-forward block of width ``ffn``.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    max_model_len: int
    tie_embeddings: bool = False
    experts: int = 0
    experts_per_token: int = 0
    moe_ffn: int = 0
    shared_experts: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    kv_lora_rank: int = 0
    q_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    index_heads: int = 0
    index_head_dim: int = 0
    """DeepSeek sparse attention's indexer (DeepSeek-V3.2, GLM-5): its own heads, and one key a token in the cache."""
    sliding_window: int = 0
    """Tokens a windowed layer attends to; 0 if no layer is windowed."""
    sliding_layers: int = 0
    """How many of ``layers`` are windowed (gpt-oss: every other one; Gemma 3: five of six)."""
    gated_ffn: bool = True
    """Three matrices a feed-forward block (SwiGLU, GeGLU); two if False (GPT-2, OPT)."""
    qkv_bias: bool = False
    output_bias: bool = False
    """Biases on the attention's output projection and on the feed-forward blocks (GPT-2, OPT; gpt-oss)."""
    qk_norm: bool = False
    norms_per_layer: int = 2
    position_embeddings: int = 0
    """Learned positions (GPT-2, OPT); 0 with rotary embeddings."""
    native_dtype: str = "bf16"
    """Format of the published checkpoint's large matrices."""
    hf_id: str = ""
    note: str = ""
    sources: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def is_moe(self) -> bool:
        """Whether any layer is a mixture of experts."""
        return self.experts > 0

    @property
    def is_mla(self) -> bool:
        """Whether attention is multi-head latent attention."""
        return self.kv_lora_rank > 0

    @property
    def moe_layers(self) -> int:
        """Layers whose feed-forward block is a mixture of experts."""
        return self.layers - self.dense_layers if self.is_moe else 0

    def attention_parameters(self) -> int:
        """Parameters of one layer's attention, its biases and its query, key and latent norms included."""
        if self.is_mla:
            query_width = self.heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
            if self.q_lora_rank:
                query = self.hidden * self.q_lora_rank + self.q_lora_rank + self.q_lora_rank * query_width
            else:
                query = self.hidden * query_width
            latent = self.hidden * (self.kv_lora_rank + self.qk_rope_head_dim) + self.kv_lora_rank
            expand = self.kv_lora_rank * self.heads * (self.qk_nope_head_dim + self.v_head_dim)
            index_width = self.index_heads * self.index_head_dim
            indexer = self.q_lora_rank * index_width + self.hidden * (self.index_head_dim + self.index_heads)
            return query + latent + expand + self.heads * self.v_head_dim * self.hidden + indexer
        query_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        total = self.hidden * (2 * query_width + 2 * kv_width)
        total += (query_width + 2 * kv_width) if self.qkv_bias else 0
        total += self.hidden if self.output_bias else 0
        return total + (2 * self.head_dim if self.qk_norm else 0)

    def expert_parameters(self) -> int:
        """Parameters of one expert (0 for a dense model)."""
        return self._ffn_parameters(self.moe_ffn) if self.is_moe else 0

    def embedding_parameters(self) -> int:
        """Parameters of the input embedding, learned positions included."""
        return (self.vocab + self.position_embeddings) * self.hidden

    def head_parameters(self) -> int:
        """Parameters of the LM head that are its own: 0 if it shares the embedding's."""
        return 0 if self.tie_embeddings else self.vocab * self.hidden

    def layer_parameters(self) -> int:
        """Parameters of all layers and the final norm: everything but the embedding and the LM head."""
        return self._dense_part() + self.moe_layers * self.experts * self.expert_parameters()

    def parameters(self) -> int:
        """All parameters, embedding and LM head included (tied ones once), multi-token-prediction modules excluded."""
        return self.layer_parameters() + self.embedding_parameters() + self.head_parameters()

    def active_parameters(self, *, embedding: bool = True) -> int:
        """Parameters one token uses: all but the experts it does not visit.

        Publishers differ on the input embedding, of which a token reads one row: Mixtral (arXiv 2401.04088) and Qwen3
        count it, gpt-oss (arXiv 2508.10925) does not. ``embedding=False`` leaves it out (unless it doubles as LM head),
        which is what a token costs in multiplications.
        """
        active = self._dense_part() + self.moe_layers * self.experts_per_token * self.expert_parameters()
        if self.tie_embeddings or embedding:
            active += self.embedding_parameters()
        return active + self.head_parameters()

    def weight_bytes(self, dtype: str = "bf16") -> int:
        """Bytes of all weights in ``dtype``.

        8-bit and narrower formats hold the layers' matrices; embedding and LM head stay in 16 bits, as in the published
        FP8, AWQ and NVFP4 checkpoints. ``mxfp4`` holds experts only, the rest in 16 bits, as in gpt-oss.
        """
        size = dtype_bytes(dtype)
        ends = self.embedding_parameters() + self.head_parameters()
        if dtype in _FLOATS_16:
            return ceil((self.layer_parameters() + ends) * size)
        if dtype == "mxfp4" and self.is_moe:
            packed = self.moe_layers * self.experts * self.expert_parameters()
            return ceil(packed * size + (self.parameters() - packed) * DTYPE_BYTES["bf16"])
        return ceil(self.layer_parameters() * size + ends * DTYPE_BYTES["bf16"])

    def kv_bytes_per_token(self, kv_dtype: str = "bf16") -> int:
        """Bytes one more token takes in the KV cache of all layers, before any of them slides it out of its window.

        Grouped-query: 2 · layers · kv_heads · head_dim values; latent: layers · (kv_lora_rank + qk_rope_head_dim).
        """
        return ceil(self.layers * self._kv_layer_bytes(kv_dtype))

    def kv_bytes(self, tokens: int, kv_dtype: str = "bf16") -> int:
        """Bytes a sequence of ``tokens`` needs in the KV cache when windowed layers keep only their window."""
        windowed = min(tokens, self.sliding_window) if self.sliding_window else tokens
        entries = (self.layers - self.sliding_layers) * tokens + self.sliding_layers * windowed
        return ceil(entries * self._kv_layer_bytes(kv_dtype))

    def _kv_layer_bytes(self, kv_dtype: str) -> float:
        if not self.is_mla:
            return 2 * self.kv_heads * self.head_dim * dtype_bytes(kv_dtype)
        # The indexer's key is kept in 8 bits with one fp32 scale a 128 values, whatever the cache's format (vLLM).
        indexer = self.index_head_dim * (1 + 4 / 128)
        return (self.kv_lora_rank + self.qk_rope_head_dim) * dtype_bytes(kv_dtype) + indexer

    def _ffn_parameters(self, width: int) -> int:
        matrices = 3 if self.gated_ffn else 2
        return matrices * self.hidden * width + (((matrices - 1) * width + self.hidden) if self.output_bias else 0)

    def _dense_part(self) -> int:
        """Every parameter of the layers that no router chooses, and the final norm."""
        norm = self.hidden * (1 if self.gated_ffn else 2)  # the ungated families use LayerNorm, which has a bias
        total = self.layers * (self.attention_parameters() + self.norms_per_layer * norm) + norm
        total += (self.layers - self.moe_layers) * self._ffn_parameters(self.ffn)
        router = self.experts * (self.hidden + (1 if self.output_bias else 0))
        shared = 3 * self.hidden * self.shared_ffn
        return total + self.moe_layers * (router + shared)
