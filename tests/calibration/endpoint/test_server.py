"""Starting a server, timing it, stopping it, and what is said if it dies."""

from __future__ import annotations

import shlex
import socket
import sys
from pathlib import Path

import pytest

from calibration.campaign import Campaign
from calibration.endpoint import server as module
from calibration.endpoint.run import started
from calibration.endpoint.server import Server
from sim.errors import ProfileError
from tests.paths import ROOT

SCRIPT = """
import asyncio, signal, sys
port, wait, deaf, child = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "deaf", sys.argv[4]
sys.path.insert(0, {root!r})
from tests.calibration.endpoint.engine import App, Engine
from tests.calibration.endpoint.servers import serving
if deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if child != "-":
    import subprocess
    open(child, "w").write(str(subprocess.Popen(["sleep", "60"]).pid))
print("loading", flush=True)

async def main():
    handler = serving(App(Engine()))
    async def connection(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode()
                method, path, _ = head.split("\\r\\n", 1)[0].split(" ")
                length = [int(l.split(":")[1]) for l in head.split("\\r\\n") if l.lower().startswith("content-length")]
                await handler(method, path, await reader.readexactly(sum(length)), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
    await asyncio.sleep(wait)
    server = await asyncio.start_server(connection, "127.0.0.1", port)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def command(folder: Path, port: int, wait: float = 0.0, deaf: bool = False, child: Path | None = None) -> str:
    script = folder / "serve.py"
    script.write_text(SCRIPT.format(root=str(ROOT)))
    words = [sys.executable, str(script), str(port), str(wait), "deaf" if deaf else "-", str(child or "-")]
    return f"A_VARIABLE=1 {shlex.join(words)}"  # as one writes it in a shell


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_start_is_timed_in_its_phases_and_the_server_stopped_with_its_children(tmp_path: Path, port: int) -> None:
    child = tmp_path / "child"
    with Server(
        command(tmp_path, port, wait=0.4, child=child), f"http://127.0.0.1:{port}/v1", tmp_path / "log", timeout=60.0
    ) as server:
        found = server.start()
        assert server.running
        assert 0.4 < found.port <= found.models < found.token
        assert found.token < 60.0
        pid = int(child.read_text())
        assert alive(pid)
    assert not is_open(port)
    assert not alive(pid)
    assert (tmp_path / "log").read_text() == "loading\n"


def test_each_start_is_measured_once_and_the_last_goes_on_running(tmp_path: Path, port: int) -> None:
    def make() -> Server:
        return Server(command(tmp_path, port), f"http://127.0.0.1:{port}/v1", tmp_path / "log", timeout=60.0)

    with make() as server, Campaign(tmp_path / "o", {}) as campaign:
        started(server, campaign, 2)
        assert server.running
        first = dict(campaign.records)
        assert set(first) == {"start/0", "start/1"}
    with make() as server, Campaign(tmp_path / "o", {}) as campaign:  # resumed: only started, not measured again
        started(server, campaign, 2)
        assert server.running
        assert campaign.records == first


def test_a_server_that_dies_is_shown_with_the_end_of_what_it_wrote(tmp_path: Path, port: int) -> None:
    words = "for i in $(seq 20); do echo line $i; done; echo 'CUDA error: out of memory' >&2; exit 3"
    server = Server(words, f"http://127.0.0.1:{port}/v1", tmp_path / "log", timeout=20.0)
    with pytest.raises(ProfileError) as caught, server:
        server.start()
    first, *rest = str(caught.value).splitlines()
    assert first == f"the server ended with code 3 before it opened its port; the end of {tmp_path / 'log'}:"
    assert rest[-2:] == ["  line 20", "  CUDA error: out of memory"]
    assert len(rest) == 8


def test_a_command_that_does_not_exist_is_named_by_the_shell(tmp_path: Path, port: int) -> None:
    server = Server("no-such-server --port 1", f"http://127.0.0.1:{port}/v1", tmp_path / "log", timeout=20.0)
    with pytest.raises(ProfileError, match=r"(?s)ended with code 127 .*no-such-server: not found"), server:
        server.start()


def test_a_server_that_does_not_come_up_in_time_is_stopped(tmp_path: Path, port: int) -> None:
    server = Server("echo $$; exec sleep 60", f"http://127.0.0.1:{port}/v1", tmp_path / "log", timeout=0.3)
    with pytest.raises(ProfileError, match=r"had not opened its port after 0.3 s \(--start-timeout\)"), server:
        server.start()
    assert not alive(int((tmp_path / "log").read_text()))


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.3)
    with Server(
        command(tmp_path, port, deaf=True), f"http://127.0.0.1:{port}/v1", tmp_path / "log", timeout=60.0
    ) as server:
        server.start()
    assert not is_open(port)


def test_a_place_where_something_answers_already_is_not_started_at(tmp_path: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        server = Server("sleep 60", f"http://127.0.0.1:{port}/v1", tmp_path / "log")
        with pytest.raises(
            ProfileError, match="something answers there already: stop it, or leave --start-command away"
        ):
            server.start()
    assert not (tmp_path / "log").exists()
