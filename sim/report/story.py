"""Parts of the page that say why: sentences of the options that lose, what limited each, outcomes, starts, decisions, money."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sim.report.answer import decided
from sim.report.format import Unit, unit_for
from sim.report.markup import Markup, joined, tag
from sim.report.shell import Section, table

if TYPE_CHECKING:
    from sim.observe.objectives import Estimate
    from sim.report.view import Decision, Figure, Option, View

__all__ = ["decisions", "money", "outcomes", "starts", "why"]

DECISIONS = 40
"""Of an option, listed; the rest are counted."""

_LOST = ("rejected", "timeout", "failed", "unfinished")


def why(view: View) -> Iterator[Section]:
    """For each option that does not meet all its objectives: why not; for all of them what limited throughput."""
    losing = [option for option in view.options if any(fate.explained for fate in option.fates)]
    if losing:
        several = len(view.options) > 1
        listed = tag("ul", *(_losing(option, named=several) for option in losing), class_="why-list")
        yield Section("why", "Why not the others" if view.winner and several else "Why", listed)
    said = decided(view) if view.targets() else None  # of this one with what breaks first
    rest = [option for option in view.options if option not in losing and option.limits and option is not said]
    if rest:
        named = len(view.options) > 1
        listed = tag("ul", *(tag("li", _name(option) if named else None, " ".join(option.limits)) for option in rest))
        yield Section("limits", "What limited throughput" if not losing else "What limited the others", listed)


def _losing(option: Option, *, named: bool) -> Markup:
    sentences = [tag("li", fate.explained) for fate in option.fates if fate.explained]
    limits = [tag("li", text, class_="muted") for text in option.limits]
    name = tag("strong", option.name) if named else None
    return tag("li", name, tag("ul", *sentences, *limits), class_="open" if option.status == "undecided" else None)


def _name(option: Option) -> Markup:
    return joined([tag("strong", option.name), ": "])


def outcomes(view: View) -> Iterator[Section]:
    """What became of the requests; nothing where all were served at once."""
    rows = []
    for option in view.options:
        for workload, figures in option.workloads.items():
            requests = figures.get("requests")
            if requests is None or not requests.value:
                continue
            shares = [figures[name].value / requests.value if name in figures else 0.0 for name in _LOST]
            attempts = figures.get("attempts_per_request")
            rows.append((option, workload, 1.0 - sum(shares), shares, attempts))
    if not any(any(shares) or (attempts is not None and attempts.value > 1.0) for *_, shares, attempts in rows):
        return
    many = len(view.workloads) > 1
    heads = ["option", "workload", "served", "rejected", "timed out", "failed", "unfinished", "attempts a request"]
    cells = [
        [option.name, workload, _share(served), *map(_share, shares), _figure("attempts_per_request", attempts)]
        for option, workload, served, shares, attempts in rows
    ]
    reasons = [_reasons(option, workload) for option, workload, *_ in rows]
    if any(reasons):
        heads.append("reasons")
        cells = [[*row, reason] for row, reason in zip(cells, reasons, strict=True)]
    if not many:
        heads, cells = [heads[0], *heads[2:]], [[row[0], *row[2:]] for row in cells]
    heading = "What became of the requests"
    yield Section("outcomes", heading, table(heading, heads, cells))


def _reasons(option: Option, workload: str) -> str:
    found = () if option.explanation is None else option.explanation.unserved
    mine = [one for one in found if one.workload == workload and one.reason and one.reason != one.outcome]
    return ", ".join(f"{one.reason} {_share(one.share)}" for one in mine[:4]) + (", ..." if len(mine) > 4 else "")


def starts(view: View) -> Iterator[Section]:
    """How long replicas took to start, by phase."""
    rows = [
        [
            option.name,
            one.deployment,
            f"{one.a_run:,.1f}",
            f"{one.median:,.0f} s",
            f"{one.longest:,.0f} s",
            ", ".join(f"{_phase(name)} {seconds:,.1f} s" for name, seconds in one.phases),
        ]
        for option in view.options
        if option.course is not None
        for one in option.course.starts
    ]
    if rows:
        heads = ("option", "deployment", "a run", "median", "longest", "mean of each phase")
        yield Section("starts", "Cold starts", table("Cold starts", heads, rows))


def _phase(name: str) -> str:
    """``weights (local disk)`` for ``weights/local_disk``."""
    first, _, second = name.replace("_", " ").partition("/")
    first = "waited for GPUs" if first == "waited" else first
    return f"{first} ({second})" if second else first


def money(view: View) -> Iterator[Section]:
    """The bill of each pool: what is paid for GPUs that no replica had, and the energy where it is known."""
    bills = [(option, pool) for option in view.options if option.course is not None for pool in option.course.pools]
    if not bills:
        return
    known = any(pool.kwh is not None for _, pool in bills)
    heads = ["option", "pool", "$ a run", "idle", "machine-hours", *(["kWh"] if known else [])]
    heading = "Money" + (" and energy" if known else "")
    text = "Idle: the share that paid for GPUs no replica had: machines on their way, spare or reserved and unused, time rounded up."
    bill = table(
        heading,
        heads,
        [
            [
                option.name,
                f"{pool.name} ({pool.gpu})" if pool.gpu else pool.name,
                _estimate(Unit("$"), pool.usd),
                _estimate(Unit("%", 100.0, "%"), pool.idle_share),
                _estimate(Unit("h"), pool.machine_hours),
                *([_estimate(Unit("kWh"), pool.kwh)] if known else []),
            ]
            for option, pool in bills
        ],
    )
    yield Section("money", heading, [tag("p", text, class_="muted"), bill])


def decisions(view: View) -> Iterator[Section]:
    """What was decided and what happened in the first replication of each option."""
    several = len(view.options) > 1
    shown: list[Markup] = []
    for option in view.options:
        if option.log is None:
            continue
        listed, counts = option.log.decisions(DECISIONS)
        if not listed:
            continue
        counted = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        summary = tag("summary", option.name, tag("span", f" {counted}", class_="muted counted"))
        shown.append(tag("details", summary, _log(option.name, listed), _rest(listed, counts), open=not several))
    if shown:
        said = tag("p", "Of the first replication, each with the numbers it was made from.", class_="muted")
        yield Section("decisions", "Decisions", [said, *shown])


_CONSEQUENCES = ("place", "ready", "join", "gone")


def _rest(listed: Sequence[Decision], counts: dict[str, int]) -> Markup | None:
    left = sum(count for kind, count in counts.items() if kind not in _CONSEQUENCES) - len(listed)
    return tag("p", f"{left:,} more are in events.parquet.", class_="muted") if left > 0 else None


def _log(option: str, listed: Sequence[Decision]) -> Markup:
    rows = [[_clock(one.seconds), one.kind, one.where, one.reason, one.numbers] for one in listed]
    return table(f"Decisions of {option}", ("time", "what", "where", "reason", "numbers"), rows)


def _clock(seconds: float) -> str:
    """``1:02:03``, ``02:03.4``."""
    hours, rest = divmod(seconds, 3600.0)
    minutes, left = divmod(rest, 60.0)
    return f"{hours:.0f}:{minutes:02.0f}:{int(left):02d}" if hours else f"{minutes:02.0f}:{left:04.1f}"


def _share(value: float) -> str:
    return "–" if value <= 0.0 else f"{value:.1%}" if value >= 0.0005 else "<0.1%"


def _figure(name: str, figure: Figure | None) -> str:
    return "–" if figure is None else unit_for(name, [figure.value]).both(figure.value, figure.half_width)


def _estimate(unit: Unit, estimate: Estimate | None) -> str:
    return "–" if estimate is None else unit.both(estimate.value, estimate.half_width)
