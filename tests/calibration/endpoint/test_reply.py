"""Streams of server-sent events: which tokens came when."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.endpoint.faults import EndpointError
from calibration.endpoint.reply import Part, Reply, read

URL = "http://x/v1/completions"


def event(text: str | None = "a", ids: int | None = None, **more: Any) -> bytes:
    choice: dict[str, Any] = {"text": text} | ({"token_ids": [5] * ids} if ids is not None else {}) | more
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def usage(prompt: int, output: int, **more: Any) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": output} | more
    return b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def reply(parts: list[Part], prompt: int | None = 8, asked: int = 3) -> Reply:
    return read(parts, URL, 0.0, prompt, asked)


@given(st.lists(st.integers(1, 400), max_size=12), st.booleans())
def test_a_token_came_when_the_last_byte_of_its_line_did_wherever_the_stream_was_cut(
    cuts: list[int], crlf: bool
) -> None:
    events = [event("a"), event("b"), event("c", finish_reason="length"), usage(8, 3), DONE]
    if crlf:
        events = [one.replace(b"\n", b"\r\n") for one in events]
    whole = b"".join(events)
    edges = sorted({0, *(cut % len(whole) for cut in cuts), len(whole)})
    parts = [(float(end), whole[start:end]) for start, end in pairwise(edges)]
    found = reply(parts)
    line_ends = np.cumsum([len(one) for one in events])[:3] - (2 if crlf else 1)
    expected = [next(float(edge) for edge in edges if edge >= end) for end in line_ends]
    assert found.times.tolist() == expected
    assert (found.prompt, found.output, found.exact, found.finish) == (8, 3, True, "length")


def test_token_ids_say_how_many_tokens_came_together() -> None:
    found = reply([(1.0, event(ids=1)), (2.0, event(ids=2)), (2.5, usage(8, 3) + DONE)])
    assert found.times.tolist() == [1.0, 2.0, 2.0]
    assert found.exact
    assert found.chunks == 2


def test_a_token_whose_bytes_make_no_text_yet_is_a_token() -> None:
    found = reply([(1.0, event("a")), (2.0, event("")), (3.0, event("b")), (3.1, usage(8, 3) + DONE)])
    assert found.times.tolist() == [1.0, 2.0, 3.0]
    assert found.exact


def test_an_empty_event_at_the_end_is_none() -> None:
    found = reply(
        [(1.0, event("a")), (2.0, event("b")), (3.0, event("", finish_reason="stop")), (3.1, usage(8, 2) + DONE)]
    )
    assert found.times.tolist() == [1.0, 2.0]


def test_tokens_that_come_several_at_a_time_without_ids_are_spread_and_said_to_be() -> None:
    found = reply([(1.0, event("a")), (3.0, event("b c d e")), (3.1, usage(8, 5) + DONE)], asked=5)
    assert found.times.tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert not found.exact
    assert found.chunks == 2


def test_the_role_that_chat_sends_first_is_no_token() -> None:
    def delta(**content: str) -> bytes:
        return b"data: " + json.dumps({"choices": [{"delta": content}]}).encode() + b"\n\n"

    stream = [(1.0, delta(role="assistant", content="")), (2.0, delta(content="a")), (3.0, delta(reasoning="b"))]
    found = reply([*stream, (3.1, usage(8, 2) + DONE)], prompt=None)
    assert found.times.tolist() == [2.0, 3.0]
    assert found.prompt == 8


def test_the_server_counts_the_prompt_and_what_of_it_was_cached() -> None:
    found = reply([(1.0, event()), (1.1, usage(9, 1, prompt_tokens_details={"cached_tokens": 4}) + DONE)])
    assert (found.prompt, found.cached) == (9, 4)


@pytest.mark.parametrize(
    ("parts", "message", "passing"),
    [
        ([event(), event()], "stopped after 2 of 3 tokens, without its end", True),
        ([event(), b'data: {"error": {"message": "engine died"}}\n\n'], "failed in mid-stream: engine died", True),
        ([event(), event(), event(finish_reason="length"), DONE], "no token counts", False),
        ([b"data: <html>\n\n"], "other than JSON objects: '<html>'", False),
    ],
)
def test_a_stream_that_cannot_be_used_is_said_to_be_so(parts: list[bytes], message: str, passing: bool) -> None:
    with pytest.raises(EndpointError, match=message) as caught:
        reply([(float(number), part) for number, part in enumerate(parts)])
    assert caught.value.passing is passing


def test_a_stream_that_ends_with_a_reason_needs_no_done() -> None:
    assert reply([(1.0, event(ids=1)), (2.0, event(ids=1, finish_reason="length"))], asked=2).output == 2
