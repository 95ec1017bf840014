"""A calibration that is stopped again and again: what was measured is kept, and the file is whole or not there."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from sim import profiles
from tests.calibration.endpoint.engine import App, Engine
from tests.calibration.endpoint.servers import listening, serving
from tests.paths import ROOT


def lines(journal: Path) -> list[bytes]:
    """The whole lines of a journal."""
    return journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []


def test_what_was_measured_is_kept_however_it_is_stopped_and_the_same_command_goes_on_from_there(
    tmp_path: Path,
) -> None:
    out = tmp_path / "p.json"
    journal = tmp_path / "p.json.points.jsonl"
    quick = Engine(seconds=lambda chunks, contexts: 2e-3 + 1e-5 * sum(q for q, _ in chunks), host=2e-4)
    stops = [(3, signal.SIGINT), (7, signal.SIGKILL), (12, signal.SIGTERM), (20, signal.SIGKILL), (30, signal.SIGINT)]
    kept: list[bytes] = []
    with listening(serving(App(quick, max_model_len=256))) as url:
        words = [
            "calibrate",
            "endpoint",
            url,
            "--architecture",
            "llama-40m",
            "-o",
            str(out),
            "--budget",
            "6s",
            "--max-concurrency",
            "4",
        ]
        run = [sys.executable, "-c", "from sim.cli import main; main()", *words]
        for measured, stop in stops:
            process = subprocess.Popen(run, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            until = time.monotonic() + 30.0
            while len(lines(journal)) < measured and time.monotonic() < until:
                time.sleep(0.005)
            process.send_signal(stop)
            said = process.communicate(timeout=30.0)[1].decode().splitlines()
            if stop == signal.SIGKILL:
                assert process.returncode == -signal.SIGKILL
            else:
                assert process.returncode == 130
                assert len(said) == 1
                assert re.match(r"interrupted: \d+ measurements are kept in", said[0])
            now = lines(journal)
            assert len(now) >= measured
            assert now[: len(kept)] == kept
            assert not out.exists()
            kept = now
        done = subprocess.run(run, cwd=ROOT, capture_output=True, timeout=60.0, check=False)
    assert done.returncode == 0, done.stderr
    assert profiles.load(out).engine.startswith("vllm")
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]
