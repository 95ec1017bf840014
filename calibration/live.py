"""Runs of a server that is there: Poisson loads sent to it, to hold a profile against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sim.errors import ProfileError

if TYPE_CHECKING:
    from calibration.endpoint.client import Client
    from calibration.endpoint.load import Lognormal
    from calibration.runs import RequestLog

__all__ = ["Load", "measured"]

_SIGMA: Final = 0.7  # of the logarithm of lengths: prompts of people spread about so
_REACH: Final = 8  # lengths lie between the median's eighth and its eightfold


@dataclass(frozen=True)
class Load:
    """``requests`` Poisson arrivals, ``rate`` a second, with lognormal lengths around the medians ``prompt`` and ``output`` (tokens).
    Equal seeds send equal requests."""

    rate: float
    requests: int
    prompt: int = 128
    output: int = 32
    seed: int = 0


def measured(client: Client, load: Load, times: int = 1) -> list[RequestLog]:
    """Send ``load`` and wait for all answers, ``times`` one after another.

    Lengths are cut so that any two fit what the server takes: three quarters of it for the prompt, one for the output.
    :raises ProfileError: the model takes too few tokens for the medians, or no request was served.
    """
    from calibration.endpoint.load import poisson

    limit = client.served.max_model_len
    most = (None, None) if limit is None else (limit - limit // 4, limit // 4)
    lengths = _lengths("prompt", load.prompt, most[0]), _lengths("output", load.output, most[1])
    runs = [poisson(client, load.rate, load.requests, lengths, load.seed) for _ in range(times)]
    return [
        replace(run, source=f"{run.source}, run {number}" if times > 1 else run.source)
        for number, run in enumerate(runs, 1)
    ]


def _lengths(name: str, median: int, most: int | None) -> Lognormal:
    from calibration.endpoint.load import Lognormal

    if most is not None and median > most:
        raise ProfileError(
            f"{name}: a median of {median} tokens is more than the {most} that fit what the server takes"
        )
    high = _REACH * median if most is None else min(_REACH * median, most)
    return Lognormal(median, _SIGMA, max(median // _REACH, 1), high)
