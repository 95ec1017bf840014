"""What a server says of itself beside the API: Prometheus metrics of vLLM, SGLang and TGI, and the settings that SGLang and TGI tell."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from calibration.endpoint.client import Client
from calibration.endpoint.faults import EndpointError

__all__ = ["Metrics", "Settings", "metrics", "parsed", "settings"]

_LINE: Final = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
Samples = dict[str, list[tuple[dict[str, str], float]]]

_RUNNING: Final = ("vllm:num_requests_running", "sglang:num_running_reqs", "tgi_batch_current_size")
_WAITING: Final = ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "tgi_queue_size")
_FINISHED: Final = ("vllm:request_success_total", "sglang:num_requests_total", "tgi_request_count")
_PREEMPTIONS: Final = ("vllm:num_preemptions_total", "sglang:num_retracted_requests_total", "sglang:num_retracted_reqs")
_ENGINES: Final = ("vllm", "sglang", "tgi")


@dataclass(frozen=True)
class Metrics:
    """A reading of ``/metrics``. Counts are sums over ``replicas`` engines; None where the server has no such metric.

    ``finished`` requests and ``preemptions`` count from the start of the process, at ``started`` (seconds of Unix time).
    """

    engine: str | None
    replicas: int
    running: int | None
    waiting: int | None
    finished: int | None
    preemptions: int | None
    kv_tokens: int | None
    block_tokens: int | None
    prefix_cache: bool | None
    started: float | None

    @property
    def busy(self) -> int:
        """Requests that are there now."""
        return (self.running or 0) + (self.waiting or 0)


@dataclass(frozen=True)
class Settings:
    """What SGLang's and TGI's own routes tell of how they are set; None where they do not."""

    version: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    token_budget: int | None = None
    kv_tokens: int | None = None


def parsed(text: str) -> Samples:
    """Prometheus' text format: values with their labels, by name. Lines that are none are left out."""
    found: Samples = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _LINE.match(line)
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        found.setdefault(match[1], []).append((dict(_LABEL.findall(match[2] or "")), value))
    return found


async def metrics(client: Client) -> Metrics | None:
    """The server's metrics now; None where it has none that are known."""
    try:
        status, _, content = await client.get("/metrics", root=True)
    except EndpointError:
        return None
    return _read(parsed(content.decode("utf-8", "replace"))) if status == 200 else None


def _read(found: Samples) -> Metrics | None:
    engine = next((name for name in _ENGINES if any(key.startswith((f"{name}:", f"{name}_")) for key in found)), None)
    if engine is None:
        return None

    def total(names: tuple[str, ...]) -> int | None:
        rows = next((found[name] for name in names if name in found), None)
        return None if rows is None else round(sum(value for _, value in rows))

    cache = next((labels for labels, _ in found.get("vllm:cache_config_info", [])), {})
    block = _whole(cache.get("block_size")) or total(("sglang:page_size",))
    blocks = _whole(cache.get("num_gpu_blocks"))
    kv = _whole(cache.get("kv_cache_size_tokens")) or (blocks * block if blocks and block else None)
    prefix = {"True": True, "False": False}.get(cache.get("enable_prefix_caching", ""))
    running = next((found[name] for name in _RUNNING if name in found), [])
    started = found.get("process_start_time_seconds")
    return Metrics(
        engine=engine,
        replicas=max(1, len({labels.get("engine", labels.get("dp_rank", "0")) for labels, _ in running})),
        running=total(_RUNNING),
        waiting=total(_WAITING),
        finished=total(_FINISHED),
        preemptions=total(_PREEMPTIONS),
        kv_tokens=kv or total(("sglang:max_total_num_tokens",)),
        block_tokens=block,
        prefix_cache=prefix,
        started=started[0][1] if started else None,
    )


async def settings(client: Client) -> Settings:
    """What the server tells of its settings: vLLM its version, SGLang and TGI limits too."""
    vllm = await _object(client, "/version")
    sglang = await _object(client, "/server_info") or await _object(client, "/get_server_info")
    if "chunked_prefill_size" in sglang:
        return Settings(
            version=f"SGLang {sglang.get('version', '')}".strip(),
            max_model_len=_whole(sglang.get("context_length")),
            max_num_seqs=_whole(sglang.get("max_running_requests")),
            token_budget=_whole(sglang.get("chunked_prefill_size")),
            kv_tokens=_whole(sglang.get("max_total_num_tokens")),
        )
    tgi = await _object(client, "/info")
    if "max_total_tokens" in tgi:
        return Settings(
            version=f"TGI {tgi.get('version', '')}".strip(),
            max_model_len=_whole(tgi["max_total_tokens"]),
            kv_tokens=_whole(tgi.get("max_batch_total_tokens")),
        )
    return Settings(version=f"vLLM {vllm['version']}") if "version" in vllm else Settings()


async def _object(client: Client, path: str) -> dict[str, Any]:
    try:
        status, _, content = await client.get(path, root=True)
        found = json.loads(content) if status == 200 else None
    except (EndpointError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _whole(value: Any) -> int | None:
    """A positive whole number, or None."""
    try:
        found = int(value)
    except (TypeError, ValueError):
        return None
    return found if found > 0 else None
