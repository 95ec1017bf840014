"""Predicted against published: Llama-3.1-70B FP8 on H200, closed loops of InferenceX, ../shared/data/truth/serving_h200.csv.gz.

60 rows are vLLM's, 72 TensorRT-LLM's. Nothing is fitted: the profiles are composed from GEMM, attention and all-reduce kernels
timed on an H200 under vLLM, of another version than the runs'. What TensorRT-LLM does differently is not modelled, so its rows
show what a vLLM model is worth for it. Settings are those of InferenceX's script for vLLM (SemiAnalysisAI/InferenceX 409e9a48,
benchmarks/70b_fp8_h200_slurm.sh): an FP8 KV cache, 8,192 tokens a step, as many seats as users, 0.9 of the memory, and ten requests a
user with prompt and output lengths between 0.8 and 1.0 of the nominal ones (RANDOM_RANGE_RATIO). With every length equal, all users
of a closed loop would stay in step, and each would wait for all prompts at once.

    python -m benchmarks.inferencex [--rows N] [--model llama-3.1-8b] [--roofline]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
ENGINES = {"vllm": "vLLM", "trtllm": "TensorRT-LLM", "sglang": "SGLang"}
FULL = 0.95  # share of KV blocks in use from which a row counts as one whose cache is full
SCENARIO = """\
question: A closed loop at known concurrency.
run: {{requests: {requests}, replications: 1, warmup: 0}}
models: {{llama: {{architecture: {model}, dtype: fp8}}}}
cluster: {{pools: [{{name: h200, gpu: h200-sxm, gpus_per_node: 8, price: 0}}]}}
workloads:
  - name: chat
    model: llama
    arrivals: {{closed_loop: {users}}}
    lengths:
      prompt: {{quantiles: {prompt}}}
      output: {{quantiles: {output}}}
deployments:
  - name: chat
    model: llama
    pool: h200
    profile: {profile}
    tensor_parallel: {tp}
    engine: {{kind: vllm, max_num_batched_tokens: 8192, max_num_seqs: {users}, gpu_memory_utilization: 0.9}}
"""


def uniform(most: int) -> list[list[float]]:
    """Quantiles of a length drawn evenly between 0.8 and 1.0 of ``most``."""
    return [[q / 20, most * (0.8 + 0.01 * q)] for q in range(21)]


def published(model: str = "llama-3.1-70b") -> list[dict[str, Any]]:
    """The model's aggregated FP8 rows: engine, users, lengths, parallelism, and mean TTFT and TPOT in milliseconds."""
    with gzip.open(SHARED / "truth" / "serving_h200.csv.gz", "rt") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if model in row["model_path"].lower() and row["mode"] == "agg" and row["precision"] == "fp8"
        ]
    return [
        {
            "model": model,
            "engine": ENGINES[row["backend"]],
            "tp": int(float(row["tp_size"])),
            "users": int(float(row["concurrency"])),
            "prompt": int(row["isl"]),
            "output": int(row["osl"]),
            "ttft": float(row["silicon_ttft_ms"]),
            "tpot": float(row["silicon_tpot_ms"]),
        }
        for row in rows
    ]


def predict(row: dict[str, Any], profiles: Path, roofline: bool = False) -> tuple[float, float, float]:
    """Mean TTFT and TPOT in milliseconds, and the peak share of KV blocks in use, of the same closed loop, simulated; with
    ``roofline`` on a profile predicted from other GPUs' kernels instead of the H200's own."""
    import sim
    from calibration.importers.kernels import import_kernels
    from calibration.leftout import predicted
    from sim.profiles.library import save

    profile = profiles / f"tp{row['tp']}.json"
    if not profile.exists():
        kernels = SHARED / "profiles" / "kernels" / "h200_sxm"
        if roofline:
            save(predicted(row["model"], "h200-sxm", row["tp"], "fp8", "fp8", without="h200-sxm"), profile)
        else:
            save(import_kernels(kernels, row["model"], "h200-sxm", row["tp"], "fp8", kv_dtype="fp8"), profile)
    path = profiles / "scenario.yaml"
    path.write_text(
        SCENARIO.format(
            model=row["model"],
            requests=10 * row["users"],
            users=row["users"],
            prompt=uniform(row["prompt"]),
            output=uniform(row["output"]),
            profile=profile,
            tp=row["tp"],
        )
    )
    summary = sim.simulate(sim.load(path), jobs=1).summary
    return 1e3 * summary["ttft_mean"].value, 1e3 * summary["tpot_mean"].value, summary["kv_usage_peak"].value


def groups(row: dict[str, Any], kv_peak: float) -> tuple[str, ...]:
    """The lines of the table that the row counts in."""
    users = row["users"]
    load = "up to 16 users" if users <= 16 else "17 to 64 users" if users <= 64 else "over 64 users"
    cache = "KV cache full" if kv_peak >= FULL else "KV cache not full"
    return tuple(f"{row['engine']}, {group}" for group in ("all", f"TP {row['tp']}", load, cache))


def main() -> None:
    """Print errors by engine, tensor parallelism, load, and whether the KV cache was full."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="only so many rows of each engine and tensor parallelism")
    parser.add_argument("--model", default="llama-3.1-70b")
    parser.add_argument("--roofline", action="store_true", help="step times predicted, the H200 left out of the fit")
    arguments = parser.parse_args()
    errors: dict[str, list[tuple[float, float]]] = defaultdict(list)
    taken: dict[tuple[str, int], int] = defaultdict(int)
    with tempfile.TemporaryDirectory() as folder:
        for row in published(arguments.model):
            taken[row["engine"], row["tp"]] += 1
            if arguments.rows and taken[row["engine"], row["tp"]] > arguments.rows:
                continue
            ttft, tpot, kv_peak = predict(row, Path(folder), arguments.roofline)
            error = (ttft / row["ttft"] - 1.0, tpot / row["tpot"] - 1.0)
            for group in ("all rows", *groups(row, kv_peak)):
                errors[group].append(error)
    print(f"{'':34}{'rows':>6}{'TTFT |error|':>14}{'bias':>8}{'TPOT |error|':>14}{'bias':>8}   (medians)")
    for group, found in sorted(errors.items()):
        columns = list(zip(*found, strict=True))
        cells = "".join(
            f"{statistics.median(map(abs, column)):>14.1%}{statistics.median(column):>+8.1%}" for column in columns
        )
        print(f"{group:34}{len(found):>6}{cells}")


if __name__ == "__main__":
    main()
