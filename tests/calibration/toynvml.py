"""A stand-in for pynvml that behaves as NVIDIA documents NVML: its units, its errors, its bit masks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

UUID = "GPU-8c0a2b3d-0000-1111-2222-333344445555"


class FakeNvml(ModuleType):
    """One H100. Attributes are what the driver answers; None means NVML_ERROR_NOT_SUPPORTED. Set ``broken`` to an error's name and
    nvmlInit fails with it; to lose the card, set ``lost``."""

    NVML_CLOCK_SM = 1

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.name: str | bytes = "NVIDIA H100 80GB HBM3"
        self.cards = 1
        self.total, self.used = 81_559 * 2**20, 500 * 2**20
        self.millijoules: Callable[[], int] | None = None
        self.milliwatts: Callable[[], int] | None = lambda: 350_000
        self.limit_milliwatts = 700_000
        self.mhz: Callable[[], int] = lambda: 1980
        self.reasons: Callable[[], int] = lambda: 0
        self.broken = ""
        self.lost = False

        class NVMLError(Exception):
            pass

        self.NVMLError = NVMLError
        for kind in (
            "LibraryNotFound",
            "DriverNotLoaded",
            "NotSupported",
            "NoPermission",
            "FunctionNotFound",
            "NotFound",
            "GpuIsLost",
            "Unknown",
        ):
            setattr(self, f"NVMLError_{kind}", type(f"NVMLError_{kind}", (NVMLError,), {}))

    def _answer(self, value: Any) -> Any:
        if self.lost:
            raise self.NVMLError_GpuIsLost("GPU is lost")
        if value is None:
            raise self.NVMLError_NotSupported("Not Supported")
        return value() if callable(value) else value

    def nvmlInit(self) -> None:
        if self.broken:
            raise getattr(self, f"NVMLError_{self.broken}")(self.broken)

    def nvmlDeviceGetCount(self) -> int:
        return self.cards

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.86.15"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> object:
        if uuid != UUID:
            raise self.NVMLError_NotFound("Not Found")
        return object()

    def nvmlDeviceGetName(self, handle: object) -> str | bytes:
        return self.name

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> Any:
        return SimpleNamespace(total=self.total, used=self.used, free=self.total - self.used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[object]:
        return self._answer([SimpleNamespace(pid=1, usedGpuMemory=None)])

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:
        return self._answer(self.millijoules)

    def nvmlDeviceGetPowerUsage(self, handle: object) -> int:
        return self._answer(self.milliwatts)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: object) -> int:
        return self._answer(self.limit_milliwatts)

    def nvmlDeviceGetClockInfo(self, handle: object, kind: int) -> int:
        assert kind == self.NVML_CLOCK_SM
        return self._answer(self.mhz)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object) -> int:
        return self._answer(self.reasons)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """The stand-in, in the place of pynvml."""
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake
