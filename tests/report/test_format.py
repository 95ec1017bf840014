"""Numbers short enough for a table, and no shorter than what is known of them."""

from __future__ import annotations

import pytest

from sim.report.format import Unit, label, unit_for


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (1.2345, "1.23"),
        (12.345, "12.3"),
        (123.45, "123"),
        (1234.5, "1,234"),
        (0.012345, "0.0123"),
        (9.999, "10.0"),
    ],
)
def test_values_have_three_figures_that_count(value: float, text: str) -> None:
    assert Unit("s").value(value) == text


def test_what_is_not_a_number_is_a_dash() -> None:
    assert Unit("s").value(float("nan")) == Unit("s").value(None) == "–"
    assert Unit("s").half_width(float("nan"), 1.0) == Unit("s").half_width(None, 1.0) == ""


def test_a_half_width_is_as_fine_as_its_value_and_never_a_false_zero() -> None:
    unit = Unit("s")
    assert unit.half_width(0.5, 12.3) == "±0.5"
    assert unit.half_width(0.02, 12.3) == "±0.02"
    assert unit.half_width(0.0001, 12.3) == "±<0.01"
    assert unit.half_width(0.0, 12.3) == ""


def test_a_latency_below_a_second_is_in_milliseconds() -> None:
    assert unit_for("tpot_p99", [0.031, 0.044]).value(0.031) == "31.0"
    assert unit_for("e2e_p99", [3.1, 12.0]).value(12.0) == "12.0"
    assert unit_for("slo_attainment", [0.987]).both(0.987, 0.004) == "98.7% ±0.4"


def test_headings_use_the_names_of_the_field() -> None:
    assert label("ttft_p99") == "TTFT p99"
    assert label("chat.ttft_p99") == "chat: TTFT p99"  # not the same as that of all requests
    assert label("something_new") == "something new"
