"""Published behaviour, case by case: tests/data/control/{retry,breaker,outlier}_cases.yaml."""

import math
from functools import reduce
from typing import Any

import pytest
import yaml

from sim.control import clients
from tests.paths import DATA


def _cases(what: str) -> list[Any]:
    cases = yaml.safe_load((DATA / "control" / f"{what}_cases.yaml").read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["name"]) for case in cases]


def _subject(case: dict[str, Any]) -> Any:
    throttle = clients.RetryThrottle(**case["throttle"]) if "throttle" in case else None
    if case["subject"] == "GrpcCall":
        policy = dict(case["policy"])
        if "backoff" in policy:
            policy["backoff"] = clients.GrpcBackoff(**policy["backoff"])
        return clients.GrpcCall(clients.GrpcRetryPolicy(**policy), throttle, case.get("deadline", math.inf))
    if case["subject"] == "HedgedCall":
        return clients.HedgedCall(clients.HedgingPolicy(**case["policy"]), 0.0, throttle)
    given = dict(case["given"])
    if "budget" in case:
        given["retry_budget"] = clients.EnvoyRetryBudget(**case["budget"])
    return getattr(clients, case["subject"])(**given)


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return bool(found == pytest.approx(expected, rel=1e-12))
    return bool(found == expected) and isinstance(found, bool) == isinstance(expected, bool)


@pytest.mark.parametrize("case", [*_cases("retry"), *_cases("breaker")])
def test_published_behaviour(case: dict[str, Any]) -> None:
    for kind, play in (("calls", _play), ("refused", _refused), ("ratios", _ratios), ("replaced", _replaced)):
        if kind in case:
            play(case)
            return
    subject = _subject(case)
    for number, step in enumerate(case["steps"]):
        for _ in range(step.get("times", 1)):
            path = step.get("see", step.get("call")).split(".")
            found = reduce(getattr, path, subject)
            if "refuses" in step:
                with pytest.raises(ValueError, match=step["refuses"]):
                    found(*step["with"])
                continue
            if "call" in step:
                found = found(*step.get("with", []))
            assert "gives" not in step or _same(found, step["gives"]), f"step {number}: {step}: {found}"


def _refused(case: dict[str, Any]) -> None:
    for given in case["refused"]:
        with pytest.raises(ValueError, match=list(given)[-1]):
            getattr(clients, case["subject"])(**given)


def _ratios(case: dict[str, Any]) -> None:
    """A deposit and, if it can be had, a retry for each of 10000 requests, at one time."""
    for ratio, expected in case["ratios"]:
        budget = clients.FinagleRetryBudget(case["ttl"], case["min_retries_per_sec"], ratio)
        retried = 0
        for _ in range(10_000):
            budget.deposit(0.0)
            retried += budget.withdraw(0.0)
        assert abs(retried - expected) <= 1, ratio


def _replaced(case: dict[str, Any]) -> None:
    given = case["replaced"]
    old = clients.RetryThrottle(**given["old"])
    for _ in range(given["before"]):
        assert old.failure()
    new = clients.RetryThrottle(**given["new"], inherit=old)
    for step in case["steps"]:
        said = getattr({"old": old, "new": new}[step["of"]], step["call"])()
        assert said is step.get("gives"), step
        assert new.tokens == old.tokens == step["tokens"], step


def _play(case: dict[str, Any]) -> None:
    """Calls against a server whose answers are given; each takes answers until one is OK or it gives up."""
    policy = clients.GrpcRetryPolicy(**case["policy"])
    throttle = clients.RetryThrottle(**case["throttle"]) if "throttle" in case else None
    taken = -1
    for code, last in case["calls"]:
        call = clients.GrpcCall(policy, throttle)
        while True:
            taken += 1
            answer = case["answers"][taken]
            if answer == "OK":
                call.succeeded()
                break
            if call.failed(answer, 0.5) == clients.GIVE_UP:
                break
        assert (answer, taken) == (code, last)


@pytest.mark.parametrize("case", _cases("outlier"))
def test_outlier_detection(case: dict[str, Any]) -> None:
    detection = clients.OutlierDetection(**case["given"])
    for host in range(case["hosts"]):
        detection.add(host)
    now = 0.0
    for _ in range(case.get("repeat", 1)):
        for number, step in enumerate(case["steps"]):
            now = step.get("now", step.get("tick", now))
            _apply(detection, step, now, case["hosts"])
            assert detection.ejected(now) == frozenset(step["ejected"]), f"step {number}: {step}"
            if "thresholds" in step:
                expected = step["thresholds"]
                assert detection.thresholds == (None if expected is None else pytest.approx(expected))
            for host, rate in step.get("success_rates", {}).items():
                assert detection.success_rates[host] == pytest.approx(rate)
    for kind, count in case.get("detected", {}).items():
        assert detection.detected[kind] == count, kind
    for kind, count in case.get("enforced", {}).items():
        assert detection.enforced[kind] == count, kind
    assert detection.overflows == case.get("overflows", detection.overflows)


def _apply(detection: clients.OutlierDetection, step: dict[str, Any], now: float, hosts: int) -> None:
    if "put" in step:
        host, what, times, *code = step["put"]
        for one in range(hosts) if host == "all" else [host]:
            for _ in range(times):
                if isinstance(what, int):
                    detection.report(one, now, what < 500, what)
                else:
                    detection.put_result(one, now, what, *code)
    elif "tick" in step:
        detection.tick(now)
    elif "ticks" in step:
        first, last, every = step["ticks"]
        for at in range(first, last + 1, every):
            detection.tick(float(at))
    elif "uneject" in step:
        detection.uneject(step["uneject"], now)
    else:
        detection.remove(step["remove"])
