"""What a client learns of a server, and what it sends it."""

from __future__ import annotations

import httpx
import pytest

from calibration.endpoint.client import Client
from calibration.endpoint.faults import EndpointError
from tests.calibration.endpoint.engine import App, Engine, Memory, VirtualLoop, seconds


def client(app: App, url: str = "http://fake/v1", model: str | None = None) -> Client:
    return Client(url, model=model, transport=Memory(app), loop_factory=VirtualLoop)


@pytest.mark.parametrize("url", ["http://fake", "http://fake/", "http://fake/v1", "http://fake/v1/"])
def test_the_root_of_the_server_or_of_its_api_will_do(url: str) -> None:
    with client(App(Engine()), url) as found:
        assert (found.served.model, found.served.max_model_len) == ("m", 2048)


def test_a_reply_has_the_times_of_the_engine_on_the_clock_of_the_loop() -> None:
    with client(App(Engine(host=0.0))) as found:
        reply = found.run(found.send(found.prepare(100, 3)))
    first = seconds([(100, 0)], [])
    assert reply.ttft == pytest.approx(first)
    assert reply.times - reply.sent == pytest.approx(
        [first, first + seconds([], [100]), first + seconds([], [100]) + seconds([], [101])]
    )
    assert (reply.prompt, reply.output, reply.exact) == (100, 3, True)


def test_prompts_are_token_ids_never_twice_the_same_and_outputs_of_exactly_so_many_tokens() -> None:
    app = App(Engine())
    with client(app) as found:
        for _ in range(5):
            found.run(found.send(found.prepare(32, 2)))
    sent = [body["prompt"] for body in app.bodies[-5:]]
    assert all(len(prompt) == 32 for prompt in sent)
    assert len({tuple(prompt[:16]) for prompt in sent}) == 5
    body = app.bodies[-1]
    assert (body["max_tokens"], body["min_tokens"], body["ignore_eos"], body["temperature"]) == (2, 2, True, 0)
    assert body["stream_options"] == {"include_usage": True}


def test_fields_that_a_server_refuses_are_left_out_and_said() -> None:
    app = App(Engine(), refuses=("return_token_ids", "min_tokens"))
    with client(app) as found:
        reply = found.run(found.send(found.prepare(16, 4)))
        assert found.dialect.extras == ("ignore_eos",)
        assert [note.rpartition(" ")[2] for note in found.dialect.notes] == ["return_token_ids", "min_tokens"]
    assert reply.exact  # an event a token


@pytest.mark.parametrize("chat", [False, True])
def test_where_token_ids_are_refused_text_is_sent_of_as_many_tokens_as_the_server_will_count(chat: bool) -> None:
    app = App(Engine(), ids=False, chat_only=chat)  # counts two tokens a word and five around them
    with client(app) as found:
        assert (found.dialect.per_word, found.dialect.around) == (2.0, 5.0)
        assert found.dialect.shortest == 7
        replies = [found.run(found.send(found.prepare(tokens, 1))) for tokens in (7, 25, 1001)]
    assert [reply.prompt for reply in replies] == [7, 25, 1001]
    assert any("as it counts them" in note or "/chat/completions" in note for note in found.dialect.notes)


def test_a_small_vocabulary_is_found() -> None:
    with client(App(Engine(), vocabulary=1000)) as found:
        assert found.dialect.vocabulary <= 1000


@pytest.mark.parametrize(
    ("app", "model", "message"),
    [
        (
            App(Engine(), model="llama-3.1-8b"),
            "llama-3.1-8c",
            r"does not serve the model 'llama-3.1-8c' \(did you mean 'llama-3.1-8b'\?\)",
        ),
        (App(Engine(), model="m"), "gpt", r"does not serve the model 'gpt' \(it serves m\)"),
        (
            App(Engine(), usage=False, token_ids=False),
            None,
            "no token counts: it must heed stream_options.include_usage",
        ),
        (App(Engine(), buffered=True), None, "8 tokens came at once.*holds the stream back"),
    ],
)
def test_a_server_that_cannot_be_calibrated_is_refused_at_once(app: App, model: str | None, message: str) -> None:
    with pytest.raises(EndpointError, match=message), client(app, model=model):
        pass


def test_the_key_goes_with_every_request() -> None:
    seen: list[str | None] = []

    class Noting(Memory):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request.headers.get("authorization"))
            return await super().handle_async_request(request)

    with Client("http://fake", key="sk-1", transport=Noting(App(Engine())), loop_factory=VirtualLoop):
        pass
    assert len(seen) >= 2
    assert set(seen) == {"Bearer sk-1"}


def test_a_url_without_a_scheme_is_refused() -> None:
    with pytest.raises(EndpointError, match="localhost:8000: must start with http:// or https://"):
        Client("localhost:8000")


def test_a_stream_that_breaks_off_may_go_well_another_time() -> None:
    app = App(Engine(), breaking={2})
    with client(app) as found:
        with pytest.raises(EndpointError, match="closed in mid-stream, after 1 of 5 tokens") as caught:
            found.run(found.send(found.prepare(8, 5)))
        assert caught.value.passing
        assert found.run(found.send(found.prepare(8, 5))).output == 5
