"""What breaks first: how much room each objective has, at which load it fails, what limits, and what moves the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from sim.observe.words import called
from sim.report.answer import closest, decided, objective, room, target
from sim.report.format import label, unit_for
from sim.report.markup import Content, Markup, tag
from sim.report.shell import Section, picture, pictures, table

if TYPE_CHECKING:
    from sim.report.plot import Plot
    from sim.report.view import Break, Option, Sensitivity, View

__all__ = ["breaks_first", "sensitivity"]


def breaks_first(view: View) -> Iterator[Section]:
    """Of the option to take, or of the one that comes closest: where it would give first."""
    if not view.targets():
        return
    option = decided(view) or closest(view)
    content: list[Content] = [tag("p", _first(view, option))]
    if view.breaks:
        content.append(picture(_reach_plot(view.breaks, view), "wide"))
        content.append(_break_table(view))
    content.append(_room_table(view, option))
    content += [tag("p", text) for text in option.limits]
    if not view.breaks:
        content.append(
            tag(
                "p",
                "Only the scenario's own load was tried: at what load each objective fails is not known.",
                class_="muted",
            )
        )
    yield Section("breaks", "What breaks first", content)


def _first(view: View, option: Option) -> str:
    """A sentence: the first to fail as the load grows, if that is known, else the objective with the least room."""
    name = f"{option.name}: " if len(view.options) > 1 else ""
    failing = [found for found in view.breaks if found.at is not None and found.option in ("", option.name)]
    if failing:
        found = min(failing, key=lambda one: one.at.value if one.at is not None else 0.0)
        assert found.at is not None
        half = f" ± {found.at.half_width:.2g}" if found.at.half_width else ""
        return f"{name}{_named(found.workload, found.metric, view)} fails first, at {found.at.value:.3g}{half} times the load."
    tightest = max(option.fates, key=room)
    share = room(tightest)
    if not isfinite(share):
        return f"{name}{objective(view, tightest)} has no room."
    if share > 1.0:
        return f"{name}{objective(view, tightest)} is {share:.3g} times its limit."
    return (
        f"{name}{'least' if name else 'Least'} room has {objective(view, tightest)}: it takes {share:.0%} of its limit."
    )


def _room_table(view: View, option: Option) -> Markup:
    rows = []
    for fate in sorted(option.fates, key=lambda fate: -room(fate)):
        unit = unit_for(fate.metric, [fate.figure.value])
        share, half = room(fate), fate.figure.half_width
        far = (fate.figure.value + half) / fate.target if half is not None and fate.target > 0.0 else None
        rows.append(
            [
                _named(fate.workload, fate.metric, view),
                unit.sentence(fate.figure.value, half),
                target(fate),
                f"{share:.0%}" if isfinite(share) else "–",
                "–" if far is None or not isfinite(far) else f"{far:.0%}",
            ]
        )
    heads = ("objective", "figure", "limit", "of the limit", "at the interval's far end")
    return table(f"Room of {option.name} to its limits", heads, rows)


def _named(workload: str, metric: str, view: View) -> str:
    return f"{workload}: {called(metric)}" if workload and len(view.workloads) > 1 else called(metric)


def _reach_plot(breaks: Sequence[Break], view: View) -> Plot:
    from sim.report.charts import Reach, reaches

    several = len({found.option for found in breaks}) > 1
    rows, said = [], []
    for found in breaks:
        name = _named(found.workload, found.metric, view)
        name = f"{found.option}, {name}" if several and found.option else name
        half = found.at.half_width or 0.0 if found.at is not None else 0.0
        at = found.tried if found.at is None else found.at.value
        rows.append(Reach(name, at, max(at - half, 0.0), at + half, found.at is None))
        said.append(
            f"{name} {'holds up to' if found.at is None else 'fails at'} {at:.3g}{f' ± {half:.2g}' if half else ''}"
        )
    text = f"Load, as a multiple of the scenario's, up to which each objective is kept; dashed: the scenario's. {'; '.join(said)}."
    return reaches(
        "breaks", "Load at which each objective fails", text, rows, axis="times the scenario's load", now=1.0
    )


def _break_table(view: View) -> Markup:
    rows = []
    for found in view.breaks:
        half = f" ± {found.at.half_width:.2g}" if found.at is not None and found.at.half_width else ""
        fails = f"{found.at.value:.3g}{half}" if found.at is not None else f"not up to {found.tried:.3g}"
        unit = unit_for(found.metric, [found.target])
        limit = f"{found.target * unit.factor:,.6g}{unit.suffix or f' {unit.name}'}"
        rows.append([_named(found.workload, found.metric, view), found.option or "–", limit, fails])
    heads = ("objective", "option", "limit", "fails at, times the load")
    return table("Load at which each objective fails", heads, rows)


def sensitivity(view: View) -> Iterator[Section]:
    """What moves the figures: a tornado and its numbers for each."""
    if not view.sensitivity:
        return
    plots = [_tornado(place, found, view) for place, found in enumerate(view.sensitivity)]
    tables = [_effects(found, view) for found in view.sensitivity]
    notes = [tag("p", note) for note in dict.fromkeys(found.note for found in view.sensitivity if found.note)]
    yield Section("sensitivity", "Sensitivity", [*notes, pictures(plots), *tables])


def _of(found: Sensitivity, view: View) -> str:
    name = called(found.metric)
    many = len({*view.workloads, *(one.workload for one in view.sensitivity)}) > 1
    name = f"{found.workload} {name}" if found.workload and many else name
    return f"{name} of {found.option}" if found.option and len(view.options) > 1 else name


def _tornado(place: int, found: Sensitivity, view: View) -> Plot:
    from sim.report.charts import BARS, Bar, tornado

    unit = unit_for(found.metric, [found.base.value])

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * unit.factor

    bars = [
        Bar(
            effect.parameter,
            effect.low,
            effect.high,
            effect.at_low.value * unit.factor,
            effect.at_high.value * unit.factor,
            scaled(effect.at_low.half_width),
            scaled(effect.at_high.half_width),
        )
        for effect in found.effects
    ]
    name = unit.suffix or unit.name
    order = sorted(bars, key=lambda bar: (-bar.span, bar.parameter))
    said = "; ".join(f"{bar.parameter} by {bar.span:.3g}{'' if unit.suffix else ' '}{name}" for bar in order[:3])
    left = f" The {len(bars) - BARS} smallest are in the table alone." if len(bars) > BARS else ""
    return tornado(
        f"tornado-{place}",
        f"What moves {_of(found, view)}",
        f"Change from {unit.both(found.base.value, found.base.half_width)}{'' if unit.suffix else f' {name}'} when one parameter alone is "
        f"set low or high; whiskers: {100.0 * view.confidence:.4g}% intervals. Most: {said}.{left}",
        bars,
        axis=f"change of {label(found.metric)}{f', {name}' if name else ''}",
    )


def _effects(found: Sensitivity, view: View) -> Markup:
    unit = unit_for(found.metric, [found.base.value])

    def signed(value: float, half: float | None) -> str:
        text = unit.both(value, half)
        return f"+{text}" if value > 0.0 else text

    ordered = sorted(
        found.effects, key=lambda one: (-max(abs(one.at_low.value), abs(one.at_high.value)), one.parameter)
    )
    rows = [
        [
            effect.parameter,
            effect.low,
            signed(effect.at_low.value, effect.at_low.half_width),
            effect.high,
            signed(effect.at_high.value, effect.at_high.half_width),
        ]
        for effect in ordered
    ]
    name = unit.suffix or unit.name
    change = f"change, {name}" if name else "change"
    heads = ("parameter", "low", f"{change}, at low", "high", f"{change}, at high")
    return table(f"Changes of {_of(found, view)}{f', {name}' if name else ''}", heads, rows)
