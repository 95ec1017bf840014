"""Predicted against measured: the vLLM 0.19 run on an RTX PRO 6000 of ../shared/data, replayed.

First with nothing fitted: the profile comes from kernels measured apart from any serving run, the settings are the run's own. Then
with one constant, host overhead a step, chosen to match this run's mean TPOT: that one is a fit, and what it gives is no prediction.

    python -m benchmarks.fidelity [--synchronous] [--json] [--figure docs/images/fidelity.png]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
RUN = SHARED / "truth" / "vllm-0.19_rtxpro6000_llama-3.1-8b" / "vllm_requests.csv"
PROFILE = "rtx-pro-6000/llama-3.1-8b/tp1"
QUEUES_FROM = 11.0  # seconds: vllm_timeseries.csv has the first request waiting at 13 s, 118 of 128 running at 11 s
FIGURES = ("mean", "p50", "p90", "p99")
WINDOWS = (0.0, 4.0, QUEUES_FROM, 16.0, 24.0, math.inf)  # seconds of arrival


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


def predicted(run: dict[str, Any], host_overhead: float, asynchronous: bool = True) -> dict[str, Any]:
    """The same requests through the simulator, with the run's engine settings.

    Asynchronous scheduling is vLLM's default since 0.14, and the run's record names no other.
    """
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
        async_scheduling=asynchronous,
    )
    ledger = simulate(FleetPlan(table, [DeploymentPlan("run", 1, settings, step, RoundRobin)], [0]))
    first, end = np.array(ledger.first_token), np.array(ledger.end)
    return {"ttft": first - table.arrival, "tpot": (end - first) / (run["output"] - 1), "e2e": end - table.arrival}


def figures(values: Any) -> list[float]:
    """Mean, p50, p90, p99."""
    return [float(values.mean()), *(float(q) for q in np.quantile(values, [0.5, 0.9, 0.99]))]


def errors(
    run: dict[str, Any], guess: dict[str, Any], before: float = math.inf, after: float = 0.0
) -> dict[str, dict[str, float]]:
    """Relative errors, predicted over measured less one, by metric and figure, of requests that arrived in [after, before)."""
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


def fitted_overhead(run: dict[str, Any], asynchronous: bool) -> float:
    """The host overhead a step, in seconds, that brings mean TPOT nearest to this run's; not below 0."""
    from scipy.optimize import minimize_scalar

    def miss(host: float) -> float:
        return abs(errors(run, predicted(run, host, asynchronous))["tpot"]["mean"])

    found = minimize_scalar(miss, bounds=(0.0, 0.005), method="bounded")
    return float(found.x)


def figure(run: dict[str, Any], path: Path) -> None:
    """Draw TTFT and TPOT by arrival and as distributions, measured and predicted with nothing fitted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    guess = predicted(run, 0.0)
    looks = {"measured": (run, "#9a9a9a", 14), "predicted, nothing fitted": (guess, "#d1495b", 5)}
    drawn, axes = plt.subplots(2, 2, figsize=(9.0, 5.4), width_ratios=(1.7, 1.0), constrained_layout=True)
    for row, (metric, label, scale) in enumerate((("ttft", "TTFT, s", 1.0), ("tpot", "TPOT, ms", 1e3))):
        scatter, share = axes[row]
        for name, (values, colour, size) in looks.items():
            y = scale * values[metric]
            scatter.scatter(run["arrival"], y, s=size, color=colour, linewidths=0, label=name)
            share.step(np.sort(y), np.arange(1, len(y) + 1) / len(y), where="post", color=colour, label=name)
        scatter.axvline(QUEUES_FROM, color="#cccccc", linewidth=0.8, zorder=0)
        scatter.set(xlabel="arrival, s", ylabel=label)
        share.set(xlabel=label, ylabel="share of requests", ylim=(0, 1))
        if metric == "ttft":
            scatter.set_yscale("log")
            share.set_xscale("log")
    axes[1, 0].legend(frameon=False, loc="lower left", markerscale=1.5)
    axes[0, 0].text(QUEUES_FROM + 0.3, 1.0, "the 128 seats run out", color="#777777", fontsize=9)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    drawn.savefig(path, dpi=100, metadata={"Software": None})


def main() -> None:
    """Print the tables, or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synchronous", action="store_true", help="each step formed after the one before it has ended")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw it to this file and print nothing")
    arguments = parser.parse_args()
    run = measured()
    if arguments.figure:
        figure(run, arguments.figure)
        return
    fitted = fitted_overhead(run, not arguments.synchronous)
    guess = predicted(run, 0.0, not arguments.synchronous)
    tuned = predicted(run, fitted, not arguments.synchronous)
    results = {
        "nothing fitted": errors(run, guess),
        f"nothing fitted, the first {QUEUES_FROM:g} s: seats are free": errors(run, guess, before=QUEUES_FROM),
        f"nothing fitted, from {QUEUES_FROM:g} s on: the 128 seats run out": errors(run, guess, after=QUEUES_FROM),
        f"host overhead fitted, {fitted * 1e3:.3f} ms": errors(run, tuned),
    }
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    for title, table in results.items():
        print(f"{title}\n{'':6}" + "".join(f"{name:>9}" for name in FIGURES))
        for metric, row in table.items():
            print(f"{metric.upper():6}" + "".join(f"{row[name]:>+9.1%}" for name in FIGURES))
    print("nothing fitted, means by arrival" + "".join(f"{metric.upper():>9}" for metric in ("ttft", "tpot", "e2e")))
    for after, before in pairwise(WINDOWS):
        found = errors(run, guess, before, after)
        print(
            f"{after:>6g} to {before:<5g} s              " + "".join(f"{row['mean']:>+9.1%}" for row in found.values())
        )
    each = {metric: np.median(np.abs(guess[metric] / run[metric] - 1.0)) for metric in ("ttft", "tpot", "e2e")}
    print("median |error| of a request     " + "".join(f"{value:>9.1%}" for value in each.values()))


if __name__ == "__main__":
    main()
