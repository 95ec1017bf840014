"""Predicted against measured: the vLLM 0.19 run on an RTX PRO 6000 of ../shared/data, replayed.

First with nothing fitted: the profile comes from kernels measured apart from any serving run, the settings are the run's own. Then
with one constant, host overhead a step, chosen to match this run's mean TPOT: that one is a fit, and what it gives is no prediction.

    python -m benchmarks.fidelity [--json]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
RUN = SHARED / "truth" / "vllm-0.19_rtxpro6000_llama-3.1-8b" / "vllm_requests.csv"
PROFILE = "rtx-pro-6000/llama-3.1-8b/tp1"
QUEUES_FROM = 11.0  # seconds: vllm_timeseries.csv has the first request waiting at 13 s, 118 of 128 running at 11 s
FIGURES = ("mean", "p50", "p90", "p99")


def measured(path: Path = RUN) -> dict[str, Any]:
    """The run's requests by arrival: lengths, arrival, and latencies in seconds. ``queued_ts`` is the arrival on the engine's clock."""
    with path.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["queued_ts"]))
    column = {key: np.array([float(row[key]) for row in rows]) for key in rows[0] if key != "request_id"}
    outputs = column["output_toks"].astype(np.int64)
    return {
        "arrival": column["queued_ts"] - column["queued_ts"].min(),
        "prompt": column["input_toks"].astype(np.int64),
        "output": outputs,
        "ttft": column["first_token_ts"] - column["queued_ts"],
        "tpot": (column["last_token_ts"] - column["first_token_ts"]) / (outputs - 1),
        "e2e": column["last_token_ts"] - column["queued_ts"],
    }


def predicted(run: dict[str, Any], host_overhead: float) -> dict[str, Any]:
    """The same requests through the simulator, with the run's engine settings."""
    from sim import profiles
    from sim.control.fleet import simulate
    from sim.control.plan import DeploymentPlan, FleetPlan
    from sim.control.routers import RoundRobin
    from sim.kernel.clock import QUANTUM, TICKS_PER_SECOND
    from sim.perf.compile import step_table
    from sim.serving.settings import EngineSettings
    from sim.workload.table import RequestTable

    rows = len(run["arrival"])
    table = RequestTable(
        arrival=np.round(run["arrival"] * TICKS_PER_SECOND) * QUANTUM,
        workload=np.zeros(rows, np.int16),
        prompt_tokens=run["prompt"],
        output_tokens=run["output"],
        priority=np.zeros(rows, np.int64),
        session=np.full(rows, -1),
        workload_names=["run"],
    )
    step = step_table(profiles.load(PROFILE), 128, 2048, host_overhead=host_overhead)
    settings = EngineSettings(
        max_num_seqs=128,
        max_num_batched_tokens=2048,
        kv_blocks=40_000,
        max_model_len=131_072,
        async_scheduling=True,  # vLLM's default since 0.14; the run's record names no other
    )
    ledger = simulate(FleetPlan(table, [DeploymentPlan("run", 1, settings, step, RoundRobin)], [0]))
    first, end = np.array(ledger.first_token), np.array(ledger.end)
    return {"ttft": first - table.arrival, "tpot": (end - first) / (run["output"] - 1), "e2e": end - table.arrival}


def figures(values: Any) -> list[float]:
    """Mean, p50, p90, p99."""
    return [float(values.mean()), *(float(q) for q in np.quantile(values, [0.5, 0.9, 0.99]))]


def errors(
    run: dict[str, Any], host_overhead: float, before: float = math.inf, after: float = 0.0
) -> dict[str, dict[str, float]]:
    """Relative errors, predicted over measured less one, by metric and figure, of requests that arrived in [after, before)."""
    guess = predicted(run, host_overhead)
    chosen = (run["arrival"] >= after) & (run["arrival"] < before)
    return {
        metric: {
            name: ours / theirs - 1.0
            for name, ours, theirs in zip(
                FIGURES, figures(guess[metric][chosen]), figures(run[metric][chosen]), strict=True
            )
        }
        for metric in ("ttft", "tpot", "e2e")
    }


def fitted_overhead(run: dict[str, Any]) -> float:
    """The host overhead a step, in seconds, that brings mean TPOT nearest to this run's; not below 0."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(lambda host: abs(errors(run, host)["tpot"]["mean"]), bounds=(0.0, 0.005), method="bounded")
    return float(found.x)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run = measured()
    fitted = fitted_overhead(run)
    results = {
        "nothing fitted": errors(run, 0.0),
        f"nothing fitted, the first {QUEUES_FROM:g} s: nobody queues for a seat yet": errors(
            run, 0.0, before=QUEUES_FROM
        ),
        f"nothing fitted, from {QUEUES_FROM:g} s on: all 128 seats are taken": errors(run, 0.0, after=QUEUES_FROM),
        f"host overhead fitted, {fitted * 1e3:.3f} ms": errors(run, fitted),
    }
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    for title, table in results.items():
        print(f"{title}\n{'':6}" + "".join(f"{name:>9}" for name in FIGURES))
        for metric, row in table.items():
            print(f"{metric.upper():6}" + "".join(f"{row[name]:>+9.1%}" for name in FIGURES))


if __name__ == "__main__":
    main()
