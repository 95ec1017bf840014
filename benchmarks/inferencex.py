"""Predicted against published: Llama-3.1-70B FP8 on H200, closed loops of InferenceX, in ../shared/data/truth/serving_h200.csv.gz.

Nothing is fitted. The profiles are composed from GEMM, attention and all-reduce kernels timed on an H200 under vLLM; the runs are of
another engine, so this asks how far kernels alone carry. InferenceX draws prompt and output lengths between 0.8 and 1.0 of the
nominal ones (its RANDOM_RANGE_RATIO) and sends ten requests a user; so do we. With every length equal, all users of a closed
loop would stay in step, and each would wait for all prompts at once.

    python -m benchmarks.inferencex [--rows N]
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
SCENARIO = """\
question: A closed loop at known concurrency.
run: {{requests: {requests}, replications: 1, warmup: 0}}
models: {{llama: {{architecture: llama-3.1-70b, dtype: fp8}}}}
cluster: {{pools: [{{name: h200, gpu: h200-sxm, gpus_per_node: 8, price: 0}}]}}
workloads:
  - name: chat
    model: llama
    arrivals: {{closed_loop: {users}}}
    lengths:
      prompt: {{quantiles: {prompt}}}
      output: {{quantiles: {output}}}
deployments:
  - {{name: chat, model: llama, pool: h200, profile: {profile}, tensor_parallel: {tp}}}
"""


def uniform(most: int) -> list[list[float]]:
    """Quantiles of a length drawn evenly between 0.8 and 1.0 of ``most``."""
    return [[q / 20, most * (0.8 + 0.01 * q)] for q in range(21)]


def published() -> list[dict[str, Any]]:
    """The aggregated Llama-3.1-70B rows: users, lengths, parallelism, and mean TTFT and TPOT in milliseconds."""
    with gzip.open(SHARED / "truth" / "serving_h200.csv.gz", "rt") as file:
        rows = [r for r in csv.DictReader(file) if r["model_path"].endswith("Llama-3.1-70B") and r["mode"] == "agg"]
    return [
        {
            "tp": int(float(row["tp_size"])),
            "users": int(float(row["concurrency"])),
            "prompt": int(row["isl"]),
            "output": int(row["osl"]),
            "ttft": float(row["silicon_ttft_ms"]),
            "tpot": float(row["silicon_tpot_ms"]),
        }
        for row in rows
    ]


def predict(row: dict[str, Any], profiles: Path) -> tuple[float, float]:
    """Mean TTFT and TPOT in milliseconds of the same closed loop, simulated."""
    import sim
    from calibration.importers.kernels import import_kernels
    from sim.profiles.library import save

    profile = profiles / f"tp{row['tp']}.json"
    if not profile.exists():
        kernels = SHARED / "profiles" / "kernels" / "h200_sxm"
        save(import_kernels(kernels, "llama-3.1-70b", "h200-sxm", row["tp"], "fp8"), profile)
    path = profiles / "scenario.yaml"
    path.write_text(
        SCENARIO.format(
            requests=10 * row["users"],
            users=row["users"],
            prompt=uniform(row["prompt"]),
            output=uniform(row["output"]),
            profile=profile,
            tp=row["tp"],
        )
    )
    summary = sim.simulate(sim.load(path), jobs=1).summary
    return 1e3 * summary["ttft_mean"].value, 1e3 * summary["tpot_mean"].value


def main() -> None:
    """Print errors by tensor parallelism and by load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="only so many rows of each tensor parallelism")
    arguments = parser.parse_args()
    errors: dict[str, list[tuple[float, float]]] = defaultdict(list)
    taken: dict[int, int] = defaultdict(int)
    with tempfile.TemporaryDirectory() as folder:
        for row in published():
            taken[row["tp"]] += 1
            if arguments.rows and taken[row["tp"]] > arguments.rows:
                continue
            ttft, tpot = predict(row, Path(folder))
            error = (ttft / row["ttft"] - 1.0, tpot / row["tpot"] - 1.0)
            load = (
                "up to 16 users" if row["users"] <= 16 else "17 to 64 users" if row["users"] <= 64 else "over 64 users"
            )
            for group in ("all", f"TP {row['tp']}", load):
                errors[group].append(error)
    print(f"{'':16}{'rows':>6}{'TTFT |error|':>14}{'bias':>8}{'TPOT |error|':>14}{'bias':>8}   (medians)")
    for group, found in sorted(errors.items()):
        columns = list(zip(*found, strict=True))
        cells = "".join(
            f"{statistics.median(map(abs, column)):>14.1%}{statistics.median(column):>+8.1%}" for column in columns
        )
        print(f"{group:16}{len(found):>6}{cells}")


if __name__ == "__main__":
    main()
