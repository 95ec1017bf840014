"""A serving engine with known step times and an OpenAI server of it, which the calibration of endpoints is tested against.

The engine schedules as vLLM V1 does: running requests first, then waiting ones, under a token budget and a limit of requests, one step at
a time. A step takes exactly ``seconds(chunks, contexts)``. On a :class:`VirtualLoop` its time is exact, and costs none.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

Chunk = tuple[int, int]
"""Tokens of a prompt in a step, and those before them."""


def seconds(chunks: list[Chunk], contexts: list[int]) -> float:
    """5 ms, 0.1 ms a token, 0.5 ms a request, attention by work and by context; the times all tests expect."""
    tokens = sum(q for q, _ in chunks) + len(contexts)
    work = sum(q * (2 * p + q) for q, p in chunks)
    return 5e-3 + 1e-4 * tokens + 5e-4 * (len(chunks) + len(contexts)) + 1e-7 * work + 1e-6 * sum(contexts)


@dataclass(eq=False)
class Sequence:
    prompt: int
    output: int
    computed: int = 0
    produced: int = 0
    tokens: asyncio.Queue[int] = field(default_factory=asyncio.Queue)


@dataclass
class Engine:
    """``host`` seconds pass between steps. ``apart``: prompts run in steps of their own, before any decode, as SGLang does."""

    budget: int = 256
    seats: int = 16
    host: float = 1e-3
    apart: bool = False
    seconds: Callable[[list[Chunk], list[int]], float] = seconds
    running: list[Sequence] = field(default_factory=list)
    waiting: deque[Sequence] = field(default_factory=deque)
    finished: int = 0
    preemptions: int = 0
    log: list[tuple[list[Chunk], list[int]]] = field(default_factory=list)
    awake: asyncio.Event | None = None
    task: asyncio.Task[None] | None = None

    def submit(self, prompt: int, output: int) -> Sequence:
        sequence = Sequence(prompt, output)
        self.waiting.append(sequence)
        if self.task is None:
            self.awake = asyncio.Event()
            self.task = asyncio.get_running_loop().create_task(self.run())
        assert self.awake is not None
        self.awake.set()
        return sequence

    async def run(self) -> None:
        assert self.awake is not None
        while True:
            if not self.running and not self.waiting:
                self.awake.clear()
                await self.awake.wait()
            granted = self.schedule()
            chunks = [(q, s.computed) for s, q in granted if s.computed < s.prompt]
            contexts = [s.computed for s, _ in granted if s.computed >= s.prompt]
            await asyncio.sleep(self.seconds(chunks, contexts))
            self.log.append((chunks, contexts))
            for sequence, tokens in granted:
                sequence.computed += tokens
                if sequence.computed >= sequence.prompt:
                    sequence.produced += 1
                    sequence.tokens.put_nowait(1)
                    if sequence.produced == sequence.output:
                        self.running.remove(sequence)
                        self.finished += 1
            await asyncio.sleep(self.host)

    def schedule(self) -> list[tuple[Sequence, int]]:
        left = self.budget
        granted = []
        while self.waiting and len(self.running) < self.seats:
            self.running.append(self.waiting.popleft())
        prompts_wait = any(s.computed < s.prompt for s in self.running)
        for sequence in self.running:
            decoding = sequence.computed >= sequence.prompt
            if self.apart and prompts_wait and decoding:
                continue
            tokens = 1 if decoding else min(sequence.prompt - sequence.computed, left)
            if tokens <= left and tokens > 0:
                granted.append((sequence, tokens))
                left -= tokens
        return granted


@dataclass
class App:
    """The HTTP side. Fields are what a server may or may not do."""

    engine: Engine
    model: str = "m"
    max_model_len: int | None = 2048
    metrics: bool = True
    ids: bool = True
    token_ids: bool = True
    usage: bool = True
    refuses: tuple[str, ...] = ()
    chat_only: bool = False
    vocabulary: int = 8000
    kv_tokens: int | None = 100_000
    several: int = 1
    buffered: bool = False
    others: int = 0  # requests of others that run all the time
    intruders: int = 0  # requests of others that have ended whenever the metrics are read
    cached: int = 0
    started: float = 1.79542528521e9
    delay: float = 0.0
    breaking: set[int] = field(default_factory=set)  # numbers of the requests whose streams break off after a token
    bodies: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, method: str, path: str, body: bytes) -> tuple[int, str, AsyncIterator[bytes]]:
        """Status, content type and content."""
        await asyncio.sleep(self.delay)
        if path == "/v1/models":
            row = {"id": self.model, "object": "model", "owned_by": "vllm", "max_model_len": self.max_model_len}
            return _json(200, {"object": "list", "data": [row]})
        if path == "/metrics" and self.metrics:
            return 200, "text/plain; version=0.0.4", _one(self._metrics().encode())
        if path == ("/v1/chat/completions" if self.chat_only else "/v1/completions"):
            return self._completion(json.loads(body))
        return _json(404, {"detail": "Not Found"})

    def _completion(self, body: dict[str, Any]) -> tuple[int, str, AsyncIterator[bytes]]:
        self.bodies.append(body)
        named = [name for name in self.refuses if name in body]
        if named:
            return _json(400, {"error": {"message": f"Unrecognized request argument supplied: {named[0]}"}})
        prompt = body["messages"][0]["content"] if self.chat_only else body["prompt"]
        if isinstance(prompt, list):
            if not self.ids:
                return _json(422, {"error": "prompt: invalid type: sequence, expected a string"})
            if max(prompt) >= self.vocabulary:
                return _json(400, {"error": {"message": f"Token id {max(prompt)} is out of vocabulary"}})
            tokens = len(prompt)
        else:
            tokens = 2 * len(prompt.split()) + 5
        if self.max_model_len and tokens + body["max_tokens"] > self.max_model_len:
            said = f"maximum context length is {self.max_model_len} tokens"
            return _json(400, {"object": "error", "message": said, "code": 400})
        stream = self._stream(tokens, body)
        return 200, "text/event-stream; charset=utf-8", _buffered(stream) if self.buffered else stream

    async def _stream(self, prompt: int, body: dict[str, Any]) -> AsyncIterator[bytes]:
        sequence = self.engine.submit(prompt, body["max_tokens"])
        left = body["max_tokens"]
        number = len(self.bodies)
        if self.chat_only:
            yield _event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        first = True
        while left:
            count = 1 if first else min(self.several, left)
            for _ in range(count):
                await sequence.tokens.get()
            left -= count
            first = False
            choice: dict[str, Any] = {"index": 0, "finish_reason": None if left else "length"}
            choice |= {"delta": {"content": " x" * count}} if self.chat_only else {"text": " x" * count}
            if self.token_ids and body.get("return_token_ids"):
                choice["token_ids"] = [7] * count
            yield _event({"choices": [choice]})
            if number in self.breaking:
                raise httpx.ReadError("")
        if self.usage and body.get("stream_options", {}).get("include_usage"):
            total = body["max_tokens"]
            counts = {"prompt_tokens": prompt, "completion_tokens": total}
            details = {"prompt_tokens_details": {"cached_tokens": self.cached}} if self.cached else {}
            yield _event({"choices": [], "usage": counts | details})
        yield b"data: [DONE]\n\n"

    def _metrics(self) -> str:
        engine = self.engine
        engine.finished += self.intruders
        label = '{engine="0",model_name="m"}'
        cache = f'block_size="16",enable_prefix_caching="False",num_gpu_blocks="{(self.kv_tokens or 0) // 16}"'
        return "\n".join(
            [
                "# HELP vllm:num_requests_running Number of requests in model execution batches.",
                f"vllm:num_requests_running{label} {float(len(engine.running) + self.others)}",
                f"vllm:num_requests_waiting{label} {float(len(engine.waiting))}",
                f"vllm:num_preemptions_total{label} {float(engine.preemptions)}",
                f'vllm:request_success_total{{engine="0",finished_reason="length",model_name="m"}} {float(engine.finished)}',
                f"vllm:cache_config_info{{{cache}}} 1.0",
                f"process_start_time_seconds {self.started}",
            ]
        )


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _buffered(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b"".join([piece async for piece in content])


def _json(status: int, data: Any) -> tuple[int, str, AsyncIterator[bytes]]:
    return status, "application/json", _one(json.dumps(data).encode())


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when there is nothing to do: simulated time, exact and at once."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 1000.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            ready = select(0)
            if not ready:
                assert timeout is not None, "everything waits for something that will not happen"
                self.clock += timeout
            return ready

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.clock


class Memory(httpx.AsyncBaseTransport):
    """Requests handed to an app in the same loop, without sockets."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status, kind, content = await self.app(request.method, request.url.path, await request.aread())
        return httpx.Response(status, headers={"content-type": kind}, stream=_Stream(content))


class _Stream(httpx.AsyncByteStream):
    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.content:
            yield piece
