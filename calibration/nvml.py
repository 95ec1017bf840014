"""NVIDIA's management library (NVML), as far as calibration needs it: one card, its memory, energy, clocks, and why they are low.

Units here are SI (bytes, watts, joules) and MHz; what a card does not support is None. Source: NVML API reference,
https://docs.nvidia.com/deploy/nvml-api/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from sim.errors import ProfileError

__all__ = ["IDLE", "REASONS", "Card", "card", "count", "driver", "words"]

_Value = TypeVar("_Value")

IDLE: Final = 0x1
"""The bit that says no work is there: clocks are low because nothing asks for more."""

REASONS: Final[dict[int, str]] = {
    0x2: "applications clocks setting",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clock setting",
    0x200: "board limit",
    0x400: "reliability",
}
"""Why clocks are lower than they could be: the bits nvmlClocksEventReason* (before driver 535, nvmlClocksThrottleReason*)."""


def words(mask: int) -> tuple[str, ...]:
    """The reasons in ``mask``, idleness left out; a bit newer than this list is named by its value."""
    bits = [1 << i for i in range(mask.bit_length()) if mask >> i & 1]
    return tuple(REASONS.get(bit, f"reason {bit:#x}") for bit in bits if bit != IDLE)


class Card:
    """One GPU as its driver sees it. Every reading is of the whole card, other processes' work included."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._nvml, self._handle = library, handle
        # NVML renamed the call with driver 535; the binding has both for a while.
        self._reasons = getattr(library, "nvmlDeviceGetCurrentClocksEventReasons", None) or getattr(
            library, "nvmlDeviceGetCurrentClocksThrottleReasons", None
        )

    @property
    def name(self) -> str:
        """As nvidia-smi shows it: 'NVIDIA H100 80GB HBM3'."""
        name = self._nvml.nvmlDeviceGetName(self._handle)
        return name.decode() if isinstance(name, bytes) else str(name)

    @property
    def memory_bytes(self) -> int:
        """All memory of the card, the driver's own share included."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total)

    def used_bytes(self) -> int:
        """Memory in use by every process and the driver."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def processes(self) -> int | None:
        """How many processes have a compute context on the card."""
        return self._asked(lambda: len(self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)))

    def energy(self) -> float | None:
        """Joules drawn since the driver was loaded (Volta or later)."""
        return self._asked(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3)

    def power(self) -> float | None:
        """Watts; on most cards since Ampere the mean of the last second, not of this instant."""
        return self._asked(lambda: self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3)

    def power_limit(self) -> float | None:
        """Watts the card is held to now."""
        return self._asked(lambda: self._nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle) / 1e3)

    def clock(self) -> float | None:
        """MHz of the streaming multiprocessors."""
        return self._asked(lambda: float(self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM)))

    def reasons(self) -> int | None:
        """The mask of why clocks are low now; :func:`words` reads it."""
        ask = self._reasons
        return None if ask is None else self._asked(lambda: int(ask(self._handle)))

    def _asked(self, ask: Callable[[], _Value]) -> _Value | None:
        try:
            return ask()
        except self._nvml.NVMLError as error:
            if isinstance(error, _absent(self._nvml)):
                return None
            raise ProfileError(f"NVML, {self.name}: {error}") from None


def card(uuid: str) -> Card:
    """The card with that UUID ('GPU-...').

    :raises ProfileError: no driver, or no such card.
    """
    library = _started()
    try:
        return Card(library, library.nvmlDeviceGetHandleByUUID(uuid))
    except library.NVMLError as error:
        raise ProfileError(f"NVML does not know GPU {uuid}: {error}") from None


def count() -> int:
    """How many cards the driver has. :raises ProfileError: there is no driver."""
    return int(_started().nvmlDeviceGetCount())


def driver() -> str:
    """The driver's version. :raises ProfileError: there is no driver."""
    version = _started().nvmlSystemGetDriverVersion()
    return version.decode() if isinstance(version, bytes) else str(version)


def _started() -> Any:
    """pynvml, initialised; NVML counts initialisations, so asking again is free."""
    try:
        import pynvml
    except ImportError:
        raise ProfileError("nvidia-ml-py is not installed: pip install 'twinfer[calibrate]'") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        missing = (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded)
        if isinstance(error, missing):
            raise ProfileError("there is no NVIDIA driver on this machine; --device cpu measures the CPU") from None
        raise ProfileError(f"the NVIDIA driver does not answer: {error}") from None
    return pynvml


def _absent(library: Any) -> tuple[type[Exception], ...]:
    """Errors that mean this card, driver or user has no such reading."""
    names = ("NVMLError_NotSupported", "NVMLError_NoPermission", "NVMLError_FunctionNotFound")
    return tuple(getattr(library, name) for name in names)
