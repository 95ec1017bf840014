"""Every built-in admission policy passes the kit that a user's own is given; and what each of them is for."""

from __future__ import annotations

import re
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.control.limits.adaptive import Aimd, EnvoyAdaptive, Gradient2, PriorityShedding, Vegas
from sim.control.limits.ask import ADMIT, DROPPED, REFUSE, AdmissionPolicy, Ask
from sim.control.limits.policies import ConcurrencyLimit, EnvoyLocal, TokenBucket
from sim.testing.admission import AdmissionConformance
from tests.paths import ROOT


class TestTokenBucket(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return TokenBucket(rate=5.0, burst=10)


class TestTokenBucketOfTokens(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return TokenBucket(rate=5000.0, burst=4000, of="tokens", per="tenant")


class TestTokenBucketReserving(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return TokenBucket(rate=5.0, burst=10, per="model", mode="reserve", max_wait=3.0)


class TestEnvoyLocal(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        one = {"entries": {"tenant": "acme", "priority": 0}, "max_tokens": 2, "fill_interval": 1}
        return EnvoyLocal(max_tokens=10, tokens_per_fill=5, fill_interval=1.0, descriptors=[one])


class TestEnvoyLocalWithTimer(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return EnvoyLocal(max_tokens=10, tokens_per_fill=5, fill_interval=1.0, filling="timer")


class TestConcurrencyLimit(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return ConcurrencyLimit(limit=5)


class TestConcurrencyLimitOfTenants(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return ConcurrencyLimit(limit=3, per="tenant")


class TestEnvoyAdaptive(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return EnvoyAdaptive(request_count=10, interval=5.0, generator=np.random.default_rng(3))


class TestVegas(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return Vegas(initial_limit=5, generator=np.random.default_rng(3))


class TestGradient2(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return Gradient2(initial_limit=5, min_limit=2, windowed=True)


class TestAimd(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return Aimd(initial_limit=5, min_limit=1)


class TestPriorityShedding(AdmissionConformance):
    def make_policy(self) -> AdmissionPolicy:
        return PriorityShedding(
            limit=5, shares={"0": 0.6, "1": 0.4}, algorithm="vegas", generator=np.random.default_rng(3)
        )


class Faulty(ConcurrencyLimit):
    """Breaks the rules it is asked to: the kit must notice."""

    shared: list[int] = []  # noqa: RUF012

    def __init__(self, fault: str) -> None:
        super().__init__(limit=3, per="tenant")
        self.fault = fault
        self.log: list[int] = []
        if fault == "reason":
            self.reason = ""

    def offer(self, ask: Ask, now: float) -> float:
        if self.fault == "writes":
            ask.inflight += 1
        if self.fault == "keeps":
            self.log.append(ask.row)
        if self.fault == "shares":
            self.shared.append(1)
            return ADMIT if len(self.shared) % 3 else REFUSE
        if self.fault == "answers":
            return -0.5
        return super().offer(ask, now)

    def ended(self, ask: Ask, now: float, rtt: float) -> None:
        if self.fault != "leaks":
            super().ended(ask, now, rtt)

    def cancelled(self, ask: Ask, now: float) -> None:
        if self.fault not in ("forgets", "shares", "answers"):
            super().cancelled(ask, now)


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("reason", AdmissionConformance.test_satisfies_the_protocol),
        ("answers", AdmissionConformance.test_answers_with_seconds_to_wait),
        ("writes", AdmissionConformance.test_answers_with_seconds_to_wait),
        ("shares", AdmissionConformance.test_is_deterministic),
        ("leaks", AdmissionConformance.test_lets_somebody_in_again_when_all_is_over),
        ("forgets", AdmissionConformance.test_gives_back_what_a_refusal_behind_it_frees),
        ("keeps", AdmissionConformance.test_does_not_keep_every_request),
    ],
)
def test_the_kit_finds_a_faulty_policy(fault: str, test: Any) -> None:
    class Suspect(AdmissionConformance):
        def make_policy(self) -> AdmissionPolicy:
            return Faulty(fault)

    with pytest.raises((AssertionError, ValueError)):
        test(Suspect())


def test_a_bucket_of_tokens_takes_prompt_and_declared_output() -> None:
    policy = TokenBucket(rate=10.0, burst=100, of="tokens")
    assert policy.offer(Ask(prompt_tokens=60, output_tokens=40), 0.0) == ADMIT
    assert policy.offer(Ask(prompt_tokens=1, output_tokens=1), 0.1) == REFUSE  # 1 token by then
    assert policy.offer(Ask(prompt_tokens=1, output_tokens=1), 0.2) == ADMIT
    assert policy.offer(Ask(prompt_tokens=61, output_tokens=40), 1e6) == REFUSE  # more than burst, always


def test_a_bucket_of_prompts_does_not_mind_the_output() -> None:
    policy = TokenBucket(rate=10.0, burst=100, of="prompt_tokens")
    assert policy.offer(Ask(prompt_tokens=100, output_tokens=10_000), 0.0) == ADMIT


@pytest.mark.parametrize("per", ["tenant", "model"])
def test_a_bucket_each(per: Any) -> None:
    policy = TokenBucket(rate=0.0, burst=1, per=per)
    asks = [Ask(tenant=name, model=name) for name in ("a", "b", "a")]
    assert [policy.offer(ask, 0.0) for ask in asks] == [ADMIT, ADMIT, REFUSE]


def test_a_reservation_waits_and_can_be_given_back() -> None:
    policy = TokenBucket(rate=10.0, burst=1, mode="reserve", max_wait=0.25)
    asks = [Ask(row=row) for row in range(5)]
    assert [policy.offer(ask, 0.0) for ask in asks[:4]] == pytest.approx([0.0, 0.1, 0.2, inf])
    policy.cancelled(asks[2], 0.0)
    assert policy.offer(asks[4], 0.0) == pytest.approx(0.2)


def test_descriptors_of_envoy_are_of_tenant_model_and_priority() -> None:
    each = {"entries": {"tenant": ""}, "max_tokens": 1, "fill_interval": 60}
    one = {"entries": {"model": "large", "priority": 1}, "max_tokens": 1, "fill_interval": 60.0}
    policy = EnvoyLocal(max_tokens=100, fill_interval=60.0, descriptors=[each, one])
    assert policy.offer(Ask(tenant="a", model="large", priority=1), 0.0) == ADMIT
    assert policy.offer(Ask(tenant="b", model="large", priority=1), 0.0) == REFUSE
    assert policy.offer(Ask(tenant="c", model="large", priority=2), 0.0) == ADMIT
    assert policy.offer(Ask(tenant="c", model="small", priority=2), 0.0) == REFUSE


def test_a_concurrency_limit_of_all_and_of_each_tenant() -> None:
    everybody = ConcurrencyLimit(limit=2)
    assert [everybody.offer(Ask(inflight=n), 0.0) for n in range(3)] == [ADMIT, ADMIT, REFUSE]
    each = ConcurrencyLimit(limit=1, per="tenant")
    assert [each.offer(Ask(tenant=name), 0.0) for name in "aba"] == [ADMIT, ADMIT, REFUSE]
    each.ended(Ask(tenant="a"), 1.0, 1.0)
    assert each.offer(Ask(tenant="a"), 1.0) == ADMIT


def test_a_dropped_attempt_counts_as_long_as_it_was_in_flight() -> None:
    """10 s in flight is more than AIMD's timeout, and a drop anyhow: 20 * 0.9 = 18."""
    policy = Aimd(min_limit=1)
    ask = Ask(inflight=19)
    assert policy.offer(ask, 5.0) == ADMIT
    policy.ended(ask, 15.0, DROPPED)
    assert policy.limit == 18
    steady = Gradient2()
    for row in range(10):
        ask = Ask(row=row, inflight=19)
        steady.offer(ask, 0.0)
        steady.ended(ask, 0.1, 0.1)
    assert steady.limit == 28  # 20 + 10 * 0.8
    assert steady.offer(ask, 1.0) == ADMIT
    steady.ended(ask, 11.0, DROPPED)
    assert steady.limit == 26  # 28 * 0.8 + (28 * 0.5 + 4) * 0.2


def test_samples_count_the_attempt_itself_in_flight() -> None:
    """AIMD grows with half the limit in flight: nine others and itself, of 20."""
    policy = Aimd()
    for inflight, limit in ((8, 20), (9, 21)):
        ask = Ask(inflight=inflight)
        policy.offer(ask, 0.0)
        policy.ended(ask, 0.1, 0.1)
        assert policy.limit == limit


def test_envoy_does_not_sample_the_dropped() -> None:
    policy = EnvoyAdaptive(request_count=2, interval=60.0, jitter=0.0)
    asks = [Ask(row=row, inflight=row) for row in range(4)]
    assert [policy.offer(ask, 1.0) for ask in asks] == [ADMIT, ADMIT, ADMIT, REFUSE]
    policy.ended(asks[0], 1.5, DROPPED)
    policy.ended(asks[1], 1.5, 0.5)
    policy.ended(asks[2], 1.5, 0.5)
    # two samples end the minRTT window; the next is an update's: 505 ms for both (bins of 10 ms): 3.75 + sqrt(3.75) = 5.7
    policy.offer(Ask(row=5), 2.0)
    policy.ended(Ask(row=5), 2.5, 0.5)
    policy.offer(Ask(row=6), 2.61)
    assert policy.limit == 5


def test_priorities_keep_their_share_when_the_limit_is_reached() -> None:
    policy = PriorityShedding(limit=4, shares={0: 0.5})  # type: ignore[dict-item]  # as YAML reads it
    inflight = 0
    found = []
    for row, priority in enumerate((1, 1, 1, 1, 1, 0, 0, 0)):
        answer = policy.offer(Ask(row=row, priority=priority, inflight=inflight), 0.0)
        found.append(answer == ADMIT)
        inflight += answer == ADMIT
    # four of priority 1 fill the limit; 0 is guaranteed half of four beyond it
    assert found == [True] * 4 + [False] + [True] * 2 + [False]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: TokenBucket(rate=-1.0, burst=1), "rate is -1; 0/s or more is allowed"),
        (lambda: TokenBucket(rate=1.0, burst=-1), "burst is -1"),
        (lambda: TokenBucket(rate=1.0, burst=1, of="bytes"), "of is 'bytes'; requests, prompt_tokens, tokens are"),  # type: ignore[arg-type]
        (lambda: TokenBucket(rate=1.0, burst=1, per="user"), "per is 'user'"),  # type: ignore[arg-type]
        (lambda: TokenBucket(rate=1.0, burst=1, mode="wait"), "mode is 'wait'"),  # type: ignore[arg-type]
        (lambda: TokenBucket(rate=1.0, burst=1, max_wait=1.0), "mode reserve is needed"),
        (lambda: TokenBucket(rate=1.0, burst=1, mode="reserve", max_wait=-1.0), "max_wait is -1 s"),
        (lambda: ConcurrencyLimit(limit=0), "limit is 0"),
        (lambda: ConcurrencyLimit(limit=1, per="model"), "per is 'model'"),  # type: ignore[arg-type]
        (lambda: EnvoyLocal(max_tokens=1, fill_interval=0.01), "fill_interval is 0.01 s; 50ms or more is allowed"),
        (lambda: EnvoyLocal(max_tokens=1, fill_interval=1.0, descriptors=[{}]), r"descriptors\[0\].entries is None"),
        (lambda: EnvoyAdaptive(jitter=101.0), "jitter is 101; 0 to 100"),
        (lambda: EnvoyAdaptive(interval=0.0), "interval is 0 s"),
        (lambda: Vegas(initial_limit=2000), r"initial_limit is 2000, above max_concurrency \(1000\)"),
        (lambda: Vegas(smoothing=0.0), "smoothing is 0"),
        (lambda: Gradient2(min_limit=300), r"min_limit is 300, above max_concurrency \(200\)"),
        (lambda: Aimd(backoff_ratio=0.4), "backoff_ratio is 0.4"),
        (lambda: PriorityShedding(limit=0), "limit is 0"),
        (lambda: PriorityShedding(shares={"high": 1.0}), "shares: 'high' is not a priority"),
        (lambda: PriorityShedding(shares={"0": "all"}), "shares: the share of 0 is 'all'"),
        (lambda: PriorityShedding(algorithm="guess"), "algorithm is 'guess'"),  # type: ignore[arg-type]
        (lambda: Vegas().ended(Ask(row=3), 1.0, 1.0), "no attempt of row 3 is in flight"),
        (lambda: ConcurrencyLimit(limit=1, per="tenant").ended(Ask(), 1.0, 1.0), "no attempt of tenant 'default'"),
    ],
)
def test_what_is_not_accepted(made: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as fault:
        made()
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("burst", 1, "a key of descriptors[0] is 'burst'"),
        ("max_tokens", "ten", "descriptors[0].max_tokens is 'ten'; a whole number is needed"),
        ("max_tokens", True, "descriptors[0].max_tokens is True"),
        ("fill_interval", "1m", "descriptors[0].fill_interval is '1m'; a number of seconds is needed"),
        ("fill_interval", 0.01, "descriptors[0]: descriptor fill_interval is 0.01 s"),
        ("entries", {"user": "a"}, "a key of descriptors[0].entries is 'user'"),
    ],
)
def test_descriptors_are_checked(key: str, value: Any, said: str) -> None:
    good = {"entries": {"tenant": "a"}, "max_tokens": 1, "fill_interval": 1.0}
    with pytest.raises(ValueError, match=re.escape(said)):
        EnvoyLocal(max_tokens=1, fill_interval=1.0, descriptors=[{**good, key: value}])


PAGE: Path = ROOT / "docs" / "controllers" / "limits.md"


@pytest.mark.parametrize("number", range(5))
def test_the_page_runs(number: int) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    exec(compile(blocks[number], str(PAGE), "exec"), {})
