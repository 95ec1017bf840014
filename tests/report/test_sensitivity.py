"""The page of a sensitivity study, whatever was found."""

from __future__ import annotations

import math
from dataclasses import replace

from sim.report.sensitivity import effects, failures, page
from sim.study.sensitivity import SensitivityResult
from sim.study.sensitivity.breaks import Crossing
from sim.study.sensitivity.doubt import Share
from sim.study.sensitivity.sobol import Index, Spread
from sim.study.sensitivity.tornado import Effect

FIGURE = ("chat", "ttft_p99")


def effect(parameter: str, value: str, end: str, change: float, error: str = "") -> Effect:
    return Effect(
        parameter, parameter, value, end, "", *FIGURE, 0.2, 0.01, 0.2 + change, change, 0.02, 0.5, None, error
    )


def crossing(name: str, kind: str, at: float | None, *each: float) -> Crossing:
    return Crossing("load", name, kind, *FIGURE, 1.0, at, None if at is None else 0.1, each, 8.0, 0.125)


FOUND = SensitivityResult(
    scenario="<b>chat</b>",
    question="Is 1 < 2 & enough?",
    option="",
    digest="d",
    seed=0,
    replications=2,
    confidence=0.95,
    exact=False,
    warmup_s=0.0,
    effects=(
        effect("load", "0.8", "low", -0.1),
        effect("load", "1.2", "high", 0.2),
        effect("replicas", "3", "low", 0.3),
        effect("replicas", "9", "high", math.nan, "no room"),
        effect("router", "random", "choice", 0.05),
    ),
    # of a few rows shares may be estimated outside of [0, 1], or not at all
    indices=(
        Index("load", "load", "0.8 to 1.2", *FIGURE, 1.1, 0.2, 1.2, 0.3),
        Index("a", "a", "1 to 2", *FIGURE, -0.2, 0.1, -0.1, 0.05),
        Index("b", "b", "1 to 2", *FIGURE, math.nan, math.nan, math.nan, math.nan),
    ),
    spreads=(Spread(*FIGURE, 0.2, 0.1, math.nan, 8, 0),),
    crossings=(
        crossing("chat.ttft_p99", "objective", 1.4, 1.3, 1.5),
        crossing("chat.ttft_p99 b", "objective", None, 1.2, math.inf),
        crossing("chat.ttft_p99 c", "objective", None, 0.0, 0.0),
        crossing("KV cache full", "limit", None, math.inf, math.inf),
    ),
    shares=(
        Share("one", *FIGURE, 1.0, 18, 20, 0.7, 0.98, True),
        Share("one", "", "", math.nan, 18, 20, 0.7, 0.98, True),
    ),
)


def test_whatever_was_found_makes_a_page_without_the_network() -> None:
    html = page(FOUND)
    assert "<b>chat" not in html
    assert "Is 1 &lt; 2 &amp; enough?" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    for heading in ("What breaks first", "Sensitivity", "Shares of the variance", "How wrong the profile may be"):
        assert f">{heading}</h2>" in html
    assert "in 1 of 2 replications, up to 8.00" in html
    assert "below 0.12 in 2 of 2 replications" in html
    assert page(FOUND) == html


def test_figures_of_two_workloads_are_told_apart() -> None:
    other = [replace(one, workload="batch") for one in FOUND.effects]
    text = page(replace(FOUND, effects=(*FOUND.effects, *other)))
    assert "What moves chat p99 TTFT" in text
    assert "What moves batch p99 TTFT" in text
    assert "What moves p99 TTFT" in page(FOUND)


def test_the_ends_of_a_range_are_one_bar_and_each_choice_its_own() -> None:
    [found] = effects(FOUND)
    bars = {bar.parameter: bar for bar in found.effects}
    assert (bars["load"].low, bars["load"].at_low.value, bars["load"].at_high.value) == ("0.8", -0.1, 0.2)
    assert (bars["router random"].high, bars["router random"].at_high.value) == ("random", 0.05)
    assert bars["replicas"].high == "9: cannot be run"


def test_objectives_that_never_hold_have_no_load_at_which_they_break() -> None:
    first, second = failures(FOUND)
    assert first.at is not None
    assert first.at.value == 1.4
    assert (second.at, second.tried) == (None, 8.0)


def test_shares_that_are_not_known_are_not_told() -> None:
    vague = replace(FOUND, indices=(replace(FOUND.indices[0], total_half=0.5),))
    assert "Too few points to say what the variance of p99 TTFT comes from" in " ".join(vague.summary)
    assert "comes most from" not in " ".join(vague.summary)


def test_the_summary_says_it_in_words() -> None:
    breaks, variance, winner, kept = FOUND.summary
    assert breaks.startswith("Breaks at 1.40x (1.30 to 1.50) of today's load: p99 TTFT first")
    assert (
        variance
        == "The variance of p99 TTFT over these ranges comes most from load (100%), a (0%), interactions included."
    )
    assert winner.endswith("one stays the cheapest that keeps all objectives in 18 of 20 draws (70% to 98%).")
    assert kept == "one: p99 TTFT is kept in 18 of 20 draws from the doubt of the profiles."
