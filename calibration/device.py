"""The device that is measured: what it is, how much memory it has, and what it runs with."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from calibration import nvml
from sim import catalog
from sim.errors import ProfileError, did_you_mean
from sim.profiles.schema import Hardware

__all__ = ["Device", "catalogued", "cpu", "find"]

_KINDS: Final = ("cpu", "cuda", "cuda:N")
# What a driver adds to a card's name beyond what tells it from others: maker, product line, memory.
_FILLER: Final = re.compile(r"nvidia|tesla|geforce|generation|edition|server|workstation|blackwell|hbm\w*|\d+gb")
_MEMORY: Final = re.compile(r"\d+gb")
_FORMS: Final = {"sxm", "pcie", "nvl"}


@dataclass(frozen=True)
class Device:
    """One CPU (all of it that this process may use) or one GPU. Plain data: a process that a probe starts can be given it.

    ``torch`` is its name for torch.device; ``title`` the maker's name for it, ``gpu`` the catalog's, None if it has none for it;
    ``uuid`` is a GPU's, as NVML knows it.
    """

    kind: Literal["cpu", "cuda"]
    torch: str
    title: str
    gpu: str | None
    memory_bytes: int
    uuid: str = ""

    @property
    def card(self) -> nvml.Card | None:
        """The GPU as NVML sees it; None for a CPU."""
        return nvml.card(self.uuid) if self.uuid else None

    def free_bytes(self) -> int:
        """Bytes that a new allocation can have now."""
        if self.kind == "cuda":
            import torch

            return int(torch.cuda.mem_get_info(torch.device(self.torch))[0])
        return min(_meminfo("MemAvailable"), self.memory_bytes)

    def synchronize(self) -> None:
        """Wait until the device has done all it was given; a CPU has."""
        if self.kind == "cuda":
            import torch

            torch.cuda.synchronize(torch.device(self.torch))

    def versions(self) -> dict[str, str]:
        """Of torch, Python and, on a GPU, CUDA, cuDNN and the driver."""
        import torch

        found = {"torch": str(torch.__version__), "python": platform.python_version()}
        if self.kind == "cuda":
            found["cuda"] = str(torch.version.cuda)
            if torch.backends.cudnn.is_available():
                found["cudnn"] = str(torch.backends.cudnn.version())
            found["driver"] = nvml.driver()
        return found

    def host(self) -> str:
        """The machine in a line: CPU, cores this process may use, operating system; nothing that names the machine."""
        return f"{_cpu_title()}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}"

    def rates(self) -> dict[str, float]:
        """``bf16_flops`` of a large matrix product and ``memory_bandwidth`` of a large copy, read and write counted: the best of
        several, in a second or two. A record for a campaign, and for :meth:`hardware`."""
        from calibration.probes.peak import bandwidth, flops

        return {"bf16_flops": flops(self), "memory_bandwidth": bandwidth(self)}

    def hardware(self, rates: Mapping[str, Any] | None = None) -> Hardware:
        """The device for a profile, with ``rates`` as :meth:`rates` measured them if given."""
        known = {name: rates[name] for name in ("bf16_flops", "memory_bandwidth")} if rates else {}
        return Hardware(title=self.title, memory_bytes=self.memory_bytes, **known)


def find(kind: str) -> Device:
    """The device ``cpu``, ``cuda`` (the first GPU) or ``cuda:N``.

    :raises ProfileError: no torch, torch without CUDA, no driver, no GPU, no such GPU, no such kind; one line each.
    """
    name, _, number = kind.partition(":")
    if name not in ("cpu", "cuda") or (":" in kind and (name == "cpu" or not number.isdecimal())):
        raise ProfileError(f"--device {kind!r} is not one of {', '.join(_KINDS)}{did_you_mean(kind, ('cpu', 'cuda'))}")
    if platform.system() != "Linux":
        raise ProfileError(f"measuring needs Linux (page cache, memory limits, power); this is {platform.system()}")
    try:
        import torch
    except ImportError:
        raise ProfileError("torch is not installed: pip install 'twinfer[calibrate]'") from None
    if name == "cpu":
        return cpu()
    if torch.version.cuda is None:
        raise ProfileError(
            f"--device {kind}: torch {torch.__version__} is built without CUDA; install a CUDA build, or measure --device cpu"
        )
    installed = nvml.count()  # says so if there is no driver
    visible = torch.cuda.device_count()
    if not visible:
        hidden = f" (the driver has {installed}; CUDA_VISIBLE_DEVICES hides them?)" if installed else ""
        raise ProfileError(f"--device {kind}: there is no GPU that torch can use{hidden}")
    index = int(number or 0)
    if index >= visible:
        last = f"cuda:0 to cuda:{visible - 1}" if visible > 1 else "only cuda:0"
        raise ProfileError(f"--device {kind}: there is no such GPU; {last}")
    # By UUID: torch counts only visible devices, the fastest first, NVML all of them in the order of the bus.
    uuid = "GPU-" + str(torch.cuda.get_device_properties(index).uuid).removeprefix("GPU-")
    card = nvml.card(uuid)
    name, size = card.name, card.memory_bytes
    return Device("cuda", f"cuda:{index}", name, catalogued(name, size), size, uuid)


def cpu() -> Device:
    """The CPU of this machine, as far as this process may use it; needs no torch."""
    return Device("cpu", "cpu", _cpu_title(), None, _host_memory())


def catalogued(title: str, memory_bytes: int) -> str | None:
    """The catalog's name of the GPU that its driver calls ``title``, or None.

    Every word of the driver's name must be accounted for (an RTX 4090 D is no RTX 4090), a name without a form factor is the SXM
    module's, and memory must agree within 10 %, which tells apart an A100 of 40 and of 80 GB, or a MIG slice from its card.
    """
    said = {re.sub(r"^sxm\d$", "sxm", word) for word in re.split(r"[^a-z0-9]+", title.lower()) if word}
    best, most = None, 0
    for name in catalog.names("gpus"):
        known = {word for word in name.split("-") if not _MEMORY.fullmatch(word)}
        words = said | {"sxm"} if known & _FORMS and not said & _FORMS else said
        fits = known <= words and all(_FILLER.fullmatch(word) for word in words - known)
        near = abs(memory_bytes / catalog.gpu(name).usable_memory - 1.0) < 0.1
        if fits and near and len(known) > most:
            best, most = name, len(known)
    return best


def _cpu_title() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _meminfo(field: str) -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ProfileError(f"/proc/meminfo has no {field}: measuring needs Linux")


def _host_memory() -> int:
    """Bytes this process may use: the machine's, or its control group's limit if that is less (cgroup v2, then v1)."""
    total = _meminfo("MemTotal")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return min(total, int(Path(limit).read_text(encoding="ascii")))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return total
