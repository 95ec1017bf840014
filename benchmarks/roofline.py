"""Predicted profiles against measured ones, each GPU and each model left out of the fit in turn.

Step times of every shipped profile, as the roofline predicts them when it has not seen that GPU, that architecture or that model:
median and 90th percentile of the relative error, and its mean. Then the vLLM 0.19 run of ../shared/data on a GPU left out,
replayed on the predicted profile (benchmarks/fidelity.py has it on the measured one).

    python -m benchmarks.roofline [--json]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks import fidelity
from calibration.leftout import PARTS, STEPS, predicted, ratios
from calibration.roofline import left_out
from sim import profiles
from sim.perf.efficiency import Efficiency
from sim.perf.roofline import fitted


def by_profile() -> list[dict[str, Any]]:
    """A row for each fit without something and each shipped profile of what it went without: errors by part and for whole steps."""
    rows = []
    for what, numbers in fitted().without.items():
        for name in left_out(what):
            found = ratios(name, Efficiency(**numbers))
            rows.append({"without": what, "profile": name} | {part: _figures(found[part]) for part in (*STEPS, *PARTS)})
    return rows


def _figures(ratio: list[float]) -> dict[str, float] | None:
    if not ratio:
        return None
    errors = np.asarray(ratio) - 1.0
    size = np.abs(errors)
    return {
        "median": float(np.median(size)),
        "p90": float(np.quantile(size, 0.9)),
        "bias": float(errors.mean()),
    }


def replay() -> dict[str, dict[str, float]]:
    """Errors of the run on the RTX PRO 6000 with step times predicted from the other GPUs."""
    run, measured = fidelity.measured(), profiles.load(fidelity.PROFILE)
    about = (measured.model, measured.gpu, measured.tensor_parallel, measured.dtype, measured.kv_dtype)
    return fidelity.errors(run, fidelity.predicted(run, profile=predicted(*about, without=measured.gpu)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = by_profile()
    run = replay() if fidelity.RUN.is_file() else None
    if arguments.json:
        print(json.dumps({"profiles": rows, "replay": run}, indent=1))
        return
    columns = (*STEPS, *PARTS)
    print(f"| without | profile | {' | '.join(columns)} |")
    print(f"|---|---|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {row['without']} | {row['profile']} | {' | '.join(_cell(row[part]) for part in columns)} |")
    print("\nmedian / 90th percentile of the error's size; mean of the error\n")
    if run is None:
        print(f"{fidelity.RUN} is not here: no replay")
        return
    print(f"{fidelity.PROFILE}, that GPU left out, the run replayed with nothing fitted to it:\n")
    print(f"| | {' | '.join(fidelity.FIGURES)} |")
    print(f"|---|{'---|' * len(fidelity.FIGURES)}")
    for metric, figures in run.items():
        print(f"| {metric.upper()} | {' | '.join(f'{figures[name]:+.1%}' for name in fidelity.FIGURES)} |")


def _cell(figures: dict[str, float] | None) -> str:
    return "" if figures is None else f"{figures['median']:.1%} / {figures['p90']:.1%}; {figures['bias']:+.1%}"


if __name__ == "__main__":
    main()
