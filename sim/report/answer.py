"""The answer in one sentence, with its confidence; what it would take to be surer; what else the verdict says."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from typing import TYPE_CHECKING

from sim.observe.words import called
from sim.report.format import Unit, unit_for

if TYPE_CHECKING:
    from sim.report.view import Fate, Option, View

__all__ = ["closest", "decided", "headline", "objective", "price", "room", "settle", "supporting", "target"]

_NAMED = 3  # objectives in a sentence
_SETTLED = 5  # options of which it is said what would settle them


def headline(view: View) -> str:
    """One sentence: which option, at what price, how it stands to its objectives, and how sure that is."""
    if not view.targets():
        return _undirected(view)
    chosen = decided(view)
    sure = _sureness(view)
    several = len(view.options) > 1
    if chosen is not None and chosen.status == "meets":
        facts = [part for part in (price(chosen), *_figures(view, chosen.fates)) if part]
        if several:
            return f"Of {len(view.options)} options, {chosen.name} is the cheapest that meets every objective {sure}: {', '.join(facts)}."
        return f"Every objective is met {sure}: {', '.join(facts)}."
    if chosen is None:
        chosen = closest(view)
    broken = [fate for fate in chosen.fates if fate.status == chosen.status]
    facts = _figures(view, broken)
    if not several:
        broken_is = "Not every objective is met" if chosen.status == "misses" else f"Not decided {sure}"
        return f"{broken_is}: {', '.join(facts)}."
    if chosen.status == "misses":
        return f"None of {len(view.options)} options meets every objective; {chosen.name} comes closest, with {', '.join(facts)}."
    return f"No option is sure to meet every objective; {chosen.name} comes closest, not decided on {', '.join(facts)}."


def decided(view: View) -> Option | None:
    """The winner, or the only option there is; None if several options have no winner."""
    if len(view.options) == 1:
        return view.options[0]
    return next((option for option in view.options if option.name == view.winner), None)


def closest(view: View) -> Option:
    """Of options none of which meets everything: an undecided one before one that misses, then the one least over a limit."""
    order = {"meets": 0, "undecided": 1, "misses": 2, None: 3}
    return min(view.options, key=lambda option: (order[option.status], max(map(room, option.fates), default=inf)))


def room(fate: Fate) -> float:
    """The share of its limit that a figure takes: over 1 it is beyond."""
    return fate.figure.value / fate.target if fate.target > 0.0 and isfinite(fate.figure.value) else inf


def price(option: Option) -> str:
    """``$27.52/h``; empty if nothing is known of it."""
    figure = option.overall.get("usd_per_hour")
    if figure is None or not isfinite(figure.value):
        return ""
    half = f"\u00a0±\u00a0{figure.half_width:,.2f}" if figure.half_width and figure.half_width >= 0.005 else ""
    return f"${figure.value:,.2f}{half}/h"


def objective(view: View, fate: Fate) -> str:
    """``p99 TTFT 181 ± 17 ms (limit 2 s)``, after the workload where there are several."""
    whose = f"{fate.workload} " if fate.workload and len(view.workloads) > 1 else ""
    unit = unit_for(fate.metric, [fate.figure.value])
    said = f"{whose}{called(fate.metric)} {unit.sentence(fate.figure.value, fate.figure.half_width)}"
    return f"{said} (limit {target(fate)})"


def target(fate: Fate) -> str:
    """``2 s``, ``50 ms``: the limit as one would write it; nothing breaks the line."""
    unit = unit_for(fate.metric, [fate.target])
    return f"{fate.target * unit.factor:,.6g}{unit.suffix or _unit(unit)}"


def settle(view: View) -> list[str]:
    """What would decide what is open and matters: undecided options that are cheaper than the winner, or all if there is none."""
    chosen = decided(view)
    best = inf if chosen is None or len(view.options) == 1 else _hourly(chosen)
    open_ = [
        (option, [fate for fate in option.fates if fate.status == "undecided"])
        for option in view.options
        if option.status == "undecided" and (option is chosen or _hourly(option) < best)
    ]
    found = []
    for option, fates in open_[:_SETTLED]:
        name = f"{option.name}: " if len(view.options) > 1 else ""
        found.append(f"{name}{', '.join(objective(view, fate) for fate in fates)}. {_remedy(option, fates)}")
    left = [option.name for option, _ in open_[_SETTLED:]]
    return [*found, f"Also open: {', '.join(left)}."] if left else found


def _remedy(option: Option, fates: Sequence[Fate]) -> str:
    more = [fate.more for fate in fates if fate.more]
    if more:
        return f"{option.replications + max(more)} replications instead of {option.replications} might settle it."
    why = next((fate.why for fate in fates if fate.why), "more replications narrow the interval")
    return f"{why[:1].upper()}{why[1:]}."


def supporting(view: View) -> str:
    """What the verdict says after its first sentence, which :func:`headline` says better."""
    return view.answer.partition(". ")[2] if view.targets() else ""


def _undirected(view: View) -> str:
    if view.answer:
        first, stop, _ = view.answer.partition(". ")
        return f"{first}{stop}".strip()
    (option,) = view.options[:1]
    facts = [
        f"{called(name)} {unit_for(name, [figure.value]).sentence(figure.value, figure.half_width)}"
        for name in ("ttft_p99", "tpot_p99", "throughput_rps")
        if (figure := option.overall.get(name)) is not None and isfinite(figure.value)
    ]
    told = ", ".join(part for part in (*facts, price(option)) if part)
    return (
        f"No objectives are set, so nothing is decided; found: {told}."
        if told
        else "No objectives are set, so nothing is decided."
    )


def _sureness(view: View) -> str:
    halves = [fate.figure.half_width for option in view.options for fate in option.fates]
    if all(half is None for half in halves):
        return "in one replication, so with no known confidence"
    if not any(halves):
        return "with nothing left to chance"
    return f"with {100.0 * view.confidence:.4g}% confidence"


def _figures(view: View, fates: Sequence[Fate]) -> list[str]:
    """The tightest objectives, and how many others."""
    shown = sorted(fates, key=lambda fate: -room(fate))[:_NAMED]
    left = len(fates) - len(shown)
    return [*(objective(view, fate) for fate in fates if fate in shown), *([f"{left} more"] if left else [])]


def _hourly(option: Option) -> float:
    figure = option.overall.get("usd_per_hour")
    return figure.value if figure is not None and isfinite(figure.value) else inf


def _unit(unit: Unit) -> str:
    return f"\u00a0{unit.name}" if unit.name and not unit.suffix else ""
