"""How fast twinfer simulates: requests a CPU-second, as medians of several runs, with yardsticks measured in the same run.

CPU time, because it is much the same whatever else runs beside; only (e) is by the clock. Machines differ, so read the ratios:
against a bare ``heapq`` loop that pops and pushes as many events, against SimPy's bare timeout loop, and against the slow
reference. ``make bench`` runs this; ``--compiled DIR`` measures a tree that mypyc has compiled beside it (``make compiled``
builds one).

    (a) one replica, Azure-like chat, 60 % of its capacity       (d) 1,000,000 requests on 64 replicas, and peak memory
    (b) 64 replicas, least outstanding, the same load each       (e) `twinfer run`, 10,000 requests at 20/s on 4 replicas, whole process
    (c) (a) with ten times longer outputs, same concurrency      (f) (a) and (b) compiled
"""

from __future__ import annotations

import argparse
import heapq
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROFILE = "h100-sxm/llama-3.1-8b/tp1"
LOAD = 13.0  # requests a second a replica: 60 % of the 21.6 that saturate one


def fleet(requests: int, replicas: int, *, longer: int = 1) -> Any:
    """A plan: Azure-like chat at ``LOAD`` a replica; outputs ``longer`` times longer come that much less often."""
    import numpy as np

    from sim import profiles
    from sim.control.plan import DeploymentPlan, FleetPlan
    from sim.control.routers import LeastOutstanding
    from sim.perf.compile import step_table
    from sim.serving.settings import EngineSettings
    from sim.workload.table import draw

    arrivals = SimpleNamespace(rate=LOAD * replicas / longer, cv=1.0)
    lengths = SimpleNamespace(preset="azure-2023-conv")
    chat = SimpleNamespace(name="chat", priority=0, arrivals=arrivals, lengths=lengths)
    table = draw([chat], None, requests, 7, 0)
    if longer > 1:
        table.output_tokens = np.asarray(table.output_tokens * longer)
    step = step_table(profiles.load(PROFILE), 1024, 8192)
    settings = EngineSettings(1024, 8192, 27_000 * longer, 131_072)
    deployment = DeploymentPlan("chat", replicas, settings, step, LeastOutstanding)
    return FleetPlan(table, [deployment], [0])


def median_rate(run: Callable[[], int], times: int) -> float:
    """Median of what ``run`` did per CPU-second."""
    rates = []
    for _ in range(times):
        begin = time.process_time()
        done = run()
        rates.append(done / (time.process_time() - begin))
    return statistics.median(rates)


def heap_loop(events: int) -> int:
    """The least a discrete-event simulation can do: pop an event, push another."""
    calendar = [(float(i), i, 0) for i in range(64)]
    heapq.heapify(calendar)
    for i in range(events):
        now, _, _ = heapq.heappop(calendar)
        heapq.heappush(calendar, (now + 64.5, i, 0))
    return events


def simpy_loop(events: int) -> int:
    """One SimPy process that yields timeouts."""
    import simpy

    env = simpy.Environment()

    def process() -> Any:
        for _ in range(events):
            yield env.timeout(1.0)

    env.process(process())
    env.run()
    return events


def simulated(name: str, times: int) -> dict[str, float]:
    """Requests a second of case ``name``, and what the run looked like."""
    from sim.control.fleet import simulate

    requests, replicas, longer = {"a": (60_000, 1, 1), "b": (120_000, 64, 1), "c": (20_000, 1, 10)}[name]
    plan = fleet(requests, replicas, longer=longer)
    rate = median_rate(lambda: (simulate(plan), requests)[1], times)
    ledger = simulate(plan)
    busy = sum(ledger.busy)
    return {
        "requests_per_s": rate,
        "gpu_busy": busy / ledger.end_time / replicas,
        "mean_batch": sum(ledger.sequence_seconds) / busy,
        "steps": sum(ledger.steps) / requests,
    }


def million() -> dict[str, float]:
    """Case (d), in this process: CPU seconds and peak resident memory."""
    begin = time.process_time()
    plan = fleet(1_000_000, 64)
    from sim.control.fleet import simulate

    drawn = time.process_time()
    ledger = simulate(plan)
    end = time.process_time()
    assert sum(1 for outcome in ledger.outcome if outcome == 0) == 1_000_000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": end - begin, "draw_s": drawn - begin, "simulate_s": end - drawn, "peak_gib": peak}


def reference(requests: int) -> float:
    """Requests a second of the slow reference, on a short stretch of (a)."""
    from sim.control.reference import simulate

    plan = fleet(requests, 1)
    return median_rate(lambda: (simulate(plan), requests)[1], 1)


def whole_process(times: int) -> float:
    """Case (e): median seconds of the command, from nothing to results on disk."""
    scenario = ROOT / "benchmarks" / "ten_thousand.yaml"
    seconds = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as out:
            start = "from sim.cli import main; main()"
            command = [sys.executable, "-c", start, "run", str(scenario), "--out", f"{out}/run", "--json"]
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def child(case: str, tree: Path, *more: str) -> Any:
    """Run one case in a fresh process whose ``sim`` is the one in ``tree``."""
    command = [sys.executable, str(Path(__file__).resolve()), "--case", case, "--tree", str(tree), *more]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def case(name: str, times: int) -> Any:
    """What ``--case`` prints."""
    if name == "d":
        return million()
    if name == "reference":
        return reference(2_000)
    return simulated(name, times)


def main() -> None:
    """Measure everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="runs of each case; medians are printed")
    parser.add_argument("--compiled", type=Path, help="a tree whose sim was compiled by mypyc")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--tree", type=Path, default=ROOT, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.tree))
    if arguments.case:
        print(json.dumps(case(arguments.case, arguments.times)))
        return
    times = str(arguments.times)
    heap = median_rate(lambda: heap_loop(300_000), arguments.times)
    bare = median_rate(lambda: simpy_loop(200_000), arguments.times)
    print(f"(g) heapq loop             {heap:>12,.0f} events/s")
    print(f"    SimPy timeout loop     {bare:>12,.0f} events/s   {bare / heap:.3f} of the heap loop")
    rates = {}
    for name, title in (("a", "one replica"), ("b", "64 replicas"), ("c", "10x longer outputs")):
        found = child(name, ROOT, "--times", times)
        rates[name] = found["requests_per_s"]
        print(
            f"({name}) {title:<22} {rates[name]:>12,.0f} requests/s {rates[name] / heap:.3f} of the heap loop; "
            f"GPU busy {found['gpu_busy']:.0%}, batch {found['mean_batch']:.0f}, {found['steps']:.1f} engine steps a request"
        )
    print(f"    (c) costs {rates['a'] / rates['c']:.2f} times (a) a request")
    slow = child("reference", ROOT)
    print(f"    the reference on (a)   {slow:>12,.0f} requests/s   (a) is {rates['a'] / slow:,.0f} times faster")
    big = child("d", ROOT)
    print(
        f"(d) 1,000,000 on 64        {big['seconds']:>12.1f} s   (draw {big['draw_s']:.1f}, simulate {big['simulate_s']:.1f}), "
        f"peak {big['peak_gib']:.2f} GiB"
    )
    print(f"(e) twinfer run, 10,000    {whole_process(arguments.times):>12.2f} s whole process")
    if arguments.compiled:
        for name in ("a", "b"):
            found = child(name, arguments.compiled, "--times", times)["requests_per_s"]
            print(
                f"(f) ({name}) compiled           {found:>12,.0f} requests/s {found / rates[name]:.1f} times interpreted"
            )


if __name__ == "__main__":
    main()
