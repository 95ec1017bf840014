"""What the catalog's tables hold, a frozen class for each. SI units: bytes, bytes/s, FLOP/s, watts, seconds, dollars."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Failure", "Gpu", "Instance", "Link", "Region", "TraceRow"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator as deployed. Rates are peaks from the maker: dense (no sparsity), tensor-core, a direction."""

    name: str
    title: str
    memory: int
    """Bytes of device memory as sold (80 GB means 80 GiB, as it does for the makers)."""
    memory_bandwidth: float
    bf16_flops: float
    """Dense 16-bit tensor FLOP/s (fp16 on Volta and Turing, which have no bf16)."""
    fp8_flops: float | None
    fp4_flops: float | None
    tdp_watts: float
    sm_count: int | None
    """Streaming multiprocessors (NVIDIA) or compute units (AMD)."""
    nvlink_bandwidth: float
    """Bytes/s a GPU can send to its peers over NVLink or Infinity Fabric, in one direction; 0 if it has neither."""
    pcie_bandwidth: float
    """Bytes/s to the host in one direction."""
    reported_memory: int | None = None
    """Bytes the driver reports as total, where known: a little less than ``memory``."""
    note: str = ""
    sources: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def usable_memory(self) -> int:
        """The memory an engine sees: what the driver reports, else what was sold."""
        return self.memory if self.reported_memory is None else self.reported_memory


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine one can rent. Prices are list prices of one region, dollars an hour for the whole machine."""

    name: str
    gpu: str
    gpus: int
    usd_per_hour: float
    spot_usd_per_hour: float | None
    region: str
    source: str

    @property
    def provider(self) -> str:
        """The cloud: what stands before the slash of the name."""
        return self.name.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class Link:
    """A path that bytes take. ``bandwidth`` is bytes/s in one direction, for one GPU, port, disk or client."""

    name: str
    title: str
    kind: str
    """gpu (between GPUs of a node), host (GPU to host), network (between nodes), storage."""
    bandwidth: float
    latency: float | None
    """Seconds before the first byte, where a source states it."""
    sources: dict[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Region:
    """Where a cloud's machines stand. ``g_per_kwh``: grams of CO2 equivalent a kWh of the grid; ``pue``: power usage effectiveness."""

    name: str
    g_per_kwh: float
    pue: float
    source: str


@dataclass(frozen=True, slots=True)
class Failure:
    """How often something breaks, as published. Times in seconds."""

    name: str
    title: str
    of: str
    """gpu, node (a machine) or spot (a machine that the cloud may take back): what the rate is one's of."""
    mtbf: float
    """Mean time between interruptions of one of them."""
    notice: float | None = None
    """From when the cloud says so until it takes a machine."""
    outage: float | None = None
    """Until machines could be had again, on average."""
    sources: dict[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class TraceRow:
    """A published workload trace and where to get it. ``sha256`` is of the file at ``url``; None if not published."""

    name: str
    title: str
    url: str
    sha256: str | None
    bytes: int | None
    licence: str
    citation: str
    format: str
    requests: int | None
    source: str
