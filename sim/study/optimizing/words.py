"""What was found, in words: names of points, why they were ruled out, the answer and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.config.metrics import LATENCIES
from sim.config.space import OPTION
from sim.observe.objectives import Standing
from sim.observe.words import called, in_seconds, number

if TYPE_CHECKING:
    from sim.study.optimizing.candidate import Candidate
    from sim.study.optimizing.search import Search

__all__ = ["answer", "fate", "money", "more_of", "named", "names", "reason"]

_LISTED = 4


def names(paths: Iterable[str]) -> dict[str, str]:
    """A short name for each path: its last step, with those before it where it takes them to tell it from others."""
    given = list(paths)
    short = {path: path if path == OPTION else _tail(path, 2 if path.endswith(".kind") else 1) for path in given}
    said = list(short.values())
    return {path: path if said.count(one) > 1 else one for path, one in short.items()}


def _tail(path: str, steps: int) -> str:
    return ".".join(path.split(".")[-steps:])


def named(point: Mapping[str, Any]) -> str:
    """``replicas 3, router.kind round-robin``."""
    short = names(point)
    said = (str(value) if path == OPTION else f"{short[path]} {value}" for path, value in point.items())
    return ", ".join(said) or "the scenario as it is"


def more_of(name: str, *, less: bool = False) -> str:
    """``more replicas``, ``a higher max_num_seqs``, ``a lower max_num_seqs``."""
    if name.endswith("replicas"):
        return f"{'fewer' if less else 'more'} {name}"
    return f"a {'lower' if less else 'higher'} {name}"


def money(figure: str, value: float) -> str:
    """``$12.40/h``, ``$0.1234 per 1M tokens``, ``p99 TTFT 12.34 ms``; other figures with their name."""
    name = called(figure)
    if math.isnan(value):
        return f"{name} unknown"
    if figure == "usd_per_hour":
        return f"${value:,.2f}/h"
    if name.startswith("$ "):
        return f"${number(value, 4)} {name[2:]}"
    if figure in LATENCIES:
        factor, unit = in_seconds(value)
        return f"{name} {number(value * factor, 4)} {unit}"
    return f"{name} {number(value, 4)}"


def fate(candidate: Candidate, winner: Candidate | None) -> str:
    """How it came out: winner, meets, misses, undecided, not cheaper, not looked at, failed; assumed: to miss, as more of it does."""
    if candidate is winner:
        return "winner"
    if candidate.status in ("misses", "failed"):
        return candidate.status
    if candidate.assumed:
        return "assumed"
    if candidate.dearer:
        return "not looked at" if candidate.figures is None and candidate.status == "undecided" else "not cheaper"
    return "not looked at" if candidate.figures is None else candidate.status


def reason(candidate: Candidate, winner: Candidate | None, search: Search) -> str:
    """Why it was ruled out, or what it would take to decide it."""
    if candidate.status == "failed":
        return candidate.why
    if candidate.status == "misses" and candidate.figures is not None:
        worst = max(
            (standing for standing in candidate.figures.standings() if standing.status != "meets"),
            key=_excess,
            default=None,
        )
        return "" if worst is None else _missed(worst)
    if candidate.assumed:
        return "more of it misses"
    if candidate.dearer and winner is not None:
        return f"not cheaper than {named(winner.point)}"
    if candidate.open and candidate.figures is not None:
        more = candidate.needs(search.levels)
        return "too close to a target to say" if more is None else f"about {_more(max(more, 1))} would tell"
    return ""


def _excess(standing: Standing) -> float:
    value = standing.estimate.value
    if standing.why and standing.status == "misses":
        return math.inf
    return value / standing.target if standing.target > 0.0 and not math.isnan(value) else 0.0


def _missed(standing: Standing) -> str:
    if standing.why and standing.status == "misses":
        return standing.why
    estimate = standing.estimate
    factor, unit = (1.0, "") if standing.metric.startswith("usd") else in_seconds(max(estimate.value, standing.target))
    reach = f" ± {number(estimate.half_width * factor, 2)}" if estimate.half_width else ""
    workload = f"{standing.workload} " if standing.workload else ""
    said = f"{workload}{called(standing.metric)} {number(estimate.value * factor, 4)}{reach} {unit}".rstrip()
    return f"{said}, target {standing.target * factor:,.6g} {unit}".rstrip()


def answer(search: Search, *, method: str) -> str:
    """The answer in a few sentences: what to take, how sure that is, what is open and what would settle it."""
    goal, winner = search.goal, search.winner
    sure = f"{goal.confidence * 100:.10g} % confidence"
    count = len(search.candidates)
    whole = "finalists" if method in ("tpe", "nsga2", "gp") else "configurations"
    cheaper = [one for one in search.candidates if one.open and one.figures is not None]
    unseen = [one for one in search.candidates if one.open and one.figures is None]
    if winner is None:
        if cheaper or unseen:
            text = f"None of the {count:,} {whole} is sure to meet every objective ({sure})."
        elif count == 1:
            return f"It does not meet every objective, with {sure}."
        else:
            text = f"None of the {count:,} {whole} meets every objective, with {sure}."
        return text + _undecided(search, cheaper) + _unseen(unseen)
    price = money(goal.minimize, search.cost(winner))
    rivals = [one for one in search.candidates if one.status == "meets" and not one.dearer and one is not winner]
    if not (cheaper or unseen or rivals):
        within = f" within {goal.tolerance * 100:g} %" if search.random else ""
        text = (
            f"{named(winner.point)} is the cheapest{within} of {count:,} {whole} that meets every objective, at {price}"
        )
        return f"{text}, with {sure}{_provided(search)}."
    text = f"{named(winner.point)} meets every objective at {price}, with {sure}."
    if rivals:
        others = _listed([named(one.point) for one in rivals])
        text += f" So {'does' if len(rivals) == 1 else 'do'} {others}, and which is the cheapest is not decided."
    if cheaper or unseen:
        text += " Whether anything cheaper does is not decided."
    return text + _undecided(search, cheaper) + _unseen(unseen)


def _provided(search: Search) -> str:
    assumed = any(one.assumed for one in search.candidates)
    return f", taking it that {search.order.says} can only help" if assumed else ""


def _undecided(search: Search, cheaper: Sequence[Candidate]) -> str:
    if not cheaper:
        return ""
    needs = [one.needs(search.levels) for one in cheaper]
    told = [max(need, 1) for need in needs if need is not None]
    said = _listed([named(one.point) for one in cheaper])
    text = f" Open: {said}"
    if told:
        text += f"; about {_more(sum(told))} would decide {_which(len(told), len(cheaper))}"
    if len(told) < len(cheaper):
        text += "; of the rest it cannot be told" if told else "; too close to a target to say what would decide it"
    return text + "."


def _which(some: int, all_: int) -> str:
    return ("it" if all_ == 1 else "them") if some == all_ else f"{some} of them"


def _unseen(unseen: Sequence[Candidate]) -> str:
    was = "was" if len(unseen) == 1 else "were"
    return f" {len(unseen):,} {was} not looked at: more replications are needed." if unseen else ""


def _more(count: int) -> str:
    return f"{count:,} more replication{'' if count == 1 else 's'}"


def _listed(texts: Sequence[str]) -> str:
    if len(texts) > _LISTED:
        return f"{'; '.join(texts[:_LISTED])} and {len(texts) - _LISTED} more"
    return " and ".join(texts) if len(texts) < 3 else f"{'; '.join(texts[:-1])} and {texts[-1]}"
