"""Energy, power and clocks while something runs: by counter, by samples, or not at all."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from calibration import nvml
from calibration.device import find
from calibration.probes.power import CpuMeter, GpuMeter, Meter, Reading, meter, power_part, throttled
from sim.errors import ProfileError
from tests.calibration.toynvml import UUID, FakeNvml, driver

__all__ = ["driver"]


def watched(device: Meter, seconds: float = 0.1) -> Reading:
    with device.watch() as reading:
        time.sleep(seconds)
    return reading


def test_the_energy_counter_is_preferred_to_samples_of_power(driver: FakeNvml) -> None:
    counts = iter([1_000_000, 1_000_000, 1_050_000])  # mJ: one reading to see that there is one, then before and after
    driver.millijoules = lambda: next(counts)
    device = GpuMeter(nvml.card(UUID))
    reading = watched(device)
    assert device.counter == "nvml energy"
    assert reading.joules == pytest.approx(50.0)
    assert reading.watts == pytest.approx(50.0 / reading.seconds)


def test_without_a_counter_power_is_sampled(driver: FakeNvml) -> None:
    device = GpuMeter(nvml.card(UUID))
    reading = watched(device)
    assert device.counter == "nvml power"
    assert reading.watts == pytest.approx(350.0)
    assert reading.joules == pytest.approx(350.0 * reading.seconds)


def test_samples_of_rising_power_are_integrated(driver: FakeNvml) -> None:
    start = time.perf_counter()
    driver.milliwatts = lambda: int(1e6 * (time.perf_counter() - start))  # 1 kW more each second
    device = GpuMeter(nvml.card(UUID))
    before = time.perf_counter() - start
    reading = watched(device, 0.4)
    exact = 1e3 * (before * reading.seconds + reading.seconds**2 / 2)
    assert reading.joules == pytest.approx(exact, rel=0.1)


def test_a_card_without_any_reading_of_power_reads_none(driver: FakeNvml) -> None:
    driver.milliwatts = None
    device = GpuMeter(nvml.card(UUID))
    reading = watched(device, 0.05)
    assert device.counter is None
    assert (reading.joules, reading.watts) == (None, None)
    assert reading.clock_mhz == 1980.0


def test_reasons_seen_at_any_time_are_told_and_an_idle_clock_is_left_out(driver: FakeNvml) -> None:
    # Idle at 345 MHz at first, then work: once power-capped, once hot.
    seen = [(0x1, 345), (0x1, 345), (0x4, 1700), (0x20, 1600), (0x0, 1800)]
    state, done = iter(seen), threading.Event()
    now = [seen[0]]

    def clock() -> int:  # asked before the reasons
        if (following := next(state, None)) is None:
            done.set()
        else:
            now[0] = following
        return now[0][1]

    driver.mhz, driver.reasons = clock, lambda: now[0][0]
    with GpuMeter(nvml.card(UUID)).watch() as reading:
        assert done.wait(10.0)
    assert reading.throttled == ("software power cap", "software thermal slowdown")
    assert reading.clock_mhz is not None
    assert 1600 <= reading.clock_mhz <= 1800
    assert throttled(reading.throttled) == (
        "clocks were held back while measuring: software power cap, software thermal slowdown"
    )


def test_a_quiet_card_gives_no_note(driver: FakeNvml) -> None:
    assert throttled(watched(GpuMeter(nvml.card(UUID)), 0.05).throttled) is None


def test_a_card_lost_while_it_is_watched_is_said(driver: FakeNvml) -> None:
    device = GpuMeter(nvml.card(UUID))
    with pytest.raises(ProfileError, match="GPU is lost"), device.watch():
        driver.lost = True


def test_a_body_that_fails_ends_the_sampling_and_its_error_is_kept(driver: FakeNvml) -> None:
    device, threads = GpuMeter(nvml.card(UUID)), threading.active_count()
    with pytest.raises(KeyboardInterrupt), device.watch():
        raise KeyboardInterrupt
    assert threading.active_count() == threads


def package(folder: Path, name: str, microjoules: int, most: int = 262_143_328_850) -> Path:
    folder.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", most)):
        (folder / file).write_text(f"{value}\n", encoding="ascii")
    return folder


def test_rapl_counts_packages_and_neither_their_parts_nor_the_platform(tmp_path: Path) -> None:
    # Layout of Documentation/power/powercap/powercap.rst in Linux.
    first = package(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    second = package(tmp_path / "intel-rapl:1", "package-1", 5_000_000)
    package(tmp_path / "intel-rapl:0:0", "core", 0)
    package(tmp_path / "intel-rapl:2", "psys", 0)
    device = meter(find("cpu"), tmp_path)
    with device.watch() as reading:
        for zone in tmp_path.iterdir():
            energy = 3_500_000 if zone == first else 6_000_000 if zone == second else 10**9
            (zone / "energy_uj").write_text(f"{energy}\n", encoding="ascii")
    assert device.counter == "rapl"
    assert reading.joules == pytest.approx(2.5 + 1.0)


def test_a_rapl_counter_that_wraps_is_put_right(tmp_path: Path) -> None:
    zone = package(tmp_path / "intel-rapl:0", "package-0", 900, most=999)
    with CpuMeter([zone]).watch() as reading:
        (zone / "energy_uj").write_text("100\n", encoding="ascii")
    assert reading.joules == pytest.approx(200e-6)  # 99 to the last count, one to 0, 100 more


def test_a_cpu_without_rapl_reads_seconds_only(tmp_path: Path) -> None:
    device = meter(find("cpu"), tmp_path)
    reading = watched(device, 0.01)
    assert device.counter is None
    assert reading.record() == {
        "seconds": reading.seconds,
        "joules": None,
        "watts": None,
        "clock_mhz": None,
        "throttled": [],
    }
    assert reading.seconds > 0.0


def test_the_part_orders_its_points_and_keeps_only_those_that_were_read() -> None:
    part = power_part(
        62.0,
        [(256, 610.0), (16, 300.0), (64, None)],
        counter="nvml energy",
        limit_watts=700.0,
        clock_mhz=1755.0,
        throttled=["software power cap", "software power cap"],
    )
    assert part is not None
    assert (part.idle_watts, part.at, part.watts) == (62.0, (16, 256), (300.0, 610.0))
    assert part.throttled == ("software power cap",)


def test_there_is_no_part_where_nothing_was_read() -> None:
    assert power_part(None, [(1, None)], counter=None) is None
