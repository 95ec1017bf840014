"""Outlier detection beyond the case file: the cap on ejection times, jitter, chances, panic, invariants."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.control.clients import OutlierDetection, ejection_threshold, in_panic


class _Dice:
    """Stands in for a generator: gives the numbers it was given."""

    def __init__(self, *numbers: float) -> None:
        self._numbers = list(numbers)

    def random(self) -> float:
        return self._numbers.pop(0)


def _dice(*numbers: float) -> Any:
    return _Dice(*numbers)


@pytest.mark.parametrize(("longest", "most"), [(300.0, 30), (305.0, 31)])
def test_ejection_time_stops_growing_at_its_maximum(longest: float, most: int) -> None:
    # OutlierDetectorImplTest.MaxEjectTime and MaxEjectTimeNotAlligned: base 10 s, ticks every 10 s; the n-th ejection ends with the n-th
    # tick after it, until the maximum: 300 s are 30 ticks, and 305 s end with the 31st.
    detection = OutlierDetection(base_ejection_time=10.0, max_ejection_time=longest, max_ejection_percent=100.0)
    detection.add(0)
    ticks = 0
    for n in [*range(1, most + 1), *([most] * 9)]:
        for _ in range(5):
            detection.report(0, 10.0 * ticks, False)
        for _ in range(n):
            assert detection.ejected(10.0 * ticks) == {0}
            ticks += 1
            detection.tick(10.0 * ticks)
        assert detection.ejected(10.0 * ticks) == frozenset()


def test_jitter_delays_the_return() -> None:
    # OutlierDetectorImplTest.EjectionTimeJitterIsInRange: 123456789 % 10001 ms of at most 10 s are 4.445 s
    detection = OutlierDetection(max_ejection_percent=100.0, max_ejection_time_jitter=10.0, generator=_dice(0.4445))
    detection.add(0)
    for _ in range(5):
        detection.report(0, 0.0, False)
    assert detection.jitter(0) == pytest.approx(4.445)
    detection.tick(34.4)
    assert detection.ejected(34.4) == {0}
    detection.tick(34.5)
    assert detection.ejected(34.5) == frozenset()


def test_enforcing_is_a_chance() -> None:
    detection = OutlierDetection(max_ejection_percent=100.0, enforcing_consecutive_5xx=30.0, generator=_dice(0.3, 0.29))
    detection.add(0)
    for expected in (frozenset(), {0}):
        for _ in range(5):
            detection.report(0, 0.0, False)
        assert detection.ejected(0.0) == expected
    assert (detection.detected["consecutive_5xx"], detection.enforced["consecutive_5xx"]) == (2, 1)


def test_success_rate_threshold() -> None:
    # OutlierUtility.SRThreshold
    assert ejection_threshold([50.0, 100.0, 100.0, 100.0, 100.0], 1.9) == (90.0, 52.0)


@pytest.mark.parametrize(
    ("healthy", "hosts", "threshold", "panic"),
    [
        (1, 2, 50.0, False),  # envoy load_balancer_impl.cc isHostSetInPanic: strictly below the threshold
        (1, 3, 50.0, True),
        (0, 0, 50.0, True),
        (0, 4, 0.0, False),  # 0 switches it off
        (2, 4, 60.0, True),
        (4, 4, 100.0, False),
    ],
)
def test_panic(healthy: int, hosts: int, threshold: float, panic: bool) -> None:
    assert in_panic(healthy, hosts, threshold) is panic


def test_in_a_panic_nobody_is_avoided() -> None:
    detection = OutlierDetection(max_ejection_percent=100.0)
    for host in range(3):
        detection.add(host)
    avoided = []
    for host in range(2):
        for _ in range(5):
            detection.report(host, 0.0, False)
        avoided.append(detection.avoided(0.0))
    assert avoided == [{0}, frozenset()]  # 2 of 3 healthy, then 1 of 3
    assert detection.ejected(0.0) == {0, 1}


def test_defaults_are_those_of_envoy() -> None:
    # api/envoy/config/cluster/v3/outlier_detection.proto; OutlierDetectorImplTest.DetectorStaticConfigBaseLargerThanMaxNoMax
    assert OutlierDetection(base_ejection_time=400.0)._longest == 400.0
    assert OutlierDetection(base_ejection_time=10.0)._longest == 300.0
    with pytest.raises(ValueError, match=r"max_ejection_time: 3\.0; cannot be smaller than base_ejection_time, 10\.0"):
        OutlierDetection(base_ejection_time=10.0, max_ejection_time=3.0)
    with pytest.raises(ValueError, match="max_ejection_time_jitter: chance needs a generator"):
        OutlierDetection(max_ejection_time_jitter=1.0)
    with pytest.raises(ValueError, match="max_ejection_percent: 120; 0 to 100 percent"):
        OutlierDetection(max_ejection_percent=120)


def test_hosts_come_and_go() -> None:
    detection = OutlierDetection()
    detection.add(7)
    with pytest.raises(ValueError, match="host 7 is in the cluster already"):
        detection.add(7)
    detection.remove(7)
    with pytest.raises(ValueError, match="host 7 is not in the cluster"):
        detection.remove(7)


@settings(max_examples=60, deadline=None)
@given(
    hosts=st.integers(1, 12),
    percent=st.sampled_from([0.0, 10.0, 34.0, 50.0, 100.0]),
    always=st.booleans(),
    answers=st.lists(st.tuples(st.integers(0, 11), st.booleans(), st.integers(1, 6)), max_size=60),
    seed=st.integers(0, 2**32 - 1),
)
def test_never_more_hosts_out_than_allowed(
    hosts: int, percent: float, always: bool, answers: list[tuple[int, bool, int]], seed: int
) -> None:
    detection = OutlierDetection(
        max_ejection_percent=percent,
        always_eject_one_host=always,
        enforcing_consecutive_gateway_failure=50.0,
        enforcing_failure_percentage=100.0,
        failure_percentage_request_volume=5,
        max_ejection_time_jitter=5.0,
        generator=np.random.default_rng(seed),
    )
    for host in range(hosts):
        detection.add(host)
    for at, (host, ok, times) in enumerate(answers):
        for _ in range(times):
            detection.report(host, float(at), ok, 200 if ok else 503)
        if at % 10 == 9:
            detection.tick(float(at))
        out = detection.ejected(float(at))
        assert out <= set(range(hosts))
        assert 100.0 * len(out) / hosts <= percent or (always and len(out) == 1)
    detection.tick(len(answers) + 1000.0)
    assert detection.success_rates.keys() <= set(range(hosts))
