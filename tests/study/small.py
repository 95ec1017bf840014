"""A scenario that runs in ten milliseconds, for studies of many points."""

from __future__ import annotations

from pathlib import Path

SMALL = """\
question: How many replicas?
run: {requests: 40, warmup: 0, replications: 2, seed: 3}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, gpu: h100-sxm, price: 2.5, nodes: 8}]}
workloads:
  - name: chat
    model: llama
    arrivals: {rate: 10/s}
    lengths: {prompt: 200, output: 20}
    objectives: {ttft_p99: 2s}
deployments:
  - {name: chat, model: llama, pool: h100, replicas: 1}
options:
  one: {}
  two: {deployments.chat.replicas: 2}
"""

REPLICAS, RATE = "deployments.chat.replicas", "workloads.chat.arrivals.rate"


def write(folder: Path, text: str = SMALL) -> Path:
    """The scenario as a file."""
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a store that is not its page, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".html"
    }
