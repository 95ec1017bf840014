"""The most that was seen of a device: arithmetic of one large matrix product, bytes a second of one large copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from calibration.device import Device

__all__ = ["bandwidth", "flops"]

_REPEATS: Final = 7
_SIDE: Final = {"cuda": 8192, "cpu": 1024}
_COPY: Final = {"cuda": 2**30, "cpu": 2**27}  # bytes; far more than any cache of either


def flops(device: Device) -> float:
    """FLOP/s of a square bf16 product: 2 n³ operations."""
    import torch

    side = _SIDE[device.kind]
    a, b = (torch.randn(side, side, device=device.torch).to(torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    return 2.0 * side**3 / _best(device, lambda: torch.mm(a, b, out=out))


def bandwidth(device: Device) -> float:
    """Bytes/s of a copy within the device's memory, each byte read once and written once."""
    import torch

    size = min(_COPY[device.kind], device.free_bytes() // 8)
    source = torch.zeros(size, dtype=torch.uint8, device=device.torch)
    target = torch.zeros_like(source)
    return 2.0 * size / _best(device, lambda: target.copy_(source))


def _best(device: Device, run: Callable[[], object]) -> float:
    """The shortest of several runs, in seconds, after one that does not count."""
    run()
    device.synchronize()
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run()
        device.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
