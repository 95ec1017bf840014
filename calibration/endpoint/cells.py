"""Measuring one cell of a plan: its requests, what the server counted meanwhile, as a record for the journal."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from calibration.campaign import Record
from calibration.endpoint.client import Ask, Client, gathered
from calibration.endpoint.faults import EndpointError
from calibration.endpoint.metrics import Metrics, metrics
from calibration.endpoint.observe import streams
from calibration.endpoint.plan import SETTLE, Cell, Limits
from calibration.endpoint.reply import Reply
from calibration.endpoint.steps import Stream, together

__all__ = ["Bench", "undisturbed"]

_TRIES: Final = 3
_PATIENCE: Final = 10.0  # seconds to wait for a server to be idle
_PAUSES: Final = (0.5, 2.0)  # before a failed cell is measured again
_WIDER: Final = 2.0  # longer streams, when they did not all decode together
_MIDST: Final = (
    0.35,
    0.75,
)  # of a step: when in it prompts are sent, so that there is no doubt which step they come into
_DIGITS: Final = 6  # of times in a journal: microseconds


def undisturbed(record: Record) -> bool:
    """Whether nobody else used the server during that cell, and nothing of it was preempted: else its times are not the engine's own."""
    return not (record["busy"] or record["others"] or record["preemptions"])


class Bench:
    """Measures cells against ``client`` within ``limits``, which shrink when the server turns out to have only so many ``seats``, requests
    it runs at once."""

    def __init__(self, client: Client, limits: Limits) -> None:
        self.client = client
        self.limits = limits
        self.seats: int | None = None
        self._told = limits.max_num_seqs is not None  # then streams that do not run together were merely too short
        self._phase = random.Random(0)
        self._sent = 0
        self._slack = (
            1.0  # of the tokens that streams need while others' prompts run; learned from one cell to the next
        )

    def measure(self, cell: Cell) -> Record:
        """The record of ``cell``; after a passing fault, or beside other clients' requests, measured again, three times at most.

        :raises EndpointError: a fault that stays.
        """
        retried = 0
        while True:
            try:
                record = self.client.run(self._measured(cell))
            except EndpointError as error:
                retried += 1
                if not error.passing or retried == _TRIES:
                    raise
                self.client.run(asyncio.sleep(_PAUSES[retried - 1]))
                continue
            if not record["others"] or retried == _TRIES - 1:
                return {**record, "retried": retried}
            retried += 1

    async def _measured(self, cell: Cell) -> Record:
        before, busy = await self._idle()
        start, spent, sent = self.client.now(), time.process_time(), self._sent
        if cell.kind == "prompt":
            replies = await self._send([self.client.prepare(cell.prompt, 1)])
            injected: list[list[Reply]] = []
        else:
            await self.client.warm(cell.streams + max((len(lot) for lot in cell.injected), default=0))
            replies, injected = await self._decoding(cell)
        wall = self.client.now() - start
        client_share = (time.process_time() - spent) / wall if wall > 0.0 else 0.0
        after = await metrics(self.client) if before else None
        everything = [*replies, *(reply for lot in injected for reply in lot)]
        requests = [_dumped(reply, start) for reply in replies]
        return {
            "kind": cell.kind,
            "replies": requests,
            "injected": [[_dumped(reply, start) for reply in lot] for lot in injected],
            "together": together(streams(requests)),
            "seats": self.seats,
            "preemptions": _change(before, after, "preemptions"),
            "busy": busy,
            "others": max((_change(before, after, "finished") or 0) - (self._sent - sent), 0),
            "cached": sum(reply.cached or 0 for reply in everything),
            "client": round(client_share, 3),
            "process": before.started if before else None,
        }

    async def _decoding(self, cell: Cell) -> tuple[list[Reply], list[list[Reply]]]:
        """The streams of a cell and what was put beside them; with longer streams where they did not all decode together."""
        output = ran = 0
        while True:
            output = self._output(cell, output)
            replies, injected = await self._together(cell, output)
            last, ran = ran, together([Stream(cell.prompt, reply.sent, reply.times) for reply in replies])
            until = min(float(reply.times[-1]) for reply in replies)
            if ran < cell.streams:
                if last == ran and not self._told:
                    self._seats(ran)
                    break
            elif not self._told and any(float(reply.times[0]) > until for lot in injected for reply in lot):
                self._seats(ran)  # there was no seat beside the streams
                break
            elif self._overlap(replies) >= cell.steps // 2 and len(injected) == len(cell.injected):
                self._learn(cell, replies)
                break
            if output == self._output(cell, output) or output >= _WIDER**_TRIES * self.limits.output(cell):
                break
        return replies, injected

    def _seats(self, seats: int) -> None:
        self.limits = replace(self.limits, max_num_seqs=seats)
        self.seats = seats

    def _output(self, cell: Cell, before: int) -> int:
        """Tokens for each stream; ``before`` were too few, if any."""
        wanted = round(_WIDER * before) if before else self.limits.output(cell, self._slack)
        return min(wanted, self.limits.longest - cell.prompt)

    async def _together(self, cell: Cell, output: int) -> tuple[list[Reply], list[list[Reply]]]:
        """All streams at once; each lot is sent when all streams have had a few tokens since the one before."""
        asks = [self.client.prepare(cell.prompt, output) for _ in range(cell.streams)]
        lots = [[self.client.prepare(tokens, 1) for tokens in lot] for lot in cell.injected]
        gate = _Gate(cell.streams)
        decoding = asyncio.ensure_future(self._send(asks, gate))
        injected: list[list[Reply]] = []
        try:
            for lot in lots:
                await _first(gate.passed(SETTLE), decoding)
                if decoding.done():
                    break
                await asyncio.sleep(self._phase.uniform(*_MIDST) * gate.step)
                injected.append(await self._send(lot))
            return await decoding, injected
        finally:
            decoding.cancel()
            await asyncio.gather(decoding, return_exceptions=True)

    async def _send(self, asks: Sequence[Ask], gate: _Gate | None = None) -> list[Reply]:
        self._sent += len(asks)
        heard = [gate.listener(number) if gate else None for number in range(len(asks))]
        return await gathered([self.client.send(ask, listener) for ask, listener in zip(asks, heard, strict=True)])

    @staticmethod
    def _overlap(replies: Sequence[Reply]) -> int:
        """Tokens of the last stream to begin, until the first one ends."""
        until = min(float(reply.times[-1]) for reply in replies)
        last = max(replies, key=lambda reply: reply.times[0])
        return int((last.times <= until).sum()) - 1

    def _learn(self, cell: Cell, replies: Sequence[Reply]) -> None:
        """How many tokens the first streams had when the last one began, against what was planned."""
        if cell.streams < 4:
            return
        since = max(float(reply.times[0]) for reply in replies)
        had = max(int((reply.times < since).sum()) for reply in replies)
        bare = replace(cell, steps=0, injected=())
        planned = self.limits.output(bare) - 2
        self._slack = min(max(self._slack * 0.7, 1.3 * had / planned, 0.3), 4.0)

    async def _idle(self) -> tuple[Metrics | None, int]:
        """The server's metrics once nothing runs on it, or after ten seconds all the same; and how many requests there still are."""
        until = self.client.now() + _PATIENCE
        while True:
            found = await metrics(self.client)
            if found is None or not found.busy or self.client.now() >= until:
                return found, found.busy if found else 0
            await asyncio.sleep(0.1)


