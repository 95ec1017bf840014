"""The published behaviour of vLLM's V1 scheduler, step by step, on the fast scheduler and on the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sim.serving import reference
from sim.serving.scheduler import Scheduler
from sim.serving.settings import EngineSettings

CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "vllm_scheduler_cases.yaml").read_text(encoding="utf-8")
)
SCHEDULERS = {"fast": Scheduler, "reference": reference.Scheduler}


def engine_settings(case: dict[str, Any]) -> EngineSettings:
    given = dict(case.get("settings", {}))
    given.setdefault("max_num_batched_tokens", 8192)
    given.setdefault("max_num_seqs", min(16, given["max_num_batched_tokens"]))
    given.setdefault("kv_blocks", 10_000)
    given.setdefault("max_model_len", given["max_num_batched_tokens"])
    return EngineSettings(**given)


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "-"))
def test_a_published_case(case: dict[str, Any], kind: str) -> None:
    scheduler: Any = SCHEDULERS[kind](engine_settings(case))
    for number, expected in enumerate(case["steps"]):
        where = f"step {number}"
        for id, prompt, output, *rest in expected.get("add", []):
            priority, arrival = rest or (0, 0.0)
            scheduler.add(id, prompt, output, priority, arrival)
        # scheduled ahead, the first call may only give back what was held
        step = scheduler.schedule() or scheduler.schedule()
        if expected["scheduled"] is None:
            assert step is None, where
        else:
            assert step is not None, where
            assert [list(item) for item in step.scheduled.items()] == expected["scheduled"], where
            for name in ("preempted", "admitted"):
                assert list(getattr(step, name)) == expected.get(name, list(getattr(step, name))), f"{where}: {name}"
            for name, value in expected.get("aggregates", {}).items():
                assert getattr(step, name) == value, f"{where}: {name}"
        for name in ("running", "waiting", "free_blocks"):
            assert getattr(scheduler, name) == expected.get(name, getattr(scheduler, name)), f"{where}: {name}"
        for id, blocks in expected.get("blocks", {}).items():
            assert scheduler.blocks(id) == blocks, f"{where}: blocks of {id}"
        if step is not None and step.scheduled:
            finished = list(scheduler.commit())
            assert finished == expected.get("finished", finished), f"{where}: finished"


def test_there_are_enough_cases_and_each_says_where_it_comes_from() -> None:
    assert len(CASES) >= 25
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert all(case["source"] for case in CASES)
