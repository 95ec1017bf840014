"""The answer in a sentence: what it names, and how sure it says it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sim.report.answer import closest, headline, room, settle, supporting
from sim.report.view import Fate, Figure, Option, View


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_it_names_the_winner_its_price_its_objectives_and_the_confidence(comparison: View) -> None:
    # 0.2 s x 0.7 x (1 + 4) = 700 ms ± 2 %; 12.29 / 0.7 = 17.56 $/h ± 2 %
    assert plain(headline(comparison)) == (
        "Of 3 options, gpus-8 is the cheapest that meets every objective with 95% confidence: "
        "$17.56 ± 0.35/h, p99 TTFT 700 ± 14 ms (limit 2 s)."
    )


def test_without_a_winner_the_closest_is_named_and_not_as_if_it_met(compared: Callable[..., View]) -> None:
    view = compared()
    none = replace(view, options=view.options[:2], winner=None)
    assert "No option is sure to meet every objective; gpus-4 comes closest" in headline(none)
    missed = replace(view, options=view.options[:1] * 2, winner=None)
    assert plain(headline(missed)) == (
        "None of 2 options meets every objective; gpus-2 comes closest, with p99 TTFT 9.00 ± 0.18 s (limit 2 s)."
    )


def test_the_closest_is_the_least_over_its_limit_and_an_open_one_before_a_missed_one(
    compared: Callable[..., View],
) -> None:
    missed, undecided, _ = compared().options
    worse = replace(missed, name="worse", fates=(replace(missed.fates[0], figure=Figure(99.0, 1.0)),))
    view = replace(compared(), options=(worse, missed), winner=None)
    assert closest(view).name == missed.name
    assert closest(replace(view, options=(missed, undecided))).name == undecided.name


def test_a_run_is_told_by_itself(run: View, one_replication: View) -> None:
    assert headline(run).startswith("Every objective is met with 95% confidence: $17.56")
    assert headline(one_replication).startswith("No objectives are set, so nothing is decided; found: p99 TTFT")


@pytest.mark.parametrize(("half", "words"), [(None, "with no known confidence"), (0.0, "with nothing left to chance")])
def test_no_interval_is_no_confidence(run: View, half: float | None, words: str) -> None:
    (option,) = run.options
    fates = tuple(replace(fate, figure=Figure(fate.figure.value, half)) for fate in option.fates)
    sentence = headline(replace(run, options=(replace(option, fates=fates),)))
    assert words in sentence
    assert "95%" not in sentence


def _with(option: Option, price: float, more: int | None) -> Option:
    fates = tuple(replace(fate, more=more) for fate in option.fates)
    return replace(option, fates=fates, overall={**option.overall, "usd_per_hour": Figure(price, 0.0)})


def test_what_would_settle_it_is_said_of_open_options_that_are_cheaper(compared: Callable[..., View]) -> None:
    missed, undecided, winner = compared().options
    view = replace(compared(), options=(missed, _with(undecided, 5.0, 8), _with(winner, 9.0, None)))
    assert [plain(text) for text in settle(view)] == [
        "gpus-4: p99 TTFT 2.00 ± 0.04 s (limit 2 s). 18 replications instead of 10 might settle it."
    ]
    dearer = replace(view, options=(missed, _with(undecided, 15.0, 8), _with(winner, 9.0, None)))
    assert settle(dearer) == []


def test_what_the_verdict_adds_follows_and_its_first_sentence_does_not(comparison: View) -> None:
    view = replace(comparison, answer="gpus-8 is it, at $1.50/h. gpus-4 is open. More.")
    assert supporting(view) == "gpus-4 is open. More."


def test_room_is_the_share_of_the_limit_and_what_cannot_be_told_has_none() -> None:
    assert room(Fate("chat", "ttft_p99", 2.0, Figure(0.5), "meets")) == 0.25
    assert room(Fate("chat", "ttft_p99", 2.0, Figure(float("nan")), "misses")) == float("inf")
