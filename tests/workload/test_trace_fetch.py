"""Fetching published traces from a server of our own."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sim import catalog
from sim.errors import TraceError
from sim.workload.fetch import cache_dir, cached, checksum, fetch, locate
from sim.workload.readers import read

BODY = gzip.compress(b"arrival_s,prompt_tokens,output_tokens\n0,1,2\n1,3,4\n", mtime=0)


@dataclass(frozen=True)
class Row:
    name: str
    url: str
    sha256: str | None = hashlib.sha256(BODY).hexdigest()
    bytes: int | None = len(BODY)


class Server(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        self.send_response(200)
        body = b"something else altogether" if self.path.startswith("/other") else BODY
        if not self.path.startswith("/nolength"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-9] if self.path.startswith(("/cut", "/nolength")) else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and the paths it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (Server,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def test_a_trace_is_fetched_once_and_read_by_its_path(server: tuple[str, list[str]], tmp_path: Path):
    address, asked = server
    told: list[tuple[int, int | None]] = []
    row = Row("chat", f"{address}/data/chat.csv.gz?raw=true")
    path = fetch(row, tmp_path / "new", progress=lambda done, total: told.append((done, total)))
    assert path == tmp_path / "new" / "chat.csv.gz"
    assert path.read_bytes() == BODY
    assert told[-1] == (len(BODY), len(BODY))
    assert len(read(str(path))) == 2
    assert fetch(row, tmp_path / "new") == path
    assert len(asked) == 1, "what is there is not downloaded again"
    assert cached("chat", tmp_path / "new") == path
    assert cached("cha", tmp_path / "new") is None
    assert cached("chat", tmp_path / "nowhere") is None
    assert cached("../new/chat", tmp_path / "new") is None


def test_a_damaged_copy_is_fetched_again(server: tuple[str, list[str]], tmp_path: Path):
    row = Row("chat", f"{server[0]}/chat.csv.gz")
    fetch(row, tmp_path).write_bytes(b"damaged")
    assert checksum(fetch(row, tmp_path)) == row.sha256


@pytest.mark.parametrize(
    ("path", "size", "message"),
    [
        ("/missing.csv", None, "the server answers 404 Not Found"),
        ("/other.csv", None, "the checksum is not the catalog's"),
        ("/other.csv", len(BODY), "25 bytes came, expected"),
        ("/cut.csv", None, "bytes came, expected|broke off after"),
        ("/nolength.csv", len(BODY), "bytes came, expected"),
        ("/nolength.csv", None, "the checksum is not the catalog's"),
        ("/whole.csv", 5, "bytes came, expected 5"),
    ],
)
def test_what_is_not_the_published_file_is_not_kept(
    server: tuple[str, list[str]], tmp_path: Path, path: str, size: int | None, message: str
):
    with pytest.raises(TraceError, match=message) as caught:
        fetch(Row("chat", server[0] + path, bytes=size), tmp_path)
    assert str(caught.value).startswith("chat: ")
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_row_without_a_checksum_is_taken_as_it_comes(server: tuple[str, list[str]], tmp_path: Path):
    row = Row("chat", f"{server[0]}/chat.csv.gz", sha256=None)
    assert fetch(row, tmp_path).read_bytes() == BODY


def test_a_server_that_cannot_be_reached_is_named(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(TraceError, match="cannot be reached"):
            fetch(Row("chat", f"http://127.0.0.1:{port}/chat.csv"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_the_web_is_fetched_from(tmp_path: Path):
    with pytest.raises(TraceError, match="not an http or https address"):
        fetch(Row("chat", "file:///etc/hostname"), tmp_path)


def test_a_cache_that_cannot_be_written_is_named(server: tuple[str, list[str]], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match="cannot be written"):
        fetch(Row("chat", f"{server[0]}/chat.csv"), tmp_path / "file" / "traces")


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "twinfer" / "traces"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "twinfer" / "traces"


def test_a_trace_of_the_catalog_is_found_by_name_once_fetched(
    server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = catalog.names("traces")[0]
    with pytest.raises(TraceError, match=f"{name}: has not been fetched: twinfer traces fetch {name}"):
        locate(name)
    with pytest.raises(TraceError, match="has not been fetched"):
        locate(tmp_path / name)
    row = replace(Row("", f"{server[0]}/t.csv.gz"), name=name)
    assert fetch(row) == locate(name)
    assert len(read(name)) == 2
