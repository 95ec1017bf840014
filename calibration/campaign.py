"""The measurements of one calibration: each is on disk as soon as it is made, so that nothing measured is lost and a run can be resumed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from sim.errors import ProfileError

__all__ = ["Campaign", "Record"]

Record = dict[str, Any]
_FORMAT: Final = "twinfer calibration points 1"


class Campaign:
    """A journal of measurements beside the profile that will be made of them, a line of JSON each, and the time there is for more.

    ``measure(key, probe)`` returns the record of ``key``, from the journal if it is there, else from ``probe()``, written and
    synced before it is returned. A line cut short by a killed process is measured again; whole lines are kept.

    ``identity`` is what the measurements are of (model, device, settings): a journal of another one is refused. ``budget`` is in
    seconds of measuring in this process, None for no limit; ``show(done, expected, label)`` is called before each probe.

    :raises ProfileError: a journal of something else, one in use by another process, or a place that cannot be written.
    """

    def __init__(
        self,
        out: Path,
        identity: Mapping[str, Any],
        budget: float | None = None,
        show: Callable[[int, int, str], None] | None = None,
    ) -> None:
        self.path = out.with_name(f"{out.name}.points.jsonl")
        self.identity = json.loads(json.dumps(dict(identity)))
        self.records: dict[str, Record] = {}
        self.resumed = 0
        self.expected = 0
        self._show = show
        self._start = time.monotonic()
        self._budget = budget
        self._file = self._opened()

    def __enter__(self) -> Campaign:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self.records:  # nothing to go on from
            self.path.unlink(missing_ok=True)

    def __contains__(self, key: str) -> bool:
        return key in self.records

    @property
    def time_left(self) -> float:
        """Seconds of the budget that are left; infinite without one."""
        return inf if self._budget is None else self._budget - (time.monotonic() - self._start)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Meanwhile at most ``seconds`` are left: the share of one part of what is measured."""
        budget = self._budget
        self._budget = min(inf if budget is None else budget, time.monotonic() - self._start + seconds)
        try:
            yield
        finally:
            self._budget = budget

    def expect(self, more: int) -> None:
        """``more`` measurements are planned: for the bar of progress."""
        self.expected += more

    def measure(self, key: str, probe: Callable[[], Mapping[str, Any]]) -> Record:
        """The record of ``key``: as it is in the journal, or as ``probe`` measures it now."""
        found = self.records.get(key)
        if found is not None:
            return found
        if self._show is not None:
            self._show(len(self.records), max(self.expected, len(self.records) + 1), key)
        record = json.loads(json.dumps(dict(probe()), allow_nan=False))
        self._append({"key": key, **record})
        self.records[key] = record
        return dict(record)

    def finish(self) -> None:
        """The profile is written: the journal goes."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _opened(self) -> IO[bytes]:
        import fcntl

        try:
            file = self.path.open("a+b")
        except OSError as error:
            raise ProfileError(f"{self.path}: {error.strerror or error}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise ProfileError(f"{self.path}: another calibration is writing it") from None
        try:
            self._restore(file)
        except BaseException:
            file.close()
            raise
        return file

    def _restore(self, file: IO[bytes]) -> None:
        file.seek(0)
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            file.truncate(len(whole))
        lines = whole.splitlines()
        if not lines:
            self._write(file, {"format": _FORMAT, "identity": self.identity})
            return
        try:
            head, *rest = (json.loads(line) for line in lines)
            known = head["format"] == _FORMAT
            theirs = head["identity"]
        except (ValueError, KeyError, TypeError):
            known, theirs, rest = False, None, []
        if not known:
            raise ProfileError(f"{self.path}: is not a journal of measurements; move it away, or write to another file")
        if theirs != self.identity:
            names = [name for name in {**theirs, **self.identity} if theirs.get(name) != self.identity.get(name)]
            said = ", ".join(f"{name} {theirs.get(name)!r} there, {self.identity.get(name)!r} here" for name in names)
            raise ProfileError(f"{self.path}: has measurements of something else ({said}); remove it to start anew")
        for record in rest:
            self.records[record.pop("key")] = record
        self.resumed = len(self.records)

    def _append(self, record: Record) -> None:
        try:
            self._write(self._file, record)
        except OSError as error:
            raise ProfileError(f"{self.path}: {error.strerror or error}") from None

    @staticmethod
    def _write(file: IO[bytes], record: Record) -> None:
        file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
