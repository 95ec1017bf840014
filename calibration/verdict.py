"""What may be decided with a profile that was held against a run: one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from calibration.validate import Error, Group, Validation

__all__ = ["LIMITS", "OWN_SPREADS", "judgements", "percent", "sentence"]

LIMITS: Final = {"ttft": 0.15, "tpot": 0.05, "e2e": 0.05}
"""How far a mean may be off for a question of capacity. TTFT bears more: near saturation it is a wait, a small difference of
large numbers, and a few percent more machines change it many times over."""
OWN_SPREADS: Final = 2.0
"""An error within so many times the distance between two runs of the engine itself cannot be laid to the profile."""

Judgement = Literal["within", "outside", "undecided", "not repeatable"]


def judgements(group: Group) -> dict[str, Judgement]:
    """Of each mean that has a limit: ``within`` it with all its interval, ``outside`` of it with all its interval, ``undecided``
    (too few requests to tell), or ``not repeatable``: not within, but the engine's own runs lie as far apart."""
    return {
        metric: _judged(group.errors[metric]["mean"], limit)
        for metric, limit in LIMITS.items()
        if metric in group.errors
    }


def _judged(error: Error, limit: float) -> Judgement:
    reach = error.half_width or 0.0
    if abs(error.value) + reach <= limit:
        return "within"
    if _own(error):
        return "not repeatable"
    return "outside" if abs(error.value) - reach > limit else "undecided"


def _own(error: Error) -> bool:
    return error.spread is not None and abs(error.value) <= OWN_SPREADS * error.spread


def percent(value: float, *, signed: bool = True) -> str:
    """A relative error: ``−1.8 %``."""
    text = f"{100.0 * value:+.1f} %" if signed else f"{100.0 * value:.1f} %"
    return text.replace("-", "−")


def sentence(found: Validation) -> str:
    """The verdict on the whole run."""
    errors = {metric: row["mean"] for metric, row in found.whole.errors.items()}
    judged = judgements(found.whole)
    outside, apart, open_, within = (
        [metric for metric, judgement in judged.items() if judgement == wanted]
        for wanted in ("outside", "not repeatable", "undecided", "within")
    )
    parts = []
    if outside:
        parts.append(f"{_off(errors, outside)}: do not decide on {_names(outside)} with this profile.")
    if apart:
        spread = _and(percent(errors[metric].spread or 0.0, signed=False) for metric in apart)
        parts.append(
            f"{_off(errors, apart)}, but the engine's own runs lie {spread} apart: they do not tell a good profile from a bad one."
        )
    if open_:
        limits = _and(dict.fromkeys(f"{100 * LIMITS[metric]:g} %" for metric in open_))
        parts.append(f"{_off(errors, open_)}: too few requests to tell whether within {limits}.")
    if within:
        at_once = found.whole.system[1] + 1
        fit = (
            f": fit for capacity questions at this load, up to {at_once} requests at once"
            if within == list(judged)
            else ""
        )
        parts.append(f"Within {_limits(within)}{fit}.")
    inside = [metric for metric in within if _own(errors[metric])]
    if inside:
        parts.append(f"In {_names(inside)} it is not farther off than twice the engine's own spread.")
    return " ".join(parts)


def _off(errors: Mapping[str, Error], metrics: Sequence[str]) -> str:
    """``Mean TTFT is off by −23.0 % (±4.1) and TPOT by ...``."""
    said = [f"{metric.upper()} by {percent(errors[metric].value)}{_reach(errors[metric])}" for metric in metrics]
    return f"Mean {_and(said)}".replace(" by ", " is off by ", 1)


def _reach(error: Error) -> str:
    return "" if error.half_width is None else f" (±{100.0 * error.half_width:.1f})"


def _names(metrics: Iterable[str]) -> str:
    return _and(metric.upper() for metric in metrics)


def _limits(metrics: list[str]) -> str:
    """``5 % on mean TPOT and E2E and 15 % on mean TTFT``."""
    by_limit: dict[float, list[str]] = {}
    for metric in metrics:
        by_limit.setdefault(LIMITS[metric], []).append(metric.upper())
    return _and(f"{100 * limit:g} % on mean {_and(names)}" for limit, names in sorted(by_limit.items()))


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
