"""A calibration that is killed at random moments: nothing measured is lost, and the profile is whole or absent."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from sim import profiles
from tests.paths import ROOT

pytest.importorskip("torch")

KILLS: Final = 10
TINY: Final = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 61,
    "max_position_embeddings": 64,
}  # fmt: skip


def started(folder: Path) -> subprocess.Popen[str]:
    where = ["torch", "--model", "tiny.json", "-o", "p.json", "--device", "cpu", "--dtype", "fp32", "--quiet"]
    what = ["--parts", "step", "--repeats", "8", "--error", "900%", "--max-seqs", "4", "--max-tokens", "32"]
    return subprocess.Popen(
        [sys.executable, "-c", "from calibration.cli import app; app()", *where, *what],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def journal(folder: Path) -> list[bytes]:
    """The whole lines of the journal after its head."""
    try:
        content = (folder / "p.json.points.jsonl").read_bytes()
    except FileNotFoundError:
        return []
    return content[: content.rfind(b"\n") + 1].splitlines()[1:]


def killed(process: subprocess.Popen[str], folder: Path, how: int, more: int, delay: float) -> None:
    """End it once it has measured ``more`` points and ``delay`` seconds have passed; it may be anywhere in the next ones."""
    wanted = len(journal(folder)) + more
    while len(journal(folder)) < wanted:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(how)


def test_ten_kills_lose_nothing_that_was_measured(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    moments = random.Random(5)
    before: list[bytes] = []
    for kill in range(KILLS):
        how = signal.SIGINT if kill % 2 == 0 else signal.SIGKILL
        process = started(tmp_path)
        killed(process, tmp_path, how, moments.randrange(1, 5), moments.uniform(0.0, 0.01))
        _, error = process.communicate(timeout=30)
        after = journal(tmp_path)
        assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), error
        if how == signal.SIGINT:
            said = re.fullmatch(r"interrupted: (\d+) measurements are kept in p\.json\.points\.jsonl; .*\n", error)
            assert said is not None, error
            assert len(after) - int(said[1]) in (0, 1)  # one may have been written and not yet counted
        assert after[: len(before)] == before
        assert len(after) > len(before)
        assert not (tmp_path / "p.json").exists()
        before = after
    process = started(tmp_path)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    records = [json.loads(line) for line in before]
    check(tmp_path, records)
    assert "measurements" in out


def check(folder: Path, records: list[dict[str, Any]]) -> None:
    """The profile is there, holds what was measured before the last kill, and nothing else is left behind."""
    assert sorted(path.name for path in folder.iterdir()) == ["p.json", "tiny.json"]
    profile = profiles.load(folder / "p.json")
    keys = {record["key"] for record in records}
    assert len(keys) == len(records)
    assert profile.provenance.points > len(keys)
    step = profile.steps
    assert step.held_out is not None
    curve = step.tokens.parts["projections"]
    measured = {r["key"]: r["projections"]["median"] for r in records if r["key"].startswith("sections/")}
    kept = [(size, us) for size, us in zip(curve.at, curve.us, strict=True) if f"sections/{size}+0" in measured]
    assert kept
    for size, us in kept:
        assert us == pytest.approx(measured[f"sections/{size}+0"], rel=1e-4)
