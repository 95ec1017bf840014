"""What antithetic pairs of whole simulations would gain, as docs/statistics.md says: some for means, next to nothing for a tail in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sim
from sim.kernel import streams
from sim.stats import Antithetic, antithetic
from sim.workload import table

SCENARIO = """\
run: {duration: 3m, warmup: 30s, replications: 40, seed: 3}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, instance: aws/p5.4xlarge, nodes: 2}]}
workloads:
  - name: chat
    model: llama
    arrivals: {rate: RATE}
    lengths: {prompt: {lognormal: {median: 500, sigma: 0.8}}, output: {lognormal: {median: 80, sigma: 0.6}}}
    objectives: {ttft_p99: 2s, tpot_p99: 50ms}
deployments:
  - {name: chat, model: llama, pool: h100, replicas: 1, router: {kind: least-outstanding}}
"""


class _Inverting:
    """A stream whose gaps are drawn by inversion, and which gives 1 - u and -z for u and z when it is ``mirrored``."""

    def __init__(self, generator: np.random.Generator, mirrored: bool) -> None:
        self.generator, self.mirrored = generator, mirrored

    def standard_exponential(self, size: Any = None) -> Any:
        u = self.generator.random(size)
        return -np.log1p(-(1.0 - u if self.mirrored else u))

    def standard_normal(self, size: Any = None) -> Any:
        z = self.generator.standard_normal(size)
        return -z if self.mirrored else z


def _pairs(rate: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Antithetic]:
    path = folder / "scenario.yaml"
    path.write_text(SCENARIO.replace("RATE", rate), "utf-8")
    halves = []
    for mirrored in (False, True):
        monkeypatch.setattr(table, "generator", lambda *key, m=mirrored: _Inverting(streams.generator(*key), m))
        halves.append(sim.simulate(sim.load(path), jobs=1).figures)
    metrics = ("ttft_mean", "ttft_p99", "tpot_mean", "e2e_mean", "e2e_p99")
    return {metric: antithetic(*(half.values(metric) for half in halves)) for metric in metrics}


@pytest.mark.verify
def test_means_gain_and_tails_within_objectives_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    within, beyond = (_pairs(rate, tmp_path, monkeypatch) for rate in ("20/s", "50/s"))
    assert {metric: round(pair.reduction, 2) for metric, pair in within.items()} == pytest.approx(
        {"ttft_mean": 0.11, "ttft_p99": 0.08, "tpot_mean": 0.38, "e2e_mean": 0.45, "e2e_p99": 0.0}, abs=0.02
    )
    assert {metric: round(pair.reduction, 2) for metric, pair in beyond.items()} == pytest.approx(
        {"ttft_mean": 0.40, "ttft_p99": 0.46, "tpot_mean": 0.32, "e2e_mean": 0.47, "e2e_p99": 0.34}, abs=0.02
    )
    assert [metric for metric, pair in within.items() if pair.helps()] == ["tpot_mean", "e2e_mean"]
    assert all(pair.helps() for pair in beyond.values())
