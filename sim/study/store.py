"""A folder of runs, one file each: what has been run is not run again, whoever runs it and however often he is interrupted.

    DIR/sweep.json                 what was asked, of which scenario
    DIR/runs/KEY.parquet           figures: a row a replication and workload, and one for all requests together
    DIR/failed/KEY.json            a point that cannot be run, and why

KEY is the SHA-256 of all that decides the outcome (:func:`sim.study.task.key_of`). A file is written under a temporary name and
renamed, so it is there or it is not; one that cannot be read, or holds something else, is said and run again. The same runs give the
same bytes.
"""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.atomic import replacing
from sim.errors import ResultError
from sim.observe.objectives import Figures
from sim.observe.store import plain, text
from sim.study.task import Outcome, Task

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMAT", "RunStore"]

FORMAT = 1
_ABOUT = "sweep.json"
_RUNS, _FAILED = "runs", "failed"
_META = b"twinfer"
_SOMETIMES = ("energy_kwh", "j_per_token", "gco2")  # figures that not every run has; every file has their columns


class RunStore:
    """The runs in ``folder``, as asked for by the scenario with the digest ``base``.

    ``notes`` are sentences for the user, about files that could not be used.
    """

    def __init__(self, folder: str | os.PathLike[str], base: str) -> None:
        self.folder = Path(folder)
        self.base = base
        self.notes: list[str] = []
        self.found = 0
        """How many runs were asked for that were there."""

    # --- what it is about

    @classmethod
    def open(cls, folder: str | os.PathLike[str], base: str, about: Mapping[str, Any]) -> RunStore:
        """A store to write to, made if it is not there. ``about``: what is asked, kept in sweep.json.

        ResultError if the folder holds something else or cannot be written. A store of another scenario is extended, and a note says so.
        """
        store = cls(folder, base)
        store._claim()
        before = store._about() if (store.folder / _ABOUT).exists() else None
        try:
            for name in (_RUNS, _FAILED):
                (store.folder / name).mkdir(parents=True, exist_ok=True)
            store._sweep_up()
            now = {"kind": "sweep", "format": FORMAT, **about, "base": base, "asked": [about["asked"]]}
            if before is not None:
                if before["base"] != base:
                    store.notes.append(
                        f"{store.folder}: holds runs of another scenario, or of this one before it was changed; they stay"
                    )
                elif now["asked"][0] in before["asked"]:
                    now["asked"] = before["asked"]
                else:
                    now["asked"] = [*before["asked"], *now["asked"]]
            if now != before:
                store._write(store.folder / _ABOUT, text(now).encode())
        except OSError as error:
            raise store._unwritable(error) from error
        return store

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> tuple[RunStore, dict[str, Any]]:
        """A store to look at, and what sweep.json says. ResultError if it is none."""
        store = cls(folder, "")
        if not store.folder.is_dir():
            what = "is a file" if store.folder.exists() else "there is no such directory"
            raise ResultError(f"{store.folder}: {what}; a directory that `twinfer sweep` wrote is needed")
        about = store._about()
        store.base = str(about["base"])
        return store, about

    def _about(self) -> dict[str, Any]:
        path = self.folder / _ABOUT
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ResultError(f"{path}: is missing; the directory is no store of `twinfer sweep`") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ResultError(f"{path}: cannot be read: {error}") from error
        if not isinstance(about, dict) or about.get("kind") != "sweep":
            raise ResultError(f"{path}: was not written by `twinfer sweep`")
        if about.get("format") != FORMAT:
            raise ResultError(f"{path}: format {about.get('format')!r}; this version reads format {FORMAT}")
        if not isinstance(about.get("base"), str) or not isinstance(about.get("asked"), list):
            raise ResultError(f"{path}: is not as `twinfer sweep` writes it")
        return about

    def _claim(self) -> None:
        try:
            held = sorted(entry.name for entry in self.folder.iterdir() if not entry.name.endswith(".tmp"))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unwritable(error) from error
        if held and _ABOUT not in held and not set(held) <= {_RUNS, _FAILED}:
            raise ResultError(f"{self.folder}: holds files that are no sweep's ({held[0]!r}); name a new folder")

    def _sweep_up(self) -> None:
        """Remove what processes of this machine left half-written when they were killed."""
        for place in (self.folder, self.folder / _RUNS, self.folder / _FAILED):
            for scratch in place.glob(f".*.{_host()}.*.tmp"):
                owner = int(scratch.name.split(".")[-2])
                if owner != os.getpid() and not _alive(owner):
                    scratch.unlink(missing_ok=True)

    # --- runs

    def find(self, task: Task, key: str) -> Outcome | None:
        """The outcome kept under ``key``, as that of ``task``; None if there is none, or it is worth another try."""
        place = self._run(key)
        if place.exists():
            saved = self._saved(place)
            if saved is not None:
                self.found += 1
                outcome = _outcome(saved, task)
                if saved["base"] != self.base or _written(task.changes) < _written(saved["task"]["changes"]):
                    self.keep(outcome)
                return outcome
        place = self._failure(key)
        saved = self._saved(place) if place.exists() else None
        if saved is None or saved["passing"]:
            return None
        self.found += 1
        return _outcome(saved, task)

    def keep(self, outcome: Outcome) -> None:
        """Keep an outcome, whole or not at all. Of points that come to the same run, the first in alphabetical order names it."""
        saved = _to_json(outcome, self.base)
        run, failure = self._run(outcome.key), self._failure(outcome.key)
        try:
            if outcome.figures is None:
                self._write(failure, text(saved).encode())
            else:
                self._write(run, _parquet(outcome, saved))
                failure.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def outcomes(self) -> Iterator[Outcome]:
        """All that is kept for its scenario, by key."""
        places = [*(self.folder / _RUNS).glob("*.parquet"), *(self.folder / _FAILED).glob("*.json")]
        for place in sorted(places, key=lambda place: (place.stem, place.suffix)):
            saved = self._saved(place)
            if saved is not None and saved["base"] == self.base:
                yield _outcome(saved, Task(**saved["task"]))

    def _saved(self, place: Path) -> dict[str, Any] | None:
        """What a file holds; None, and a note, if that is not what its name says."""
        try:
            saved = _metadata(place) if place.suffix == ".parquet" else json.loads(place.read_text(encoding="utf-8"))
            if saved["format"] != FORMAT or saved["key"] != place.stem:
                raise ValueError("it is another run's, or of another version")
            _outcome(saved, Task())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            said = "it lacks what twinfer writes" if isinstance(error, KeyError) else str(error).splitlines()[0]
            self.notes.append(f"{place}: is no run of twinfer, or a torn one ({said}); it does not count")
            return None
        found: dict[str, Any] = saved
        return found

    def _run(self, key: str) -> Path:
        return self.folder / _RUNS / f"{key}.parquet"

    def _failure(self, key: str) -> Path:
        return self.folder / _FAILED / f"{key}.json"

    def _write(self, place: Path, content: bytes) -> None:
        with replacing(place, f"{_host()}.{os.getpid()}") as scratch:
            scratch.write_bytes(content)

    def _unwritable(self, error: OSError) -> ResultError:
        return ResultError(f"{self.folder}: cannot be written: {error.strerror or error}")


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _written(changes: Mapping[str, Any]) -> str:
    return json.dumps(plain(changes), sort_keys=True, default=str)


