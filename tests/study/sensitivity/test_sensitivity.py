"""Whole studies of scenarios so simple that their figures are arithmetic."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import pytest

import sim
from sim import profiles
from sim.config.loading import load_text
from sim.errors import ConfigError, ResultError
from sim.stats.intervals import wilson
from sim.study.sensitivity import SensitivityResult
from sim.study.sensitivity.breaks import crossings
from sim.study.sensitivity.criteria import objectives
from sim.study.sensitivity.readings import Figure, Simulated
from sim.study.sensitivity.sobol import Index
from sim.study.study import Study
from sim.theory import MD1
from tests.experiment.doubtful import PROMPT, SIGMA, TOKEN, proportional

LONE = PROMPT * TOKEN  # seconds: a prompt of 100 tokens, a millisecond each

TEXT = """\
question: How long does a request take?
run: {{requests: {requests}, warmup: {warmup}, replications: {replications}, seed: 11}}
models: {{llama: {{architecture: llama-3.1-8b, max_model_len: 4096}}}}
cluster: {{pools: [{{name: h100, gpu: h100-sxm, price: 2, nodes: 4}}]}}
workloads:
  - name: alone
    model: llama
    arrivals: {arrivals}
    lengths: {{prompt: 100, output: 1}}
    objectives: {objectives}
deployments:
  - name: chat
    model: llama
    pool: h100
    profile: {profile}
    engine: {{max_num_seqs: 1, max_num_batched_tokens: 4096, async_scheduling: false}}
options:
  one: {{}}
  two: {{deployments.chat.replicas: 2}}
  fast: {{deployments.chat.replicas: 3, workloads.alone.lengths.prompt: 50}}
