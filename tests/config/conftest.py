"""A small scenario to change, and a cache of fetched traces that is not the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

BASE = """\
question: Does it hold?
run: {duration: 10m, replications: 3}
models:
  llama: {architecture: llama-3.1-8b}
cluster:
  pools:
    - {name: h100, instance: aws/p5.48xlarge}
    - {name: own, gpu: h100-sxm, gpus_per_node: 2, price: 5.5, nodes: 3}
workloads:
  - name: chat
    model: llama
    arrivals: {preset: azure-2023-conv, scale: 4}
    objectives: {ttft_p99: 2s}
  - name: docs
    model: llama
    deployment: second
    arrivals: {rate: 2/s, cv: 2}
    lengths: {prompt: 512, output: {lognormal: {median: 100, sigma: 0.5}, max: 500}}
deployments:
  - {name: chat, model: llama, pool: h100, replicas: 2}
  - name: second
    model: llama
    pool: own
    engine: {max_num_seqs: 64}
options:
  same: {}
  more: {deployments.chat.replicas: 4}
""".replace("    model: llama\n    arrivals: {preset", "    model: llama\n    deployment: chat\n    arrivals: {preset")


@pytest.fixture
def base() -> str:
    return BASE


@pytest.fixture(autouse=True)
def trace_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, in place of the user's."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home / "twinfer" / "traces"
