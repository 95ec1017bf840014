"""What servers say of themselves."""

from __future__ import annotations

import httpx

from calibration.endpoint.client import Client
from calibration.endpoint.metrics import Metrics, Settings, metrics, parsed, settings
from tests.calibration.endpoint.engine import App, Engine, Memory, VirtualLoop
from tests.paths import shared


class _Pages(Memory):
    """The fake server, and other pages of it."""

    def __init__(self, pages: dict[str, str]) -> None:
        super().__init__(App(Engine(), metrics=False))
        self.pages = pages

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        page = self.pages.get(request.url.path)
        return await super().handle_async_request(request) if page is None else httpx.Response(200, text=page)


def read(pages: dict[str, str]) -> tuple[Metrics | None, Settings]:
    with Client("http://fake", transport=_Pages(pages), loop_factory=VirtualLoop) as client:
        return client.run(metrics(client)), client.run(settings(client))


def test_lines_are_read_with_labels_and_without_and_others_left_out() -> None:
    text = '# TYPE a counter\na{x="1",y="say \\"hi\\""} 2.0\na{x="2"} 3\nb 1e3\nc NaN 17\nnot a line\n'
    found = parsed(text)
    assert found["a"] == [({"x": "1", "y": 'say \\"hi\\"'}, 2.0), ({"x": "2"}, 3.0)]
    assert found["b"] == [({}, 1000.0)]
    assert set(found) == {"a", "b", "c"}


def test_vllm_says_its_cache_its_requests_and_its_preemptions() -> None:
    text = shared("truth", "vllm-0.32_cpu_llama-40m", "metrics.txt").read_text()
    found, told = read({"/metrics": text, "/version": '{"version": "0.32.0"}'})
    assert found == Metrics(
        engine="vllm",
        replicas=1,
        running=0,
        waiting=0,
        finished=1406,  # 1406 requests by vllm:request_success_total
        preemptions=0,
        kv_tokens=819 * 128,  # vllm-cpu.md: 819 blocks of 128 tokens
        block_tokens=128,
        prefix_cache=False,
        started=1.79542528521e9,
    )
    assert told == Settings(version="vLLM 0.32.0")


def test_sglang_says_its_limits_in_its_server_info() -> None:
    text = "\n".join(
        [
            'sglang:num_running_reqs{model_name="m"} 2.0',
            'sglang:num_queue_reqs{model_name="m"} 1.0',
            'sglang:max_total_num_tokens{model_name="m"} 300352.0',
            'sglang:page_size{model_name="m"} 1.0',
        ]
    )
    info = (
        '{"chunked_prefill_size": 8192, "max_running_requests": 48, "max_total_num_tokens": 300352, "version": "0.5.3"}'
    )
    found, told = read({"/metrics": text, "/get_server_info": info})
    assert found is not None
    assert (found.engine, found.busy, found.kv_tokens, found.finished) == ("sglang", 3, 300352, None)
    assert told == Settings("SGLang 0.5.3", None, 48, 8192, 300352)


def test_tgi_says_its_limits_in_its_info() -> None:
    text = "tgi_batch_current_size 4\ntgi_queue_size 0\ntgi_request_count 17\n"
    info = '{"version": "3.3.4", "max_total_tokens": 4096, "max_batch_total_tokens": 65536}'
    found, told = read({"/metrics": text, "/info": info})
    assert found is not None
    assert (found.engine, found.busy, found.finished) == ("tgi", 4, 17)
    assert told == Settings("TGI 3.3.4", 4096, None, None, 65536)


def test_several_engines_behind_one_address_are_counted() -> None:
    found, _ = read({"/metrics": 'vllm:num_requests_running{engine="0"} 1\nvllm:num_requests_running{engine="1"} 2\n'})
    assert found is not None
    assert (found.replicas, found.running) == (2, 3)


def test_a_server_without_known_metrics_has_none() -> None:
    assert read({}) == (None, Settings())
    assert read({"/metrics": "go_goroutines 12\n"}) == (None, Settings())
