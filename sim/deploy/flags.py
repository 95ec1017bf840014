"""vLLM's command line for what was simulated.

Written always: what depends on the GPU, on the model or on vLLM's version when it is left out. Written where it differs from
vLLM's default: everything else. Names and defaults: vLLM 0.33 (vllm/engine/arg_utils.py, vllm/config/), checked against the
options of 0.32 as it is installed (tests/data/k8s/vllm_flags.json).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from sim.errors import ConfigError

if TYPE_CHECKING:
    from sim.deploy.plan import Plan

__all__ = ["Flag", "arguments", "command", "flags"]

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_KV_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp8": "fp8", "int8": "int8_per_token_head", "nvfp4": "nvfp4"}


@dataclass(frozen=True)
class Flag:
    """One option: its name without dashes, its value (empty: it takes none), and why it is written."""

    name: str
    value: str = ""
    why: str = "differs from vLLM's default"

    @property
    def words(self) -> list[str]:
        """As words of a command line."""
        return [f"--{self.name}", *([self.value] if self.value else [])]


def flags(plan: Plan) -> list[Flag]:
    """The options of ``vllm serve``, in a fixed order. ConfigError where the engine has none for what was simulated."""
    settings, engine, found = plan.placed.settings, plan.engine, list[Flag]()

    def add(name: str, value: object = "", why: str = "differs from vLLM's default") -> None:
        found.append(Flag(name, str(value), why))

    add("served-model-name", plan.deployment.model, "clients name the model as the scenario does")
    if plan.model.dtype in _DTYPES:
        add("dtype", _DTYPES[plan.model.dtype], "the default is the checkpoint's")
    elif plan.model.dtype == "fp8" and plan.architecture.native_dtype != "fp8":
        add("quantization", "fp8", "the checkpoint has 16 bits: weights are quantised as they are loaded")
    if plan.model.kv_dtype != "auto":
        add("kv-cache-dtype", _kv_dtype(plan))
    add("tensor-parallel-size", plan.gpus, "always written")
    add("max-model-len", settings.max_model_len, "the default is the checkpoint's")
    add("max-num-seqs", settings.max_num_seqs, "the default depends on the GPU and the version")
    add("max-num-batched-tokens", settings.max_num_batched_tokens, "the default depends on the GPU and the version")
    add("gpu-memory-utilization", f"{engine.gpu_memory_utilization:g}", "the default was 0.9 before 0.92")
    if settings.block_size != 16:
        add("block-size", settings.block_size)
    if engine.kv_blocks is not None:
        add("num-gpu-blocks-override", settings.kv_blocks, "the scenario, or the measured server, says how many")
    if not settings.enable_chunked_prefill:
        add("no-enable-chunked-prefill")
    if settings.long_prefill_token_threshold:
        add("long-prefill-token-threshold", settings.long_prefill_token_threshold)
    if settings.policy != "fcfs":
        add("scheduling-policy", settings.policy)
    if not settings.reserve_full_isl:
        add("no-scheduler-reserve-full-isl")
    if settings.watermark:
        add("watermark", f"{settings.watermark:g}")
    if not settings.async_scheduling:
        add("no-async-scheduling")
    if plan.deployment.drain.grace:
        add("shutdown-timeout", ceil(plan.deployment.drain.grace), "the default, 0, drops what runs on SIGTERM")
    return found


def _kv_dtype(plan: Plan) -> str:
    given = plan.model.kv_dtype
    if given not in _KV_DTYPES:
        known = ", ".join(sorted(_KV_DTYPES))
        problem = plan.scenario.problem(
            ("models", plan.deployment.model, "kv_dtype"), f"vLLM has no KV cache in {given}; it has {known}"
        )
        raise ConfigError([problem])
    return _KV_DTYPES[given]


def arguments(plan: Plan) -> list[str]:
    """The words after ``vllm serve``: the checkpoint, then the options."""
    return [plan.checkpoint, *(word for flag in flags(plan) for word in flag.words)]


def command(plan: Plan) -> str:
    """The command as a shell script for a person to read, an option a line with the reason beside it."""
    lines = [f"vllm serve {shlex.quote(plan.checkpoint)}"]
    lines += ["  " + " ".join(shlex.quote(word) for word in flag.words) for flag in flags(plan)]
    reasons = [f"#   --{flag.name}: {flag.why}" for flag in flags(plan)]
    title = f"# {plan.deployment.name}: one replica, on {plan.gpus} x {plan.placed.gpu}. Why each option is there:"
    return "\n".join(["#!/bin/sh", title, *reasons, "exec " + " \\\n".join(lines)]) + "\n"
