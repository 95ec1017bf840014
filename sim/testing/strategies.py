"""Hypothesis strategies: engine settings, requests and whole fleets, small enough that every rule is met often."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import nan

from hypothesis import strategies as st

from sim.control import registry
from sim.control.plan import ClosedLoop, DeploymentPlan, FleetPlan
from sim.control.router import Router
from sim.kernel.clock import on_grid
from sim.kernel.streams import generator
from sim.serving.settings import EngineSettings
from sim.testing.tables import constant_step_table, request_table, step_table

__all__ = ["Ask", "asks", "engine_settings", "fleet_plans"]

TICK = 1.0 / 64.0  # steps of exactly one tick, and arrivals at whole ticks, make ties


@dataclass(frozen=True)
class Ask:
    """One request as a strategy draws it; ``gap`` is the time since the request before it."""

    gap: float
    prompt_tokens: int
    output_tokens: int
    priority: int
    session: int


@st.composite
def engine_settings(
    draw: st.DrawFn, longest: int = 60, large: bool = False, any_budget: bool = False
) -> EngineSettings:
    """Settings that vLLM would accept: the KV cache holds at least one request of ``max_model_len`` tokens, the budget at
    least a token a sequence and, without chunking, a whole prompt. ``large``: a cache that is never full. ``any_budget``: fewer
    tokens than sequences too, which vLLM's server refuses and its scheduler does not."""
    block_size = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 16, 32]))
    max_num_seqs = draw(st.integers(1, 8))
    max_model_len = draw(st.integers(2, longest))
    chunked = draw(st.sampled_from([True, True, True, False]))
    least = 1 if any_budget else max_num_seqs
    least = least if chunked else max(least, max_model_len)
    budget = draw(st.integers(least, least + 40))
    needed = -(-max_model_len // block_size)
    spare = max_num_seqs * needed if large else draw(st.one_of(st.integers(0, 2), st.integers(0, needed)))
    return EngineSettings(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget,
        kv_blocks=1 + needed + spare,
        max_model_len=max_model_len,
        block_size=block_size,
        enable_chunked_prefill=chunked,
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 1, 3, 8])),
        policy=draw(st.sampled_from(["fcfs", "priority"])),
        reserve_full_isl=draw(st.booleans()),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.05, 0.3])),
        async_scheduling=draw(st.booleans()),
    )


def asks(max_model_len: int, max_size: int = 16, oversized: bool = False) -> st.SearchStrategy[list[Ask]]:
    """Requests in bursts and apart, short and long, up to ``max_model_len`` tokens (``oversized``: now and then above)."""

    def fit(gap: float, prompt: int, output: int, priority: int, session: int) -> Ask:
        if not (oversized and session == 0):
            prompt = min(prompt, max_model_len - 1)
            output = min(output, max_model_len - prompt)
        return Ask(gap, prompt, output, priority, session)

    gaps = st.one_of(
        st.just(0.0),
        st.integers(1, 12).map(lambda ticks: ticks * TICK),
        st.floats(0.0, 0.02).map(on_grid),
    )
    prompts = st.one_of(st.integers(1, 4), st.integers(1, max_model_len))
    outputs = st.one_of(
        st.integers(1, 4), st.integers(1, max_model_len), st.integers(max_model_len // 2, max_model_len)
    )
    return st.lists(
        st.builds(fit, gaps, prompts, outputs, st.integers(-1, 2), st.integers(-1, 4)), min_size=1, max_size=max_size
    )


def _router(kind: str, seed: int) -> Router:
    return registry.router(kind, {}, generator(seed, 0, "router"))


@st.composite
def fleet_plans(draw: st.DrawFn, *, longest: int = 60, max_size: int = 16, large: bool = False) -> FleetPlan:
    """One or two deployments of 1 to 4 replicas, each behind any built-in router; open and closed loops; drained or not."""
    deployments = []
    kinds = registry.names("router")
    for i in range(draw(st.integers(1, 2))):
        settings = draw(engine_settings(longest, large))
        if draw(st.integers(0, 9)) == 9:  # now and then the cache cannot hold the longest requests
            settings = replace(settings, kv_blocks=max(2, settings.kv_blocks // 2))
        seed = draw(st.integers(0, 2**16))
        if draw(st.booleans()):
            table = step_table(
                settings.max_num_seqs,
                settings.max_num_batched_tokens,
                seed,
                context=longest,
                mixed=draw(st.booleans()),
                spread=draw(st.booleans()),
            )
        else:
            table = constant_step_table(TICK, settings.max_num_seqs, settings.max_num_batched_tokens)
        kind = draw(st.sampled_from(kinds))
        deployments.append(
            DeploymentPlan(
                name=f"deployment-{i}",
                replicas=draw(st.integers(1, 4)),
                settings=settings,
                step=table,
                router=partial(_router, kind, seed),
            )
        )
    open_workloads = draw(st.integers(0, 2))
    closed_workloads = draw(st.integers(0 if open_workloads else 1, 2))
    deployment_of = [draw(st.integers(0, len(deployments) - 1)) for _ in range(open_workloads + closed_workloads)]
    rows: list[tuple[float, int, Ask]] = []
    for workload in range(open_workloads):
        now = 0.0
        for ask in draw(asks(deployments[deployment_of[workload]].settings.max_model_len, max_size, oversized=True)):
            now += ask.gap
            rows.append((now, workload, ask))
    rows.sort(key=lambda row: row[0])
    loops = []
    for workload in range(open_workloads, open_workloads + closed_workloads):
        longest_here = deployments[deployment_of[workload]].settings.max_model_len
        rows.extend((nan, workload, ask) for ask in draw(asks(longest_here, max_size, oversized=True)))
        think = draw(st.sampled_from([0.0, 0.0, TICK, on_grid(0.0123)]))
        loops.append(ClosedLoop(workload, users=draw(st.integers(1, 6)), think=think))
    drain = draw(st.booleans())
    horizon = draw(st.one_of(st.integers(1, 64).map(lambda ticks: ticks * TICK), st.floats(0.01, 2.0).map(on_grid)))
    return FleetPlan(
        table=request_table(
            [arrival for arrival, _, _ in rows],
            [ask.prompt_tokens for _, _, ask in rows],
            [ask.output_tokens for _, _, ask in rows],
            workload=[workload for _, workload, _ in rows],
            priority=[ask.priority for _, _, ask in rows],
            session=[ask.session for _, _, ask in rows],
        ),
        deployments=deployments,
        deployment_of=deployment_of,
        closed_loops=loops,
        horizon=horizon if loops or not drain else float("inf"),
        drain=drain,
    )
