"""What one engine step runs on each GPU of a tensor-parallel group: matrix products, small kernels, reductions.

Counts and sizes follow from the model's shape; how long each takes is measured (``calibration.importers``) or predicted
(:mod:`sim.perf.roofline`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sim.errors import ProfileError
from sim.perf.monotone import Array

if TYPE_CHECKING:
    from sim.catalog import Architecture

__all__ = [
    "Product",
    "check_split",
    "elementwise",
    "head",
    "kv_heads",
    "products",
    "query_heads",
    "reductions",
    "sampler",
]

# Small kernels that no table has, as the layer timings of the RTX PRO 6000 show them: a norm, the rotary embedding and the
# activation take 2.4 to 2.7 µs with next to no work, and more work goes at the memory's speed.
SMALL: Final = 2.5e-6
SAMPLER: Final = 25e-6  # the same card's sampler for one sequence; for many, 1.6 passes over float32 logits
PASSES: Final = 1.6
EFFICIENCY: Final = 0.8  # of the catalog's memory bandwidth


@dataclass(frozen=True, slots=True)
class Product:
    """``times`` products a step of tokens × ``depth`` by ``depth`` × ``columns``: n and k of a GEMM table."""

    columns: float
    depth: float
    times: int


def check_split(shape: Architecture, tp: int) -> None:
    """:raises ProfileError: ``tp`` GPUs cannot share the model's attention heads evenly."""
    if tp < 1 or shape.heads % tp or (shape.kv_heads % tp and tp % shape.kv_heads):
        raise ProfileError(
            f"{shape.name} has {shape.heads} heads ({shape.kv_heads} KV), which {tp} GPUs cannot share evenly"
        )


def query_heads(shape: Architecture, tp: int) -> int:
    """Query heads on one GPU."""
    return shape.heads // tp


def kv_heads(shape: Architecture, tp: int) -> int:
    """KV heads on one GPU; those of a model with fewer than GPUs are copied."""
    return max(shape.kv_heads // tp, 1)


def products(shape: Architecture, tp: int) -> dict[str, Product]:
    """The matrix products of all layers by name, those of routed experts and of the LM head apart."""
    heads, kv = query_heads(shape, tp), kv_heads(shape, tp)
    dense = shape.layers - shape.moe_layers
    gates = 2 if shape.gated_ffn else 1
    found = {
        "qkv_proj": Product(shape.head_dim * (heads + 2 * kv), shape.hidden, shape.layers),
        "o_proj": Product(shape.hidden, shape.head_dim * heads, shape.layers),
        "gate_up_proj": Product(gates * shape.ffn / tp, shape.hidden, dense),
        "down_proj": Product(shape.hidden, shape.ffn / tp, dense),
    }
    if shape.is_moe and shape.shared_ffn:
        shared = shape.shared_ffn / tp
        found["shared_gate_up_proj"] = Product(2 * shared, shape.hidden, shape.moe_layers)
        found["shared_down_proj"] = Product(shape.hidden, shared, shape.moe_layers)
    return {name: one for name, one in found.items() if one.times and one.columns and one.depth}


def head(shape: Architecture, tp: int) -> Product:
    """The LM head's product, by sequences instead of tokens."""
    return Product(shape.vocab / tp, shape.hidden, 1)


def reductions(shape: Architecture) -> int:
    """All-reduces a step: after attention and after the MLP of each layer, and after the sharded embedding."""
    return 2 * shape.layers + 1


def elementwise(shape: Architecture, tp: int, bandwidth: float, tokens: Array) -> Array:
    """Seconds of what moves activations but multiplies no matrices: two fused norms, rotary embedding and activation a layer.

    The kernels of experts and attention bring their own activation and cache write. ``bandwidth`` is the memory's peak.
    """
    dense = shape.layers - shape.moe_layers
    heads = shape.head_dim * (query_heads(shape, tp) + kv_heads(shape, tp))
    turns = (
        2.0 if shape.qk_norm else 1.0
    )  # what touches queries and keys: rotary embedding, and their norm if they have one
    moved = 2.0 * shape.layers * (2.0 * 4.0 * shape.hidden + turns * 2.0 * heads) + 2.0 * dense * 3.0 * shape.ffn / tp
    once = 2.0 * 2.0 * 2.0 * shape.hidden  # embedding rows and the final norm
    launches = shape.layers * (2.0 + turns) + dense + 2.0
    return launches * SMALL + tokens * (moved + once) / (EFFICIENCY * bandwidth)


def sampler(shape: Architecture, bandwidth: float, sequences: Array) -> Array:
    """Seconds of sampling; ``bandwidth`` is the memory's peak."""
    return SAMPLER + PASSES * 4.0 * sequences * shape.vocab / (EFFICIENCY * bandwidth)
