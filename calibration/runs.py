"""What a client saw of a serving run: the requests one by one. Predictions are compared with it, and loads replayed from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["RequestLog"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RequestLog:
    """Requests in the order they were sent. Columns have one length; seconds; NaN where a request failed or has no such time.

    ``sent`` counts from the first request; ``output`` is the number of tokens that came. ``token_times[i]`` holds the arrival of
    each token of request i, on the clock of ``sent``, where the log has them. ``concurrency`` is the number of closed-loop users that
    sent them, None for open arrivals. ``about`` is what else the log says (model, engine, rate), for people.
    """

    sent: Floats
    prompt: Ints
    output: Ints
    ttft: Floats
    e2e: Floats
    token_times: tuple[Floats, ...] | None = None
    concurrency: int | None = None
    source: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sent)

    @property
    def tpot(self) -> Floats:
        """(E2E - TTFT) / (output tokens - 1); NaN for outputs of one token."""
        gaps = np.where(self.output > 1, self.output - 1.0, np.nan)
        return np.asarray((self.e2e - self.ttft) / gaps)

    @property
    def itl(self) -> Floats | None:
        """Every inter-token latency of the run, or None where the log has no token times."""
        if self.token_times is None:
            return None
        gaps = [np.diff(times) for times in self.token_times if len(times) > 1]
        return np.concatenate(gaps) if gaps else np.empty(0)

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Which requests were served to their end."""
        return np.asarray(np.isfinite(self.e2e))

    @property
    def rate(self) -> float:
        """Requests a second over the time in which they were sent; NaN for fewer than two."""
        span = float(self.sent[-1] - self.sent[0]) if len(self) > 1 else 0.0
        return (len(self) - 1) / span if span > 0.0 else float("nan")
