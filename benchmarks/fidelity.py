"""Predicted against measured: the vLLM 0.19 run on an RTX PRO 6000 of ../shared/data, replayed.

First with nothing fitted: the profile comes from kernels measured apart from any serving run, the settings are the run's own. Then
with one constant, host overhead a step, chosen to match this run's mean TPOT: that one is a fit, and what it gives is no prediction.

    python -m benchmarks.fidelity [--synchronous] [--json] [--figure docs/images/fidelity.png]
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.importers.requests import read_run
from calibration.replay import replay
from calibration.runs import RequestLog
from calibration.validate import FIGURES, Group, group, validate
from sim import profiles

if TYPE_CHECKING:
    from sim import Profile

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
RUN = SHARED / "truth" / "vllm-0.19_rtxpro6000_llama-3.1-8b" / "vllm_requests.csv"
PROFILE = "rtx-pro-6000/llama-3.1-8b/tp1"
QUEUES_FROM = 11.0  # seconds: vllm_timeseries.csv has the first request waiting at 13 s, 118 of 128 running at 11 s
WINDOWS = (0.0, 4.0, QUEUES_FROM, 16.0, 24.0, math.inf)  # seconds of arrival


def measured(path: Path = RUN) -> RequestLog:
    """The run's requests by arrival, on the engine's clock."""
    return read_run(path)


def settings(host_overhead: float = 0.0, asynchronous: bool = True) -> dict[str, float]:
    """The run's engine settings. Asynchronous scheduling is vLLM's default since 0.14, and the run's record names no other; nor does it
    say how many KV blocks there were, and 40,000 are more than its requests can fill."""
    return {
        "max_num_seqs": 128,
        "max_num_batched_tokens": 2048,
        "kv_blocks": 40_000,
        "async_scheduling": asynchronous,
        "host_overhead": host_overhead,
    }


def predicted(
    run: RequestLog, host_overhead: float = 0.0, asynchronous: bool = True, profile: Profile | None = None
) -> RequestLog:
    """The same requests through the simulator; step times of ``profile``, or of :data:`PROFILE`."""
    return replay(profile or profiles.load(PROFILE), run, engine=settings(host_overhead, asynchronous))


def compared(run: RequestLog, guess: RequestLog, before: float = math.inf, after: float = 0.0) -> Group:
    """Errors of the requests that arrived in [after, before) seconds."""
    return group("arrivals", [run], [guess], [(run.sent >= after) & (run.sent < before)])


def errors(
    run: RequestLog, guess: RequestLog, before: float = math.inf, after: float = 0.0
) -> dict[str, dict[str, float]]:
    """Relative errors, predicted over measured less one, by metric and figure, of requests that arrived in [after, before)."""
    found = compared(run, guess, before, after).errors
    return {metric: {name: row[name].value for name in FIGURES} for metric, row in found.items()}


def fitted_overhead(run: RequestLog, asynchronous: bool) -> float:
    """The host overhead a step, in seconds, that brings mean TPOT nearest to this run's; not below 0."""
    from scipy.optimize import minimize_scalar

    def miss(host: float) -> float:
        return abs(errors(run, predicted(run, host, asynchronous))["tpot"]["mean"])

    found = minimize_scalar(miss, bounds=(0.0, 0.005), method="bounded")
    return float(found.x)


def main() -> None:
    """Print the tables, or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synchronous", action="store_true", help="each step formed after the one before it has ended")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw it to this file and print nothing")
    arguments = parser.parse_args()
    run = measured()
    if arguments.figure:
        from calibration.drawing.validation import draw

        arguments.figure.write_bytes(draw(validate(profiles.load(PROFILE), [run], engine=settings())))
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
    each = compared(run, guess).typical
    print("median |error| of a request     " + "".join(f"{value:>9.1%}" for value in each.values()))


if __name__ == "__main__":
    main()
