"""What one replica of a deployment runs with: its profile, and vLLM's own defaults for what the scenario leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.errors import ConfigError, Problem, ProfileError
from sim.serving.settings import EngineSettings

if TYPE_CHECKING:
    from sim.catalog import Architecture, Gpu
    from sim.config import Deployment
    from sim.config.fleet import Engine, Model
    from sim.profiles import Profile

__all__ = ["as_served", "choose_profile", "engine_settings"]


def choose_profile(
    deployment: Deployment, served: Model, architecture: Architecture, gpu: Gpu, where: str, warnings: list[str]
) -> Profile:
    """The profile the deployment names, or the shipped one for its model, GPU, parallelism and dtype, or one that is predicted.

    :raises ProfileError: none is shipped, and none can be predicted.
    """
    from sim import profiles
    from sim.catalog import dtype_bytes
    from sim.perf.roofline import caution

    dtype, parallel = served.dtype, deployment.tensor_parallel
    name = deployment.profile or profiles.find(architecture.name, gpu.name, parallel, dtype) or profiles.ROOFLINE
    predicted = name == profiles.ROOFLINE
    profile = _predicted(deployment, served, architecture, gpu) if predicted else profiles.load(name)
    doubtful = caution(profile)
    if doubtful is not None:
        warnings.append(f"{where}: {doubtful}")
    model = architecture.name if profile.is_of(architecture.name) else profile.model
    for what, measured, wanted in (
        ("model", model, architecture.name),
        ("GPU", profile.gpu, gpu.name),
        ("dtype", profile.dtype, dtype),
    ):
        if measured != wanted:
            warnings.append(f"{where}: profile {profile.name} is of {what} {measured}, the deployment runs {wanted}")
    if served.kv_dtype != "auto" and dtype_bytes(profile.kv_dtype) != dtype_bytes(served.kv_dtype):
        kept = f"keeps its KV cache in {profile.kv_dtype}, the deployment in {served.kv_dtype}"
        warnings.append(f"{where}: profile {profile.name} {kept}; `profile: roofline` predicts it")
    return profile


def _predicted(deployment: Deployment, served: Model, architecture: Architecture, gpu: Gpu) -> Profile:
    from sim.perf.roofline import predict

    cache = served.kv_dtype if served.kv_dtype != "auto" else "fp16" if served.dtype == "fp16" else "bf16"
    try:
        return predict(architecture, gpu, deployment.tensor_parallel, served.dtype, cache)
    except ProfileError as error:
        if deployment.profile is not None:
            raise
        of = f"{architecture.name} on {gpu.name} at tensor_parallel {deployment.tensor_parallel}, {served.dtype}"
        raise ProfileError(f"needs profile: none is shipped for {of}, and {error}") from None


def engine_settings(
    deployment: Deployment,
    longest: int | None,
    architecture: Architecture,
    gpu: Gpu,
    profile: Profile,
    where: str,
    warnings: list[str],
) -> EngineSettings:
    """Engine settings: the scenario's, else those of the server that the profile was measured on, else vLLM's own defaults."""
    from sim.hardware.memory import kv_blocks
    from sim.serving.defaults import batch_defaults, batched_tokens_floor

    engine = as_served(deployment.engine, profile)
    tokens, seqs = batch_defaults(gpu.name, gpu.memory, engine.defaults_for)
    max_model_len = engine.max_model_len or longest or architecture.max_model_len
    asked_tokens = engine.max_num_batched_tokens
    asked_seqs = engine.max_num_seqs
    if asked_tokens is None:
        tokens = batched_tokens_floor(max(tokens, asked_seqs or 0), engine.enable_chunked_prefill, max_model_len)
    else:
        tokens = asked_tokens
    seqs = min(seqs, tokens) if asked_seqs is None else asked_seqs
    blocks = engine.kv_blocks
    if blocks is None:
        blocks = kv_blocks(
            gpu.usable_memory, engine.gpu_memory_utilization, profile.memory, tokens, engine.block_size, seqs
        )
        if blocks < 2:
            message = (
                f"{architecture.name} leaves no memory for a KV cache on {gpu.name} at tensor_parallel "
                f"{deployment.tensor_parallel} and gpu_memory_utilization {engine.gpu_memory_utilization}"
            )
            raise ConfigError([Problem(message, path=f"{where}.engine")])
    capacity = (blocks - 1) * engine.block_size
    if max_model_len > capacity:
        warnings.append(
            f"{where}: the KV cache holds {capacity:,} tokens, less than the longest request allowed "
            f"({max_model_len:,}); vLLM asks for a smaller max_model_len at start, here longer requests are rejected"
        )
    return EngineSettings(
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        kv_blocks=blocks,
        max_model_len=max_model_len,
        block_size=engine.block_size,
        enable_chunked_prefill=engine.enable_chunked_prefill,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        policy=engine.scheduling_policy,
        reserve_full_isl=engine.scheduler_reserve_full_isl,
        watermark=engine.watermark,
        async_scheduling=engine.async_scheduling,
    )


def as_served(engine: Engine, profile: Profile) -> Engine:
    """``engine`` with what it leaves out taken from the measured server, where that is known."""
    if profile.served is None:
        return engine
    given = {name for name in engine.model_fields_set if getattr(engine, name) is not None}
    known = profile.served.model_dump(exclude_none=True)
    return engine.model_copy(update={name: value for name, value in known.items() if name not in given})
