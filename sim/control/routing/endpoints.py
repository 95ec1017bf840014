"""What a gateway knows of one server it may choose, as it last heard it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Endpoint"]


@dataclass(slots=True)
class Endpoint:
    """One server of a pool, by the metrics that the Gateway API inference extension reads.

    ``waiting`` and ``running``: requests in its engine; ``kv_usage``: share of its KV cache in use, 0 to 1; ``active``: requests that
    this gateway has sent to it and that have not ended, ``active_tokens`` their tokens; ``updated``: when the metrics were scraped, in
    seconds (None: never). ``active_models`` and ``waiting_models``: LoRA adapters loaded and queued for loading, at most
    ``max_active_models``. ``context_range``: the ``min-max`` label of the context lengths it is meant for (None: no label).
    """

    name: str = ""
    waiting: int = 0
    running: int = 0
    kv_usage: float = 0.0
    active: int = 0
    updated: float | None = 0.0
    active_models: Collection[str] = ()
    waiting_models: Collection[str] = ()
    max_active_models: int = 0
    context_range: str | None = None
    active_tokens: int = 0

    @property
    def adapters(self) -> int:
        """Adapters that are loaded or will be."""
        return len(self.active_models) + len(self.waiting_models)
