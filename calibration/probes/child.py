"""Work done in a process of its own: where a start is timed, a limit set, or memory must be as it was before anything ran."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, TypeVar

from sim.errors import ProfileError, TwinferError

__all__ = ["fresh"]

_Result = TypeVar("_Result")
_DIE_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG, prctl(2)


def fresh(work: Callable[..., _Result], *arguments: object, environment: Mapping[str, str] | None = None) -> _Result:
    """``work(*arguments)`` in a new Python process, with ``environment`` set before it imports anything but the standard library.

    ``work``, its arguments and its result are pickled: functions by their names, so no lambdas. The process ends when this one does,
    whatever ends it, and leaves Ctrl-C to its parent.

    :raises ProfileError: the process died (out of memory, a fault of the driver), with the last thing it said.
    """
    ours, theirs = get_context("spawn").Pipe()
    with tempfile.NamedTemporaryFile() as said, ours:
        task = (dict(environment or {}), pickle.dumps((work, arguments)), said.name, os.getpid())
        process = get_context("spawn").Process(target=_enter, args=(theirs, *task), daemon=True)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which a new process inherits
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        try:
            result, error = ours.recv()
        except EOFError:
            process.join()
            raise ProfileError(_died(process.exitcode, Path(said.name))) from None
        finally:
            process.kill()
            process.join()
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _enter(pipe: Connection, environment: Mapping[str, str], task: bytes, said: str, parent: int) -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that was set
        return
    os.environ.update(environment)
    # What torch and its libraries write to stderr is kept for the case that they bring the process down.
    os.dup2(os.open(said, os.O_WRONLY | os.O_APPEND), 2)
    work, arguments = pickle.loads(task)
    outcome: tuple[object, Exception | None]
    try:
        outcome = (work(*arguments), None)
    except TwinferError as error:
        outcome = (None, error)
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        outcome = (None, RuntimeError(f"{type(error).__name__} in a process of its own: {error}"))
    pipe.send(outcome)


def _died(code: int | None, said: Path) -> str:
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with code {code}"
    return f"a process that measured ended {how}, as when memory runs out" + (f": {lines[-1]}" if lines else "")
