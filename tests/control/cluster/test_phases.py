"""From measured starts to distributions: the arithmetic, by hand, and against the shipped cold starts."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.control.cluster.distribution import (
    SIGMA,
    Empirical,
    Exponential,
    Fixed,
    LogNormal,
    Scaled,
    Uniform,
    of_samples,
)
from sim.control.cluster.phases import PCIE, RATES, WAKE, known, typical, wake
from sim.profiles import coldstarts
from sim.profiles.parts import Samples
from sim.profiles.startup import Load, Transfer


def samples(*values: float) -> Samples:
    return Samples(values=values)


# distributions


@pytest.mark.parametrize(
    ("distribution", "middle", "mean"),
    [
        (Fixed(3.0), 3.0, 3.0),
        (Uniform(2.0, 6.0), 4.0, 4.0),
        (LogNormal(10.0, 0.5), 10.0, 10.0 * np.exp(0.125)),
        (Exponential(10.0), 10.0 * np.log(2.0), 10.0),
        (Empirical((1.0, 2.0, 9.0)), 2.0, (1.5 + 5.5) / 2),  # half of the draws in [1, 2], half in [2, 9]
        (Scaled(Uniform(2.0, 6.0), 0.5), 2.0, 2.0),
    ],
)
def test_draws_have_the_median_and_the_mean(distribution, middle: float, mean: float) -> None:  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(5)
    draws = np.array([distribution.draw(generator) for _ in range(20_000)])
    assert distribution.median == pytest.approx(middle)
    assert np.median(draws) == pytest.approx(middle, rel=0.04)
    assert draws.mean() == pytest.approx(mean, rel=0.03)
    assert draws.min() >= 0.0


@given(st.lists(st.floats(0.0, 1e6), min_size=3, max_size=30), st.floats(0.0, 1.0))
def test_nothing_lies_beyond_what_was_measured(values: list[float], share: float) -> None:
    distribution = of_samples(values)
    assert isinstance(distribution, Empirical)
    assert min(values) <= distribution.quantile(share) <= max(values)
    assert distribution.quantile(0.0) == min(values)
    assert distribution.quantile(1.0) == max(values)


def test_fewer_than_three_samples_have_an_assumed_spread() -> None:
    assert of_samples([300.0, 360.0]) == LogNormal(330.0, SIGMA)
    assert of_samples([7.0]) == LogNormal(7.0, SIGMA)
    assert of_samples([0.0]).draw(np.random.default_rng(1)) == 0.0
    with pytest.raises(ValueError, match="one or more seconds"):
        of_samples([])
    with pytest.raises(ValueError, match="none negative"):
        of_samples([-1.0, 2.0])


def test_the_assumed_spread_lies_within_those_of_shipped_cold_starts() -> None:
    spreads = [
        float(np.std(np.log(phase.values)))
        for name in coldstarts.names()
        for kind, phase in coldstarts.load(name).load.phases.items()
        if len(phase.values) >= 10 and kind != "weights"
    ]
    assert min(spreads) < SIGMA <= max(spreads) * 1.01


# from measured loads


def test_phases_are_put_in_order_and_weights_scaled_by_their_bytes() -> None:
    load = Load(
        bytes=100,
        phases={
            "graph_capture": samples(20.0),
            "weights": samples(8.0, 9.0, 10.0),
            "process": samples(16.0),
            "compile": samples(24.0),
            "image_pull": samples(300.0),
            "node": samples(90.0),
        },
        read={
            "local_disk": Transfer(bytes_per_second=samples(10.0, 11.0, 12.5), together={"1": 11.0, "4": 16.0}),
            "page_cache": Transfer(bytes_per_second=samples(50.0, 50.0, 50.0)),
        },
    )
    found = known(load, name="mine", weights_bytes=200.0, factor=2.0)
    start = found.start
    assert list(start.before) == ["process"]
    assert list(start.after) == ["compile", "graph_capture"]
    assert start.pull is not None
    assert start.pull.median == 600.0
    assert start.source == "local_disk"
    assert start.weights["local_disk"].median == 2 * 2 * 9.0  # as the phase was measured, for twice the bytes
    assert start.weights["page_cache"].median == 2 * 200.0 / 50.0
    assert start.process == 2 * (16.0 + 18.0 + 24.0 + 20.0)
    assert found.provision is not None
    assert found.provision.median == 90.0  # not a part of the start, and not scaled
    assert found.disk == 16.0
    assert found.volume is None
    assert [warning.partition(": ")[2] for warning in found.warnings] == [
        "nothing was measured of warm_up: 0 s",
        "measured with 1e-07 GB of weights, used for 2e-07 GB: reading them is scaled, the other phases are not",
    ]


def test_what_is_said_replaces_what_was_measured() -> None:
    load = Load(bytes=100, phases={"weights": samples(8.0), "engine": samples(30.0)})
    start = known(load, weights_bytes=100.0, phases={"weights": Fixed(3.0), "compile": Fixed(4.0)}).start
    assert start.weights == {"local_disk": Fixed(3.0)}
    assert [phase.median for phase in start.after.values()] == [4.0, 30.0]


def test_another_tier_is_read_at_its_measured_rate_or_at_an_assumed_one() -> None:
    load = Load(
        bytes=100,
        phases={"weights": samples(8.0), "engine": samples(1.0)},
        read={
            tier: Transfer(bytes_per_second=samples(rate))
            for tier, rate in (("local_disk", 12.5), ("object_store", 4.0))
        },
    )
    assert known(load, weights_bytes=100.0).start.source == "object_store"
    assert known(load, weights_bytes=100.0, source="local_disk").start.process == 9.0
    found = known(load, name="mine", weights_bytes=RATES["network_disk"], source="network_disk")
    assert found.start.weights["network_disk"] == LogNormal(1.0, SIGMA)
    assert "nothing was measured of weights from network_disk: 1.12 GB/s are assumed" in found.warnings[0]


def test_ready_holds_what_its_parts_do_not() -> None:
    # Meta-Llama-3-8B from S3: ready after 23.18 s, 4.88 s of them the weights
    preset = coldstarts.load("runai-streamer-s3-llama-3-8b")
    start = known(preset.load, weights_bytes=float(preset.weights_bytes)).start
    assert start.after["engine"].median == pytest.approx(18.30)
    assert start.process == pytest.approx(23.18)
    assert start.source == "object_store"
    # 16 + 18 + 43 + 210 s are more than the 277 s to ready that the same user gives: the parts are taken
    parts = coldstarts.load("vllm-0.22-rtx-5090-qwen3.6-35b-a3b-nvfp4")
    assert known(parts.load, weights_bytes=float(parts.weights_bytes)).start.process == pytest.approx(287.0)


def test_an_engine_that_was_timed_as_a_whole_has_its_weights_within() -> None:
    preset = coldstarts.load("kubernetes-unoptimised-llama-3.1-8b")
    start = known(preset.load, weights_bytes=15e9).start
    assert start.weights == {}
    assert start.process == 120.0
    assert start.pull is not None
    assert start.extract is not None
    assert (start.pull.median, start.extract.median) == (330.0, 210.0)


@pytest.mark.parametrize("name", coldstarts.names())
def test_every_shipped_cold_start_is_one(name: str) -> None:
    preset = coldstarts.load(name)
    found = known(preset.load, name=name, weights_bytes=float(preset.weights_bytes))
    parts = {phase: median(values.values) for phase, values in preset.load.phases.items()}
    ready = parts.pop("ready", 0.0)
    inside = sum(seconds for phase, seconds in parts.items() if phase not in ("node", "image_pull", "image_extract"))
    assert found.start.process == pytest.approx(max(inside, ready), rel=1e-9)
    generator = np.random.default_rng(3)
    parts_drawn = [*found.start.before.values(), *found.start.weights.values(), *found.start.after.values()]
    assert all(0.0 < part.draw(generator) < 1e4 for part in parts_drawn)


def test_assumed_rates_are_medians_of_shipped_cold_starts() -> None:
    for tier, name in (
        ("object_store", "runai-streamer-s3-llama-3-8b"),
        ("network_disk", "runai-streamer-gp3-llama-3-8b"),
        ("local_disk", "safetensors-h100-nvme-llama-3.1-8b"),
        ("page_cache", "safetensors-h100-nvme-deepseek-r1-distill-qwen-32b"),
    ):
        read = {str(key): value for key, value in coldstarts.load(name).load.read.items()}
        assert median(read[tier].bytes_per_second.values) == pytest.approx(RATES[tier], rel=1e-6)


def test_where_nothing_is_known_a_typical_start_is_assumed_and_said_to_be() -> None:
    found = typical(16.060522496e9)
    # process 16, build 0.36, compile 24.8, graphs 20, warm-up 11.3 and 4.5 s of weights
    assert found.start.process == pytest.approx(77.0, abs=1.0)
    assert (
        "nothing is known of its cold start: a vLLM's on an H100 is assumed, 77 s, no image to pull"
        in found.warnings[0]
    )
    other = typical(16.060522496e9, phases={"image_pull": Fixed(60.0), "process": Fixed(1.0)})
    assert other.start.process == pytest.approx(62.0, abs=1.0)
    assert "no image" not in other.warnings[0]


def test_of_nothing_there_is_only_what_was_said() -> None:
    found = known(None, weights_bytes=1e9, phases={"engine": Fixed(30.0)})
    assert found.start.process == 30.0
    assert found.warnings == ()


def test_waking_takes_the_weights_over_each_gpus_own_link() -> None:
    assert wake(1, 100e9, 4).median == pytest.approx(100e9 / 4 / PCIE + WAKE)  # 1.1 s
    assert wake(2, 100e9, 4).median == WAKE
