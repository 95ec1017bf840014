"""How long it takes until a model serves: the phases of a start, and how fast its weights come from where they lie."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sim.profiles.parts import Amount, Count, Part, Positive, Samples

__all__ = ["Load", "Phase", "Route", "Tier", "Transfer"]

Phase = Literal[
    "node",  # a machine is had from the cloud
    "image_pull",
    "image_extract",
    "process",  # interpreter and imports, until the engine's own code runs
    "context",  # the device's driver context
    "weights",  # all of the loading, as the engine reports it
    "deserialise",  # from bytes in memory to tensors
    "build",  # the module tree without its weights
    "compile",
    "graph_capture",
    "warm_up",  # first steps, profiling of memory included
    "engine",  # all that follows the weights, where an engine reports no parts
    "ready",  # from the process start to the first answer, as a client sees it
]
Tier = Literal["object_store", "network_disk", "local_disk", "page_cache", "host_memory"]
Route = Literal["pinned", "pageable"]


class Transfer(Part):
    """How fast bytes come over one way: bytes a second, one value a repeat, and ``together[n]`` all of n loads at once.

    ``together`` is keyed by the number of loads in decimal, as JSON keys are text.
    """

    bytes_per_second: Samples
    together: dict[str, Annotated[float, Field(gt=0.0, allow_inf_nan=False)]] = Field(default_factory=dict)


class Load(Part):
    """The start of one replica. ``bytes`` of weights were loaded.

    ``phases`` in seconds; ``read`` by storage tier and ``to_device`` by kind of host memory, in bytes a second. A phase that is not
    there was not measured; it is not 0.
    """

    bytes: Positive
    files: Count = 0
    phases: dict[Phase, Samples] = Field(default_factory=dict)
    read: dict[Tier, Transfer] = Field(default_factory=dict)
    to_device: dict[Route, Transfer] = Field(default_factory=dict)
    device_to_device: dict[str, Amount] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
