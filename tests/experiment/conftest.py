"""A small scenario that runs in a moment, and a writer of variants of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = """\
question: Are two enough?
run: {duration: 60s, replications: 3, seed: 5, warmup: 10s}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, instance: aws/p5.4xlarge, nodes: 4}]}
workloads:
  - name: chat
    model: llama
    arrivals: {rate: 20/s}
    lengths: {prompt: {lognormal: {median: 500, sigma: 0.8}}, output: {lognormal: {median: 80, sigma: 0.6}}}
    objectives: {ttft_p99: 1s, tpot_p99: 50ms}
deployments:
  - {name: chat, model: llama, pool: h100, replicas: 2, router: {kind: power-of-two}}
options:
  two: {}
  three: {deployments.chat.replicas: 3}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write the small scenario with pieces of its text replaced, and return its path."""

    def written(**replaced: str) -> Path:
        text = SMALL
        for old, new in replaced.items():
            found = {line.split(":")[0]: line for line in text.splitlines()}
            text = text.replace(found[old], f"{old}: {new}")
        path = tmp_path / "small.yaml"
        path.write_text(text)
        return path

    return written
