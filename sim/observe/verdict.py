"""Which option to take: the cheapest that meets every objective, and how sure the differences are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sim.observe.objectives import WHOLE_RUN, Figures, Standing, Status, known
from sim.observe.words import called, in_seconds, number
from sim.stats.multiplicity import holm
from sim.stats.pairs import paired

__all__ = ["HEADLINES", "Pair", "Verdict", "decide", "pairs_against"]

_SIGNS = {"meets": "<=", "misses": ">", "undecided": "against"}

HEADLINES = ("ttft_p99", "tpot_p99", "e2e_p99", "goodput_rps", "slo_attainment", "usd_per_1m_tokens")
"""What options are compared on, besides what the objectives name."""


@dataclass(frozen=True)
class Pair:
    """``option`` less ``baseline`` in one figure, over the ``n`` replications both have, under common random numbers.

    ``p`` is adjusted for all pairs of the comparison (Holm). ``workload`` is None for a figure of all requests. ``significant``
    is None when there are too few replications to say.
    """

    option: str
    baseline: str
    metric: str
    workload: str | None
    difference: float
    half_width: float | None
    p: float | None
    n: int
    significant: bool | None

    def to_json(self) -> dict[str, Any]:
        """As a mapping fit for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Verdict:
    """``winner`` is the cheapest option that meets every objective, None if there is none; ``sentence`` says it in words.

    ``status`` of each option: misses if any objective is missed, else undecided if any is, else meets. ``misses`` and ``undecided``
    name the objectives in question with their figures, by option. ``baseline`` is what the pairs compare with: the winner, else the
    cheapest option. ``runner_up`` is the next best that meets all.
    """

    winner: str | None
    sentence: str
    baseline: str
    runner_up: str | None = None
    status: dict[str, Status] = field(default_factory=dict)
    misses: dict[str, list[str]] = field(default_factory=dict)
    undecided: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As a mapping fit for JSON."""
        return dict(vars(self))


def pairs_against(baseline: str, options: Mapping[str, Figures]) -> list[Pair]:
    """Every other option against ``baseline``, in the headline figures and those the objectives name."""
    base = options[baseline]
    compared: list[tuple[str, str | None]] = [(metric, None) for metric in HEADLINES]
    alone = len(base.workloads) <= 1
    for name, objectives in base.objectives.items():
        for metric in objectives:
            key = (metric, None if alone or metric.startswith("itl") or name == WHOLE_RUN else name)
            if key not in compared:
                compared.append(key)
    raw = []
    for name, figures in options.items():
        if name == baseline:
            continue
        for metric, workload in compared:
            left, right, shifts = _both(figures, base, metric, workload)
            if left:
                test = paired(left, right, base.confidence, shifts)
                if test.n < 2 and base.exact and figures.exact and not shifts:
                    # nothing was left to chance: the difference is what it is
                    raw.append((name, metric, workload, test.difference, 0.0, 0.0 if test.difference else 1.0, test.n))
                else:
                    raw.append((name, metric, workload, test.difference, test.half_width, test.p, test.n))
    adjusted = holm([p for *_, p, _ in raw])
    return [
        Pair(
            option=name,
            baseline=baseline,
            metric=metric,
            workload=workload,
            difference=difference,
            half_width=half_width if math.isfinite(half_width) else None,
            p=None if math.isnan(p) else p,
            n=n,
            significant=None if math.isnan(p) else p <= 1.0 - base.confidence,
        )
        for (name, metric, workload, difference, half_width, _, n), p in zip(raw, adjusted, strict=True)
    ]


def _both(
    figures: Figures, base: Figures, metric: str, workload: str | None
) -> tuple[list[float], list[float], list[float]]:
    """``metric`` of both in the replications in which both have it, and by how much each draw moved their difference.

    Options that use the same profile see the same draws of it: what they moved alike cancels.
    """
    left, right = figures.values(metric, workload), base.values(metric, workload)
    if figures.exact and base.exact:  # one that has no draws is the same in all of the other's
        left = left * len(right) if figures.drawn is None else left
        right = right * len(left) if base.drawn is None else right
    rows = range(min(len(left), len(right)))
    moved = [
        shifts or [0.0] * len(rows) for shifts in (figures.shifts(metric, workload), base.shifts(metric, workload))
    ]
    doubted = figures.drawn is not None or base.drawn is not None
    both = [row for row in rows if not math.isnan(left[row]) and not math.isnan(right[row])]
    shifts = known([moved[0][row] - moved[1][row] for row in both]) if doubted else []
    return [left[row] for row in both], [right[row] for row in both], shifts


def decide(options: Mapping[str, Figures]) -> tuple[Verdict, list[Pair]]:
    """The verdict over ``options`` and the pairs against its baseline.

    Of the options that meet every objective, the cheapest an hour wins; between equally priced ones the cheapest a
    million tokens, if that difference is significant; else the one whose worst objective has the most room. A scenario without
    objectives has no winner.
    """
    standings = {name: figures.standings() for name, figures in options.items()}
    status = {name: _status(of) for name, of in standings.items()}
    many = any(len(figures.workloads) > 1 for figures in options.values())
    misses = {name: [_words(s, many) for s in of if s.status == "misses"] for name, of in standings.items()}
    undecided = {name: [_words(s, many) for s in of if s.status == "undecided"] for name, of in standings.items()}
    by_price = sorted(options, key=lambda name: _price(options[name]))
    meeting = [name for name in by_price if status[name] == "meets"] if any(standings.values()) else []
    ranked = _ranked(meeting, options, standings)
    winner = ranked[0] if ranked else None
    runner_up = ranked[1] if len(ranked) > 1 else None
    baseline = winner or by_price[0]
    pairs = pairs_against(baseline, options)
    if winner is not None:
        sentence = _won(winner, runner_up, options, status, pairs)
    elif not any(standings.values()):
        sentence = f"The scenario sets no objectives, so nothing is decided; {baseline} is the cheapest at {_dollars(options[baseline])}."
    else:
        sentence = _nobody(by_price, status, misses, undecided)
    return Verdict(winner, sentence, baseline, runner_up, status, misses, undecided), pairs


def _status(standings: Sequence[Standing]) -> Status:
    found = {standing.status for standing in standings}
    return "misses" if "misses" in found else "undecided" if "undecided" in found else "meets"


def _price(figures: Figures) -> tuple[float, float]:
    hour, tokens = figures.estimate("usd_per_hour").value, figures.estimate("usd_per_1m_tokens").value
    return (math.inf if math.isnan(hour) else round(hour, 9), math.inf if math.isnan(tokens) else tokens)


def _ranked(meeting: list[str], options: Mapping[str, Figures], standings: Mapping[str, list[Standing]]) -> list[str]:
    """Best first. ``meeting`` is in order of price."""
    left, ranked = list(meeting), []
    while left:
        first = left[0]
        level = {first}
        same = {name: options[name] for name in left if _price(options[name])[0] == _price(options[first])[0]}
        for pair in pairs_against(first, same):
            if pair.metric == "usd_per_1m_tokens" and not pair.significant:
                level.add(pair.option)
        best = min((name for name in left if name in level), key=lambda name: _tightest(standings[name]))
        ranked.append(best)
        left.remove(best)
    return ranked


def _tightest(standings: Sequence[Standing]) -> float:
    return max((s.estimate.value / s.target if s.target > 0.0 else math.inf for s in standings), default=0.0)


def _won(
    winner: str,
    runner_up: str | None,
    options: Mapping[str, Figures],
    status: Mapping[str, Status],
    pairs: Sequence[Pair],
) -> str:
    text = f"{winner} is the cheapest option that meets every objective, at {_dollars(options[winner])}."
    if runner_up is not None:
        price, other = _price(options[winner])[0], _price(options[runner_up])[0]
        if price == other:
            text = (
                f"{winner} meets every objective at {_dollars(options[winner])}, as {runner_up} does at the same price."
            )
        else:
            text += f" {runner_up} also meets them, at ${other - price:,.2f}/h more."
        text += _differences(runner_up, [pair for pair in pairs if pair.option == runner_up])
    open_and_cheaper = [
        name
        for name in options
        if status[name] == "undecided" and _price(options[name])[0] < _price(options[winner])[0]
    ]
    if open_and_cheaper:
        text += f" {_listed(open_and_cheaper)} would be cheaper but {'is' if len(open_and_cheaper) == 1 else 'are'} undecided."
    return text


def _differences(option: str, pairs: Sequence[Pair]) -> str:
    """What differs significantly between the winner and ``option``: cost a million tokens, and the latencies."""
    shown = [pair for pair in pairs if pair.metric == "usd_per_1m_tokens" or _is_latency(pair.metric)]
    if any(pair.significant is None for pair in shown):
        return " One replication cannot tell whether they differ."
    sure = [
        f"{_metric_words(pair)} by {_amount(pair)}{_p(pair)}" for pair in shown if pair.significant and pair.difference
    ]
    if sure:
        how = "" if all(pair.n < 2 for pair in shown) else " significantly"
        return f" Against the first, {option} differs{how} in {'; '.join(sure)}."
    return f" No difference in latency or in price a token between it and {option} is significant."


def _nobody(
    by_price: Sequence[str],
    status: Mapping[str, Status],
    misses: Mapping[str, list[str]],
    undecided: Mapping[str, list[str]],
) -> str:
    unsettled = [name for name in by_price if status[name] == "undecided"]
    text = "No option is sure to meet every objective." if unsettled else "No option meets every objective."
    for name in by_price:
        if misses[name]:
            text += f" {name} misses {'; '.join(misses[name])}."
        elif undecided[name]:
            text += f" {name} is undecided on {'; '.join(undecided[name])}."
    return text


def _words(standing: Standing, many: bool) -> str:
    """``p99 TTFT 2.31 ± 0.12 s > 2 s``, after the workload if there are ``many``, with the reason if there is one."""
    estimate = standing.estimate
    many = many and standing.workload != WHOLE_RUN
    name = f"{standing.workload} {called(standing.metric)}" if many else called(standing.metric)
    if standing.metric.startswith("usd"):
        return _budget_words(name, standing)
    value = estimate.value if math.isfinite(estimate.value) else 0.0
    factor, unit = in_seconds(max(abs(value), standing.target))
    target = f"{standing.target * factor:.6g} {unit}"
    if standing.status == "misses" and standing.why:
        return f"{name} (target {target}): {standing.why}"
    sign = _SIGNS[standing.status]
    reach = f" ± {number(estimate.half_width * factor, 2)}" if estimate.half_width else ""
    why = f" ({standing.why})" if standing.why else ""
    return f"{name} {number(estimate.value * factor, 4)}{reach} {unit} {sign} {target}{why}"


def _budget_words(name: str, standing: Standing) -> str:
    """``$ an hour 41.28 ± 0.40 > 40``."""
    estimate = standing.estimate
    half = estimate.half_width or 0.0
    reach = f" ± {number(half, 2)}" if half > 1e-9 * estimate.value else ""  # and not what is left of rounding
    why = f" ({standing.why})" if standing.why else ""
    return f"{name} {number(estimate.value, 4)}{reach} {_SIGNS[standing.status]} {standing.target:,.6g}{why}"


def _metric_words(pair: Pair) -> str:
    return called(pair.metric) if pair.workload is None else f"{pair.workload} {called(pair.metric)}"


def _amount(pair: Pair) -> str:
    """``+59.8 ± 3.4 ms``, ``-0.063 ± 0.01``."""
    factor, unit = (1.0, "") if pair.metric.startswith("usd") else in_seconds(abs(pair.difference))
    reach = f" ± {number(pair.half_width * factor, 2)}" if pair.half_width else ""
    sign = "+" if pair.difference > 0.0 else ""
    return f"{sign}{number(pair.difference * factor)}{reach} {unit}".rstrip()


def _p(pair: Pair) -> str:
    """In brackets; nothing of a run that leaves nothing to chance."""
    if pair.p is None or pair.n < 2:
        return ""
    return " (p < 0.001)" if pair.p < 0.001 else f" (p = {pair.p:.3f})"


def _is_latency(metric: str) -> bool:
    return metric.partition("_")[0] in ("ttft", "tpot", "itl", "e2e", "queue")


def _dollars(figures: Figures) -> str:
    hour = figures.estimate("usd_per_hour").value
    return "no price" if math.isnan(hour) else f"${hour:,.2f}/h"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
