"""Profiles written by hand from simple laws, so that every compiled value has a known right answer."""

from __future__ import annotations

from typing import Any

from sim.profiles.schema import (
    ContextGrid,
    Curve,
    Curves,
    Host,
    Memory,
    MixedAttention,
    Profile,
    PromptGrid,
    Provenance,
    Spread,
    Step,
)

SEQUENCES = (1, 2, 4, 8, 16, 32)
CONTEXTS = (16, 64, 256, 1024, 4096)
CHUNKS = (16, 64, 256, 1024, 2048)
PASTS = (0, 256, 1024, 4096)


def decode_us(n: float, context: float) -> float:
    """5 µs to start, 2 ns a token read, 0.5 µs a sequence."""
    return 5.0 + 0.5 * n + 0.002 * n * context


def chunk_us(chunk: float, past: float) -> float:
    """5 µs to start, then by the work q (2p + q)."""
    return 5.0 + 1e-4 * chunk * (2.0 * past + chunk)


def gemm_us(tokens: float) -> float:
    """100 µs to read the weights, then 0.4 µs a token."""
    return 100.0 + 0.4 * tokens


def step(**changes: Any) -> Step:
    """A step by the laws above; ``changes`` replace parts of it."""
    sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
    parts: dict[str, Any] = {
        "tokens": Curves(parts={"gemm": Curve(at=sizes, us=tuple(gemm_us(n) for n in sizes))}),
        "sequences": Curves(parts={"lm_head": Curve(at=(1, 64), us=(10.0, 73.0))}),
        "prefill": PromptGrid(
            chunks=CHUNKS, pasts=PASTS, us=tuple(tuple(chunk_us(q, p) for p in PASTS) for q in CHUNKS)
        ),
        "decode": ContextGrid(
            sequences=SEQUENCES,
            contexts=CONTEXTS,
            us=tuple(tuple(decode_us(n, c) for c in CONTEXTS) for n in SEQUENCES),
        ),
        "host": Host(cuda_graphs=False),
    }
    return Step(**(parts | changes))


def profile(mixed: MixedAttention | None = None, spread: Spread | None = None, **changes: Any) -> Profile:
    """A whole profile around :func:`step`."""
    return Profile(
        version=1,
        name="test/line/tp1",
        model="line",
        gpu="h100-sxm",
        engine="vllm",
        tensor_parallel=1,
        dtype="bf16",
        kv_dtype="bf16",
        provenance=Provenance(source="written by hand", licence="Apache-2.0", command="none", points=0),
        step=step(mixed=mixed, spread=spread, **changes),
        memory=Memory(
            weights_bytes=16_000_000_000,
            context_bytes=500_000_000,
            activation_bytes_per_token=100_000,
            logits_bytes_per_sequence=1_000_000,
            kv_bytes_per_token=131_072,
        ),
    )
