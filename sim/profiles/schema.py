"""What a profile file holds: how long one (model, GPU, engine, parallelism, dtype) takes, what it keeps in memory, and who says so.

A profile keeps the *measured points* of each part, not a fit of them; :mod:`sim.perf.compile` turns them into the step table
the simulation reads. Times are microseconds per engine step (all layers of the model together), memory is bytes per GPU.
Every part says where its numbers come from and how well points left out of it are predicted by those kept.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from sim.errors import CatalogError, ProfileError
from sim.profiles.batch import Batch
from sim.profiles.doubt import Doubt
from sim.profiles.parts import Count, HeldOut, Micros, Part, Positive, Source, ascending
from sim.profiles.power import Power
from sim.profiles.served import Served
from sim.profiles.startup import Load

__all__ = [
    "SCHEMA_VERSION",
    "Batch",
    "ContextGrid",
    "Curve",
    "Curves",
    "Doubt",
    "Hardware",
    "HeldOut",
    "Host",
    "Load",
    "Memory",
    "MixedAttention",
    "MixedBlock",
    "Power",
    "Profile",
    "PromptGrid",
    "Provenance",
    "Served",
    "Spread",
    "Step",
]

SCHEMA_VERSION: Final = 1


class Provenance(Part):
    """Where the numbers come from. ``points`` counts the measured values that went in."""

    source: str
    licence: str
    command: str
    measured_at: str | None = None
    host: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    points: Count
    notes: tuple[str, ...] = ()


class Curve(Part):
    """Microseconds a step over whole numbers (scheduled tokens, or sequences)."""

    at: tuple[Positive, ...]
    us: tuple[Micros, ...]
    source: Source = "measured"

    @model_validator(mode="after")
    def _shape(self) -> Curve:
        ascending(self.at, "at")
        if len(self.at) != len(self.us):
            raise ValueError(f"at has {len(self.at)} points, us has {len(self.us)}")
        return self


class Curves(Part):
    """Kernels whose times add up, by name: what a step spends by its scheduled tokens, or by its sequences."""

    parts: Annotated[dict[str, Curve], Field(min_length=1)]
    held_out: HeldOut | None = None


class PromptGrid(Part):
    """Attention of one prefill chunk: ``us[i][j]`` for ``chunks[i]`` new tokens over ``pasts[j]`` cached ones.

    With ``pasts == (0,)`` only whole prompts were measured: a chunk of q tokens after p costs F(p + q) − F(p) and the start of
    a kernel, F of the shortest prompt; and never less than reading the cache once (one decode over as much context).
    """

    chunks: tuple[Positive, ...]
    pasts: tuple[Count, ...]
    us: tuple[tuple[Micros | None, ...], ...]
    held_out: HeldOut | None = None

    @model_validator(mode="after")
    def _shape(self) -> PromptGrid:
        ascending(self.chunks, "chunks")
        ascending(self.pasts, "pasts")
        if len(self.us) != len(self.chunks) or any(len(row) != len(self.pasts) for row in self.us):
            raise ValueError(f"us must be {len(self.chunks)} rows of {len(self.pasts)}")
        if any(row[0] is None for row in self.us):
            raise ValueError("us: every chunk needs a value at the first past")
        return self


class ContextGrid(Part):
    """Attention of a decode step: ``us[i][j]`` for ``sequences[i]`` decodes of ``contexts[j]`` tokens each."""

    sequences: tuple[Positive, ...]
    contexts: tuple[Positive, ...]
    us: tuple[tuple[Micros | None, ...], ...]
    held_out: HeldOut | None = None

    @model_validator(mode="after")
    def _shape(self) -> ContextGrid:
        ascending(self.sequences, "sequences")
        ascending(self.contexts, "contexts")
        if len(self.us) != len(self.sequences) or any(len(row) != len(self.contexts) for row in self.us):
            raise ValueError(f"us must be {len(self.sequences)} rows of {len(self.contexts)}")
        if any(sum(value is not None for value in row) < 2 for row in self.us):
            raise ValueError("us: every row needs two values")
        return self


class MixedBlock(Part):
    """A full grid of measurements of a chunk and decodes in one kernel; ``us`` flat, the last axis (contexts) running fastest."""

    chunks: tuple[Positive, ...]
    pasts: tuple[Count, ...]
    sequences: tuple[Positive, ...]
    contexts: tuple[Positive, ...]
    us: tuple[Micros | None, ...]

    @model_validator(mode="after")
    def _shape(self) -> MixedBlock:
        size = 1
        for name in ("chunks", "pasts", "sequences", "contexts"):
            grid = getattr(self, name)
            ascending(grid, name)
            size *= len(grid)
        if len(self.us) != size:
            raise ValueError(f"us has {len(self.us)} values, the grid {size}")
        return self


class MixedAttention(Part):
    """Prefill and decode attention measured together. The first block spans the others."""

    blocks: Annotated[tuple[MixedBlock, ...], Field(min_length=1)]
    held_out: HeldOut | None = None


class Spread(Part):
    """What unequal contexts add: microseconds a step for each token of standard deviation between the n contexts."""

    sequences: tuple[Positive, ...]
    decode_us: tuple[Micros, ...]
    mixed_us: tuple[Micros, ...]
    held_out: HeldOut | None = None

    @model_validator(mode="after")
    def _shape(self) -> Spread:
        ascending(self.sequences, "sequences")
        if not len(self.sequences) == len(self.decode_us) == len(self.mixed_us):
            raise ValueError("sequences, decode_us and mixed_us must have one length")
        return self


class Host(Part):
    """Time a step that no kernel accounts for, and whether batches are padded to CUDA-graph sizes.

    ``request_us`` is what a request spends outside of steps: the way there and back, HTTP, tokenising.

    ``source`` is ``assumed`` where nothing was measured (then 0 µs: asynchronous scheduling hides the host behind the GPU).
    """

    us: Micros = 0.0
    source: Source = "assumed"
    note: str = ""
    cuda_graphs: bool = True
    request_us: Micros = 0.0
    request_source: Source = "assumed"


class Step(Part):
    """One engine iteration: tokens + sequences + host + attention. ``held_out`` is the error of whole iterations that no part was made
    from."""

    tokens: Curves
    sequences: Curves
    prefill: PromptGrid
    decode: ContextGrid
    mixed: MixedAttention | None = None
    spread: Spread | None = None
    host: Host = Host()
    held_out: HeldOut | None = None


class Memory(Part):
    """Bytes on each GPU. Activations at their peak: ``activation_bytes_per_token`` × token budget or
    ``logits_bytes_per_sequence`` × max sequences, whichever is larger, as the engine's own profiling run finds them.
    ``allocator_bytes`` is what the allocator holds beyond what it was asked for, rounding and fragmentation."""

    weights_bytes: Positive
    context_bytes: Count
    activation_bytes_per_token: Count
    logits_bytes_per_sequence: Count
    kv_bytes_per_token: Count
    allocator_bytes: Count = 0
    source: dict[str, Source] = Field(default_factory=dict)


class Hardware(Part):
    """The device as it was found, for one that the catalog does not know. Rates are the best that were seen, not the maker's."""

    title: str
    memory_bytes: Positive
    bf16_flops: Annotated[float, Field(gt=0.0)] | None = None
    memory_bandwidth: Annotated[float, Field(gt=0.0)] | None = None


