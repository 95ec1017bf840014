"""The hardware of a pool: a GPU of the catalog, or what a profile found itself on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim.errors import ProfileError
from sim.profiles import library

if TYPE_CHECKING:
    from sim.catalog import Gpu

__all__ = ["described_by_profile", "device"]


def described_by_profile(name: str) -> bool:
    """Whether ``name`` stands for a profile (shipped, or a file), not for a GPU of the catalog."""
    from sim import catalog

    if name in catalog.names("gpus"):
        return False
    return name.endswith(".json") or name.startswith((".", "/")) or name in library.names() or Path(name).is_file()


def device(name: str) -> Gpu:
    """The GPU ``name`` of the catalog, or the ``hardware`` of the profile of that name or path.

    Hardware from a profile is called as the profile's ``gpu``; rates that were not measured are 0.

    :raises CatalogError: no such GPU. :raises ProfileError: no such profile, or one that does not describe its hardware.
    """
    from sim import catalog

    if not described_by_profile(name):
        return catalog.gpu(name)
    profile = library.load(name)
    found = profile.hardware
    if found is None:
        known = f"; gpu: {profile.gpu} is in the catalog" if profile.gpu in catalog.names("gpus") else ""
        raise ProfileError(
            f"{name}: is a profile without a hardware part: it does not say what it was measured on{known}"
        )
    return catalog.Gpu(
        name=profile.gpu,
        title=found.title,
        memory=found.memory_bytes,
        memory_bandwidth=found.memory_bandwidth or 0.0,
        bf16_flops=found.bf16_flops or 0.0,
        fp8_flops=None,
        fp4_flops=None,
        tdp_watts=0.0,
        sm_count=None,
        nvlink_bandwidth=0.0,
        pcie_bandwidth=0.0,
        sources={"*": f"profile {profile.name}"},
    )
