"""vLLM's log of engine iterations (``--enable-logging-iteration-details``): what each held, by count, and how long it took."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from calibration.importers.files import opened, read_columns
from sim.errors import ProfileError

__all__ = ["IterationLog", "read_iterations", "stamp"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class IterationLog:
    """One engine's iterations in their order; columns of one length.

    ``prompts`` requests with ``prompt_tokens`` were in their context phase (no output token yet), ``decodes`` with ``decode_tokens``
    were past it. ``seconds`` is what the engine waited for the iteration's result: scheduling and what lies between iterations is not in
    it. ``at`` is when the line was written, NaN where the log has no times; ``fine`` says they are finer than a second.
    """

    number: Ints
    prompts: Ints
    prompt_tokens: Ints
    decodes: Ints
    decode_tokens: Ints
    seconds: Floats
    at: Floats
    fine: bool = True
    source: str = ""

    def __len__(self) -> int:
        return len(self.number)

    @property
    def tokens(self) -> Ints:
        """Tokens scheduled, by iteration."""
        return self.prompt_tokens + self.decode_tokens

    def part(self, index: slice | Ints) -> IterationLog:
        """The iterations of those indices, in their order."""
        counts = (self.number, self.prompts, self.prompt_tokens, self.decodes, self.decode_tokens)
        columns = [column[index] for column in counts]
        return IterationLog.of(columns, self.seconds[index], self.at[index], self.fine, self.source)

    @classmethod
    def of(
        cls, counts: Sequence[Ints], seconds: Floats, at: Floats | None = None, fine: bool = True, source: str = ""
    ) -> IterationLog:
        """``counts``: the five columns of counts in their order; without ``at`` no times are known."""
        number, prompts, prompt_tokens, decodes, decode_tokens = counts
        known = np.full(len(number), np.nan) if at is None else at
        return cls(number, prompts, prompt_tokens, decodes, decode_tokens, seconds, known, fine, source)


# vllm/v1/metrics/loggers.py (0.32); before the loggers wrote it, the engine did, without "Engine 000: " (v1/engine/core.py).
_LINE: Final = re.compile(
    r"Iteration\((\d{1,15})\): (\d{1,9}) context requests, (\d{1,9}) context tokens, (\d{1,9}) generation requests,"
    r" (\d{1,9}) generation tokens, iteration elapsed time: (\d+\.\d+) ms( \(dummy\))?"
)
_ENGINE: Final = re.compile(r"Engine (\d+): ?$|EngineCore_(?:DP)?(\d+)\b")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_EPOCH: Final = re.compile(r"^(\d{9,11}(?:\.\d+)?)\b")
_CLOCK: Final = re.compile(r"(?:(\d{4})-)?(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?")
_COLUMNS: Final = {
    "number": ("iteration", "iter_seq"),
    "prompts": ("ctx_requests",),
    "prompt_tokens": ("ctx_tokens",),
    "decodes": ("gen_requests",),
    "decode_tokens": ("gen_tokens",),
    "seconds": ("elapsed_ms", "elapsed_s"),
}


def read_iterations(path: str | Path, engine: int | None = None) -> IterationLog:
    """The iterations in a vLLM log (lines as the server wrote them, colours or not, time stamps of any kind), or in a CSV file of them
    (``log_time_s`` if known, ``iteration``, ``ctx_requests``, ``ctx_tokens``, ``gen_requests``, ``gen_tokens``, ``elapsed_ms``).

    ``engine`` chooses where several wrote to one log. Iterations of an idle data-parallel engine ("dummy") are left out.

    :raises ProfileError: unreadable, no such line in it, several engines and none chosen.
    """
    path = Path(path)
    with opened(path) as file:
        head = file.readline()
    if "ctx_requests" in head and "," in head:
        return _read_csv(path)
    rows: dict[int, list[tuple[float, ...]]] = {}
    fine = True
    with opened(path) as file:
        for line in file:
            found = _LINE.search(line)
            if found is None or found[7]:
                continue
            before = _COLOUR.sub("", line[: found.start()])
            names = _ENGINE.search(before)
            at, is_fine = stamp(before)
            fine = fine and is_fine
            who = int(names[1] or names[2]) if names else 0
            rows.setdefault(who, []).append((*map(float, found.group(1, 2, 3, 4, 5, 6)), at))
    if not rows:
        raise ProfileError(
            f"{path}: has no lines of iterations (`Iteration(7): 0 context requests, ...`): vLLM writes them with"
            " --enable-logging-iteration-details"
        )
    known = ", ".join(map(str, sorted(rows)))
    if engine is None and len(rows) > 1:
        raise ProfileError(f"{path}: has iterations of the engines {known}: say which one with --engine")
    chosen = min(rows) if engine is None else engine
    if chosen not in rows:
        raise ProfileError(f"{path}: has no iterations of engine {chosen}, only of {known}")
    table = np.array(rows[chosen], dtype=float)
    counts = list(table[:, :5].astype(np.int64).T)
    return _checked(path, IterationLog.of(counts, table[:, 5] * 1e-3, table[:, 6], fine, path.name))


def _read_csv(path: Path) -> IterationLog:
    counted = list(_COLUMNS)[:5]
    columns = read_columns(path, _COLUMNS, {"at": ("log_time_s",)}, counted)
    counts = [columns[name].astype(np.int64) for name in counted]
    return _checked(path, IterationLog.of(counts, columns["seconds"], columns.get("at"), source=path.name))


def _checked(path: Path, log: IterationLog) -> IterationLog:
    """``log``, in the order of its numbers where lines came late. :raises ProfileError: a count that cannot be."""
    if (np.diff(log.number) < 0).any() and len(np.unique(log.number)) == len(log):
        log = log.part(np.argsort(log.number, kind="stable"))
    wrong = (log.prompt_tokens < log.prompts) | (log.decode_tokens < log.decodes) | (log.tokens == 0)
    if wrong.any():
        raise ProfileError(f"{path}: iteration {log.number[np.argmax(wrong)]}: has fewer tokens than requests, or none")
    return log


def stamp(text: str) -> tuple[float, bool]:
    """When a line was written, in seconds of some clock, and whether that is finer than a second; NaN without a time.

    Stamps without a year (vLLM's own, ``05-16 12:34:27``) are taken to be of a leap year, so that every date exists.
    """
    epoch = _EPOCH.match(text)
    if epoch is not None:
        return float(epoch[1]), "." in epoch[1]
    clock = _CLOCK.search(text)
    if clock is None:
        return float("nan"), False
    year, month, day, hour, minute, second = (int(part) for part in (clock[1] or "2000", *clock.group(2, 3, 4, 5, 6)))
    try:
        at = datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan"), False
    return at + (float(f"0.{clock[7]}") if clock[7] else 0.0), clock[7] is not None