class Profile(Part):
    """Everything known of one (model, GPU, engine, parallelism, dtype). ``step`` is there for models that generate, ``batch`` for
    those that do not."""

    version: Literal[1]
    name: str
    model: str
    gpu: str
    engine: str
    tensor_parallel: Positive
    dtype: str
    kv_dtype: str
    provenance: Provenance
    step: Step | None = None
    batch: Batch | None = None
    memory: Memory
    served: Served | None = None
    load: Load | None = None
    power: Power | None = None
    hardware: Hardware | None = None
    doubt: Doubt | None = None

    @model_validator(mode="after")
    def _serves_something(self) -> Profile:
        if self.step is None and self.batch is None:
            raise ValueError("has neither step nor batch times")
        if self.step is not None and not self.memory.kv_bytes_per_token:
            raise ValueError("memory.kv_bytes_per_token: a model that generates keeps something of each token")
        return self

    @property
    def steps(self) -> Step:
        """The step times. ProfileError for a model that does not generate."""
        if self.step is None:
            raise ProfileError(f"{self.name}: is of a model that does not generate: it has batch times, no step times")
        return self.step

    def is_of(self, architecture: str) -> bool:
        """Whether its model is the architecture of that name, aliases understood."""
        from sim import catalog

        if self.model == architecture:
            return True
        try:
            return catalog.model(self.model).name == architecture
        except CatalogError:
            return False  # a name that only the measured server knows

    def _repr_html_(self) -> str:
        from sim.profiles.display import profile_html

        return profile_html(self)

    def dump(self) -> dict[str, Any]:
        """As plain JSON data, unset optional parts left out."""
        return self.model_dump(mode="json", exclude_none=False, exclude_defaults=True) | {"version": self.version}
