"""What an admission policy is asked, and what it may answer."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["ADMIT", "DROPPED", "REFUSE", "AdmissionPolicy", "Ask"]

ADMIT = 0.0
REFUSE = float("inf")
DROPPED = -1.0


class Ask:
    """One attempt of a request at the gateway. ``inflight``: attempts admitted and not ended, this one not counted."""

    __slots__ = ("inflight", "model", "output_tokens", "priority", "prompt_tokens", "row", "tenant")

    def __init__(
        self,
        row: int = 0,
        tenant: str = "default",
        model: str = "",
        priority: int = 0,
        prompt_tokens: int = 1,
        output_tokens: int = 1,
        inflight: int = 0,
    ) -> None:
        self.row = row
        self.tenant = tenant
        self.model = model
        self.priority = priority
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.inflight = inflight


@runtime_checkable
class AdmissionPolicy(Protocol):
    """Decides at the gateway who gets in. Several stand one behind another; the first that refuses decides.

    ``reason`` is what a request that it refuses was refused for, in a few words.
    """

    reason: str

    def offer(self, ask: Ask, now: float) -> float:
        """:data:`ADMIT` (0): let it in now; ``REFUSE`` (inf): turn it away; else seconds that it must wait, after which it is in
        (reservations: it is not asked again)."""
        ...

    def ended(self, ask: Ask, now: float, rtt: float) -> None:
        """An attempt that was let in has ended, ``rtt`` seconds after; :data:`DROPPED` (-1) when it failed or timed out.

        ``ask.inflight`` is as it was when it was let in."""
        ...

    def cancelled(self, ask: Ask, now: float) -> None:
        """An attempt this policy let in was refused by one behind it: what was taken is given back, if the real one does."""
        ...
