"""All that a sensitivity study found: tables, a summary in words, and a file."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sim.atomic import replacing
from sim.errors import ResultError
from sim.observe.store import plain, read_json, text
from sim.observe.words import called
from sim.study.sensitivity.breaks import Crossing
from sim.study.sensitivity.doubt import NOBODY, Share
from sim.study.sensitivity.sobol import Index, Spread
from sim.study.sensitivity.tornado import Effect

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FILE", "FORMAT", "SensitivityResult"]

FILE = "sensitivity.json"
FORMAT = 1

_Row = TypeVar("_Row", Effect, Index, Spread, Crossing, Share)


@dataclass(frozen=True)
class SensitivityResult:
    """What :func:`sim.sensitivity` returns. What was not asked for is empty.

    ``effects`` of single parameters, ``indices`` and ``spreads`` of Sobol, ``crossings`` along the load, ``margins`` along the step times,
    ``shares`` of the draws that keep the verdict. ``scenario`` is its name, ``digest`` that of all that decides its outcome.
    """

    scenario: str
    question: str
    option: str
    digest: str
    seed: int
    replications: int
    confidence: float
    exact: bool
    warmup_s: float
    effects: tuple[Effect, ...] = ()
    indices: tuple[Index, ...] = ()
    spreads: tuple[Spread, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    margins: tuple[Crossing, ...] = ()
    shares: tuple[Share, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def tornado(self) -> pd.DataFrame:
        """A row an effect: parameter, value, end, workload, metric, base, at, change, half_width, p, kept, error."""
        return _frame(Effect, self.effects)

    @property
    def sobol(self) -> pd.DataFrame:
        """A row a parameter and figure: first, first_half, total, total_half."""
        return _frame(Index, self.indices)

    @property
    def breaks(self) -> pd.DataFrame:
        """A row an objective or limit, in the order in which they fail: at, half_width (multiples of the load), tried, first."""
        return _frame(Crossing, self.crossings)

    @property
    def profile(self) -> pd.DataFrame:
        """A row an option and objective: held of draws, low, high; rows without a metric: how often the option is the winner."""
        return _frame(Share, self.shares)

    @property
    def step_times(self) -> pd.DataFrame:
        """As :attr:`breaks`, along a factor on all step times: how wrong the profile may be."""
        return _frame(Crossing, self.margins)

    @property
    def summary(self) -> tuple[str, ...]:
        """What was found, a sentence each."""
        found = [_of_breaks(self.crossings), _of_effects(self.effects), *_of_indices(self.indices)]
        return tuple(sentence for sentence in (*found, _of_margins(self.margins), *_of_shares(self.shares)) if sentence)

    def to_json(self) -> dict[str, Any]:
        """As a mapping fit for JSON."""
        found: dict[str, Any] = {"format": FORMAT, "kind": "sensitivity"}
        found |= {name: getattr(self, name) for name in _PLAIN}
        found |= {name: [asdict(row) for row in getattr(self, name)] for name in _ROWS}
        return dict(plain(found))

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> SensitivityResult:
        """What :meth:`to_json` gave. ResultError if it is anything else."""
        if saved.get("kind") != "sensitivity" or saved.get("format") != FORMAT:
            found = f"kind {saved.get('kind')!r}, format {saved.get('format')!r}"
            raise ResultError(f"{FILE}: {found}; this version reads sensitivity, format {FORMAT}")
        try:
            values: dict[str, Any] = {name: saved[name] for name in _PLAIN}
            values |= {name: tuple(values[name]) for name in ("notes", "warnings")}
            values |= {name: _rows(kind, saved[name]) for name, kind in _ROWS.items()}
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise ResultError(f"{FILE}: is not what twinfer writes: {error!r}") from error

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write ``sensitivity.json`` into ``directory``, which is made if need be. ResultError if it cannot be written."""
        folder = Path(directory)
        path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as scratch:
                scratch.write_text(text(self.to_json()), encoding="utf-8")
        except OSError as error:
            raise ResultError(f"{path}: cannot be written: {error.strerror or error}") from error
        return path

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> SensitivityResult:
        """From ``directory``, or the file itself. ResultError if there is none."""
        path = Path(directory)
        path = path / FILE if path.is_dir() else path
        try:
            return cls.from_json(read_json(path))
        except ResultError as error:
            message = str(error)
            raise ResultError(
                message if str(path) in message else f"{path}: {message.removeprefix(f'{FILE}: ')}"
            ) from None

    def _repr_html_(self) -> str:
        from html import escape

        parts = [f"<p><b>{escape(self.scenario)}</b> {escape(self.option)}</p>"]
        parts += [f"<p>{escape(sentence)}</p>" for sentence in (*self.summary, *self.notes)]
        shown = (
            (self.breaks, ["name", "kind", "target", "at", "half_width", "tried", "first"]),
            (self.tornado, ["parameter", "value", "metric", "base", "change", "half_width", "p", "kept"]),
            (self.sobol, ["parameter", "over", "metric", "first", "first_half", "total", "total_half"]),
            (self.step_times, ["name", "target", "at", "half_width", "tried"]),
            (self.profile, ["option", "workload", "metric", "target", "held", "draws", "low", "high", "nominal"]),
        )
        parts += [
            frame[columns].to_html(index=False, border=0, float_format="{:.4g}".format)
            for frame, columns in shown
            if len(frame)
        ]
        return "\n".join(parts)


_ROWS: dict[str, type[Any]] = {
    "effects": Effect,
    "indices": Index,
    "spreads": Spread,
    "crossings": Crossing,
    "margins": Crossing,
    "shares": Share,
}
_PLAIN = tuple(entry.name for entry in fields(SensitivityResult) if entry.name not in _ROWS)


