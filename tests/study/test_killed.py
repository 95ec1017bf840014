"""A sweep killed at any moment goes on where it was: no run is lost, none is there twice, the store is the same to the byte."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.study.small import SMALL, files, write

POINTS = 60


def sweep(scenario: Path, store: Path, *more: str) -> list[str]:
    command = "import sys; from sim.cli import main; sys.argv[0] = 'twinfer'; main()"
    over = ["--over", "deployments.chat.replicas=1..6", "--over", "workloads.chat.arrivals.rate=1..10:10"]
    return [sys.executable, "-c", command, "sweep", str(scenario), *over, "--out", str(store), "-q", "-j", "2", *more]


def killed(command: list[str], store: Path, wanted: int, after: float) -> bool:
    """Whether the command, and all it started, were killed ``after`` seconds from when it had ``wanted`` runs, or it was done before."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while process.poll() is None and runs(store) < wanted:
        time.sleep(0.002)
    time.sleep(after)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    assert process.returncode == 0
    return False


def runs(store: Path) -> int:
    return len(list((store / "runs").glob("*.parquet")))


def many_times(folder: Path, kills: int, requests: int) -> None:
    scenario = write(folder, SMALL.replace("requests: 40", f"requests: {requests}"))
    whole, torn = folder / "whole", folder / "torn"
    subprocess.run(sweep(scenario, whole), cwd=ROOT, check=True)
    random_ = random.Random(20)
    before = done = 0
    while done < kills:
        more = random_.randint(0, 2 * (POINTS - before) // (kills - done + 1))
        if killed(sweep(scenario, torn), torn, before + more, random_.uniform(0.0, 0.2)):
            done += 1
            assert runs(torn) >= before, "a run was lost"
            before = runs(torn)
        else:  # it was done before: begin anew, so that every kill is one
            shutil.rmtree(torn)
            before = 0
    subprocess.run(sweep(scenario, torn), cwd=ROOT, check=True)
    assert runs(torn) == POINTS
    assert files(torn) == files(whole)


def test_told_to_end_it_ends_its_workers_says_so_and_goes_on(tmp_path: Path) -> None:
    scenario, store = write(tmp_path, SMALL), tmp_path / "store"
    process = subprocess.Popen(
        sweep(scenario, store), cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not runs(store):
        time.sleep(0.002)
    process.terminate()
    _, said = process.communicate(timeout=60)  # the pipe is closed when the last worker has ended
    assert (process.returncode, said.splitlines()[-1]) == (
        130,
        f"interrupted; what was run is kept in {store}, and the same command goes on from there",
    )
    before = runs(store)
    subprocess.run(sweep(scenario, store), cwd=ROOT, check=True)
    assert before < runs(store) == POINTS


def test_killed_six_times(tmp_path: Path) -> None:
    many_times(tmp_path, kills=6, requests=40)


@pytest.mark.verify
def test_killed_twenty_times(tmp_path: Path) -> None:
    many_times(tmp_path, kills=20, requests=1_000)
