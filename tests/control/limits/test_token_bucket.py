"""Token buckets against the published tests of Go's and Envoy's, and what must hold of any bucket."""

from __future__ import annotations

import re
from math import inf
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim.control.limits.envoy_bucket import ContinuousBucket, TimedBucket
from sim.control.limits.local_ratelimit import Descriptor, LocalRateLimiter
from sim.control.limits.token_bucket import INF, Limiter, every
from tests.paths import DATA

CASES = yaml.safe_load((DATA / "control" / "token_bucket_cases.yaml").read_text())


def go(case: dict[str, Any]) -> None:
    limiter = Limiter(**case["go"])
    named: dict[str, Any] = {}
    for number, step in enumerate(case["steps"]):
        now, said = step["at"], f"step {number}: {step}"
        if "tokens" in step:
            assert limiter.tokens_at(now) == step["tokens"], said
        for _ in range(step.get("times", 1)):
            if "allow" in step:
                assert limiter.allow_n(now, step["allow"]) is step["ok"], said
            elif "reserve" in step:
                made = limiter.reserve_n(now, step["reserve"], step.get("max_wait", inf))
                named[step.get("as", "")] = made
                if "delay" in step:
                    assert made.ok, said
                    assert made.delay_from(now) == step["delay"], said
                elif step["act"] is None:
                    assert not made.ok, said
                    assert made.delay_from(now) == inf, said
                else:
                    assert made.ok, said
                    assert made.time_to_act == pytest.approx(step["act"], abs=1e-9), said
            elif "wait" in step:
                waited = limiter.wait_n(now, step["wait"], step.get("deadline"), step.get("cancelled", False))
                named[step.get("as", "")] = waited.reservation
                assert waited.error == step["error"], said
                assert waited.delay == pytest.approx(step["delay"], abs=1e-9), said
            elif "cancel" in step:
                named[step["cancel"]].cancel_at(now)
            elif "set_limit" in step:
                limiter.set_limit_at(now, step["set_limit"])
            else:
                limiter.set_burst_at(now, step["set_burst"])


def bucket(case: dict[str, Any]) -> None:
    made = ContinuousBucket(**case["bucket"])
    for number, step in enumerate(case["steps"]):
        now, said = step["at"], f"step {number}: {step}"
        if "consume" in step:
            assert made.consume(now, step["consume"], step.get("partial", False)) == step["got"], said
        if "next" in step:
            assert made.next_token_available(now) == step["next"], said
        if "reset" in step:
            made.maybe_reset(now, step["reset"])
        if "spend" in step:
            assert made.spend(now, step["spend"]) == step["spend"], said
        if "remaining" in step:
            assert made.remaining_tokens(now) == pytest.approx(step["remaining"], abs=1e-9), said


def limiter(given: dict[str, Any]) -> LocalRateLimiter:
    descriptors = [Descriptor(**descriptor) for descriptor in given.get("descriptors", ())]
    return LocalRateLimiter(**{**given, "descriptors": descriptors})


def local(case: dict[str, Any]) -> None:
    made = limiter(case["local"])
    for number, step in enumerate(case["steps"]):
        now, said = step["at"], f"step {number}: {step}"
        for _ in range(step.get("times", 1)):
            if "allowed" in step:
                allowed = made.request_allowed(now, step.get("descriptors", ()), share=step.get("share", 1.0))
                assert allowed is step["allowed"], said
        if "remaining" in step:
            assert made.remaining_tokens(now) == step["remaining"], said


def refused(case: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=re.escape(case["error"])):
        limiter(case["refused"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_published_case(case: dict[str, Any]) -> None:
    kind = next(kind for kind in (go, bucket, local, refused) if kind.__name__ in case)
    assert case["source"]
    kind(case)


@pytest.mark.parametrize(
    ("interval", "limit"),
    [
        *((0.0, INF), (-1e-9, INF), (1e-9, 1e9), (1e-6, 1e6), (1e-3, 1e3), (0.01, 100.0)),
        *((0.1, 10.0), (1.0, 1.0), (2.0, 0.5), (2.5, 0.4), (4.0, 0.25), (10.0, 0.1)),
    ],
)
def test_every(interval: float, limit: float) -> None:
    """golang/time rate/rate_test.go TestEvery."""
    assert every(interval) == pytest.approx(limit, rel=1e-9)


def test_long_running_rate() -> None:
    """golang/time rate/rate_test.go TestLongRunningQPS: 100/s and a burst of 100, asked each 2 ms for 5 s."""
    limiter = Limiter(100.0, 100)
    passed = sum(limiter.allow(tick * 0.002) for tick in range(2500))
    ideal = 100 + 100 * 5.0
    assert int(0.999 * ideal) <= passed <= ideal + 1


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Limiter(float("nan"), 1), "not a number"),
        (lambda: ContinuousBucket(-1), "max_tokens is -1"),
        (lambda: ContinuousBucket(1).maybe_reset(0.0, 2), "0 to max_tokens"),
        (lambda: TimedBucket(1, 1, 1.0).take(0.0, 2.0), "takes 1 a request"),
        (lambda: LocalRateLimiter(1, 1.0, filling="discrete"), "continuous and timer are allowed"),  # type: ignore[arg-type]
        (lambda: LocalRateLimiter(1, 1.0).request_allowed(0.0, share=0.0), "share is 0"),
        (lambda: LocalRateLimiter(1, 1.0, 0), "tokens_per_fill is 0"),
    ],
)
def test_what_is_not_accepted(made: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made()


steps = st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 6)), max_size=60)


@given(rate=st.floats(0.0, 50.0), burst=st.integers(0, 8), asked=steps)
def test_no_more_than_rate_and_burst(rate: float, burst: int, asked: list[tuple[float, int]]) -> None:
    limiter = Limiter(rate, burst)
    now = passed = 0.0
    for wait, n in asked:
        now += wait
        passed += n * limiter.allow_n(now, n)
        # a time may be rounded up by half a nanosecond
        assert passed <= burst + rate * (now + 1e-9) + 1e-6


@given(rate=st.floats(0.1, 50.0), burst=st.integers(1, 8), asked=steps)
def test_a_reservation_is_when_allow_would_pass(rate: float, burst: int, asked: list[tuple[float, int]]) -> None:
    """Reserving with no patience is allowing; and reservations act in order."""
    one, other = Limiter(rate, burst), Limiter(rate, burst)
    now = 0.0
    for wait, n in asked:
        now += wait
        assert one.allow_n(now, n) == other.reserve_n(now, n, 0.0).ok
    patient, last = Limiter(rate, burst), 0.0
    for n in (n for _, n in asked if n <= burst):
        act = patient.reserve_n(0.0, n).time_to_act
        assert act >= last
        last = act


@given(max_tokens=st.integers(1, 9), per_fill=st.integers(1, 9), ticks=st.lists(st.integers(0, 40), max_size=80))
def test_a_timer_gives_no_more_than_its_fills(max_tokens: int, per_fill: int, ticks: list[int]) -> None:

    timed = TimedBucket(max_tokens, per_fill, 0.25)
    now = taken = 0
    for tick in ticks:
        now += tick
        taken += timed.take(now / 16)
        assert 0 <= timed.remaining_tokens(now / 16) <= max_tokens
        assert taken <= max_tokens + per_fill * (now // 4)
