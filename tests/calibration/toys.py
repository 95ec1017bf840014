"""Small profiles of which everything is known: every step takes one time, or each part has a form of its own."""

from __future__ import annotations

from typing import Any

from sim.profiles.schema import (
    Batch,
    ContextGrid,
    Curve,
    Curves,
    HeldOut,
    Host,
    Load,
    Memory,
    Power,
    Profile,
    PromptGrid,
    Provenance,
    Step,
)

PROVENANCE = Provenance(source="made up", licence="none", command="none", points=9)
MEMORY = Memory(
    weights_bytes=16_000_000_000,
    context_bytes=500_000_000,
    activation_bytes_per_token=100_000,
    logits_bytes_per_sequence=500_000,
    kv_bytes_per_token=131_072,
)
LOAD = Load.model_validate(
    {
        "bytes": 16_000_000_000,
        "files": 4,
        "phases": {
            "process": {"values": [7.9, 8.4, 9.1]},
            "weights": {"values": [14.2, 15.1, 15.3, 22.8]},
            "compile": {"values": [31.0]},
            "graph_capture": {"values": [11.8, 12.4]},
            "warm_up": {"values": [2.2, 2.9, 3.0]},
            "ready": {"values": [70.1, 72.5, 88.0]},
        },
        "read": {
            "local_disk": {"bytes_per_second": {"values": [1.1e9, 1.2e9]}, "together": {"2": 1.3e9}},
            "page_cache": {"bytes_per_second": {"values": [6.1e9]}},
        },
        "to_device": {"pinned": {"bytes_per_second": {"values": [2.4e10]}}},
        "notes": ["the disk was also read by others"],
    }
)


def constant(step_us: float = 1000.0, **changed: Any) -> Profile:
    """Every step takes ``step_us``, whatever is in it."""
    nothing = Curves(parts={"none": Curve(at=(1, 4096), us=(0.0, 0.0))})
    step = Step(
        tokens=Curves(parts={"all": Curve(at=(1, 4096), us=(step_us, step_us))}),
        sequences=nothing,
        prefill=PromptGrid(chunks=(1, 4096), pasts=(0, 4096), us=((0.0, 0.0), (0.0, 0.0))),
        decode=ContextGrid(sequences=(1, 256), contexts=(1, 4096), us=((0.0, 0.0), (0.0, 0.0))),
        host=Host(cuda_graphs=False),
    )
    about = {
        "version": 1,
        "name": "toy/constant",
        "model": "llama-3.1-8b",
        "gpu": "h100-sxm",
        "engine": "none",
        "tensor_parallel": 1,
        "dtype": "bf16",
        "kv_dtype": "bf16",
        "provenance": PROVENANCE,
        "step": step,
        "memory": MEMORY,
    }
    return Profile.model_validate(about | changed)


def batches() -> Profile:
    """A model that does not generate: 2 ms and 0.25 ms an image, with load times and power."""
    at = (1, 2, 4, 8, 16, 32, 64, 128)
    batch = Batch(
        input="3x224x224",
        at=at,
        us=tuple(2000.0 + 250.0 * n for n in at),
        peak_bytes=tuple(40_000_000 * n for n in at),
        held_out=HeldOut(
            method="each batch size from its neighbours", points=6, median=0.012, p90=0.03, p95=0.041, bias=-0.004
        ),
    )
    power = Power(
        idle_watts=71.0, at=(1, 16, 128), watts=(180.0, 420.0, 655.0), counter="nvml energy", limit_watts=700.0
    )
    return constant(name="toy/batches", model="resnet-50", step=None, batch=batch, load=LOAD, power=power)
