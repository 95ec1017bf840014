"""What notebooks show of scenarios, results, comparisons and profiles: well-formed, escaped, the answer first."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

import sim
from sim import profiles
from sim.config import load_text
from sim.observe.display import figure
from sim.observe.objectives import Estimate

TEXT = """
question: Is <b>2</b> & "more" enough?
run: {duration: 20s, replications: 3, seed: 3, warmup: 0}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, instance: aws/p5.4xlarge, nodes: 4}]}
workloads:
  - name: chat
    model: llama
    arrivals: {rate: 10/s}
    lengths: {prompt: 500, output: 50}
    objectives: {ttft_p99: 2s, tpot_p99: 1ms}
deployments:
  - {name: chat, model: llama, pool: h100, replicas: 1}
options:
  "<one>": {}
  two: {deployments.chat.replicas: 2}
"""


@pytest.fixture(scope="module")
def comparison() -> sim.Comparison:
    return sim.compare(load_text(TEXT), jobs=1)


def parsed(shown: Any) -> ET.Element:
    """The HTML as XML: every element is closed, every text escaped."""
    return ET.fromstring(f"<div>{shown._repr_html_()}</div>")


def texts(page: ET.Element, element: str) -> list[str]:
    return ["".join(one.itertext()) for one in page.iter(element)]


def test_a_scenario_shows_its_question_its_parts_and_its_options() -> None:
    page = parsed(load_text(TEXT))

    assert texts(page, "p")[0] == 'Is <b>2</b> & "more" enough?'
    cells = texts(page, "td")
    assert {
        "chat",
        "llama: llama-3.1-8b bf16",
        "h100: 4 × aws/p5.4xlarge",
        "<one>",
        "deployments.chat.replicas: 2",
    } <= set(cells)
    assert "ttft_p99 ≤ 2 s, tpot_p99 ≤ 1 ms" in cells
    assert texts(page, "p")[-1] == "3 replications of 20 s, seed 3"


def test_an_option_of_a_scenario_says_which_it_is() -> None:
    assert "with option two: {deployments.chat.replicas: 2}" in texts(parsed(load_text(TEXT).with_option("two")), "p")


def test_a_comparison_begins_with_its_verdict_and_marks_every_option(comparison: sim.Comparison) -> None:
    page = parsed(comparison)

    assert texts(page, "p")[1] == comparison.verdict.sentence
    rows = [texts(row, "td") for row in page.iter("tr")][1:]
    assert [row[0] for row in rows] == ["<one>", "two"]
    assert [row[1] for row in rows] == ["✗ misses", "✗ misses"]  # no step of this model takes less than 1 ms
    assert [row[-1] for row in rows] == ["$6.88", "$13.76"]  # an hour of one and of two p5.4xlarge


def test_a_result_shows_its_objectives_and_folds_all_figures_away(comparison: sim.Comparison) -> None:
    result = comparison.options["two"]
    page = parsed(result)

    objectives = [texts(row, "td") for row in page.iter("tr")][1:3]
    assert [row[:2] + row[3:] for row in objectives] == [
        ["p99 TTFT", "2 s", "✓ meets"],
        ["p99 TPOT", "1 ms", "✗ misses"],
    ]
    folded = page.find(".//details")
    assert folded is not None
    assert len(texts(folded, "tr")) == len(result.summary) + 1


@pytest.mark.parametrize("name", profiles.names())
def test_a_profile_shows_who_measured_it_and_its_errors(name: str) -> None:
    profile = profiles.load(name)
    page = parsed(profile)

    cells = texts(page, "td") + texts(page, "th")
    assert {name, profile.provenance.source} <= set(cells)
    step = profile.step
    if step is not None and step.decode.held_out is not None:
        assert f"{step.decode.held_out.median:.1%}" in cells


@pytest.mark.parametrize(
    ("metric", "value", "half_width", "said"),
    [
        ("ttft_p99", 0.1722, 0.029, "172 ± 29 ms"),
        ("e2e_mean", 12.34, 0.56, "12.3 ± 0.56 s"),
        ("slo_attainment", 0.991, 0.004, "99.1 ± 0.40 %"),
        ("usd_per_hour", 1234.5, None, "$1,234.50"),
        ("goodput_rps", 33.3, 9.6, "33.3 ± 9.6 req/s"),
        ("ttft_p99", float("nan"), None, ""),
    ],
)
def test_figures_come_with_their_unit(metric: str, value: float, half_width: float | None, said: str) -> None:
    assert figure(metric, Estimate(value, half_width, 3)) == said
