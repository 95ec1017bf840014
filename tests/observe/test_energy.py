"""Energy worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from sim.observe import DeploymentFacts, PoolFacts, PowerCurve, ReplicationRecord, Site, Terms
from sim.observe.costs import energy
from sim.observe.energy import assumed, joules, measured, site
from sim.observe.metrics import metrics
from sim.observe.warmup import remarks
from tests.observe.making import record, request


def test_watts_go_by_the_logarithm_of_the_tokens_and_stay_beyond_what_was_measured() -> None:
    curve = PowerCurve(50.0, (1.0, 100.0), (100.0, 300.0))
    assert curve.busy_watts(np.array([0.5, 1.0, 10.0, 100.0, 5000.0])).tolist() == [100.0, 100.0, 200.0, 300.0, 300.0]
    assert PowerCurve(50.0).busy_watts(np.array([8.0])).tolist() == [50.0]


def test_a_profile_that_measured_power_is_taken_at_its_word() -> None:
    power = SimpleNamespace(idle_watts=60.0, at=(1, 256), watts=(200.0, 650.0))
    curve = measured(power)
    assert curve == PowerCurve(60.0, (1, 256), (200.0, 650.0))
    assert curve.assumed == ""


def test_power_that_nobody_measured_is_a_share_of_the_limit_and_says_so() -> None:
    """Of 400 W: at rest 0.115, with an engine 0.07 more, decoding 0.74, prefilling all."""
    curve = assumed(400.0)
    assert curve.idle_watts == pytest.approx(74.0)
    assert curve.busy_watts(np.array([1.0, 8.0, 512.0, 8192.0])).tolist() == pytest.approx([296.0, 296.0, 400.0, 400.0])
    assert "400 W" in curve.assumed
    there = site(400.0)
    assert (there.idle_watts, there.host_watts, there.pue) == (pytest.approx(46.0), 200.0, 1.59)
    assert math.isnan(there.g_per_kwh)


def test_curves_that_are_no_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="at has 2 points, watts has 1"):
        PowerCurve(50.0, (1.0, 2.0), (3.0,))
    with pytest.raises(ValueError, match="must rise"):
        PowerCurve(50.0, (2.0, 1.0), (3.0, 4.0))


def test_at_the_wall_come_the_gpus_that_rest_the_machine_and_the_building() -> None:
    """(1,000 J + 40 GPU-seconds at rest of 10 W + 100 GPU-seconds of 5 W) x 1.5."""
    assert joules(1000.0, 100.0, 60.0, Site(10.0, 5.0, 1.5)) == pytest.approx(2850.0)


def drawing(g_per_kwh: float = 400.0, curve: PowerCurve | None = None) -> ReplicationRecord:
    """A machine of two GPUs for 1,000 s; one has a replica that is busy for half of the time, in steps of 16 tokens."""
    curve = assumed(400.0) if curve is None else curve
    pool = PoolFacts("pool", Terms(3.6), 1, 2, site=site(400.0, host_watts=100.0, pue=1.2, g_per_kwh=g_per_kwh))
    return record(
        [request(0.0, 0.0, 1.0, 1000.0, prompt=600, output=400)],
        deployments=(DeploymentFacts("chat", 1, 1, 0.0, 100, pool="pool", power=curve),),
        pools=(pool,),
        replicas={
            "busy_s": [500.0],
            "steps": [500.0],
            "prefill_tokens": [600.0],
            "decode_tokens": [7400.0],
            "sequence_seconds": [500.0],
            "peak_blocks": [10.0],
        },
        horizon=1000.0,
        end=1000.0,
    )


def test_energy_of_a_run() -> None:
    """GPU at work 296 W x 500 s, at rest with an engine 74 W x 500 s; the other 46 W x 1,000 s; hosts 100 W x 2,000 GPU-seconds."""
    wall = (296.0 * 500 + 74.0 * 500 + 46.0 * 1000 + 100.0 * 2000) * 1.2
    figures = metrics(drawing())
    assert figures["energy_kwh"] == pytest.approx(wall / 3.6e6)
    assert figures["j_per_token"] == pytest.approx(wall / 1000.0)
    assert figures["gco2"] == pytest.approx(wall / 3.6e6 * 400.0)


def test_energy_of_the_window_is_over_the_tokens_of_the_window() -> None:
    """From 500 s on half of everything is drawn, and all tokens end."""
    wall = (296.0 * 250 + 74.0 * 250 + 46.0 * 500 + 100.0 * 1000) * 1.2
    assert metrics(drawing(), warmup=500.0)["j_per_token"] == pytest.approx(wall / 1000.0)


def test_carbon_is_unknown_without_a_region_and_energy_without_watts() -> None:
    assert "gco2" not in metrics(drawing(math.nan))
    plain = record([request(0.0, 0.0, 1.0, 2.0)])
    assert not {"energy_kwh", "j_per_token", "gco2"} & set(metrics(plain))
    with pytest.raises(ValueError, match="nothing is known of the power of its GPUs"):
        energy(drawing_without_curve(), np.array([1.0]), 0.0, 1000.0)


def drawing_without_curve() -> ReplicationRecord:
    made = drawing()
    made.deployments = (DeploymentFacts("chat", 1, 1, 0.0, 100, pool="pool"),)
    return made


def test_power_that_was_assumed_is_said() -> None:
    assert [note for note in remarks([drawing()], 0.0) if "power" in note] == [
        "chat: the power of its GPUs was not measured; assumed are shares of a power limit of 400 W, as Splitwise measured them on A100s"
    ]
    assert not [note for note in remarks([drawing(curve=PowerCurve(50.0))], 0.0) if "power" in note]
