"""A scenario that is simulated in milliseconds: one replica of a chat, and two options."""

from __future__ import annotations

__all__ = ["small"]


def small(
    *,
    question: str = "Does one GPU do?",
    requests: int = 60,
    replications: int = 3,
    seed: int = 5,
    nodes: int = 2,
    prompt: int = 200,
    output: int = 20,
    objectives: str = "ttft_p99: 2s",
) -> str:
    """Its YAML."""
    return f"""\
question: {question}
run: {{requests: {requests}, warmup: 0, replications: {replications}, seed: {seed}}}
models: {{llama: {{architecture: llama-3.1-8b}}}}
cluster: {{pools: [{{name: h100, gpu: h100-sxm, price: 2.5, nodes: {nodes}}}]}}
workloads:
  - name: chat
    model: llama
    arrivals: {{rate: 10/s}}
    lengths: {{prompt: {prompt}, output: {output}}}
    objectives: {{{objectives}}}
deployments:
  - {{name: chat, model: llama, pool: h100, replicas: 1}}
options:
  one: {{}}
  two: {{deployments.chat.replicas: 2}}
"""
