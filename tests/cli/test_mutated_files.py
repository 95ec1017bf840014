"""Whatever is done to the files a user hands over: an answer, or exit code 2 with a line that names the fault. Never a traceback."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.config.mutations import mutations
from tests.paths import SCENARIOS
from tests.workload.mutate import mutate

Twinfer = Callable[..., Any]

SHORT = ("--set", "run.duration=3s", "--set", "run.requests=25", "--set", "run.warmup=0", "--set", "run.drain=false")
ONCE = ("--set", "run.precision=null", "-n", "1", "-j", "1", "-q", "--out", "out")
PLACE = re.compile(r"^([^\n:]+(:\d+)?: .|--set [^\n]+: .)")


def refused(ended: Any, what: object, names: str) -> bool:
    """Whether the call was refused; if so, it said why as it should."""
    assert ended.code in (0, 2), (what, ended)
    if ended.code == 0:
        return False
    assert "Traceback" not in ended.err, (what, ended.err)
    lines = ended.err.splitlines()
    assert lines, what
    assert any(names in line for line in lines), (what, ended.err)
    for line in lines:
        assert PLACE.match(line), (what, line)
        assert line.isprintable(), (what, line)
        assert len(line) < 1500, (what, line)
    return True


def try_scenarios(twinfer: Twinfer, folder: Path, seed: int, count: int) -> Counter[str]:
    """``count`` damaged scenarios validated, and those that are valid run for a moment."""
    for shipped in SCENARIOS.glob("*.yaml"):
        (folder / shipped.name).write_bytes(shipped.read_bytes())
    trace = folder / "few.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,20,3\n0.5,40,2\n")
    file = folder / "self.yaml"
    ends: Counter[str] = Counter()
    for name, content in mutations(seed, count):
        file.write_bytes(content)
        if refused(twinfer("validate", file, "-q"), name, ".yaml"):
            ends["not valid"] += 1
            continue
        ended = twinfer("run", file, *SHORT, *ONCE)
        if refused(ended, name, ":"):
            ends["valid, not run"] += 1
        else:
            ends["run"] += 1
    return ends


def traces(rng: random.Random) -> list[tuple[str, bytes]]:
    """A small trace in each text format."""
    csv = ["arrival_s,prompt_tokens,output_tokens,priority,session"]
    azure = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    mooncake, jsonl = [], []
    for row in range(40):
        prompt, output = rng.randint(1, 900), rng.randint(1, 30)
        csv.append(f"{row * 0.11:.2f},{prompt},{output},{row % 3},{row % 5}")
        azure.append(f"2023-11-16 18:{row // 60:02d}:{row % 60:02d}.1234567,{prompt},{output}")
        hashes = list(range(-(-prompt // 512)))
        mooncake.append(
            f'{{"timestamp": {row * 300}, "input_length": {prompt}, "output_length": {output}, "hash_ids": {hashes}}}'
        )
        jsonl.append(f'{{"arrival_s": {row * 0.2:.1f}, "prompt_tokens": {prompt}, "output_tokens": {output}}}')
    return [
        (name, "\n".join((*lines, "")).encode())
        for name, lines in (("a.csv", csv), ("b.csv", azure), ("c.jsonl", mooncake), ("d.jsonl", jsonl))
    ]


def try_traces(twinfer: Twinfer, scenario: Path, seed: int, count: int) -> Counter[str]:
    """``count`` damaged traces inspected and replayed."""
    sources = traces(random.Random(seed))
    ends: Counter[str] = Counter()
    for number in range(count):
        name, content = sources[number % len(sources)]
        file = scenario.parent / name
        file.write_bytes(mutate(content, seed * 100_000 + number))
        what = (name, seed, number)
        inspected = refused(twinfer("traces", "inspect", file), what, name)
        ended = twinfer(
            "run", scenario, "--set", f"workloads.chat.arrivals={{trace: {file}}}",
            "--set", "workloads.chat.lengths=null", "--set", "run.warmup=0", "--set", "run.duration=60s", "--set", "run.drain=false", *ONCE,
        )  # fmt: skip
        assert refused(ended, what, name) == inspected, (what, ended)
        ends["refused" if inspected else "run"] += 1
    return ends


def test_damaged_scenarios_are_refused_with_a_line_or_run(twinfer: Twinfer, tmp_path: Path) -> None:
    ends = try_scenarios(twinfer, tmp_path, 7, 40)
    assert min(ends["not valid"], ends["run"]) > 0, ends


def test_damaged_traces_are_refused_with_a_line_or_replayed(twinfer: Twinfer, scenario: Path) -> None:
    ends = try_traces(twinfer, scenario, 7, 24)
    assert min(ends["refused"], ends["run"]) > 0, ends


@pytest.mark.verify
def test_two_thousand_damaged_scenarios(twinfer: Twinfer, tmp_path: Path) -> None:
    print(try_scenarios(twinfer, tmp_path, 2026, 2_000))


@pytest.mark.verify
def test_five_hundred_damaged_traces(twinfer: Twinfer, scenario: Path) -> None:
    print(try_traces(twinfer, scenario, 2026, 500))
