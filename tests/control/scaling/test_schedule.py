"""Timetables, case by case, and the scaler that follows one."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim.control.scaling.schedule import ScheduleScaler, Timetable
from sim.control.scaling.view import Autoscaler, DeploymentView
from tests.paths import DATA

CASES = yaml.safe_load((DATA / "control" / "schedule_cases.yaml").read_text())
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def cases(part: str) -> Any:
    return pytest.mark.parametrize("case", CASES[part], ids=lambda case: case["name"])


def seconds(text: str) -> float:
    return sum(float(value) * _UNITS[unit] for value, unit in re.findall(r"(\d+)([hms])", text))


def given_by(case: dict[str, Any]) -> dict[str, Any]:
    found = {key: case[key] for key in ("steps", "windows", "min", "max") if key in case}
    found |= {key: seconds(case[key]) for key in ("lead", "offset") if key in case}
    if "repeat" in case:
        found["repeat"] = None if case["repeat"] is None else seconds(case["repeat"])
    return found


@cases("at")
def test_what_a_timetable_says(case: dict[str, Any]) -> None:
    repeat = None if case["repeat"] is None else seconds(case["repeat"])
    timetable = Timetable(case.get("steps", ()), case.get("windows", ()), repeat)
    assert [(time, timetable.at(seconds(time))) for time, _ in case["times"]] == [tuple(pair) for pair in case["times"]]


@cases("decide")
def test_what_the_scaler_decides(case: dict[str, Any]) -> None:
    scaler = ScheduleScaler(**given_by(case))
    decided = [[time, scaler.decide(DeploymentView(seconds(time), 1)).replicas] for time, _ in case["times"]]
    assert decided == case["times"]


@cases("refused")
def test_a_timetable_that_cannot_be(case: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=re.escape(case["says"])):
        ScheduleScaler(**given_by(case))


def test_the_lead_is_the_cold_start_it_knows_and_a_period(knowledge: Any) -> None:
    scaler = ScheduleScaler(steps=[[0.0, 1], [1000.0, 5]], period=20.0, knowledge=knowledge(cold_start=100.0))
    assert scaler.lead == 120.0
    assert scaler.decide(DeploymentView(879.0, 1)).replicas == 1
    decision = scaler.decide(DeploymentView(880.0, 1))
    assert decision.replicas == 5
    assert decision.numbers == {"time": 880.0, "lead": 120.0, "now": 1.0, "said": 5.0}


def test_it_needs_no_metrics() -> None:
    scaler = ScheduleScaler(steps=[[0.0, 6]])
    assert isinstance(scaler, Autoscaler)
    assert scaler.sample_period == 0.0
    assert scaler.decide(DeploymentView(5.0, 1, metrics=False)).replicas == 6


times = st.integers(0, 599).map(float)


@given(
    steps=st.dictionaries(times, st.integers(0, 30), min_size=1, max_size=6),
    windows=st.lists(st.tuples(times, times, st.integers(0, 30)), max_size=3),
    now=st.floats(0.0, 5000.0),
    lead=st.floats(0.0, 1000.0),
    least=st.integers(0, 5),
    more=st.integers(1, 20),
)
def test_it_asks_for_the_most_within_its_lead_and_stays_within_bounds(
    steps: dict[float, int],
    windows: list[tuple[float, float, int]],
    now: float,
    lead: float,
    least: int,
    more: int,
) -> None:
    written = [{"start": start, "end": end, "replicas": n} for start, end, n in windows if start != end]
    scaler = ScheduleScaler(
        min=least, max=least + more, steps=sorted(steps.items()), windows=written, repeat=600.0, lead=lead
    )
    decided = scaler.decide(DeploymentView(now, 1)).replicas
    # times are whole seconds, so what is said changes at whole seconds only
    looked_at = [now, now + lead, *(float(t) for t in range(int(now) + 1, int(now + lead) + 1))]
    said = max(scaler.timetable.at(time) or 0 for time in looked_at)
    assert decided == min(max(said, least), least + more)
