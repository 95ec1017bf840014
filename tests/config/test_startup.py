"""What a scenario may say of starts, ends, growth and storage, and what becomes of it."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from sim.config.growth import Growth, Loss, Storage, pool_plan
from sim.config.startup import ColdStart, Drain, Spread, WarmPool
from sim.config.values import Part
from sim.control.cluster.distribution import SIGMA, Empirical, Exponential, Fixed, LogNormal, Uniform
from sim.profiles import coldstarts
from sim.profiles.startup import Phase

SOME = 16_060_522_496.0


def read(part: type[Part], **given: Any) -> Any:
    return part.model_validate(given)


# durations


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("40s", Fixed(40.0)),
        (40, Fixed(40.0)),
        ({"low": "2m", "high": "5m"}, Uniform(120.0, 300.0)),
        ({"median": "30s", "sigma": 0.3}, LogNormal(30.0, 0.3)),
        ({"mean": "1m"}, Exponential(60.0)),
        ({"values": ["3s", "1s", "2s"]}, Empirical((1.0, 2.0, 3.0))),
        ({"values": ["3s"]}, LogNormal(3.0, SIGMA)),
    ],
)
def test_a_duration_may_be_a_distribution(given: Any, expected: object) -> None:
    spread = Spread.model_validate(given)
    assert spread.distribution() == expected
    jsonschema.validate(given, Spread.model_json_schema())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("soon", "'soon' is not a duration"),
        (-1, "is not a duration"),
        ({"low": 1}, "needs a duration, low and high, median and sigma, mean, or values; given: low"),
        ({"low": 1, "mean": 3}, "given: low, mean"),
        ({"low": 3, "high": 1}, "high 1 s is less than low 3 s"),
        ({"median": 3}, "given: median"),
        ({}, "given: nothing"),
        ({"values": []}, "is empty"),
        ({"middle": 3}, "Extra inputs"),
    ],
)
def test_a_duration_that_cannot_be(given: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Spread.model_validate(given)


# cold starts


def test_the_phases_are_those_a_profile_has_less_ready() -> None:
    from typing import get_args

    names = set(get_args(Phase)) - {"ready"}
    assert read(ColdStart, phases=dict.fromkeys(names, "1s")).phases.keys() == names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"phases": {"weight": "3s"}}, r"'weight' is not a phase of a start \(did you mean 'weights'\?\)"),
        ({"preset": "vllm-0.8.5-h100-llama-3.1-9b"}, "did you mean 'vllm-0.8.5-h100-llama-3.1-8b'"),
        ({"weights_from": "disk"}, "'disk' is not one of object_store, network_disk, local_disk"),
        ({"image": "big"}, "'big' is not a size"),
        ({"scale": -1}, "out of range"),
    ],
)
def test_a_cold_start_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        read(ColdStart, **given)


def test_a_preset_goes_before_the_profile_and_the_profile_before_a_typical_start() -> None:
    load = coldstarts.load("runai-streamer-s3-llama-3-8b").load
    own = read(ColdStart).known(load, SOME, profile="mine")
    assert own.start.process == pytest.approx(23.18)
    named = read(ColdStart, preset="vllm-0.8.5-h100-qwen2.5-7b").known(load, SOME, profile="mine")
    assert list(named.start.after) == ["build", "compile", "graph_capture", "warm_up"]
    nothing = read(ColdStart).known(None, SOME)
    assert nothing.warnings[0].startswith("nothing is known of its cold start")
    assert read(ColdStart, preset="typical").known(load, SOME).start.process == nothing.start.process


def test_phases_alone_are_all_there_is_where_nothing_was_measured() -> None:
    said = {"phases": {"engine": "30s", "weights": "4s"}, "readiness_period": 0, "endpoint_delay": "1s", "scale": 2}
    for preset in ({}, {"preset": "none"}):
        found = read(ColdStart, **said, **preset).known(None, SOME)
        assert found.start.process == 68.0
        assert found.warnings == ()
    assert found.start.readiness_period == 0.0
    assert found.start.endpoint_delay == 1.0
    on_top = read(ColdStart, **said, preset="typical").known(None, SOME)
    assert "compile" in on_top.start.after


def test_replicas_of_one_start_share_an_image_that_has_a_name() -> None:
    cold = read(ColdStart, preset="kubernetes-unoptimised-llama-3.1-8b", image="20.2GB")
    assert (
        cold.known(None, SOME, weights_name="a").start.image
        == cold.known(None, SOME, weights_name="b").start.image
        != ""
    )
    assert cold.known(None, SOME).start.image_bytes == 20.2e9


# warm pools, drains


def test_a_warm_pool_wakes_by_the_weights_it_has_to_copy() -> None:
    plan = read(WarmPool, size=2).plan(100e9, 4)
    assert (plan.level, plan.bytes, plan.wake.median) == (1, 100e9, 1.1)  # 25 GB at 25 GB/s, and 0.1 s
    plan = read(WarmPool, size=2, sleep=2, wake="3s", keeps_gpus=True, asleep=1).plan(100e9, 4)
    assert (plan.level, plan.bytes, plan.wake.median, plan.keeps_gpus, plan.asleep) == (2, 0.0, 3.0, True, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "size"),
        ({"size": 1, "asleep": 2}, "2 are more than size, 1"),
        ({"size": 1, "sleep": 3}, "'3' is out of range; allowed: from 1 to 2"),
    ],
)
def test_a_warm_pool_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        read(WarmPool, **given)


def test_the_grace_period_is_that_of_kubernetes() -> None:
    assert read(Drain).grace == 30.0


# pools


@pytest.mark.parametrize(
    ("given", "bytes_per_second"),
    [("2GB/s", 2e9), ("100Gbit/s", 12.5e9), ("1000 MiB/s", 1000 * 2**20), ("8 bit/s", 1.0), (5e8, 5e8)],
)
def test_bandwidths_have_units(given: Any, bytes_per_second: float) -> None:
    assert read(Storage, disk=given).disk == bytes_per_second
    jsonschema.validate({"disk": given}, Storage.model_json_schema())


@pytest.mark.parametrize("given", ["2GB", "fast", 0, -1, "1 Gbps", True])
def test_a_bandwidth_that_cannot_be(given: Any) -> None:
    with pytest.raises(ValidationError, match="disk"):
        read(Storage, disk=given)


def resolved(growth: dict[str, Any], storage: dict[str, Any] | None = None, **options: Any) -> Any:
    return pool_plan(
        "p", 8, 2, growth=read(Growth, **growth), storage=read(Storage, **(storage or {})), loss=read(Loss), **options
    )


def test_a_pool_that_says_nothing_of_growth_has_its_nodes() -> None:
    plan = resolved({})
    assert (plan.floor, plan.nodes, plan.ceiling) == (2, 2, 2)
    assert (plan.idle, plan.after_add, plan.monitor, plan.toleration) == (600.0, 600.0, 40.0, 300.0)


def test_what_is_said_of_a_pool_goes_before_what_its_cold_starts_know() -> None:
    plan = resolved(
        {"least": 0, "most": 9, "provision": "4m"}, {"disk": "3GB/s"}, disk=1e9, volume=2e9, provision=Fixed(1.0)
    )
    assert (plan.floor, plan.ceiling, plan.provision, plan.disk, plan.volume) == (0, 9, Fixed(240.0), 3e9, 2e9)
    assert plan.network == plan.store == float("inf")
    assert resolved({}, provision=Fixed(1.0)).provision == Fixed(1.0)
    assert resolved({"most": 4}).provision.median == 180.0


def test_host_memory_is_twice_that_of_the_gpus_unless_it_is_said() -> None:
    assert resolved({}, gpu_memory=80e9).host_memory == 1280e9
    assert resolved({}, {"host_memory": "64GB"}, gpu_memory=80e9).host_memory == 64e9


def test_images_are_on_new_machines_only_if_they_are_prepulled() -> None:
    assert resolved({}, images=frozenset({"a"})).images == frozenset()
    assert resolved({}, {"prepulled": True}, images=frozenset({"a"})).images == {"a"}


def test_bounds_that_cross_are_refused() -> None:
    with pytest.raises(ValidationError, match="5 is more than most, 3"):
        read(Growth, least=5, most=3)
    with pytest.raises(ValueError, match="least 1, nodes 2, most 1: must rise from 0"):
        resolved({"most": 1})
