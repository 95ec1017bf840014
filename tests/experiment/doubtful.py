"""A profile of which one thing is in doubt, and requests so simple that what follows from it is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import sim
from sim import profiles
from sim.profiles.doubt import Doubt
from sim.profiles.schema import ContextGrid, Curve, Curves, Host, Profile, PromptGrid, Step

SIGMA = 0.1
TOKEN = 1e-3  # seconds a token; nothing else takes time, so TTFT of a lone request is proportional to the factor of "tokens"
PROMPT = 100

SCENARIO = """\
question: How long does a lone request take?
run: {{warmup: 0, replications: 200, calibration_doubt: true}}
models: {{llama: {{architecture: llama-3.1-8b, max_model_len: 4096}}}}
cluster: {{pools: [{{name: h100, gpu: h100-sxm, price: 1, nodes: 4}}]}}
workloads: [{{name: alone, model: llama, arrivals: {{trace: {trace}}}}}]
deployments:
  - {{name: chat, model: llama, pool: h100, profile: {profile}, engine: {{max_num_seqs: 4, max_num_batched_tokens: 4096}}}}
"""


def proportional(name: str = "test/token/tp1", sigma: float = SIGMA, token: float = TOKEN) -> Profile:
    """A step takes ``token`` seconds a token; the logarithm of its factor has the standard deviation ``sigma``."""
    nothing = ((0.0, 0.0), (0.0, 0.0))
    return profiles.load("h100-sxm/llama-3.1-8b/tp1").model_copy(
        update={
            "name": name,
            "step": Step(
                tokens=Curves(parts={"gemm": Curve(at=(1, 4096), us=(token * 1e6, 4096 * token * 1e6))}),
                sequences=Curves(parts={"lm_head": Curve(at=(1, 4), us=(0.0, 0.0))}),
                prefill=PromptGrid(chunks=(1, 4096), pasts=(0, 4096), us=nothing),
                decode=ContextGrid(sequences=(1, 4), contexts=(1, 8192), us=nothing),
                host=Host(cuda_graphs=False),
            ),
            "doubt": Doubt(parts=("tokens",), covariance=((sigma * sigma,),), method="made up"),
        }
    )


def write_lone(folder: Path, profile: Profile) -> Path:
    """A scenario of two requests that never meet, PROMPT tokens and one output token each."""
    profiles.save(profile, folder / "mine.json")
    rows = [f"{10 * number},{PROMPT},1\n" for number in range(2)]
    (folder / "lone.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(rows))
    path = folder / "lone.yaml"
    path.write_text(SCENARIO.format(trace="lone.csv", profile="mine.json"))
    return path


def coverage(path: Path, studies: int, replications: int, sigma: float, changes: dict[str, Any]) -> float:
    """The share of studies whose interval for the mean TTFT holds that of a system drawn from the same doubt.

    That is its factor times what PROMPT tokens, the mean prompt, take.
    """
    truths = np.exp(sigma * np.random.default_rng(77).standard_normal(studies))
    held = []
    for seed, truth in enumerate(truths.tolist()):
        result = sim.simulate(sim.load(path, changes), seed=seed, replications=replications, jobs=1)
        estimate = result.summary["ttft_mean"]
        assert estimate.half_width is not None
        held.append(abs(estimate.value - PROMPT * TOKEN * truth) <= estimate.half_width)
    return float(np.mean(held))