# --- what is in a file


def _to_json(outcome: Outcome, base: str) -> dict[str, Any]:
    task = vars(outcome.task) | {"changes": dict(outcome.task.changes)}
    return {
        "format": FORMAT,
        "key": outcome.key,
        "base": base,
        "task": task,
        "confidence": None if outcome.figures is None else outcome.figures.confidence,
        "figures": None if outcome.figures is None else outcome.figures.to_json(),
        "warmup_s": outcome.warmup_s,
        "warnings": list(outcome.warnings),
        "manifest": outcome.manifest,
        "error": outcome.error,
        "passing": outcome.passing,
    }


def _outcome(saved: Mapping[str, Any], task: Task) -> Outcome:
    """What :func:`_to_json` gave. KeyError, TypeError or ValueError if it is anything else."""
    figures = None if saved["figures"] is None else Figures.from_json(saved["figures"], float(saved["confidence"]))
    if (figures is None) != isinstance(saved["error"], str):
        raise ValueError("it has neither figures nor an error")
    return Outcome(
        task,
        str(saved["key"]),
        figures,
        float(saved["warmup_s"]),
        tuple(saved["warnings"]),
        saved["error"],
        dict(saved["manifest"]),
        bool(saved["passing"]),
    )


def _metadata(place: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return json.loads((pq.read_metadata(place).metadata or {})[_META])
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _parquet(outcome: Outcome, saved: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = _table(outcome)
    out = pa.BufferOutputStream()
    with pq.ParquetWriter(
        out, table.schema, store_schema=False, compression="none", use_dictionary=False, write_statistics=False
    ) as writer:
        writer.write_table(table)
        content = json.dumps(plain(saved), sort_keys=True, allow_nan=False, default=str, separators=(",", ":"))
        writer.add_key_value_metadata({_META.decode(): content})
    found: bytes = out.getvalue().to_pybytes()
    return found


def _table(outcome: Outcome) -> pa.Table:
    """A row a replication, of all requests together (``workload`` is null) and of each workload; then those with drawn step times.

    Columns: ``key``, the paths of the point (numbers as they are, all else as text), ``replication``, ``workload``, ``drawn``, figures.
    """
    import pyarrow as pa

    figures = outcome.figures
    assert figures is not None
    rows: list[tuple[int, str | None, bool, Mapping[str, float]]] = []
    for drawn, some in ((False, figures), (True, figures.drawn)):
        for workload, found in () if some is None else ((None, some.overall), *some.workloads.items()):
            rows += [(outcome.task.first + number, workload, drawn, row) for number, row in enumerate(found)]
    columns: dict[str, Any] = {"key": pa.array([outcome.key] * len(rows))}
    for path, value in outcome.task.changes.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        one = float(value) if number else value if isinstance(value, str) else json.dumps(value, default=str)
        columns[path] = pa.array([one] * len(rows))
    columns |= {
        "replication": pa.array([row[0] for row in rows], pa.int64()),
        "workload": pa.array([row[1] for row in rows], pa.string()),
        "drawn": pa.array([row[2] for row in rows]),
    }
    names = dict.fromkeys([name for row in rows for name in row[3]]) | dict.fromkeys(_SOMETIMES)
    values = np.array([[row[3].get(name, math.nan) for name in names] for row in rows], dtype=np.float64)
    for name, column in zip(names, np.ascontiguousarray(values.T), strict=True):
        columns[name] = pa.array(column, from_pandas=True)  # what is not a number is null
    return pa.table(columns)
