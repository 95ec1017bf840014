"""Starting the server to be calibrated, and how long it takes until it answers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from calibration.endpoint.client import Client
from calibration.endpoint.faults import EndpointError
from sim.errors import ProfileError

__all__ = ["Server", "Started"]

_POLL: Final = 0.05
_GRACE: Final = 30.0  # seconds between SIGTERM and SIGKILL
_TAIL: Final = 8  # lines of the log that are shown


@dataclass(frozen=True)
class Started:
    """Seconds from the start of the process until its port opened, until it listed its models, and until the first token came."""

    port: float
    models: float
    token: float


class Server:
    """``command``, run by the shell in a process group of its own, that is to serve ``url``; its output goes to ``log``.

    As a context it stops the server at its end. ``timeout`` is how long a start may take, in seconds.
    """

    def __init__(
        self,
        command: str,
        url: str,
        log: Path,
        *,
        model: str | None = None,
        key: str | None = None,
        timeout: float = 1800.0,
    ) -> None:
        self.command = command
        self.url = url
        self.log = log
        self.timeout = timeout
        self._model = model
        self._key = key
        self._process: subprocess.Popen[bytes] | None = None
        place = urlsplit(url)
        self._place = (place.hostname or "localhost", place.port or (443 if place.scheme == "https" else 80))

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Started:
        """Start it and wait for its first token.

        :raises ProfileError: something answers there already; it ended (the last lines of its log follow), or took too long.
        """
        if self._open():
            raise ProfileError(f"{self.url}: something answers there already: stop it, or leave --start-command away")
        begin = time.monotonic()
        try:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.command, shell=True, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
        except OSError as error:
            raise ProfileError(f"{self.log}: {error.strerror or error}") from None
        while not self._open():
            self._waiting(begin, "opened its port")
        port = time.monotonic() - begin
        while not self._listed():
            self._waiting(begin, "listed its models")
        models = time.monotonic() - begin
        while True:
            try:
                with Client(self.url, model=self._model, key=self._key, timeout=self.timeout) as client:
                    assert client.first_token is not None  # a client has had a token once it is entered
                    return Started(port, models, client.first_token - begin)
            except EndpointError as error:
                if not error.passing:
                    raise
            self._waiting(begin, "answered")

    def stop(self) -> None:
        """End the whole process group: SIGTERM, and SIGKILL for what is left after half a minute."""
        process, self._process = self._process, None
        if process is None:
            return
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, ending)
            until = time.monotonic() + _GRACE
            while time.monotonic() < until:
                process.poll()
                if not _alive(process.pid) and not self._open():
                    return
                time.sleep(_POLL)

    def tail(self) -> str:
        """The last lines of its log, each indented, or a word that there are none."""
        with suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_TAIL:]
            if lines:
                return "".join(f"\n  {line[:300]}" for line in lines)
        return " (it wrote nothing)"

    def _open(self) -> bool:
        with suppress(OSError), socket.create_connection(self._place, timeout=1.0):
            return True
        return False

    def _listed(self) -> bool:
        """Whether it answers the question for its models with anything but a fault that ends."""
        import httpx

        root = self.url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            status = httpx.get(f"{root}/v1/models", headers=headers, timeout=5.0).status_code
        except httpx.HTTPError:
            return False
        return bool(status < 500 and status != 404)

    def _waiting(self, begin: float, what: str) -> None:
        code = None if self._process is None else self._process.poll()
        if code is not None:
            raise ProfileError(
                f"the server ended with code {code} before it {what}; the end of {self.log}:{self.tail()}"
            )
        if time.monotonic() - begin > self.timeout:
            raise ProfileError(
                f"the server had not {what} after {self.timeout:g} s (--start-timeout); the end of {self.log}:{self.tail()}"
            )
        time.sleep(_POLL)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
