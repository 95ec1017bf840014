"""What came back for one prompt: server-sent events, and when each token of them came."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.endpoint.faults import EndpointError, message

__all__ = ["Part", "Reply", "read"]

Floats = npt.NDArray[np.float64]
Part = tuple[float, bytes]
"""When some bytes came, and the bytes."""


@dataclass(frozen=True, eq=False)
class Reply:
    """One prompt of ``prompt`` tokens (as the server counts them where it says), sent at ``sent``, and the ``output`` tokens that came.

    ``times`` holds the arrival of each token, on the clock of ``sent``. They are ``exact`` where it is known which tokens came
    together; else tokens after the first are spread evenly between what came. ``chunks`` is the number of events that brought
    tokens, ``reads`` how often bytes came; ``cached`` counts prompt tokens the server had kept, None where it does not say.
    """

    prompt: int
    asked: int
    output: int
    sent: float
    times: Floats
    exact: bool
    chunks: int
    reads: int
    finish: str | None = None
    cached: int | None = None

    @property
    def ttft(self) -> float:
        """Seconds to the first token."""
        return float(self.times[0]) - self.sent

    @property
    def e2e(self) -> float:
        """Seconds to the last token."""
        return float(self.times[-1]) - self.sent


def read(parts: Sequence[Part], url: str, sent: float, prompt: int | None, asked: int) -> Reply:
    """The reply that ``parts`` of a stream add up to. ``prompt`` is the number of tokens sent, None where only the server knows.

    :raises EndpointError: the stream stopped before its end, holds an error, or says nowhere how many tokens it has.
    """
    finish: str | None = None
    usage: dict[str, Any] = {}
    events: list[tuple[float, int | None, bool]] = []  # when, tokens if it says so, whether it has text
    ended = False
    for when, data in _data(parts):
        if data == b"[DONE]":
            ended = True
            break
        event = _parsed(data, url)
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            ids = choice.get("token_ids")
            delta = choice.get("delta")
            text = choice.get("text") if delta is None else delta.get("content") or _thought(delta)
            finish = choice.get("finish_reason") or finish
            if delta is not None and "role" in delta and not text and not ids:
                continue  # chat's first event, which comes before any token
            events.append((when, None if ids is None else len(ids), bool(text)))
    if not ended and finish is None:
        raise EndpointError(
            f"{url}: the stream stopped after {len(events)} of {asked} tokens, without its end", passing=True
        )
    counted = usage.get("completion_tokens")
    known = usage.get("prompt_tokens", prompt)
    if known is None or (counted is None and any(count is None for _, count, _ in events)) or not events:
        raise EndpointError(
            f"{url}: its streams have no token counts: it must heed stream_options.include_usage (vLLM, SGLang, TGI 2.3 and "
            "later do; vLLM also has --enable-force-include-usage) or return_token_ids; without them no time is one of a known step"
        )
    times, exact, chunks = _times(events, counted)
    details = usage.get("prompt_tokens_details") or {}
    return Reply(
        prompt=int(known),
        asked=asked,
        output=len(times),
        sent=sent,
        times=times,
        exact=exact,
        chunks=chunks,
        reads=len(parts),
        finish=finish,
        cached=details.get("cached_tokens"),
    )


def _data(parts: Sequence[Part]) -> Iterator[Part]:
    """The data lines of a stream of server-sent events; each came when its last byte did."""
    rest = b""
    for when, piece in parts:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield when, line[5:].strip()
    if rest.startswith(b"data:"):
        yield parts[-1][0], rest[5:].strip()


def _parsed(data: bytes, url: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise EndpointError(f"{url}: its stream has something other than JSON objects: {message(data)!r}")
    if event.get("error") or event.get("object") == "error":
        raise EndpointError(f"{url}: failed in mid-stream: {message(data)}", passing=True)
    return event


def _thought(delta: dict[str, Any]) -> Any:
    """Text that reasoning models send apart from their answer."""
    return delta.get("reasoning_content") or delta.get("reasoning")


def _times(events: list[tuple[float, int | None, bool]], counted: int | None) -> tuple[Floats, bool, int]:
    if all(count is not None for _, count, _ in events):
        times = [when for when, count, _ in events for _ in range(count or 0)]
        if times:
            return np.array(times), True, sum(bool(count) for _, count, _ in events)
    # An event without text is a token whose bytes make no character yet, or the end: whichever makes the count right.
    every = [when for when, _, _ in events]
    texts = [when for when, _, text in events if text]
    total = len(texts) if counted is None else counted
    for times in (texts, every):
        if len(times) == total and times:
            return np.array(times), True, len(times)
    came = texts or every
    spread = np.interp(np.linspace(0.0, len(came) - 1.0, max(total, 1)), np.arange(len(came)), came)
    return np.asarray(spread), False, len(came)