def _frame(kind: type[Any], rows: Sequence[Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in rows], columns=[entry.name for entry in fields(kind)])


_NONE_IS_NONE = {Effect: ("base_half", "half_width", "kept"), Crossing: ("at", "half_width")}


def _rows(kind: type[_Row], saved: Sequence[dict[str, Any]]) -> tuple[_Row, ...]:
    """Rows as they were: null is NaN where a number must be."""
    answer = []
    for row in saved:
        values = dict(row)
        if kind is Crossing:
            values["each"] = tuple(math.inf if value is None else float(value) for value in row["each"])
        unknown = [name for name, value in row.items() if value is None and name not in _NONE_IS_NONE.get(kind, ())]
        values |= dict.fromkeys(unknown, math.nan)
        answer.append(kind(**values))
    return tuple(answer)


# --- in words


def _named(found: Crossing, several: bool) -> str:
    """'p99 TTFT', of several workloads 'p99 TTFT of chat'; a limit by its name."""
    if found.kind != "objective":
        return found.name
    return f"{called(found.metric)} of {found.workload}" if several and found.workload else called(found.metric)


def _several(found: Sequence[Crossing | Effect]) -> bool:
    return len({one.workload for one in found if one.workload}) > 1


def _times(crossing: Crossing) -> str:
    """'1.43x (1.38 to 1.49)'."""
    if crossing.at is None:
        return f"more than {crossing.tried:.3g}x" if crossing.beyond else f"less than {crossing.least:.3g}x"
    if not crossing.half_width:
        return f"{crossing.at:.2f}x"
    low, high = max(crossing.at - crossing.half_width, 0.0), crossing.at + crossing.half_width
    return f"{crossing.at:.2f}x ({low:.2f} to {high:.2f})"


def _of_breaks(crossings: Sequence[Crossing]) -> str:
    several = _several(crossings)
    objectives = [crossing for crossing in crossings if crossing.kind == "objective"]
    found = [crossing for crossing in objectives if crossing.at is not None]
    if not objectives:
        return ""
    if not found:
        first = objectives[0]
        if first.beyond:
            return f"No objective is sure to fail up to {first.tried:.3g} times today's load."
        return f"{_named(first, several)} fails in some replications even at {first.least:.3g} times today's load."
    first = found[0]
    sentence = f"Breaks at {_times(first)} of today's load: {_named(first, several)} first"
    if len(found) > 1 and first.first < len(first.each):
        sentence += f" (in {first.first} of {len(first.each)} replications)"
    parts = [f"then {_named(crossing, several)} at {_times(crossing)}" for crossing in found[1:]]
    parts += [
        f"{_named(c, several)} holds up to {c.tried:.3g}x or more" for c in objectives if c.at is None and c.beyond
    ]
    parts += [f"{c.name} at {_times(c)}" for c in crossings if c.kind == "limit" and c.at is not None]
    return f"{'; '.join([sentence, *parts])}."


def _of_effects(effects: Sequence[Effect]) -> str:
    judged = [effect for effect in effects if effect.kept is not None]
    if not judged:
        return ""
    broken = list(dict.fromkeys(f"{effect.label} {effect.value}" for effect in judged if effect.kept is False))
    if not broken:
        return "No single change that was tried breaks an objective on the mean."
    return f"An objective is missed, on the mean, with {' or '.join(broken)} alone."


_VAGUE = 0.3
"""A share that is not known to this is not told in a sentence."""


def _of_indices(indices: Sequence[Index]) -> list[str]:
    answer = []
    several = len({index.workload for index in indices}) > 1
    for workload, metric in dict.fromkeys((index.workload, index.metric) for index in indices):
        own = [i for i in indices if (i.workload, i.metric) == (workload, metric) and not math.isnan(i.total)]
        if own:
            name = f"{called(metric)} of {workload}" if several and workload else called(metric)
            # one beyond 1 is off by so much, whatever few rows say of their own error
            if max(max(index.total_half, index.total - 1.0) for index in own[:3]) > _VAGUE:
                answer.append(
                    f"Too few points to say what the variance of {name} comes from: its shares are off by too much."
                )
                continue
            most = ", ".join(f"{index.label} ({min(max(index.total, 0.0), 1.0):.0%})" for index in own[:3])
            answer.append(f"The variance of {name} over these ranges comes most from {most}, interactions included.")
    return answer


def _of_margins(margins: Sequence[Crossing]) -> str:
    found = [margin for margin in margins if margin.at is not None]
    if not found:
        holds = next((margin for margin in margins if margin.beyond), None)
        return f"Objectives hold with step times {holds.tried:.3g}x what the profile says." if holds else ""
    name = _named(found[0], _several(margins))
    return f"Step times may be {_times(found[0])} of what the profile says before {name} is missed."


def _of_shares(shares: Sequence[Share]) -> list[str]:
    answer = []
    for share in shares:
        if not share.metric and share.nominal:
            keeps = "no option keeps all objectives"
            if share.option != NOBODY:
                keeps = f"{share.option} stays the cheapest that keeps all objectives"
            odds = f"{share.held} of {share.draws} draws ({share.low:.0%} to {share.high:.0%})"
            answer.append(f"Over the doubt of the profiles, {keeps} in {odds}.")
    weak = [share for share in shares if share.metric and share.nominal and share.held < share.draws]
    return answer + [
        f"{share.option + ': ' if share.option else ''}{called(share.metric)} is kept in {share.held} of {share.draws} draws"
        " from the doubt of the profiles."
        for share in weak
    ]
