"""Open loads: requests sent at given times, and what became of each, as a request log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from calibration.endpoint.client import Ask, Client
from calibration.endpoint.faults import EndpointError
from calibration.endpoint.reply import Reply
from calibration.runs import RequestLog

__all__ = ["Arrivals", "Lengths", "Lognormal", "drawn", "poisson", "replay"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_WARM: Final = 32  # connections opened before


class Arrivals(Protocol):
    """Requests to be sent: seconds from the start, tokens of prompt and of output. A RequestLog is one."""

    @property
    def sent(self) -> Floats: ...
    @property
    def prompt(self) -> Ints: ...
    @property
    def output(self) -> Ints: ...


@dataclass(frozen=True, eq=False)
class _Table:
    sent: Floats
    prompt: Ints
    output: Ints


@dataclass(frozen=True)
class Lognormal:
    """Numbers of tokens around ``median``, ``sigma`` the standard deviation of their logarithm, cut to ``low`` and ``high``."""

    median: float
    sigma: float
    low: int
    high: int

    def draw(self, n: int, chance: np.random.Generator) -> Ints:
        """``n`` of them."""
        drawn = self.median * np.exp(self.sigma * chance.standard_normal(n))
        return np.clip(np.rint(drawn), self.low, self.high).astype(np.int64)

    @property
    def mean(self) -> float:
        """Of the numbers before they are cut."""
        return float(self.median * np.exp(self.sigma**2 / 2.0))


Lengths = tuple[Lognormal, Lognormal]
"""Of prompts and of outputs."""


def drawn(rate: float, n: int, lengths: Lengths, seed: int) -> Arrivals:
    """``n`` Poisson arrivals, ``rate`` a second, the first after one gap. Equal seeds draw equal requests."""
    chance = np.random.default_rng(seed)
    gaps = chance.exponential(1.0 / rate, n)
    return _Table(np.cumsum(gaps), lengths[0].draw(n, chance), lengths[1].draw(n, chance))


def poisson(client: Client, rate: float, n: int, lengths: Lengths, seed: int) -> RequestLog:
    """Send :func:`drawn` requests. :raises EndpointError: none of them was served."""
    log = replay(client, drawn(rate, n, lengths, seed))
    log.about.update(rate=rate, seed=seed)
    return log


def replay(client: Client, table: Arrivals) -> RequestLog:
    """Send the requests of ``table`` at their times, whatever became of those before, and wait for all.

    Prompts are new ones of those lengths. A request that fails is a row without times. ``about`` says how late requests were sent
    at worst, and how many failed. :raises EndpointError: none was served; the first fault.
    """
    asks = [client.prepare(int(p), int(o)) for p, o in zip(table.prompt, table.output, strict=True)]
    results, start = client.run(_sent(client, asks, [float(at) for at in table.sent]))
    replies = [result for result in results if isinstance(result, Reply)]
    faults = [result for result in results if isinstance(result, EndpointError)]
    if not replies:
        raise faults[0] if faults else EndpointError(f"{client.url}: there are no requests to send")
    first = min(reply.sent for reply in replies)
    planned = np.asarray(table.sent, float)
    sent = np.array(
        [r.sent - first if isinstance(r, Reply) else at + start - first for r, at in zip(results, planned, strict=True)]
    )
    nothing = np.empty(0)
    return RequestLog(
        sent=sent,
        prompt=np.array([r.prompt if isinstance(r, Reply) else p for r, p in zip(results, table.prompt, strict=True)]),
        output=np.array([r.output if isinstance(r, Reply) else 0 for r in results]),
        ttft=np.array([r.ttft if isinstance(r, Reply) else np.nan for r in results]),
        e2e=np.array([r.e2e if isinstance(r, Reply) else np.nan for r in results]),
        token_times=tuple(r.times - first if isinstance(r, Reply) else nothing for r in results),
        source=client.url,
        about={
            "model": client.served.model,
            "failed": len(faults),
            "latest_s": max(float(s + first - at - start) for s, at in zip(sent, planned, strict=True)),
        }
        | ({"fault": str(faults[0])} if faults else {}),
    )


async def _sent(client: Client, asks: list[Ask], at: list[float]) -> tuple[list[Reply | BaseException], float]:
    await client.warm(min(_WARM, len(asks)))
    start = client.now()

    async def one(ask: Ask, when: float) -> Reply:
        await asyncio.sleep(start + when - client.now())
        return await client.send(ask)

    results = await asyncio.gather(
        *[one(ask, when) for ask, when in zip(asks, at, strict=True)], return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, EndpointError):
            raise result
    return list(results), start
