"""Waiting lines: who is next, and what fairness between tenants means."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim.control.limits.gate import Gate
from sim.control.limits.line import FifoLine, Line, PriorityLine, line
from sim.control.limits.vtc import VirtualTokenCounter
from tests.paths import DATA

CASES = yaml.safe_load((DATA / "control" / "fairness_cases.yaml").read_text())


def lines(queue: Line, steps: list[dict[str, Any]]) -> None:
    waiting: set[Hashable] = set()
    for step in steps:
        if "push" in step:
            tenant, item, prompt = step["push"]
            queue.push(tenant, item, priority=step.get("priority", 0), prompt_tokens=prompt)
            waiting.add(item)
        elif "pop" in step:
            assert queue.pop() == step["pop"], step
            waiting.remove(step["pop"])
        elif "charge" in step:
            queue.charge(*step["charge"])
        else:
            assert queue.remove(step["remove"]) is step["there"], step
            waiting.discard(step["remove"])
        assert len(queue) == len(waiting)
        if "counters" in step:
            assert isinstance(queue, VirtualTokenCounter)
            assert queue.counters == step["counters"], step
    with pytest.raises(IndexError, match="nobody waits"):
        queue.pop()


def gate(case: dict[str, Any]) -> None:
    made = Gate(**case["gate"])
    for step in case["steps"]:
        if "arrive" in step:
            assert made.arrive(step["at"], step["arrive"]) == step["becomes"], step
        elif "leave" in step:
            assert list(made.leave(step["at"])) == step["leave"], step
        elif "expire" in step:
            assert made.expire(step["at"]) == step["expire"], step
        else:
            assert made.give_up(step["give_up"]) is step["there"], step


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    assert case["source"]
    if "gate" in case:
        gate(case)
    else:
        queue = line(case["order"]) if "order" in case else line("fair", **case["vtc"])
        if "set" in case:
            assert isinstance(queue, VirtualTokenCounter)
            queue.counters.update(case["set"])
        lines(queue, case["steps"])


@pytest.mark.parametrize("order", ["fifo", "priority", "fair"])
def test_an_item_waits_once(order: Any) -> None:
    queue = line(order)
    queue.push("a", 1)
    with pytest.raises(ValueError, match="1 is in the line already"):
        queue.push("b", 1)
    assert isinstance(queue, Line)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: line("lifo"), "fifo, priority and fair are allowed"),  # type: ignore[arg-type]
        (lambda: line("fifo", weights={}), "order fifo takes no weights"),
        (lambda: line("fair", weights={"a": 0.0}), "the weight of 'a' is 0"),
        (lambda: line("fair", output_price=-1.0), "0 or more is allowed"),
        (lambda: line("fair", lift="never"), "paper, artifact and llm-d are allowed"),
        (lambda: line("fair", expected_output_tokens=-1), "0 or more is allowed"),
        (lambda: Gate(0), "limit is 0"),
        (lambda: Gate(1, -1), "max_queue is -1"),
        (lambda: Gate(1, 1, 0.0), "deadline is 0 s"),
        (lambda: Gate(1).leave(0.0), "nobody is inside"),
    ],
)
def test_what_is_not_accepted(made: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made()


requests = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=120)


@given(requests=requests)
def test_backlogged_tenants_are_served_alike(requests: list[tuple[str, int, int]]) -> None:
    """Sheng et al., Lemma 4.3: counters of tenants that wait differ by max(w_p · L_input, w_q · M) at most; here one is served at a time,
    and its output is charged before the next, so by the largest cost of one request."""
    queue = VirtualTokenCounter()
    most = 0.0
    for number, (tenant, prompt, output) in enumerate(requests):
        queue.push(tenant, number, prompt_tokens=prompt)
        most = max(most, prompt + 2.0 * output)
    left = {tenant: sum(1 for t, _, _ in requests if t == tenant) for tenant in "abc"}
    for _ in requests:
        number = queue.pop()
        tenant, _, output = requests[number]
        queue.charge(tenant, output)
        left[tenant] -= 1
        counters = [queue.counters[name] for name in "abc" if left[name]]
        assert not counters or max(counters) - min(counters) <= most


@given(data=st.data())
def test_lines_lose_and_invent_nobody(data: st.DataObject) -> None:
    for queue in (FifoLine(), PriorityLine(), VirtualTokenCounter()):
        waiting: dict[int, tuple[int, int]] = {}
        for number in range(data.draw(st.integers(0, 40))):
            what = data.draw(st.sampled_from(["push", "push", "pop", "remove"]))
            if what == "push":
                priority = data.draw(st.integers(-2, 2))
                queue.push(data.draw(st.sampled_from("ab")), number, priority=priority, prompt_tokens=number)
                waiting[number] = (priority if isinstance(queue, PriorityLine) else 0, number)
            elif what == "pop" and waiting:
                item = queue.pop()
                if not isinstance(queue, VirtualTokenCounter):
                    assert waiting[item] == min(waiting.values())
                del waiting[item]
            elif what == "remove":
                item = data.draw(st.integers(0, 40))
                assert queue.remove(item) is (waiting.pop(item, None) is not None)
            assert len(queue) == len(waiting)


gates = st.lists(st.tuples(st.booleans(), st.floats(0.0, 2.0)), max_size=80)


@given(events=gates, limit=st.integers(1, 3), queue=st.integers(0, 3), deadline=st.none() | st.floats(0.5, 4.0))
def test_a_gate_holds_its_bounds(
    events: list[tuple[bool, float]], limit: int, queue: int, deadline: float | None
) -> None:
    made = Gate(limit, queue, deadline)
    now = 0.0
    states: dict[int, str] = {}
    since: dict[int, float] = {}
    for number, (arrives, wait) in enumerate(events):
        now += wait
        for item in made.expire(now):
            assert states[item] == "wait"
            assert deadline is not None
            assert now - since[item] >= deadline
            states[item] = "expired"
        if arrives:
            states[number] = made.arrive(now, number)
            since[number] = now
        elif made.inside:
            left = made.leave(now)
            assert left.expired == []
            for item in left.admitted:
                assert states[item] == "wait"
                states[item] = "admit"
        assert made.inside <= limit
        assert len(made.line) == sum(1 for state in states.values() if state == "wait") <= queue
        assert made.inside == limit or len(made.line) == 0
