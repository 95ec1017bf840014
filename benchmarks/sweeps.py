"""Many short runs: 1,000 scenarios of 1,000 requests on loky, Ray and Dask, and what each adds to the runs themselves.

    python -m benchmarks.sweeps [--points 1000] [--requests 1000] [--jobs 2] [--backends loky,ray,dask]

The same points, first one after the other in this process (a sample of them, ``--serial`` points, scaled to all), then on each
backend twice, in a process of its own: cold, workers and cluster started with it, and warm, a second sweep of other requests. On a quiet
machine; the load before each measurement is printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCENARIO = """\
run: {{requests: {requests}, replications: 1, warmup: 0, seed: {seed}}}
models: {{llama: {{architecture: llama-3.1-8b, dtype: bf16}}}}
cluster: {{pools: [{{name: h100, instance: aws/p5.4xlarge, nodes: 16}}]}}
workloads:
  - name: chat
    model: llama
    arrivals: {{rate: 8/s}}
    lengths: {{preset: azure-2023-conv}}
    objectives: {{ttft_p99: 1s, tpot_p99: 50ms}}
deployments:
  - {{name: chat, model: llama, pool: h100, replicas: 2, router: {{kind: least-outstanding}}}}
"""


def sweep(points: int, requests: int, jobs: int, backend: str, seed: int, folder: Path) -> tuple[float, int]:
    """Seconds that a sweep into a store takes, and how many runs are in it."""
    import sim
    from sim.config import load_text

    replicas = 10
    over = {
        "deployments.chat.replicas": f"1..{replicas}",
        "workloads.chat.arrivals.rate": {"from": 2, "to": 22, "steps": max(points // replicas, 2), "whole": False},
    }
    scenario = load_text(SCENARIO.format(requests=requests, seed=seed))
    begin = time.perf_counter()
    found = sim.sweep(scenario, over, jobs=jobs, backend=backend, store=folder)
    spent = time.perf_counter() - begin
    assert not found.failed, found.failed[0].error
    return spent, len(found)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--serial", type=int, default=100)
    parser.add_argument("--backends", default="loky,ray,dask")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        with tempfile.TemporaryDirectory() as folder:
            for seed, name in ((1, "cold"), (2, "warm")):
                spent, runs = sweep(asked.points, asked.requests, asked.jobs, asked.one, seed, Path(folder) / name)
                print(f"{name} {spent:.3f} {runs}", flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        sweep(20, asked.requests, 1, "loky", 3, Path(folder) / "warm-up")
        print(f"load {os.getloadavg()[0]:.1f}")
        spent, runs = sweep(asked.serial, asked.requests, 1, "loky", 1, Path(folder) / "serial")
    one = spent / runs
    print(f"serial: {one * 1e3:.1f} ms a run, with its file; {asked.points:,} of them {one * asked.points:.1f} s")
    ideal = one * asked.points / asked.jobs
    print(f"on {asked.jobs} workers that would be {ideal:.1f} s\n")
    print("backend          wall s   runs/s   over the ideal, ms a run")
    for backend in asked.backends.split(","):
        load = os.getloadavg()[0]
        command = [sys.executable, "-m", "benchmarks.sweeps", "--one", backend, "--points", str(asked.points)]
        command += ["--requests", str(asked.requests), "--jobs", str(asked.jobs)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            if line.split()[:1] not in (["cold"], ["warm"]):
                continue
            name, wall, count = line.split()
            over = (float(wall) - ideal) / int(count) * 1e3
            print(
                f"{backend:6} {name:6} {float(wall):9.1f} {int(count) / float(wall):8.1f} {over:12.2f}   (load {load:.1f})"
            )


if __name__ == "__main__":
    main()
