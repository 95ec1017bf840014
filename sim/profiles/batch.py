"""Models that do not generate: vision, embedding, reranking."""

from __future__ import annotations

from pydantic import model_validator

from sim.profiles.parts import Count, HeldOut, Micros, Part, Positive, Source, ascending

__all__ = ["Batch"]


class Batch(Part):
    """Microseconds of one forward pass by batch size, for one size of ``input`` ('3x224x224', '128 tokens').

    ``peak_bytes`` is what the pass held beside the weights at its peak, by batch size.
    """

    input: str
    at: tuple[Positive, ...]
    us: tuple[Micros, ...]
    peak_bytes: tuple[Count, ...] = ()
    held_out: HeldOut | None = None
    source: Source = "measured"

    @model_validator(mode="after")
    def _shape(self) -> Batch:
        ascending(self.at, "at")
        if len(self.at) != len(self.us):
            raise ValueError(f"at has {len(self.at)} points, us has {len(self.us)}")
        if self.peak_bytes and len(self.peak_bytes) != len(self.at):
            raise ValueError(f"at has {len(self.at)} points, peak_bytes has {len(self.peak_bytes)}")
        return self
