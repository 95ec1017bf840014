"""Views with invented figures, to see how they are shown."""

from __future__ import annotations

from sim.report.view import Fate, Figure, Option, View

__all__ = ["comparison", "option", "run", "two_workloads"]

_STATISTICS = ("mean", "p50", "p90", "p95", "p99")


def figures(scale: float, half: float | None = 0.02) -> dict[str, Figure]:
    """Every figure of a summary; latencies grow with ``scale``, half-widths are ``half`` of the value."""

    def one(value: float) -> Figure:
        return Figure(value, None if half is None else value * half)

    answer = {}
    for key, size in (("ttft", 0.2), ("tpot", 0.03), ("itl", 0.03), ("e2e", 6.0), ("queue", 0.01)):
        for step, statistic in enumerate(_STATISTICS):
            answer[f"{key}_{statistic}"] = one(size * scale * (1.0 + step))
    plain = {
        "throughput_rps": 11.8, "output_tokens_per_s": 2512.0, "goodput_rps": 11.5 / scale, "slo_attainment": 0.985 / scale,
        "gpu_utilization": 0.83, "kv_usage_mean": 0.41, "kv_usage_peak": 0.97, "batch_mean": 31.0,
        "preemptions_per_request": 0.0012, "usd_per_hour": 12.29, "usd_per_1m_tokens": 0.2153, "usd_per_1m_output_tokens": 1.3591,
        "gpu_hours": 8.0, "cost_usd": 98.32, "requests": 42_480.0, "rejected": 0.0, "unfinished": 0.0,
    }  # fmt: skip
    return answer | {key: one(value) for key, value in plain.items()}


def option(
    name: str, scale: float, status: str | None = "meets", *, half: float | None = 0.02, warnings: tuple[str, ...] = ()
) -> Option:
    """An option with one workload and, unless ``status`` is None, an objective of 2 s on its TTFT p99."""
    found = figures(scale, half)
    fates = () if status is None else (Fate("chat", "ttft_p99", 2.0, found["ttft_p99"], status),)  # type: ignore[arg-type]
    return Option(name, found, {"chat": found}, fates, replications=10, warnings=warnings)


def comparison(question: str = "How many GPUs?", names: tuple[str, str, str] = ("gpus-2", "gpus-4", "gpus-8")) -> View:
    """Three options: one misses, one is not decided, one meets and wins."""
    return View(
        scenario="chat_capacity",
        question=question,
        options=(
            option(names[0], 9.0, "misses", warnings=("3 requests were still in the system",)),
            option(names[1], 2.0, "undecided"),
            option(names[2], 0.7, "meets"),
        ),
        answer=f"{names[2]} is the cheapest that meets every objective.",
        winner=names[2],
        manifest={"twinfer": "0.1.0", "seed": 7},
    )


def run(half: float | None = 0.02) -> View:
    """One run."""
    return View("chat", "Is it fast enough?", (option("chat", 0.7, "meets", half=half),), manifest={"seed": 7})


def two_workloads() -> View:
    """Two workloads with an objective each."""
    chat, batch = figures(0.5), figures(3.0)
    fates = (
        Fate("chat", "ttft_p99", 2.0, chat["ttft_p99"], "meets"),
        Fate("batch", "e2e_p95", 60.0, batch["e2e_p95"], "misses"),
    )
    made = Option("shared", figures(1.0), {"chat": chat, "batch": batch}, fates, replications=10)
    return View("both", "Do they share?", (made,), "No option meets every objective.")
