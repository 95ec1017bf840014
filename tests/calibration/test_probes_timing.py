"""How a thing is timed, with a clock that only moves when told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, cycle, repeat
from pathlib import Path

import pytest

from calibration.probes.timing import Patience, WallClock, kept, kept_waiting, noise, record, repeated, scaled, timed


class Time:
    """A clock, and runs that take what they are told in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs = 0

    def read(self) -> float:
        return self.now

    def taking(self, seconds: Iterator[float]) -> Callable[[], None]:
        def run() -> None:
            self.now += next(seconds)
            self.runs += 1

        return run


def timing(seconds: Iterator[float], patience: Patience | None = None) -> tuple[dict[str, object], Time]:
    clock = Time()
    return timed(clock.taking(seconds), WallClock(clock.read), patience, clock.read, lambda: 0.0), clock


def test_steady_runs_are_repeated_as_often_as_asked_and_no_more() -> None:
    found, _ = timing(repeat(1e-3), Patience(least=5))
    assert found == {"us": [1000.0] * 5, "median": 1000.0, "cv": 0.0, "outliers": 0, "disturbed": 0}


def test_the_first_runs_are_slow_and_do_not_count() -> None:
    found, _ = timing(chain([0.3, 0.02, 4e-3, 1e-3], repeat(1e-3)))
    assert found["median"] == 1000.0
    assert found["outliers"] == 0


def test_a_run_that_is_shorter_than_the_clock_can_tell_is_timed_many_at_once() -> None:
    found, time = timing(repeat(1e-6), Patience(least=5))
    assert found["median"] == pytest.approx(1.0, rel=1e-6)
    assert time.runs >= 5 * WallClock.shortest / 1e-6


def test_far_samples_are_noticed_and_left_out_of_the_median() -> None:
    found = record([100.0, 101.0, 99.0, 100.5, 900.0, 100.2, 99.5, 1200.0])
    assert found["outliers"] == 2
    assert found["median"] == pytest.approx(100.1, abs=0.2)
    assert found["cv"] < 0.01


def test_samples_a_little_above_a_very_steady_median_are_no_outliers() -> None:
    assert len(kept([100.0] * 20 + [105.0])) == 21


def test_noisy_runs_are_repeated_until_the_median_is_known() -> None:
    """A uniform spread of ±10 % around 1 ms: 1 % of standard error takes some dozens of samples, 10 % the least number."""
    spread = [1e-3 * (0.9 + 0.2 * i / 10) for i in (3, 9, 0, 6, 10, 2, 7, 4, 1, 8, 5)]
    rough, _ = timing(cycle(spread), Patience(least=5, most=500, accuracy=0.1, seconds=60.0))
    fine, _ = timing(cycle(spread), Patience(least=5, most=500, accuracy=0.01, seconds=60.0))
    assert len(rough["us"]) == 5  # type: ignore[arg-type]
    assert 40 < len(fine["us"]) < 200  # type: ignore[arg-type]
    assert fine["median"] == pytest.approx(1000.0, rel=0.03)


@pytest.mark.parametrize("most", [7, 30])
def test_there_is_an_end_to_repeats(most: int) -> None:
    found, _ = timing(cycle([1e-3, 3e-3, 2e-3]), Patience(least=5, most=most, accuracy=1e-9, seconds=60.0))
    assert len(found["us"]) == most  # type: ignore[arg-type]


def test_patience_runs_out_but_not_before_three_samples() -> None:
    found, time = timing(repeat(20.0), Patience(least=10, seconds=0.5))
    assert len(found["us"]) == 3  # type: ignore[arg-type]
    assert time.runs < 8


def test_sections_are_timed_together_and_each_has_its_samples() -> None:
    turns = cycle([{"a": 1e-3, "b": 3e-3}])
    clock = Time()
    samples, disturbed = repeated(lambda: next(turns), Patience(least=4), clock.read, lambda: 0.0)
    assert samples == {"a": [1000.0] * 4, "b": [3000.0] * 4}
    assert disturbed == 0


def test_noise_is_the_standard_error_of_the_median() -> None:
    """√(π/2) σ/√n for normal samples; σ from the median deviation, which of these nine is 2."""
    found = record([96.0, 97.0, 98.0, 99.0, 100.0, 101.0, 102.0, 103.0, 104.0])
    assert noise(found) == pytest.approx((3.141592653589793 / 2) ** 0.5 * 1.4826 * 2.0 / 3.0 / 100.0)


def test_so_many_runs_in_a_row_take_so_many_times_as_long() -> None:
    one = record([2.0, 4.0, 3.0], 5)
    expected = {"us": [32.0, 64.0, 48.0], "median": 48.0, "cv": one["cv"], "outliers": 0, "disturbed": 5}
    assert scaled(one, 16.0) == expected


class Contended:
    """Runs of 1 ms that have to wait for a processor so many times 10 ms."""

    def __init__(self, times: Iterator[int]) -> None:
        self.times = times
        self.waited = 0.0
        self.now = 0.0

    def sample(self) -> dict[str, float]:
        waited = 10e-3 * next(self.times)
        self.waited += waited
        self.now += 1e-3 + waited
        return {"a": 1e-3 + waited}

    def measured(self) -> tuple[dict[str, list[float]], int]:
        return repeated(self.sample, Patience(least=5), lambda: self.now, lambda: self.waited)


def test_samples_that_had_to_wait_for_a_processor_are_left_out() -> None:
    samples, disturbed = Contended(cycle([0, 5, 1])).measured()
    assert set(samples["a"]) == {1000.0}
    assert len(samples["a"]) == 5
    assert disturbed >= 8


def test_undisturbed_samples_are_waited_for() -> None:
    """One in thirty, every 0.6 s: patience of half a second would see one of them at most."""
    samples, _ = Contended(cycle([2] * 29 + [0])).measured()
    assert samples["a"] == [1000.0] * 3


def test_where_every_sample_is_disturbed_those_that_are_least_are_used() -> None:
    samples, disturbed = Contended(cycle([9, 4, 7])).measured()
    assert samples["a"] == pytest.approx([41_000.0] * len(samples["a"]))
    assert disturbed > len(samples["a"])


def test_this_process_waits_when_two_threads_want_one_processor() -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this system does not count waiting")
    everywhere = os.sched_getaffinity(0)
    here = next(iter(everywhere))
    before = kept_waiting()
    os.sched_setaffinity(0, {here})
    rival = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
        assert kept_waiting() - before > 0.05
    finally:
        rival.kill()
        rival.wait()
        os.sched_setaffinity(0, everywhere)