"""


def scenario(folder: Path, *, doubt: bool = True, **given: object) -> sim.Scenario:
    profile = proportional()
    profiles.save(profile if doubt else profile.model_copy(update={"doubt": None}), folder / "token.json")
    values: dict[str, object] = {
        "requests": 20,
        "warmup": 0,
        "replications": 2,
        "arrivals": "{rate: 0.01/s, process: deterministic}",
        "objectives": "{ttft_mean: 110ms}",
        "profile": folder / "token.json",
    }
    return load_text(TEXT.format(**(values | given)))


def test_effects_on_a_lone_request_are_arithmetic(tmp_path: Path) -> None:
    found = sim.sensitivity(
        scenario(tmp_path),
        over={"step_times": "0.9..1.1", "prompt_tokens": "0.5..2", "load": "0.8..1.2", "price": "0.8..1.2"},
        metrics=["ttft_mean", "usd_per_hour"],
        methods=["tornado"],
    )
    changes = {(one.metric, one.parameter, one.end): one for one in found.effects}
    for parameter, low, high in (("step_times", -0.1, 0.1), ("prompt_tokens", -0.5, 1.0), ("load", 0.0, 0.0)):
        assert changes["ttft_mean", parameter, "low"].change == pytest.approx(low * LONE, rel=1e-6, abs=1e-9)
        assert changes["ttft_mean", parameter, "high"].change == pytest.approx(high * LONE, rel=1e-6, abs=1e-9)
    assert changes["usd_per_hour", "price", "low"].change == pytest.approx(-0.4)
    assert changes["usd_per_hour", "price", "high"].change == pytest.approx(0.4)
    # 110 ms: kept with steps 1.1 times as long, not with prompts twice as long
    kept = {key[1:]: one.kept for key, one in changes.items() if key[0] == "ttft_mean"}
    assert not kept["prompt_tokens", "high"]
    assert all(kept[key] for key in kept if key not in {("prompt_tokens", "high"), ("step_times", "high")})
    assert [one.parameter for one in found.effects[:2]] == ["prompt_tokens"] * 2


def test_step_times_may_be_wrong_by_the_room_that_the_objective_leaves(tmp_path: Path) -> None:
    found = sim.sensitivity(scenario(tmp_path, objectives="{ttft_mean: 137ms}"), methods=["profile"], draws=2)
    assert [margin.at for margin in found.margins] == pytest.approx([1.37], rel=1e-6)


def test_draws_keep_the_verdict_as_often_as_their_distribution_says(tmp_path: Path) -> None:
    draws = 60
    found = sim.sensitivity(scenario(tmp_path, requests=2, replications=1), methods=["profile"], draws=draws, jobs=1)
    # TTFT is 100 ms times a factor whose logarithm is normal: below 110 ms with Φ(ln 1.1 / σ),
    keeps = NormalDist().cdf(math.log(1.1) / SIGMA)
    shares = {(share.option, share.metric): share for share in found.shares}
    for option in ("one", "two"):
        share = shares[option, "ttft_mean"]
        low, high = wilson(share.held, draws, 0.999)
        assert low <= keeps <= high
        assert share.nominal
    # half the prompt: kept unless the factor is above 2.2, seven deviations off
    assert shares["fast", "ttft_mean"].held == draws
    # one GPU is the cheapest wherever it keeps the objective; else the only one that does
    assert shares["one", ""].held == shares["one", "ttft_mean"].held
    assert shares["fast", ""].held == draws - shares["one", "ttft_mean"].held
    assert ("two", "") not in shares


def test_a_profile_without_doubt_says_so(tmp_path: Path) -> None:
    found = sim.sensitivity(scenario(tmp_path, doubt=False), methods=["profile"])
    assert not found.shares
    assert found.notes == (
        "Profile test/token/tp1 says nothing of its doubt, so nothing is drawn from it; what twinfer calibrate measures does.",
    )


def test_the_load_at_which_an_md1_queue_is_too_slow(tmp_path: Path) -> None:
    """Mean wait ρ D / 2 (1 - ρ) (Pollaczek and Khinchine): it is T at ρ = 2 T / (D + 2 T)."""
    busy, target = 0.4, 0.15
    one = scenario(
        tmp_path,
        requests=3000,
        warmup="30s",
        replications=8,
        arrivals=f"{{rate: {busy / LONE}}}",
        objectives=f"{{queue_mean: {target}}}",
    )
    truth = 2.0 * target / (LONE + 2.0 * target)
    assert MD1(truth / LONE, LONE).wait == pytest.approx(target)
    figure = Figure("alone", "queue_mean")
    criteria = objectives({figure: target})
    evaluate = Simulated(Study(one, jobs=1), criteria[0].needs, warmup=30.0)
    [found] = crossings(evaluate, "load", criteria, 8, tried=4.0, least=0.25, confidence=0.999)
    assert found.at is not None
    assert found.half_width is not None
    assert abs(found.at - truth / busy) <= found.half_width
    assert found.half_width < 0.1 * found.at


def test_a_study_is_the_same_whoever_works(tmp_path: Path) -> None:
    one = scenario(tmp_path, arrivals="{rate: 5/s}", requests=200, replications=3)
    over = {"load": "0.8..1.2", "deployments.chat.replicas": "1..3"}
    found = [sim.sensitivity(one, over=over, methods=["all"], points=2, draws=2, jobs=jobs) for jobs in (1, 2)]
    assert found[0].to_json() == found[1].to_json()


def test_shares_of_the_variance_of_a_product(tmp_path: Path) -> None:
    """TTFT of a lone request is prompt x time a token: two uniform factors on [0.5, 1.5] have variance 1/12 each, so first order
    (1/12) / V and total (1/12)(1 + 1/12) / V with V = (1 + 1/12)² - 1. What they do to the lengths is rounded to tokens."""
    found = sim.sensitivity(
        scenario(tmp_path, requests=1, replications=1),
        over={"step_times": "0.5..1.5", "prompt_tokens": "0.5..1.5"},
        methods=["sobol"],
        points=64,
        jobs=1,
    )
    v = 1.0 / 12.0
    variance = (1.0 + v) ** 2 - 1.0
    for index in found.indices:
        assert index.first == pytest.approx(v / variance, abs=0.06)
        assert index.total == pytest.approx(v * (1.0 + v) / variance, abs=0.06)
    [spread] = found.spreads
    assert spread.mean == pytest.approx(LONE, rel=0.03)
    assert spread.deviation == pytest.approx(LONE * variance**0.5, rel=0.08)
    assert spread.noise == 0.0 or math.isnan(spread.noise)


@pytest.mark.parametrize(
    ("total", "half", "said"),
    [(0.9, 0.1, "comes most from load (90%)"), (0.9, 0.4, "Too few points"), (1.95, 0.05, "Too few points")],
)
def test_shares_that_few_rows_cannot_tell_are_not_told(total: float, half: float, said: str) -> None:
    index = Index("load", "load", "0.9 to 1.1", "", "ttft_p99", 0.8, half, total, half)
    found = SensitivityResult("chat", "", "", "", 1, 3, 0.95, False, 0.0, indices=(index,))
    assert said in " ".join(found.summary)


def test_what_was_found_is_read_back_as_it_was(tmp_path: Path) -> None:
    one = scenario(tmp_path, arrivals="{rate: 5/s}", requests=60, replications=2)
    found = sim.sensitivity(one, over={"load": "0.8..1.2"}, methods=["all"], points=2, draws=2, jobs=1)
    found.save(tmp_path / "out")
    read = SensitivityResult.load(tmp_path / "out")
    assert read.to_json() == found.to_json()
    assert repr(read) == repr(found)
    for frame in ("tornado", "sobol", "breaks", "profile", "step_times"):
        assert len(getattr(read, frame))
        assert getattr(read, frame).equals(getattr(found, frame))
    assert "<table" in read._repr_html_()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        ("{}", "kind None"),
        ("[]", "holds no JSON object"),
        ('{"kind": "sensitivity", "format": 1}', "is not what twinfer writes"),
        ('{"kind": "sensitivity", "format": 9}', "format 9"),
    ],
)
def test_a_file_that_is_none_is_refused_in_a_line(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "sensitivity.json").write_text(content, encoding="utf-8")
    with pytest.raises(ResultError, match=message) as caught:
        SensitivityResult.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"metrics": ["ttft_p98"]}, "did you mean 'ttft_p9"),
        ({"metrics": ["chat.ttft_p99"]}, "'chat' is not a workload"),
        ({"methods": ["tornedo"]}, "did you mean 'tornado'"),
        ({"points": 48}, "48 is not a power of two"),
        ({"draws": 1}, "1 is too few"),
        ({"option": "tow"}, "did you mean 'two'"),
        ({"metrics": ["tpot_p99"]}, "no request has such a figure"),
    ],
)
def test_what_cannot_be_asked_is_said(tmp_path: Path, asked: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sim.sensitivity(scenario(tmp_path), **asked)  # type: ignore[arg-type]
