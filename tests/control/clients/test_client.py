"""The client that the gateway calls: what it lets through, and that its counters return to nothing."""

import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.control.clients import Client

INF = math.inf


def test_no_retries_unless_asked_for() -> None:
    client = Client()
    assert client.first(0.0)
    assert client.failed(1.0, 1, 0.0, "failed", 0.5) == INF
    assert client.active == client.retrying == 0


def test_retries_wait_as_their_back_off_says_and_end_with_the_attempts() -> None:
    client = Client(max_attempts=3, backoff={"kind": "grpc", "initial_backoff": 0.1, "backoff_multiplier": 2})
    assert client.first(0.0)
    assert client.failed(1.0, 1, 0.0, "timeout", 0.5) == pytest.approx(0.1)
    assert client.again(1.1)
    assert client.failed(2.0, 2, 0.1, "failed", 0.5) == pytest.approx(0.2)
    assert client.again(2.2)
    assert client.failed(3.0, 3, 0.2, "failed", 0.5) == INF
    assert client.active == client.retrying == 0


def test_decorrelated_jitter_is_given_the_wait_before() -> None:
    client = Client(max_attempts=3, backoff={"kind": "decorrelated-jitter", "base": 1.0, "cap": 100.0})
    client.first(0.0)
    assert client.failed(1.0, 1, 0.0, "failed", 0.5) == 2.0  # uniform(1, 3)
    client.again(3.0)
    assert client.failed(4.0, 2, 2.0, "failed", 0.5) == 3.5  # uniform(1, 6)


def test_only_what_is_to_be_retried_is() -> None:
    client = Client(max_attempts=3, retry_on=["timeout"], backoff="constant")
    for reason, expected in (("rejected", INF), ("failed", INF), ("timeout", 0.0)):
        client.first(0.0)
        assert client.failed(1.0, 1, 0.0, reason, 0.5) == expected


def test_the_servers_wish_is_kept() -> None:
    client = Client(max_attempts=3, backoff="constant")
    client.first(0.0)
    assert client.failed(1.0, 1, 0.0, "rejected", 0.5, pushback=7.5) == 7.5
    client.again(8.5)
    assert client.failed(9.0, 2, 7.5, "rejected", 0.5, pushback=-1.0) == INF


def test_throttled_below_half_of_the_tokens() -> None:
    # grpc A6: 4 tokens; failures leave 3 (above 2: retried), then 2 (not above: dropped)
    client = Client(max_attempts=5, backoff="constant", throttle={"max_tokens": 4, "token_ratio": 1.0})
    client.first(0.0)
    assert client.failed(0.0, 1, 0.0, "failed", 0.5) == 0.0
    client.again(0.0)
    assert client.failed(0.0, 2, 0.0, "failed", 0.5) == INF
    client.first(0.0)
    client.succeeded(0.0)
    client.first(0.0)
    assert client.failed(0.0, 1, 0.0, "failed", 0.5) == INF  # 3 - 1
    assert client.throttle is not None
    assert client.throttle.tokens == 2.0


def test_envoy_budget_is_a_share_of_what_is_under_way() -> None:
    # 20 under way: at most 4 retries. The attempt that failed still counts, unless it timed out: then 19 allow only 3.
    for reason, allowed in (("failed", 4), ("timeout", 3)):
        client = Client(max_attempts=2, backoff="constant", budget={"kind": "envoy"})
        for _ in range(20):
            client.first(0.0)
        granted = 0
        while client.failed(1.0, 1, 0.0, reason, 0.5) == 0.0:
            assert client.again(1.0)  # so that 20 stay under way
            granted += 1
        assert granted == allowed


def test_finagle_budget_is_paid_by_requests() -> None:
    # no reserve, 50 %: two requests pay for one retry
    budget = {"kind": "finagle", "min_retries_per_sec": 0, "percent_can_retry": 0.5}
    client = Client(max_attempts=9, backoff="constant", budget=budget)
    client.first(0.0)
    assert client.failed(0.0, 1, 0.0, "failed", 0.5) == INF
    client.first(0.0)
    assert client.failed(0.0, 1, 0.0, "failed", 0.5) == 0.0
    client.again(0.0)
    assert client.failed(0.0, 2, 0.0, "failed", 0.5) == INF


def test_aws_budget_gives_back_what_the_last_retry_cost() -> None:
    client = Client(max_attempts=3, backoff="constant", budget={"kind": "aws", "capacity": 20})
    client.first(0.0)
    client.failed(0.0, 1, 0.0, "timeout", 0.5)
    client.again(0.0)
    client.failed(0.0, 2, 0.0, "failed", 0.5)
    client.again(0.0)
    assert client.budget.available == 5  # type: ignore[union-attr]
    client.succeeded(0.0, 3, reason="failed")
    assert client.budget.available == 10  # type: ignore[union-attr]
    client.first(0.0)
    client.succeeded(0.0)
    assert client.budget.available == 11  # type: ignore[union-attr]


def test_an_open_breaker_lets_nothing_through_until_its_wait_is_over() -> None:
    breaker = {"kind": "resilience4j", "sliding_window_size": 2, "wait_duration_in_open_state": 10.0}
    client = Client(max_attempts=3, backoff="constant", breaker=breaker)
    client.first(0.0)
    client.first(0.0)
    assert client.failed(1.0, 1, 0.0, "failed", 0.5) == 0.0
    assert client.failed(1.0, 1, 0.0, "failed", 0.5) == 0.0  # a retry is granted, but the breaker has opened
    assert not client.again(1.0)
    assert not client.again(1.0)
    assert not client.first(11.0)
    assert client.first(11.1)
    assert (client.active, client.retrying) == (1, 0)


