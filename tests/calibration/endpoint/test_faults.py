"""What the command says of servers that misbehave, over real sockets: one line, exit code 2, and no file."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from calibration.cli import app as command
from sim import profiles
from tests.calibration.endpoint.engine import App, Engine
from tests.calibration.endpoint.servers import Handler, answer, listening, serving

runner = CliRunner()
MODELS = json.dumps(
    {"object": "list", "data": [{"id": "m", "max_model_len": 2048}, {"id": "lora", "parent": "m"}]}
).encode()
STREAM = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
COUNTED = b'data: {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": %d}}\n\ndata: [DONE]\n\n'


def calibrated(url: str, out: Path, *options: str) -> Result:
    return runner.invoke(command, ["endpoint", url, "-o", str(out), "--budget", "20s", *options])


def fault(result: Result, out: Path) -> str:
    """The only line on stderr of a command that failed as it should."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert not out.exists()
    return lines[0]


def models_then(completion: Callable[[bytes], bytes]) -> Handler:
    """A server that lists its model, and answers prompts with those bytes and the end of the connection."""

    async def handle(method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if path == "/v1/models":
            writer.write(answer(200, MODELS))
        elif path == "/v1/completions":
            writer.write(completion(body))
            await writer.drain()
            writer.close()
        else:
            writer.write(answer(404, b'{"detail": "Not Found"}'))
        await writer.drain()

    return handle


def tokens(body: bytes, count: int) -> bytes:
    """Events of that many tokens."""
    return b"".join(b'data: {"choices": [{"text": "x", "finish_reason": null}]}\n\n' for _ in range(count))


def test_a_server_that_is_down(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        line = fault(calibrated(url, tmp_path / "p.json"), tmp_path / "p.json")
    assert line == f"{url}/models: cannot be reached: connection refused; is the server up?"
    assert not list(tmp_path.iterdir())  # no journal of nothing


def test_a_url_that_is_not_the_root_of_an_api(tmp_path: Path) -> None:
    with listening(serving(App(Engine()))) as url:
        line = fault(calibrated(f"{url}/completions", tmp_path / "p.json"), tmp_path / "p.json")
    assert (
        "/v1/completions/v1/models: HTTP 404: Not Found (give the root of the OpenAI API, as in http://localhost:8000/v1)"
        in line
    )


def test_a_server_that_is_silent(tmp_path: Path) -> None:
    async def silent(method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if path == "/v1/models":
            writer.write(answer(200, MODELS))
        await writer.drain()

    with listening(silent) as url:
        line = fault(calibrated(url, tmp_path / "p.json", "--timeout", "300ms"), tmp_path / "p.json")
    assert line == f"{url}/completions: silent for 0.3 s (--timeout)"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            401,
            {"error": {"message": "Unauthorized"}},
            "HTTP 401: Unauthorized (a key is taken from the environment variable named by --api-key-env)",
        ),
        (429, {"error": {"message": "Rate limit reached"}}, "HTTP 429: Rate limit reached"),
        (500, {"object": "error", "message": "CUDA out of memory"}, "HTTP 500: CUDA out of memory"),
        (503, {"detail": "engine is dead"}, "HTTP 503: engine is dead"),
        (400, {"error": "no"}, "HTTP 400: no"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(tmp_path: Path, status: int, body: object, said: str) -> None:
    with listening(models_then(lambda _: answer(status, json.dumps(body).encode()))) as url:
        line = fault(calibrated(url, tmp_path / "p.json"), tmp_path / "p.json")
    assert line.startswith(url)
    assert line.endswith(said)


def test_a_key_goes_with_every_request_and_is_taken_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    line = fault(calibrated("http://127.0.0.1:1", tmp_path / "p.json", "--api-key-env", "MY_KEY"), tmp_path / "p.json")
    assert line == "--api-key-env: the environment has no variable 'MY_KEY'"


def test_a_stream_that_stops_in_its_midst(tmp_path: Path) -> None:
    with listening(models_then(lambda body: STREAM + tokens(body, 3))) as url:
        line = fault(calibrated(url, tmp_path / "p.json"), tmp_path / "p.json")
    assert line == f"{url}/completions: the stream stopped after 3 of 8 tokens, without its end"


def test_a_connection_that_is_closed_in_the_midst_of_a_chunk(tmp_path: Path) -> None:
    head = STREAM.replace(b"connection: close", b"transfer-encoding: chunked")
    event = tokens(b"", 2)
    with listening(models_then(lambda _: head + b"%x\r\n" % len(event) + event + b"\r\n40\r\ndata: {")) as url:
        line = fault(calibrated(url, tmp_path / "p.json"), tmp_path / "p.json")
    assert line == f"{url}/completions: the connection was closed in mid-stream, after 2 of 8 tokens"


def test_streams_without_token_counts(tmp_path: Path) -> None:
    with listening(models_then(lambda body: STREAM + tokens(body, 8) + b"data: [DONE]\n\n")) as url:
        line = fault(calibrated(url, tmp_path / "p.json"), tmp_path / "p.json")
    assert "no token counts: it must heed stream_options.include_usage" in line


@pytest.mark.parametrize(
    ("came", "said"),
    [
        (5, "took ignore_eos but does not heed it: asked for 8 tokens, got 5 (finish: None)"),
        (11, "does not heed max_tokens: asked for 8, got 11"),
    ],
)
def test_outputs_of_another_length_than_asked_for(tmp_path: Path, came: int, said: str) -> None:
    with listening(models_then(lambda body: STREAM + tokens(body, came) + COUNTED % came)) as url:
        line = fault(calibrated(url, tmp_path / "p.json"), tmp_path / "p.json")
    assert line == f"{url}/completions: {said}"


def test_a_web_page_instead_of_an_api(tmp_path: Path) -> None:
    async def page(method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, b"<!doctype html><title>Welcome</title>", "text/html"))
        await writer.drain()

    with listening(page) as url:
        line = fault(calibrated(url, tmp_path / "p.json"), tmp_path / "p.json")
    assert (
        line
        == f"{url}/models: a web page, not the API: give the root of the OpenAI API, as in http://localhost:8000/v1"
    )


def test_something_else_than_a_list_of_models(tmp_path: Path) -> None:
    async def other(method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, b'{"status": "ok"}'))
        await writer.drain()

    with listening(other) as url:
        line = fault(calibrated(url, tmp_path / "p.json"), tmp_path / "p.json")
    assert line.startswith(f"{url}/models: is not a list of models: ")


def test_a_model_that_is_not_served(tmp_path: Path) -> None:
    with listening(models_then(lambda _: b"")) as url:
        line = fault(calibrated(url, tmp_path / "p.json", "--model", "lorra"), tmp_path / "p.json")
    assert line == f"{url}/models: does not serve the model 'lorra' (did you mean 'lora'?)"


def test_an_answer_that_comes_whole_instead_of_in_a_stream(tmp_path: Path) -> None:
    whole = json.dumps({"choices": [{"text": "x x x"}], "usage": {"prompt_tokens": 8, "completion_tokens": 3}}).encode()
    with listening(models_then(lambda _: answer(200, whole))) as url:
        line = fault(calibrated(url, tmp_path / "p.json"), tmp_path / "p.json")
    assert (
        line
        == f"{url}/completions: does not stream: it answered stream: true with application/json, the whole answer at once"
    )


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--budget", "soon", "--budget: 'soon' is not a duration"),
        ("--budget", "0", "--budget: must be more than nothing, not '0'"),
        ("--timeout", "-3", "--timeout: '-3' is not a duration"),
        ("--gpu", "h100", "did you mean 'h100-"),
        ("--architecture", "llama-3.1-8c", "did you mean 'llama-3.1-8b'"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, option: str, value: str, said: str) -> None:
    line = fault(calibrated("http://127.0.0.1:1", tmp_path / "p.json", option, value), tmp_path / "p.json")
    assert said in line


def test_a_good_server_is_calibrated_and_its_mix_written(tmp_path: Path) -> None:
    quick = Engine(seconds=lambda chunks, contexts: 2e-3 + 1e-5 * sum(q for q, _ in chunks), host=2e-4)
    out = tmp_path / "p.json"
    options = ["--max-concurrency", "4", "--budget", "8s", "--requests-out", str(tmp_path / "mix.csv"), "--json"]
    options += ["--architecture", "llama-40m"]
    with listening(serving(App(quick, max_model_len=256))) as url:
        result = calibrated(url, out, *options)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)["observations"]
    made = profiles.load(out)
    assert made.model == "llama-40m"
    assert made.hardware is not None
    assert made.served is not None
    assert made.served.max_model_len == 256
    assert made.steps.tokens.parts["fixed and tokens"].us[0] > 0.0
    assert {sample["decodes"] for sample in shown["samples"]} >= {1, 4}
    assert shown["facts"]["model"] == "m"
    assert (tmp_path / "mix.csv").read_text().startswith("sent_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mix.csv", "p.json"]  # the journal is done with


def test_a_server_whose_model_nobody_knows_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    quick = Engine(seconds=lambda chunks, contexts: 2e-3, host=2e-4)
    out = tmp_path / "p.json"
    with listening(serving(App(quick, max_model_len=256))) as url:
        result = calibrated(url, out)
    assert result.exit_code == 2
    assert result.stderr.strip() == (
        "the server's model 'm' is not in the catalog: say what it is with --architecture NAME or config.json"
    )
    assert not list(tmp_path.iterdir())


def test_a_server_elsewhere_needs_its_gpu(tmp_path: Path) -> None:
    result = calibrated("http://10.1.2.3:8000/v1", tmp_path / "p.json")
    assert result.exit_code == 2
    assert result.stderr.strip() == "--gpu: say on which GPU http://10.1.2.3:8000/v1 runs (twinfer catalog gpus)"
    assert not list(tmp_path.iterdir())
