"""Tables in the two published formats, written from simple laws so that what an importer must make of them is known."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

FLOPS, BANDWIDTH, START = 989e12, 3.35e12, 2e-6  # the catalog's H100 SXM; 2 µs for a kernel without work
FP8_FLOPS = 1979e12

GEMM_M = (1, 16, 128, 1024, 8192)
GEMM_NK = (512, 2048, 8192, 32768)
LENGTHS = (1, 64, 256, 1024, 4096, 16384)
CONTEXTS = (1, 15, 255, 1023, 4095)
BATCHES = (1, 4, 16, 64, 256)
SIZES = (128, 8192, 131072, 4194304, 67108864)


def gemm_s(m: float, n: float, k: float, dtype: str = "bfloat16") -> float:
    """The roofline of an H100: exactly as fast as arithmetic or memory allow."""
    flops, size = (FP8_FLOPS, 1) if dtype.startswith("fp8") else (FLOPS, 2)
    return max(2 * m * n * k / flops, (size * (m * k + n * k) + 2 * m * n) / BANDWIDTH) + START


def context_s(length: float, heads: float) -> float:
    return 10e-6 + 1e-12 * heads * length**2


def generation_s(batch: float, context: float, kv_heads: float) -> float:
    return 8e-6 + batch * context * kv_heads * 512 / BANDWIDTH


def reduce_s(elements: float) -> float:
    return 5e-6 + 2 * elements / 200e9


def moe_s(tokens: float) -> float:
    return 30e-6 + 0.1e-6 * tokens


def kernels(folder: Path, device: str = "NVIDIA H100 80GB HBM3", **parts: bool) -> Path:
    """A folder as aiconfigurator publishes it; ``gemm=False`` and so on leave a table out."""
    version = folder / "vllm-0.19.0"
    version.mkdir(parents=True, exist_ok=True)
    common = {"framework": "VLLM", "version": "0.19.0", "device": device}

    def write(name: str, rows: list[dict[str, Any]], at: Path = version) -> None:
        if parts.get(name.split("_perf", maxsplit=1)[0].split("-", maxsplit=1)[0], True):
            pd.DataFrame([common | row for row in rows]).to_parquet(at / f"{name}.parquet")

    write(
        "gemm_perf",
        [
            {"gemm_dtype": dtype, "m": m, "n": n, "k": k, "latency": 1e3 * gemm_s(m, n, k, dtype)}
            for dtype, m, n, k in product(("bfloat16", "fp8"), GEMM_M, GEMM_NK, GEMM_NK)
        ],
    )
    heads = [(16, 2), (32, 4), (32, 8), (64, 8)]
    shared = {"head_dim": 128, "kv_cache_dtype": "bfloat16", "window_size": 0}
    write(
        "context_attention_perf",
        [
            shared
            | {
                "batch_size": b,
                "isl": s,
                "num_heads": q,
                "num_key_value_heads": kv,
                "latency": 1e3 * b * context_s(s, q),
            }
            for (q, kv), b, s in product(heads, (1, 2), LENGTHS)
        ],
    )
    write(
        "generation_attention_perf",
        [
            shared
            | {
                "batch_size": b,
                "isl": 1,
                "step": c,
                "num_heads": q,
                "num_key_value_heads": kv,
                "latency": 1e3 * generation_s(b, c, kv),
            }
            for (q, kv), b, c in product(heads, BATCHES, CONTEXTS)
        ],
    )
    write(
        "custom_allreduce_perf",
        [
            {
                "num_gpus": n,
                "message_size": size,
                "backend": f"vllm_{backend}",
                "latency": 1e3 * (reduce_s(size) + (40e-6 if backend == "eager" else 0.0)),
            }
            for n, size, backend in product((2, 4, 8), SIZES, ("graph", "eager"))
        ],
    )
    write(
        "moe_perf",
        [
            {
                "moe_dtype": "bfloat16",
                "num_tokens": t,
                "hidden_size": 4096,
                "inter_size": 14336,
                "topk": 2,
                "num_experts": 8,
                "moe_tp_size": tp,
                "moe_ep_size": ep,
                "distribution": spread,
                "latency": 1e3 * moe_s(t) / tp * (2 if spread == "power_law_1.2" else 1) * (3 if ep > 1 else 1),
            }
            for t, tp, ep, spread in product(GEMM_M, (1, 2), (1, 2), ("power_law_1.01", "power_law_1.2"))
        ],
    )
    write(
        "nccl-2.29.2",
        [
            {"op_name": op, "nccl_dtype": "half", "num_gpus": n, "message_size": size, "latency": 2e3 * reduce_s(size)}
            for op, n, size in product(("all_reduce", "all_gather"), (2, 4, 8), SIZES)
        ],
        folder,
    )
    return folder


DENSE = ("act_fn", "down_proj", "gate_up_proj", "layernorm", "o_proj", "qkv_proj", "rotary_emb")
TOKENS = (1, 16, 128, 1024, 2048)


def layer_us(tokens: float) -> float:
    return 20.0 + 0.05 * tokens


def prefill_us(chunk: float, past: float) -> float:
    return 8.0 + 2e-5 * chunk * (2 * past + chunk)


def decode_us(n: float, context: float) -> float:
    return 8.0 + 0.0025 * n * context


def layers(folder: Path, *, mixed: float = 1.4, skew: bool = True, moe: bool = False, meta: str | None = None) -> Path:
    """A folder as LLMServingSim's profiler writes it. Mixed attention takes ``mixed`` times the sum of its parts; unequal contexts
    add 0.5 ns × n a token of deviation, told at three times the other tables' scale as in the published file."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in DENSE if not (moe and name in ("act_fn", "gate_up_proj", "down_proj"))]
    pd.DataFrame(
        [
            {"layer": name, "tokens": t, "time_us": layer_us(t)}
            for name in [*names, "embedding", "final_layernorm"]
            for t in TOKENS
        ]
    ).to_csv(folder / "dense.csv", index=False)
    pd.DataFrame(
        [
            {"layer": name, "sequences": s, "time_us": us + s}
            for name, us in (("lm_head", 600.0), ("sampler", 20.0))
            for s in (1, 16, 256)
        ]
    ).to_csv(folder / "per_sequence.csv", index=False)
    chunks, pasts, batches, contexts = (16, 256, 1024, 2048), (0, 512, 4096), (1, 8, 64), (16, 512, 4096)
    rows = [(q, p, 0, 0, prefill_us(q, p)) for q, p in product(chunks, pasts)]
    rows += [(0, 0, n, c, decode_us(n, c)) for n, c in product(batches, contexts)]
    if mixed:
        rows += [
            (q, p, n, c, mixed * (prefill_us(q, p) + decode_us(n, c)))
            for q, p, n, c in product(chunks, pasts, batches, contexts)
        ]
    columns = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "attention.csv.gz", index=False)
    if skew:
        unequal = []
        for n, share, short, pc in product((8, 64), (0.25, 0.5), (128, 1024), (0, 256)):
            long, big = 4 * short, int(share * n)
            mean = share * long + (1 - share) * short
            deviation = (share * (1 - share)) ** 0.5 * (long - short)
            base = 3 * (decode_us(n, mean) + (prefill_us(pc, 0) if pc else 0.0))
            unequal.append(
                {
                    "n": n,
                    "nb": big,
                    "pc": pc,
                    "kp": 0,
                    "kvs": short,
                    "kv_big": long,
                    "kv_mean": mean,
                    "t_mean_us": base,
                    "t_skew_us": base + 3 * 0.0005 * n * deviation,
                }
            )
        pd.DataFrame(unequal).to_csv(folder / "skew.csv", index=False)
    if moe:
        experts = [
            {"tokens": t, "activated_experts": a, "time_us": 10.0 + 5.0 * a + 0.1 * t}
            for t in TOKENS
            for a in (2, 4, 8)
            if a <= 2 * t
        ]
        pd.DataFrame(experts).to_csv(folder / "moe.csv", index=False)
    if meta is not None:
        (folder / "meta.yaml").write_text(meta)
    return folder
