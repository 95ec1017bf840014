"""A client of any OpenAI-compatible server that notes when each token comes: the loads of a calibration are made of its requests.

A load generator beside an engine takes time from it, so while requests are under way nothing is done but noting bytes and when they
came; what they say is read when all is over.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeVar

import httpx

from calibration.endpoint.dialect import Dialect
from calibration.endpoint.faults import EndpointError, message, refused, web_page
from calibration.endpoint.reply import Part, Reply, read
from sim.errors import did_you_mean

__all__ = ["Ask", "Client", "Served", "gathered"]

T = TypeVar("T")
_TRIES: Final = 12  # of simpler dialects
_JSON: Final = {"content-type": "application/json"}
_KEPT: Final = 4.0  # seconds an idle connection is used again; uvicorn closes them after 5


@dataclass(frozen=True)
class Served:
    """What ``/models`` says: the model, its limit of tokens where it has one, who owns it (engines put their name there)."""

    model: str
    max_model_len: int | None
    owner: str


@dataclass(frozen=True)
class Ask:
    """A request ready to be sent: ``tokens`` of prompt (None where only the server can count them) and of output."""

    body: bytes
    tokens: int | None
    output: int


class Client:
    """A connection to ``url``, the root of an OpenAI API (``http://localhost:8000`` or ``.../v1``), for a model it serves.

    Entered, it has found the model and learned which fields the server takes (``served``, ``dialect``). Its clock is that of the
    event loop, in which ``run`` runs coroutines; loops and transports of other kinds can be given for tests. ``timeout`` is the
    longest silence in seconds.

    :raises EndpointError: whatever is wrong with the endpoint, one line.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        timeout: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise EndpointError(f"{url}: must start with http:// or https://, as in http://localhost:8000/v1")
        self.url = url.rstrip("/")
        self.root = self.url if self.url.endswith("/v1") else f"{self.url}/v1"
        self.timeout = timeout
        self._wanted = model
        self._headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {key}"} if key else {})
        self._transport = transport
        self._runner = asyncio.Runner(loop_factory=loop_factory)
        self._chance = random.Random()  # never seeded: prompts must be new to the server, whatever ran before
        self.dialect = Dialect()
        self.served = Served("", None, "")
        self.first_token: float | None = None  # when the very first token came, on the loop's clock

    def __enter__(self) -> Client:
        self._runner.__enter__()
        try:
            self._http = self.run(self._opened())
            self.served = self.run(self._discovered())
            self.dialect = self.run(self._learned())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "_http"):
            with suppress(RuntimeError, httpx.HTTPError, OSError):
                self.run(self._http.aclose())
        self._runner.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` to its end in this client's loop."""
        return self._runner.run(coroutine)

    @staticmethod
    def now() -> float:
        """Seconds on the clock of the running loop."""
        return asyncio.get_running_loop().time()

    def prepare(self, tokens: int, output: int) -> Ask:
        """A request of ``tokens`` of prompt, new to the server, for ``output`` tokens."""
        body = self.dialect.body(self.served.model, tokens, output, self._chance)
        return Ask(json.dumps(body, separators=(",", ":")).encode(), tokens if self.dialect.ids else None, output)

    async def send(self, ask: Ask, heard: Callable[[int], None] | None = None) -> Reply:
        """Send ``ask`` and take its stream to the end. ``heard`` is called with how often bytes have come, each time they do."""
        url = self.root + self.dialect.path
        parts: list[Part] = []
        clock = asyncio.get_running_loop().time
        sent = clock()
        try:
            async with self._http.stream("POST", url, content=ask.body, headers=_JSON) as response:
                kind = response.headers.get("content-type", "")
                if response.status_code != 200 or "event-stream" not in kind:
                    content = await response.aread()
                    if response.status_code != 200:
                        raise refused(url, response.status_code, kind, content)
                    said = (
                        "a web page" if web_page(kind, content) else f"{kind or 'something'}, the whole answer at once"
                    )
                    raise EndpointError(f"{url}: does not stream: it answered stream: true with {said}")
                async for piece in response.aiter_raw():
                    parts.append((clock(), piece))
                    if heard is not None:
                        heard(len(parts))
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._broken(url, error, f"after {_events(parts)} of {ask.output} tokens" if parts else "") from None
        reply = read(parts, url, sent, ask.tokens, ask.output)
        if self.first_token is None:
            self.first_token = float(reply.times[0])
        self._checked(url, reply)
        return reply

    async def get(self, path: str, *, root: bool = False) -> tuple[int, str, bytes]:
        """Status, content type and body of ``path`` below the API's root, or with ``root`` below the server's."""
        url = (self.root.removesuffix("/v1") if root else self.root) + path
        try:
            response = await self._http.get(url)
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._broken(url, error, "") from None
        return response.status_code, response.headers.get("content-type", ""), response.content

    async def warm(self, connections: int) -> None:
        """Open that many connections, so that no request of a load waits for one."""
        await gathered([self.get("/models") for _ in range(connections)])

    async def round_trip(self, times: int = 7) -> float:
        """Seconds of the fastest of a few requests for next to nothing: the way there and back, and HTTP."""
        spent = []
        for _ in range(times):
            start = self.now()
            await self.get("/models")
            spent.append(self.now() - start)
        return min(spent)

    async def _opened(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(self.timeout, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEPT),
            transport=self._transport,
        )

    async def _discovered(self) -> Served:
        status, kind, content = await self.get("/models")
        url = f"{self.root}/models"
        if status != 200:
            raise refused(url, status, kind, content)
        if web_page(kind, content):
            raise EndpointError(
                f"{url}: a web page, not the API: give the root of the OpenAI API, as in http://localhost:8000/v1"
            )
        try:
            rows = {str(row["id"]): row for row in json.loads(content)["data"]}
        except (ValueError, KeyError, TypeError):
            raise EndpointError(f"{url}: is not a list of models: {message(content)!r}") from None
        bases = [name for name, row in rows.items() if not row.get("parent")]  # vLLM lists adapters too
        if self._wanted is None and len(bases) != 1:
            raise EndpointError(f"{url}: serves {', '.join(rows) or 'no model'}: choose one with --model")
        model = self._wanted or bases[0]
        if model not in rows:
            hint = did_you_mean(model, rows) or f" (it serves {', '.join(rows)})"
            raise EndpointError(f"{url}: does not serve the model {model!r}{hint}")
        limit = rows[model].get("max_model_len")
        return Served(model, int(limit) if limit else None, str(rows[model].get("owned_by", "")))

    async def _learned(self) -> Dialect:
        tried = self.dialect
        told: EndpointError | None = None
        for _ in range(_TRIES):
            self.dialect = tried
            try:
                reply = await self.send(self.prepare(8, 8))
            except EndpointError as error:
                if told is None or error.status not in (404, 405):
                    told = error  # that the other way of asking is not there either says less
                simpler = tried.simpler(error.status or 0, str(error)) if error.status in (400, 404, 405, 422) else None
                if simpler is None:
                    raise told from None
                tried = simpler
                continue
            self._streams(reply)
            if tried.ids:
                return tried
            sizes = (16, 128)
            self.dialect = tried.measured((0, 1), (0, 1))
            counted = [(await self.send(self.prepare(size, 1))).prompt for size in sizes]
            return tried.measured(sizes, counted)
        raise EndpointError(f"{self.root}: no way of asking was found that the server takes")

    def _streams(self, reply: Reply) -> None:
        """:raises EndpointError: many tokens came in one go, so that their times say nothing."""
        if reply.output >= 4 and reply.reads <= 2 and float(reply.times[-1] - reply.times[0]) <= 1e-4 * reply.output:
            raise EndpointError(
                f"{self.root}: {reply.output} tokens came at once, {reply.ttft:.3g} s after they were asked for: "
                "something between here and the engine holds the stream back (a proxy that buffers?)"
            )

    def _checked(self, url: str, reply: Reply) -> None:
        asked, came = reply.asked, reply.output
        if came > asked:
            raise EndpointError(f"{url}: does not heed max_tokens: asked for {asked}, got {came}", passing=True)
        if came < asked and {"ignore_eos", "min_tokens"} & set(self.dialect.extras):
            raise EndpointError(
                f"{url}: took ignore_eos but does not heed it: asked for {asked} tokens, got {came} (finish: {reply.finish})",
                passing=True,
            )

    def _broken(self, url: str, error: Exception, progress: str) -> EndpointError:
        if isinstance(error, httpx.TimeoutException):
            what = f"silent for {self.timeout:g} s (--timeout) {progress}"
        elif isinstance(error, httpx.ConnectError):
            what = f"cannot be reached: {_reason(error)}; is the server up?"
        elif progress:
            what = f"the connection was closed in mid-stream, {progress}"
        else:
            what = f"the connection broke: {_reason(error)}"
        return EndpointError(f"{url}: {what.rstrip()}", passing=not isinstance(error, httpx.ConnectError))


async def gathered(coroutines: list[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order. After the first fault the others are cancelled, and it is raised alone."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _events(parts: list[Part]) -> int:
    """Events that came whole."""
    return sum(line.startswith(b"data:") for line in b"".join(piece for _, piece in parts).split(b"\n")[:-1])


def _reason(error: BaseException) -> str:
    """The words of the system's own error at the bottom of the chain, if there is one."""
    said = " ".join(str(error).split()).rstrip(".") or "closed by the server"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if isinstance(cause, OSError) and cause.strerror:
            said = os.strerror(cause.errno) if cause.errno is not None and cause.errno > 0 else cause.strerror
        cause = cause.__cause__ or cause.__context__
    return said[:1].lower() + said[1:]
