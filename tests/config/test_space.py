"""Dimensions of a study: what a user writes for one path, and the values it stands for."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.config import load_text
from sim.config.space import Dimension, amount, dimension
from sim.errors import ConfigError

BASE = """\
run: {requests: 10}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, gpu: h100-sxm, price: 2.5, nodes: 8}]}
workloads: [{name: chat, model: llama, arrivals: {rate: 10/s}, lengths: {prompt: 200, output: 20}}]
deployments: [{name: chat, model: llama, pool: h100, replicas: 1}]
options: {one: {}, two: {deployments.chat.replicas: 2}}
"""


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("1..4", (1, 2, 3, 4)),
        ("-1..1", (-1, 0, 1)),
        ("1..64:7 log", (1, 2, 4, 8, 16, 32, 64)),
        ("0.5..2:4", (0.5, 1, 1.5, 2)),
        ("100ms..300ms:3", ("100ms", "200ms", "300ms")),
        ("1/s..100/s:3 log", ("1/s", "10/s", "100/s")),
        ({"from": 1, "to": 16, "scale": "log", "steps": 5}, (1, 2, 4, 8, 16)),
        ({"from": 1, "to": 3, "steps": 5, "whole": False}, (1, 1.5, 2, 2.5, 3)),
        ([1, "a", {"b": 2}], (1, "a", {"b": 2})),
        # a range of whole numbers has each once, however many steps are asked
        ("1..3:9", (1, 2, 3)),
    ],
)
def test_a_grid_takes_the_values_that_are_meant(written: Any, values: tuple[Any, ...]) -> None:
    assert dimension(written).grid() == values


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1.8", "'1.8' is not a list of values, or a range like 1..8"),
        ("1..4:2:3", "'1..4:2:3' is not a list of values, or a range like 1..8"),
        ("8..1", "'8' is not less than '1'"),
        ("1s..5ms:3", "are not in the same unit"),
        ("0..8:3 log", "a log scale needs numbers above 0"),
        ([], "is empty: give at least one value"),
        ({"from": 1}, "a range needs from and to"),
        ({"from": 1, "to": 2, "step": 3}, "'step' is not one of from, to, steps, scale, whole (did you mean 'steps'?)"),
        ({"from": 1, "to": 2, "steps": 1}, "steps: '1' is not a whole number from 2 to 10000"),
        ({"from": 1, "to": 2, "scale": "exp"}, "scale: 'exp' is not one of linear, log"),
        ({"from": 1.5, "to": 3, "whole": True}, "the ends of a range of whole numbers are whole"),
        (7, "'7' is not a list of values"),
    ],
)
def test_what_is_no_dimension_is_said_in_words(written: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        dimension(written)


@pytest.mark.parametrize("written", ["0.5..2", "1..10001", "1..1000000000 log"])
def test_a_grid_over_a_stretch_or_very_many_numbers_asks_for_its_steps(written: str) -> None:
    assert not dimension(written).listed
    with pytest.raises(ValueError, match="a grid needs the number of values"):
        dimension(written).grid()


@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_uniform_shares_give_each_whole_number_its_due(low: int, more: int, log: bool) -> None:
    one = Dimension(low=low, high=low + more, whole=True, log=log)
    count = 4_000
    found = [one.at((number + 0.5) / count) for number in range(count)]
    assert found == sorted(found)
    assert set(found) <= set(range(low, low + more + 1))
    for value in range(low, low + more + 1):
        # on a log scale from half below to half above, by ratio
        ratio = math.log((value + 0.5) / (value - 0.5)) / math.log((low + more + 0.5) / (low - 0.5))
        due = ratio if log else 1.0 / (more + 1)
        assert abs(found.count(value) / count - due) <= 2.0 / count


@given(st.floats(0.0, 1.0, exclude_max=True))
def test_a_share_of_a_log_range_is_that_share_of_its_ratios(share: float) -> None:
    assert dimension("0.01..100.0 log").at(share) == pytest.approx(10.0 ** (4.0 * share - 2.0), rel=1e-5)


@given(st.lists(st.integers(), min_size=1, max_size=7, unique=True), st.floats(0.0, 1.0, exclude_max=True))
def test_a_share_of_a_list_is_one_of_it(values: list[int], share: float) -> None:
    assert dimension(values).at(share) == values[int(share * len(values))]


@pytest.mark.parametrize("written", ["1..4", "1..64:7 log", "0.5..2:4", "100ms..300ms:3", ["a", 1]])
def test_what_a_dimension_says_of_itself_reads_as_it(written: Any) -> None:
    one = dimension(written)
    assert dimension(one.to_json()) == one


@pytest.mark.parametrize(("value", "number"), [(3, 3.0), ("250ms", 250.0), ("8/s", 8.0), ("tpot", None), (None, None)])
def test_an_amount_is_the_number_in_a_value(value: Any, number: float | None) -> None:
    assert amount(value) == number


def test_a_scenario_keeps_what_varies_and_its_digest_does_not_depend_on_it() -> None:
    varied = load_text(BASE + "sweep: {over: {deployments.chat.replicas: 1..4, option: [one, two]}}\n")
    assert varied.sweep is not None
    assert list(varied.sweep.over) == ["deployments.chat.replicas", "option"]
    assert varied.digest() == load_text(BASE).digest()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("sweep: {over: {deployments.chatt.replicas: 1..4}}", "'chatt' is not in deployments (did you mean 'chat'?)"),
        ("sweep: {over: {option: [tow]}}", "'tow' is not an option (did you mean 'two'?); there are one, two"),
        ("sweep: {over: {deployments.chat.replicas: 4..1}}", "deployments.chat.replicas: '4' is not less than '1'"),
        ("sweep: {method: lhs}", "'lhs' is not"),
        ("sweep: {points: 0}", "out of range"),
    ],
)
def test_a_section_that_cannot_be_is_refused_with_its_line(section: str, said: str) -> None:
    with pytest.raises(ConfigError) as found:
        load_text(BASE + section + "\n")
    assert said in str(found.value)
    assert str(found.value).startswith("scenario.yaml:7: sweep.")


def test_a_point_has_an_option_first_and_no_study() -> None:
    scenario = load_text(BASE + "sweep: {over: {deployments.chat.replicas: 1..4}}\n")
    point = scenario.with_changes({"deployments.chat.replicas": 3, "option": "two"})
    assert point.deployments[0].replicas == 3
    assert scenario.with_changes({"option": "two"}).deployments[0].replicas == 2
    assert point.sweep is None
    assert not point.options
