"""Open loads: requests at their times, whatever became of those before."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.endpoint.client import Client
from calibration.endpoint.faults import EndpointError
from calibration.endpoint.load import Lognormal, drawn, poisson, replay
from calibration.runs import RequestLog
from tests.calibration.endpoint.engine import App, Engine, Memory, VirtualLoop, seconds

LENGTHS = Lognormal(64, 0.8, 16, 512), Lognormal(12, 0.7, 4, 64)


def client(app: App) -> Client:
    return Client("http://fake/v1", transport=Memory(app), loop_factory=VirtualLoop)


def table(sent: list[float], prompt: list[int], output: list[int]) -> RequestLog:
    nothing = np.full(len(sent), np.nan)
    return RequestLog(np.array(sent), np.array(prompt), np.array(output), nothing, nothing)


def test_requests_are_sent_at_their_times_though_those_before_are_not_done() -> None:
    sent = [0.0, 0.001, 0.5, 0.5, 2.0]
    with client(App(Engine())) as found:
        log = replay(found, table(sent, [200, 100, 50, 60, 8], [20, 5, 1, 2, 3]))
    assert log.sent == pytest.approx(sent, abs=1e-9)
    assert log.prompt.tolist() == [200, 100, 50, 60, 8]
    assert log.output.tolist() == [20, 5, 1, 2, 3]
    assert log.ttft[4] == pytest.approx(seconds([(8, 0)], []))  # alone by then
    assert log.e2e[0] > 0.1 > log.sent[1]
    assert log.about["failed"] == 0
    assert log.about["latest_s"] == pytest.approx(0.0, abs=1e-9)


def test_a_request_that_fails_is_a_row_without_times_and_the_others_go_on() -> None:
    with client(App(Engine(), breaking={3})) as found:  # the first was the client's own
        log = replay(found, table([0.0, 0.2, 0.4], [10, 11, 12], [4, 5, 6]))
    assert log.ok.tolist() == [True, False, True]
    assert log.prompt.tolist() == [10, 11, 12]
    assert log.output.tolist() == [4, 0, 6]
    assert log.sent == pytest.approx([0.0, 0.2, 0.4])
    assert log.about["failed"] == 1
    assert "mid-stream" in log.about["fault"]


def test_when_all_fail_the_fault_is_raised() -> None:
    with client(App(Engine(), breaking=set(range(2, 10)))) as found, pytest.raises(EndpointError, match="mid-stream"):
        replay(found, table([0.0, 0.2], [10, 11], [4, 5]))


def test_equal_seeds_draw_equal_requests_and_others_others() -> None:
    one, same, other = (drawn(5.0, 400, LENGTHS, seed) for seed in (3, 3, 4))
    assert one.sent.tolist() == same.sent.tolist()
    assert one.prompt.tolist() == same.prompt.tolist()
    assert one.output.tolist() == same.output.tolist()
    assert one.sent.tolist() != other.sent.tolist()


def test_arrivals_are_poisson_and_lengths_lognormal_within_their_ends() -> None:
    found = drawn(5.0, 20_000, LENGTHS, 1)
    gaps = np.diff(found.sent)
    assert np.mean(gaps) == pytest.approx(0.2, rel=0.03)
    assert np.std(gaps) == pytest.approx(0.2, rel=0.05)  # exponential: standard deviation as the mean
    assert np.median(found.prompt) == pytest.approx(64, rel=0.03)
    assert (found.prompt.min(), found.prompt.max()) == (16, 512)
    assert np.std(np.log(found.output[(found.output > 4) & (found.output < 64)])) < 0.7


def test_a_poisson_load_says_its_rate() -> None:
    with client(App(Engine())) as found:
        log = poisson(found, 4.0, 60, LENGTHS, 9)
    assert log.about["rate"] == 4.0
    assert len(log) == 60
    assert log.sent == pytest.approx(drawn(4.0, 60, LENGTHS, 9).sent - drawn(4.0, 60, LENGTHS, 9).sent[0])
    assert log.ok.all()