def test_envoy_thresholds_bound_requests_and_retries() -> None:
    client = Client(max_attempts=2, backoff="constant", breaker={"kind": "envoy", "max_requests": 4, "max_retries": 1})
    assert [client.first(0.0) for _ in range(5)] == [True, True, True, True, False]
    assert client.failed(1.0, 1, 0.0, "failed", 0.5) == 0.0
    assert client.failed(1.0, 1, 0.0, "failed", 0.5) == INF
    assert client.again(1.0)
    client.succeeded(2.0, 2)
    assert client.failed(2.0, 1, 0.0, "failed", 0.5) == 0.0


def test_hedges_go_out_at_their_delay_and_at_once_after_a_failure() -> None:
    client = Client(hedge_after=0.5, hedge_max_attempts=3)
    assert client.first(0.0)
    assert client.hedge(0.0, 1) == 0.5
    assert client.again(0.5, hedge=True)
    assert client.hedge(0.5, 2) == 0.5
    assert client.failed(0.6, 1, 0.0, "failed", 0.5, sent=2) == 0.0
    assert client.again(0.6, hedge=True)
    assert client.hedge(0.6, 3) == INF
    assert client.failed(0.7, 3, 0.0, "failed", 0.5, sent=3) == INF
    client.succeeded(0.9, 2)
    assert client.active == client.retrying == 0


def test_hedges_are_throttled() -> None:
    client = Client(hedge_after=0.5, throttle={"max_tokens": 2, "token_ratio": 0.1})
    client.first(0.0)
    client.first(0.0)
    assert client.failed(0.1, 1, 0.0, "failed", 0.5) == INF  # one of two tokens left: not above half
    assert client.hedge(0.1, 1) == 0.5
    assert not client.again(0.6, hedge=True)
    assert client.active == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"timeout": 0.0}, "timeout: 0.0; longer than 0 seconds"),
        ({"max_attempts": 0}, "max_attempts: 0; a whole number, at least 1"),
        (
            {"max_attempts": 2, "hedge_after": 1.0},
            "max_attempts: 2 with hedge_after; a request is hedged or retried, not both",
        ),
        ({"retry_on": ["late"]}, "retry_on: 'late'; a list of rejected, failed, timeout"),
        ({"retry_on": "timeout"}, "retry_on: 'timeout'; a list of rejected, failed, timeout"),
        ({"backoff": {"kind": "linear"}}, "backoff: kind 'linear'; there are constant, exponential"),
        (
            {"backoff": {"kind": "full-jitter", "max": 3}},
            "backoff: 'max' is not a parameter of full-jitter; it takes base, cap",
        ),
        ({"backoff": {"kind": "full-jitter", "base": -1}}, "backoff: base: -1; a positive number of seconds"),
        ({"throttle": {"max_tokens": 0}}, "throttle: max_tokens: 0; a whole number above 0, at most 1000"),
        ({"budget": {"kind": "finagle", "ttl": 100}}, "budget: ttl: 100; 1 to 60 seconds"),
        ({"breaker": {"kind": "envoy", "max_requests": -1}}, "breaker: max_requests: -1; a whole number, at least 0"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}[^\n]*$"):
        Client(**parameters)


@settings(max_examples=80, deadline=None)
@given(
    parameters=st.fixed_dictionaries(
        {
            "backoff": st.sampled_from(["constant", "full-jitter", "envoy", "aws"]),
            "throttle": st.sampled_from([None, {"max_tokens": 3, "token_ratio": 0.5}]),
            "budget": st.sampled_from([None, "envoy", "finagle", {"kind": "aws", "capacity": 30}]),
            "breaker": st.sampled_from(
                [
                    None,
                    {"kind": "envoy", "max_requests": 3, "max_retries": 1},
                    {"kind": "resilience4j", "sliding_window_size": 3},
                ]
            ),
        }
    ),
    max_attempts=st.integers(1, 4),
    fates=st.lists(st.sampled_from(["ok", "failed", "timeout", "rejected", "cancelled", "dropped"]), max_size=60),
    width=st.integers(1, 4),
)
def test_counters_return_to_nothing(
    parameters: dict[str, Any], max_attempts: int, fates: list[str], width: int
) -> None:
    client = Client(max_attempts=max_attempts, **parameters)
    under_way: list[int] = []  # attempt numbers
    now = 0.0
    for fate in fates:
        now += 1.0
        while len(under_way) < width and client.first(now):
            under_way.append(1)
        if not under_way:
            continue
        attempt = under_way.pop(0)
        if fate == "ok":
            client.succeeded(now, attempt)
        elif fate == "cancelled":
            client.cancelled(now, attempt)
        else:
            reason = fate if fate != "dropped" else "failed"
            delay = client.failed(now, attempt, 0.0, reason, 0.5)
            assert delay >= 0.0
            if delay < INF:
                assert attempt < max_attempts
                if fate == "dropped":
                    client.dropped(now)
                elif client.again(now + delay):
                    under_way.append(attempt + 1)
        assert client.active == len(under_way)
        assert client.retrying == sum(1 for number in under_way if number > 1)
    for attempt in under_way:
        client.cancelled(now, attempt)
    assert client.active == client.retrying == 0
    if client.budget is not None and hasattr(client.budget, "active"):
        assert client.budget.active == 0
    if client.breaker is not None and hasattr(client.breaker, "used"):
        assert not any(client.breaker.used.values())


def test_more_clients_than_one_share_nothing() -> None:
    one, other = (Client(max_attempts=2, throttle={"max_tokens": 2}) for _ in range(2))
    one.first(0.0)
    one.failed(0.0, 1, 0.0, "failed", 0.5)
    assert one.throttle is not None
    assert other.throttle is not None
    assert (one.throttle.tokens, other.throttle.tokens) == (1.0, 2.0)