class _Gate:
    """Opens when each of ``streams`` streams has brought bytes a number of times since it was last passed."""

    def __init__(self, streams: int) -> None:
        self._heard = [0] * streams
        self._marks = [0] * streams
        self._short = 0
        self._open = asyncio.Event()
        self.step = 0.0  # seconds a step, while the gate was last waited for

    def listener(self, stream: int) -> Callable[[int], None]:
        """To be called with how often a stream has brought bytes."""

        def heard(times: int) -> None:
            self._heard[stream] = times
            if times == self._marks[stream]:
                self._short -= 1
                if not self._short:
                    self._open.set()

        return heard

    async def passed(self, times: int) -> None:
        """Wait until every stream has brought bytes ``times`` more often."""
        self._marks = [heard + times for heard in self._heard]
        self._short = len(self._marks)
        self._open.clear()
        since = Client.now()
        await self._open.wait()
        self.step = (Client.now() - since) / times


async def _first(waiting: Awaitable[Any], decoding: asyncio.Future[Any]) -> None:
    """Wait for ``waiting``, but no longer than ``decoding`` goes on."""
    task = asyncio.ensure_future(waiting)
    await asyncio.wait([task, decoding], return_when=asyncio.FIRST_COMPLETED)
    task.cancel()


def _dumped(reply: Reply, start: float) -> Record:
    return {
        "prompt": reply.prompt,
        "sent": round(reply.sent - start, _DIGITS),
        "times": [round(float(when) - start, _DIGITS) for when in reply.times],
        "chunks": reply.chunks,
        "exact": reply.exact,
    }


def _change(before: Metrics | None, after: Metrics | None, name: str) -> int | None:
    if before is None or after is None:
        return None
    was, now = getattr(before, name), getattr(after, name)
    return None if was is None or now is None else int(now - was)
