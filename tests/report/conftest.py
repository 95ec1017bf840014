"""Invented views and results, for tests of how they are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from sim.observe.course import Course, Kept, Line, PoolBill, Starts
from sim.observe.explain import Explanation
from sim.observe.objectives import Estimate
from sim.observe.why import Attribution, Group, Unserved
from sim.report.page import render
from sim.report.view import Break, Decision, Effect, Fate, Figure, Option, Sensitivity, Status, View

_STATISTICS = ("mean", "p50", "p90", "p95", "p99")


@dataclass
class Drawn:
    """What the plots read of a result: latencies from a lognormal, a queue that comes and goes."""

    latencies: dict[str, np.ndarray]
    timeline: pd.DataFrame

    def latency(self, name: str) -> np.ndarray:
        return self.latencies[name]

    def arrivals(self) -> np.ndarray:
        return np.linspace(0.0, 600.0, len(self.latencies["ttft"]))


def drawn(scale: float, seed: int = 3, requests: int = 2_000) -> Drawn:
    """A result whose latencies grow with ``scale``."""
    generator = np.random.default_rng(seed)
    ttft = scale * generator.lognormal(-1.6, 0.8, requests)
    tpot = 0.03 * generator.lognormal(0.0, 0.3, requests)
    times = np.arange(60) * 10.0
    samples = [
        pd.DataFrame(
            {
                "replication": replication,
                "t_s": times,
                "deployment": "chat",
                "replica": replica,
                "waiting": generator.poisson(2.0 * scale, 60),
                "running": generator.poisson(20.0, 60),
                "kv_used": generator.poisson(400.0 * replica + 100.0, 60),
                "kv_blocks": 1000,
            }
        )
        for replication in range(2)
        for replica in range(2)
    ]
    latencies = {"ttft": ttft, "tpot": tpot, "e2e": ttft + 200.0 * tpot}
    return Drawn(latencies, pd.concat(samples, ignore_index=True))


def figures(scale: float, half: float | None = 0.02) -> dict[str, Figure]:
    """Every figure of a summary; latencies grow with ``scale``, half-widths are ``half`` of the value."""

    def one(value: float) -> Figure:
        return Figure(value, None if half is None else value * half)

    answer = {
        f"{key}_{statistic}": one(size * scale * (1.0 + step))
        for key, size in (("ttft", 0.2), ("tpot", 0.03), ("itl", 0.03), ("e2e", 6.0), ("queue", 0.01))
        for step, statistic in enumerate(_STATISTICS)
    }
    plain = {
        "throughput_rps": 11.8, "output_tokens_per_s": 2512.0, "goodput_rps": 11.5 / (1 + scale), "slo_attainment": 0.99 / (1 + scale / 9),
        "gpu_utilization": 0.83, "kv_usage_mean": 0.41, "kv_usage_peak": 0.97, "batch_mean": 31.0,
        "preemptions_per_request": 0.0012, "usd_per_hour": 12.29 / scale, "usd_per_1m_tokens": 0.2153, "gpu_hours": 8.0,
        "cost_usd": 98.32, "requests": 42_480.0, "rejected": 0.0, "unfinished": 0.0,
    }  # fmt: skip
    return answer | {key: one(value) for key, value in plain.items()}


def option(name: str, scale: float, status: Status | None, half: float | None = 0.02) -> Option:
    """One workload and, unless ``status`` is None, an objective of 2 s on its TTFT p99."""
    found = figures(scale, half)
    fates = () if status is None else (Fate("chat", "ttft_p99", 2.0, found["ttft_p99"], status),)
    return Option(name, found, {"chat": found}, fates, replications=10, samples=drawn(scale))


def comparison(question: str = "How many GPUs?", names: tuple[str, str, str] = ("gpus-2", "gpus-4", "gpus-8")) -> View:
    """Three options: one misses, one is not decided, one meets its objective and is the winner."""
    missing = replace(option(names[0], 9.0, "misses"), warnings=("3 requests were still in the system",))
    return View(
        scenario="chat_capacity",
        question=question,
        options=(missing, option(names[1], 2.0, "undecided"), option(names[2], 0.7, "meets")),
        answer=f"{names[2]} is the cheapest that meets every objective.",
        winner=names[2],
        manifest={"twinfer": "0.1.0", "seed": 7, "profiles": {"h100-sxm/llama-3.1-8b/tp1": {"sha256": "ab" * 32}}},
    )


def two_workloads() -> View:
    """One option, two workloads with an objective each."""
    chat, batch = figures(0.5), figures(3.0)
    fates = (
        Fate("chat", "ttft_p99", 2.0, chat["ttft_p99"], "meets"),
        Fate("batch", "e2e_p95", 60.0, batch["e2e_p95"], "misses"),
    )
    made = [
        Option(name, figures(1.0), {"chat": chat, "batch": batch}, fates, replications=10) for name in ("one", "two")
    ]
    return View("both", "Do they share?", tuple(made), "No option meets every objective.")


@dataclass
class Told:
    """A log of one fault, and of as many decisions to scale as asked for."""

    scales: int = 3
    text: str = "load is over the target"

    def decisions(self, most: int) -> tuple[list[Decision], dict[str, int]]:
        fault = Decision(100.0, "fault", "h100 node 3", "the machine failed", "repair 600")
        scales = [
            Decision(3700.5 + place, "scale", "chat", self.text, f"{place} → {place + 1}")
            for place in range(self.scales)
        ]
        return [fault, *scales][:most], {"fault": 1, "place": 7, "scale": self.scales}

    def incidents(self, deployment: str) -> list[Decision]:
        return self.decisions(1)[0] if deployment == "chat" else []

    def arrivals(self, deployment: str) -> tuple[np.ndarray, np.ndarray]:
        return np.linspace(0.0, 600.0, 20), np.full(20, 5.0)


def elastic(name: str = "hpa", log: Told | None = None) -> Option:
    """An option that misses its objective while replicas start, and what is known of why."""
    made = option(name, 9.0, "misses")
    shares = {
        "cold start": Estimate(0.71, 0.06, 5),
        "failure": Estimate(0.11, 0.02, 5),
        "compute": Estimate(0.18, 0.04, 5),
    }
    tail = Group(120.0, 6.1, shares)
    typical = Group(5000.0, 0.084, {"compute": Estimate(0.9, 0.1, 5), "batching": Estimate(0.1, 0.1, 5)})
    lines = [Line("chat", [0.0, 100.0, 200.0], [1, 1, 3], [0, 2, 0], [1, 3, 3])]
    return replace(
        made,
        fates=tuple(replace(fate, explained=f"{name} misses as replicas start.") for fate in made.fates),
        explanation=Explanation(
            [Attribution("chat", "ttft_p99", True, tail, typical)],
            [Unserved("chat", "rejected", "queue full", 0.03)],
        ),
        limits=("chat was limited for 30% of the time.",),
        overall={**made.overall, "replicas_mean": Figure(2.1, 0.1), "lost_share": Figure(0.03, 0.01)},
        workloads={
            "chat": {**made.overall, "rejected": Figure(1274.4, 3.0), "attempts_per_request": Figure(1.2, 0.01)}
        },
        course=Course(
            0,
            600.0,
            lines,
            [Starts("chat", 2.0, 84.0, 120.0, [("waited", 10.0), ("weights/local_disk", 30.0)])],
            [
                PoolBill(
                    "h100",
                    "h100-sxm",
                    Estimate(12.0, 0.5, 5),
                    Estimate(0.2, 0.01, 5),
                    Estimate(1.5, 0.1, 5),
                    Estimate(2.5, None, 1),
                )
            ],
            [Kept("chat", 600.0, [100, 50, 0, 50], [100, 25, 0, 50])],
        ),
        log=log or Told(),
    )


@pytest.fixture(name="elastic", scope="session")
def _elastic() -> View:
    view = comparison()
    return replace(view, options=(*view.options, elastic()))


@pytest.fixture(name="elastic_option")
def _elastic_option() -> Callable[..., Option]:
    return elastic


@pytest.fixture(name="told")
def _told() -> Callable[..., Told]:
    return Told


@pytest.fixture(name="comparison", scope="session")
def _comparison() -> View:
    return comparison()


@pytest.fixture(name="html", scope="session")
def _html(comparison: View) -> str:
    return render(comparison)


@pytest.fixture(name="compared")
def _compared() -> Callable[..., View]:
    return comparison


@pytest.fixture(name="large")
def _large() -> View:
    """Six options of 100,000 requests each, with 3,000 samples of 8 replicas."""
    made = []
    for place in range(6):
        samples = drawn(0.7 + place, seed=place, requests=100_000)
        lines = [
            pd.DataFrame({"replication": 0, "t_s": np.arange(3_000.0), "deployment": "chat", "replica": replica, "waiting": replica,
                          "running": np.arange(3_000) % 97, "kv_used": np.arange(3_000) % 1000, "kv_blocks": 1000})
            for replica in range(8)
        ]  # fmt: skip
        samples.timeline = pd.concat(lines, ignore_index=True)
        made.append(replace(elastic(f"option-{place}"), samples=samples))
    return replace(comparison(), options=tuple(made))


@pytest.fixture(name="studied")
def _studied() -> View:
    """A comparison with what studies of load and of parameters found."""
    effects = (
        Effect("prompt tokens", "0.8 x", "1.2 x", Figure(-0.05, 0.01), Figure(0.08, 0.02)),
        Effect("load", "0.8 x", "1.2 x", Figure(-0.2, 0.05), Figure(0.9, 0.1)),
    )
    return replace(
        comparison(),
        sensitivity=(
            Sensitivity("ttft_p99", Figure(0.7, 0.02), effects, "gpus-8", "chat", "One at a time, 6 replications."),
        ),
        breaks=(
            Break("ttft_p99", 2.0, Figure(1.32, 0.05), 2.0, "gpus-8", "chat"),
            Break("tpot_p99", 0.05, None, 2.0, "gpus-8", "chat"),
        ),
    )


@pytest.fixture(name="run")
def _run() -> View:
    return View("chat", "Is it fast enough?", (option("chat", 0.7, "meets"),), manifest={"seed": 7})


@pytest.fixture(name="one_replication")
def _one_replication() -> View:
    return View("chat", "", (option("chat", 0.7, None, half=None),))


@pytest.fixture(name="two_workloads")
def _two_workloads() -> View:
    return two_workloads()
