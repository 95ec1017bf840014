"""Which option is recommended, and what is said of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from sim.observe.objectives import WHOLE_RUN, Figures
from sim.observe.verdict import HEADLINES, decide

STEADY = (-0.01, 0.005, 0.0, 0.01, -0.005)
WILD = (-1.0, 0.9, 0.1, -0.6, 0.6)
TARGETS = {"ttft_p99": 2.0, "tpot_p99": 0.05}


def figures(
    price: float,
    ttft: float,
    tpot: float = 0.04,
    *,
    noise: Sequence[float] = STEADY,
    token_price: float | None = None,
    lost: float = 0.0,
    targets: Mapping[str, float] = TARGETS,
    exact: bool = False,
) -> Figures:
    """An option whose replications differ from the means given by ``noise`` (relative)."""
    rows = [
        {
            "usd_per_hour": price,
            "usd_per_1m_tokens": (price if token_price is None else token_price) * (1.0 + 0.1 * shift),
            "ttft_p99": ttft * (1.0 + shift),
            "tpot_p99": tpot * (1.0 + shift / 10.0),
            "e2e_p99": 10.0 * ttft * (1.0 + shift),
            "goodput_rps": 5.0,
            "slo_attainment": 0.99,
            "lost_share": lost,
        }
        for shift in noise
    ]
    return Figures(rows, {"chat": rows}, {"chat": dict(targets)} if targets else {}, exact=exact)


def test_the_cheapest_that_meets_every_objective_wins() -> None:
    options = {"eight": figures(8.0, 0.9), "two": figures(2.0, 9.0), "four": figures(4.0, 1.8)}
    verdict, pairs = decide(options)
    assert verdict.winner == "four"
    assert verdict.runner_up == "eight"
    assert verdict.status == {"eight": "meets", "two": "misses", "four": "meets"}
    assert verdict.sentence.startswith("four is the cheapest option that meets every objective, at $4.00/h.")
    assert "eight also meets them, at $4.00/h more." in verdict.sentence
    assert "Against the first, eight differs significantly in p99 TTFT by -900 ± " in verdict.sentence
    assert verdict.misses["two"][0].startswith("p99 TTFT 9")
    assert {pair.baseline for pair in pairs} == {"four"}
    assert [pair.option for pair in pairs].count("two") == len(HEADLINES)


def test_a_miss_of_one_objective_is_a_miss() -> None:
    verdict, _ = decide({"cheap": figures(1.0, 0.5, tpot=0.08), "dear": figures(9.0, 0.5)})
    assert verdict.winner == "dear"
    assert len(verdict.misses["cheap"]) == 1
    assert "p99 TPOT" in verdict.misses["cheap"][0]


def test_nobody_meets_and_it_says_what_each_misses() -> None:
    verdict, _ = decide({"two": figures(2.0, 9.0), "four": figures(4.0, 3.0, tpot=0.06)})
    assert verdict.winner is None
    assert verdict.baseline == "two"
    assert verdict.sentence.startswith("No option meets every objective. two misses p99 TTFT 9")
    assert "four misses p99 TTFT 3" in verdict.sentence
    assert "; p99 TPOT 60" in verdict.sentence


def test_an_interval_across_the_target_is_undecided_and_says_how_many_replications_might_settle_it() -> None:
    option = figures(2.0, 1.9, noise=WILD)
    verdict, _ = decide({"two": option})
    assert verdict.winner is None
    assert verdict.status["two"] == "undecided"
    assert verdict.sentence.startswith("No option is sure to meet every objective. two is undecided on p99 TTFT")
    standing = option.standings()[0]
    assert standing.more is not None
    assert f"about {standing.more} more replications" in verdict.sentence


def test_a_cheaper_undecided_option_is_mentioned() -> None:
    verdict, _ = decide({"two": figures(2.0, 1.9, noise=WILD), "four": figures(4.0, 0.5)})
    assert verdict.winner == "four"
    assert "two would be cheaper but is undecided." in verdict.sentence


def test_one_replication_decides_nothing() -> None:
    verdict, pairs = decide({"two": figures(2.0, 0.5, noise=[0.0]), "four": figures(4.0, 0.4, noise=[0.0])})
    assert verdict.winner is None
    assert verdict.status == {"two": "undecided", "four": "undecided"}
    assert "one replication has no interval" in verdict.sentence
    assert all(pair.significant is None and pair.p is None and pair.half_width is None for pair in pairs)


def test_one_replication_decides_when_nothing_is_left_to_chance() -> None:
    verdict, pairs = decide(
        {"two": figures(2.0, 0.5, noise=[0.0], exact=True), "four": figures(4.0, 0.4, noise=[0.0], exact=True)}
    )
    assert verdict.winner == "two"
    assert [pair.significant for pair in pairs if pair.metric == "ttft_p99"] == [True]
    assert [pair.significant for pair in pairs if pair.metric == "goodput_rps"] == [False]


def test_at_one_price_the_cheaper_token_wins_if_that_is_significant() -> None:
    verdict, _ = decide({"a": figures(4.0, 0.5, token_price=1.2), "b": figures(4.0, 1.5, token_price=1.0)})
    assert verdict.winner == "b"
    assert verdict.sentence.startswith("b meets every objective at $4.00/h, as a does at the same price.")


def test_at_one_price_and_no_significant_difference_a_token_the_one_with_more_room_wins() -> None:
    base = figures(4.0, 1.5, tpot=0.01, token_price=1.0)
    rows = [dict(row, usd_per_1m_tokens=1.001 + 0.05 * shift) for row, shift in zip(base.overall, WILD, strict=True)]
    rows = [dict(row, ttft_p99=0.5) for row in rows]
    roomy = Figures(rows, {"chat": rows}, base.objectives)
    assert decide({"tight": base, "roomy": roomy})[0].winner == "roomy"


def test_a_full_tie_goes_to_the_first_and_says_that_nothing_differs() -> None:
    verdict, pairs = decide({"a": figures(4.0, 1.0), "b": figures(4.0, 1.0)})
    assert verdict.winner == "a"
    assert verdict.sentence.endswith("No difference in latency or in price a token between it and b is significant.")
    assert all(pair.p == 1.0 and pair.difference == 0.0 for pair in pairs)


def test_an_option_does_not_pass_by_turning_requests_away() -> None:
    verdict, _ = decide({"picky": figures(2.0, 0.5, lost=0.02), "fair": figures(4.0, 0.5, lost=0.01)})
    assert verdict.winner == "fair"
    assert "2.0% of its requests were not served" in verdict.misses["picky"][0]


def test_a_median_bears_more_losses_than_a_p99() -> None:
    lossy = figures(2.0, 0.5, lost=0.3, targets={"ttft_p50": 2.0, "ttft_p99": 2.0})
    rows = [dict(row, ttft_p50=0.1) for row in lossy.overall]
    standings = Figures(rows, {"chat": rows}, lossy.objectives).standings()
    assert [standing.status for standing in standings] == ["meets", "misses"]


def test_a_figure_that_no_request_has_is_undecided() -> None:
    verdict, _ = decide({"a": figures(2.0, math.nan)})
    assert verdict.status["a"] == "undecided"
    assert "no request has such a figure" in verdict.sentence


def test_without_objectives_there_is_nothing_to_win() -> None:
    verdict, _ = decide({"a": figures(4.0, 1.0, targets={}), "b": figures(2.0, 9.0, targets={})})
    assert verdict.winner is None
    assert verdict.sentence == "The scenario sets no objectives, so nothing is decided; b is the cheapest at $2.00/h."


def test_p_values_are_adjusted_for_all_pairs_of_the_comparison() -> None:
    """A difference that alone is at p = 0.03 or so is not significant among dozens."""
    base = figures(4.0, 1.0)
    shifted = (0.02, 0.0, 0.012, 0.02, 0.004)
    single = figures(9.0, 1.0, noise=shifted)
    alone = {pair.metric: pair for pair in decide({"a": base, "b": single})[1]}["ttft_p99"]
    many = {"a": base} | {f"b{i}": single for i in range(10)}
    crowded = {(pair.option, pair.metric): pair for pair in decide(many)[1]}["b0", "ttft_p99"]
    assert crowded.difference == alone.difference
    assert alone.p is not None
    assert crowded.p is not None
    assert crowded.p >= alone.p


def test_objectives_of_several_workloads_are_compared_workload_by_workload() -> None:
    chat = figures(4.0, 1.0)
    two = {
        name: Figures(option.overall, {"chat": option.overall, "batch": option.overall}, {"chat": {"ttft_p99": 2.0}})
        for name, option in {"a": chat, "b": figures(5.0, 0.5)}.items()
    }
    _, pairs = decide(two)
    assert ("ttft_p99", "chat") in {(pair.metric, pair.workload) for pair in pairs}


@pytest.mark.parametrize(("noise", "status"), [((0.0, 0.0, 0.0), "meets"), ((0.0, 0.0, 0.003), "undecided")])
def test_a_bound_exactly_on_the_target_meets_it(noise: Sequence[float], status: str) -> None:
    assert figures(1.0, 2.0, noise=noise, targets={"ttft_p99": 2.0}).standings()[0].status == status


def test_amounts_come_in_the_unit_that_suits_and_without_exponents() -> None:
    slow, fast = figures(2.0, 1500.0, tpot=0.0301), figures(4.0, 900.0, tpot=0.0202)
    said = decide({"slow": slow, "fast": fast})[0].misses["slow"]
    assert said[0].startswith("p99 TTFT 1,500 ± ")
    assert said[0].endswith(" s > 2 s")
    assert "e+" not in said[0]
    tight = figures(2.0, 0.5, tpot=0.06)
    assert decide({"tight": tight})[0].misses["tight"][0].endswith(" ms > 50 ms")


def test_the_sentence_has_the_names_that_people_use() -> None:
    sentence = decide({"four": figures(4.0, 1.8), "eight": figures(8.0, 0.9, tpot=0.02)})[0].sentence
    assert "p99 TPOT by -20.0 ± " in sentence
    assert "$ per 1M tokens by +4.00 ± " in sentence
    assert "_" not in sentence


def test_with_nothing_left_to_chance_no_p_is_given() -> None:
    both = {name: figures(price, 0.5 / price, noise=[0.0], exact=True) for name, price in (("two", 2.0), ("four", 4.0))}
    sentence = decide(both)[0].sentence
    assert "four differs in p99 TTFT by -125 ms; " in sentence
    assert "p <" not in sentence


def test_workloads_are_named_where_there_are_several() -> None:
    one = figures(2.0, 9.0)
    two = Figures(one.overall, {**one.workloads, "batch": one.overall}, one.objectives)
    assert decide({"two": two})[0].misses["two"][0].startswith("chat p99 TTFT 9")


def on_budget(price: float, most: float, noise: Sequence[float] = STEADY, lost: float = 0.0) -> Figures:
    """An option whose spending an hour differs by ``noise``; at ``most`` so many dollars an hour, and a TTFT it keeps."""
    rows = [
        {**row, "usd_per_hour": price * (1.0 + shift)}
        for row, shift in zip(figures(1.0, 0.9).overall, noise, strict=True)
    ]
    rows = [{**row, "lost_share": lost} for row in rows]
    return Figures(rows, {"chat": rows}, {"chat": {"ttft_p99": 2.0}, WHOLE_RUN: {"usd_per_hour": most}})


def test_a_budget_is_an_objective_of_the_whole_run() -> None:
    # the noise has a standard deviation of 0.0079: of 40 $, with t = 2.776 over five replications, 0.39 $
    verdict, pairs = decide(
        {"dear": on_budget(41.0, 40.0), "close": on_budget(40.0, 40.0), "cheap": on_budget(30.0, 40.0)}
    )
    assert verdict.winner == "cheap"
    assert verdict.status == {"dear": "misses", "close": "undecided", "cheap": "meets"}
    assert len(verdict.misses["dear"]) == 1
    assert verdict.misses["dear"][0].startswith("$ an hour 41.00 ± 0.40 ")
    assert verdict.misses["dear"][0].endswith(" > 40")
    assert verdict.undecided["close"][0].startswith("$ an hour 40.00 ± 0.39 ")
    assert "against 40 (the target is inside the interval" in verdict.undecided["close"][0]
    assert ("usd_per_hour", None) in {(pair.metric, pair.workload) for pair in pairs}


def test_a_budget_is_kept_whoever_was_served_but_latency_objectives_are_not() -> None:
    standings = on_budget(30.0, 40.0, lost=0.5).standings()
    assert [(one.workload, one.status) for one in standings] == [("chat", "misses"), (WHOLE_RUN, "meets")]


def test_a_budget_is_not_named_after_a_workload() -> None:
    one = on_budget(41.0, 40.0)
    two = Figures(one.overall, {"chat": one.overall, "docs": one.overall}, one.objectives)
    assert decide({"dear": two})[0].misses["dear"][0].startswith("$ an hour 41")


def test_a_budget_survives_being_saved() -> None:
    one = on_budget(41.0, 40.0)
    assert Figures.from_json(one.to_json(), one.confidence).standings() == one.standings()
