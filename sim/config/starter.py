"""Scenarios to begin with, for ``twinfer init``: short, valid, commented."""

from __future__ import annotations

from sim.errors import ConfigError, Problem, did_you_mean

__all__ = ["KINDS", "template"]

_HEAD = (
    "# yaml-language-server: $schema=twinfer.schema.json    (`twinfer schema` writes it: completion in the editor)\n"
)

_MACHINES = """\
models:
  llama: {architecture: llama-3.1-8b, dtype: bf16}      # `twinfer catalog models`, or a path to a config.json

cluster:
  pools:
    - {name: h100, instance: aws/p5.4xlarge, nodes: 8}  # `twinfer catalog instances`; or gpu, gpus_per_node, price
"""

_CHAT = f"""\
question: How many H100s does this chat traffic need?

run: {{duration: 10m, replications: 5, seed: 7}}          # 250ms, 90s, 1h30m; a bare number is seconds

{_MACHINES}
workloads:
  - name: chat
    model: llama
    arrivals: {{rate: 10/s, cv: 1.5}}                     # cv 1 is Poisson, more is burstier; 300/min and 1000/h are rates too
    lengths:
      prompt: {{lognormal: {{median: 800, sigma: 0.9}}, max: 8000}}
      output: {{lognormal: {{median: 180, sigma: 0.7}}, max: 2000}}
    objectives: {{ttft_p99: 2s, tpot_p99: 50ms}}          # ttft, tpot, itl, e2e, queue, with _mean _p50 _p90 _p95 _p99

deployments:
  - name: chat
    model: llama
    pool: h100
    replicas: 2
    engine: {{kind: vllm}}                                # what is left out takes the engine's own default for the GPU
    router: {{kind: least-outstanding}}                   # `twinfer catalog policies`

# `twinfer compare` runs each option on the same requests. Keys are paths, as for --set.
options:
  two: {{}}
  three: {{deployments.chat.replicas: 3}}
  four: {{deployments.chat.replicas: 4}}
"""

_TRACE = f"""\
question: How does the deployment serve what we recorded?

run: {{replications: 3, seed: 7}}                         # no duration: the trace is replayed to its end

{_MACHINES}
workloads:
  - name: chat
    model: llama
    arrivals:
      trace: azure-2023-conv                            # `twinfer traces fetch azure-2023-conv` first; or a CSV, JSONL or
      scale: 2                                          # parquet file with arrival_s, prompt_tokens, output_tokens
      slice: [0, 10m]
    objectives: {{ttft_p99: 2s, tpot_p99: 50ms}}

deployments:
  - {{name: chat, model: llama, pool: h100, replicas: 2, router: {{kind: least-outstanding}}}}

options:
  two: {{}}
  four: {{deployments.chat.replicas: 4}}
"""

_BENCHMARK = f"""\
question: What does one replica do at a fixed concurrency, as a serving benchmark would measure it?

run: {{requests: 500, replications: 3, seed: 7}}

{_MACHINES}
workloads:
  - name: bench
    model: llama
    arrivals: {{closed_loop: 32}}                         # so many users, each waiting for its answer before it asks again
    lengths: {{prompt: 1024, output: 128}}

deployments:
  - {{name: bench, model: llama, pool: h100}}

options:
  at-16: {{workloads.bench.arrivals.closed_loop: 16}}
  at-32: {{}}
  at-64: {{workloads.bench.arrivals.closed_loop: 64}}
"""

_TEMPLATES = {"chat": _CHAT, "trace": _TRACE, "benchmark": _BENCHMARK}

KINDS = tuple(_TEMPLATES)
"""The kinds of starter scenarios; the first is the default."""


def template(kind: str = KINDS[0]) -> str:
    """A scenario file of this kind, ready to be changed. ConfigError if there is none of that kind."""
    if kind not in _TEMPLATES:
        hint = did_you_mean(kind, KINDS)
        raise ConfigError([Problem(f"{kind!r} is not a kind of starter scenario{hint}; there are {', '.join(KINDS)}")])
    return _HEAD + _TEMPLATES[kind]
