"""The shipped cold starts and what they are made of: ``python -m calibration.coldstarts DATA`` makes them anew.

DATA is a folder with ``coldstart/`` as published: ``serverlessllm_loading.csv`` (ServerlessLLM 9f50241b, Apache-2.0),
``runai_model_streamer.csv`` (run-ai/runai-model-streamer f73a19ac, Apache-2.0) and ``vllm-0.8.5_server_start.csv.gz``
(FerranAgulloLopez/GPULLMAdapterOptimization bae36e2d, Apache-2.0). Two more were written down by people who did not publish
measurements; their numbers stand here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from calibration.importers.tables import rounded
from sim import catalog
from sim.errors import ProfileError
from sim.profiles.coldstarts import SHIPPED, ColdStart, save
from sim.profiles.parts import Samples
from sim.profiles.schema import Load, Provenance
from sim.profiles.startup import Phase, Tier, Transfer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["make"]

COMMAND: Final = "python -m calibration.coldstarts DATA"
MOST: Final = 41  # values that a distribution is kept with
APACHE: Final = "Apache-2.0"
BF16: Final = 2


def make(data: Path) -> Iterator[ColdStart]:
    """Every shipped preset, from the tables below ``data``. :raises ProfileError: a table is missing or unreadable."""
    folder = data / "coldstart"
    yield from _serverlessllm(_table(folder / "serverlessllm_loading.csv"))
    yield from _streamer(_table(folder / "runai_model_streamer.csv"))
    yield from _vllm(_table(folder / "vllm-0.8.5_server_start.csv.gz"))
    yield from _told()


def samples(values: Sequence[float], note: str = "") -> Samples:
    """A distribution: all values, or as many evenly spaced order statistics as are kept, the extremes among them."""
    ordered = np.sort(np.asarray(values, dtype=float))
    if len(ordered) > MOST:
        kept = f"{MOST} evenly spaced order statistics of {len(ordered)}"
        note = f"{kept}; {note}" if note else kept
        ordered = ordered[np.round(np.linspace(0, len(ordered) - 1, MOST)).astype(int)]
    return Samples(values=tuple(rounded(float(value)) for value in ordered), note=note)


# ServerlessLLM: its own format against safetensors, from NVMe and from memory

_TIERS: Final[dict[str, Tier]] = {"random": "local_disk", "cached": "page_cache"}
_SERVERLESS: Final = {  # as the table has it: the catalog's name or our own, parameters
    "meta-llama/Llama-3.1-8B-Instruct": ("llama-3.1-8b", None),
    "Qwen/Qwen3-32B": ("qwen3-32b", None),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": ("deepseek-r1-distill-qwen-32b", "qwen2.5-32b"),
    "facebook/opt-6.7b": ("opt-6.7b", 6_658_473_984),  # OPT's own checkpoint: fp16
}
_MACHINES: Final = {
    "H100-SXM NVMe 29.4GB/s": ("h100-sxm", "h100"),
    "A5000 2xP5510 NVMe RAID0": ("rtx-a5000", "a5000"),
}
_FORMATS: Final = {
    "sllm": ("serverlessllm", "ServerlessLLM store", "in ServerlessLLM's format"),
    "safetensors": ("safetensors", "transformers", "from safetensors"),
}


def _serverlessllm(table: pd.DataFrame) -> Iterator[ColdStart]:
    for (machine, published, kind), rows in table.groupby(["hardware", "model", "format"]):
        (gpu, short), (label, engine, how) = _MACHINES[str(machine)], _FORMATS[str(kind)]
        model, known = _SERVERLESS[str(published)]
        weights = BF16 * (known if isinstance(known, int) else catalog.model(known or model).parameters())
        seconds = {str(pattern): part["loading_time_s"] for pattern, part in rows.groupby("pattern")}
        read = {
            _TIERS[pattern]: Transfer(
                bytes_per_second=samples(weights / values, "of whole loads, up to tensors on the GPU")
            )
            for pattern, values in sorted(seconds.items())
        }
        yield ColdStart(
            name=f"{label}-{short}-nvme-{model}",
            title=f"{published} {how}, {machine}",
            model=model,
            weights_bytes=weights,
            gpu=gpu,
            engine=engine,
            load=Load(
                bytes=weights,
                phases={"weights": samples(seconds["random"], "from disk: models in random order")},
                read=read,
                notes=("page_cache: the same model loaded again",) if "cached" in seconds else (),
            ),
            provenance=_from("ServerlessLLM/ServerlessLLM 9f50241b, benchmarks", len(rows)),
        )


# the run:ai model streamer: three loaders on three kinds of storage

_STORES: Final[dict[str, tuple[str, Tier]]] = {
    "gp3": ("EBS gp3 of 1,000 MiB/s", "network_disk"),
    "io2": ("EBS io2 of 4,000 MiB/s", "network_disk"),
    "s3": ("S3", "object_store"),
}
_LOADERS: Final = {"runai": "runai-streamer", "tensorizer": "tensorizer", "safetensors": "safetensors"}


def _streamer(table: pd.DataFrame) -> Iterator[ColdStart]:
    weights = BF16 * catalog.model("llama-3-8b").parameters()
    for (store, loader), rows in table.groupby(["storage", "loader"]):
        title, tier = _STORES[str(store)]
        best = rows[rows["vllm_ready_s"].notna()].iloc[0]  # the number of streams that vLLM was then started with
        streams = "" if np.isnan(best["concurrency"]) else f", {best['concurrency']:.0f} streams"
        others = [f"{row.concurrency:.0f}: {row.load_to_gpu_s:g} s" for row in rows.itertuples() if streams]
        seconds = float(best["load_to_gpu_s"])
        yield ColdStart(
            name=f"{_LOADERS[str(loader)]}-{store}-llama-3-8b",
            title=f"Meta-Llama-3-8B by {_LOADERS[str(loader)]} from {title}{streams}, g5.12xlarge",
            model="llama-3-8b",
            weights_bytes=weights,
            gpu="a10g",
            engine="vllm",
            load=Load(
                bytes=weights,
                phases={"weights": samples([seconds]), "ready": samples([float(best["vllm_ready_s"])])},
                read={tier: Transfer(bytes_per_second=samples([weights / seconds], "of whole loads"))},
                notes=(f"weights by number of streams: {', '.join(others)}",) if others else (),
            ),
            provenance=_from("run-ai/runai-model-streamer f73a19ac, benchmarks", 2),
        )


# vLLM 0.8.5 on H100

_ADAPTERLESS: Final = "predictor_default_latency|initial_points_small"  # runs that loaded no adapters
_VLLM: Final = {"llama-3.1-8b-instruct": "llama-3.1-8b", "qwen-2.5-7b-instruct": "qwen2.5-7b"}


def _vllm(table: pd.DataFrame) -> Iterator[ColdStart]:
    for published, model in _VLLM.items():
        mine = table[table["path"].str.contains(f"/{published}/", regex=False)]
        plain = mine[mine["path"].str.contains(_ADAPTERLESS) & mine["init_engine_s"].notna()]
        slots = mine[~mine.index.isin(plain.index)]["graph_s"].dropna()
        weights = BF16 * catalog.model(model).parameters()
        loads = mine["load_weights_s"].dropna()
        phases: dict[Phase, Samples] = {
            "weights": samples(loads, "starts with and without adapters; files on shared storage, cached or not"),
            "build": samples((plain["model_load_s"] - plain["load_weights_s"]).clip(lower=0.0)),
            "compile": samples(plain["compile_s"]),
            "graph_capture": samples(plain["graph_s"]),
            "warm_up": samples(
                (plain["init_engine_s"] - plain["compile_s"] - plain["graph_s"]).clip(lower=0.0),
                "initialisation of the engine less compilation and graph capture",
            ),
        }
        yield ColdStart(
            name=f"vllm-0.8.5-h100-{model}",
            title=f"{published} on vLLM 0.8.5, H100",
            model=model,
            weights_bytes=weights,
            gpu="h100-sxm",
            engine="vllm 0.8.5",
            load=Load(
                bytes=weights,
                phases=phases,
                notes=(
                    "the GPUs are H100s of 64 GB, by what was left for the KV cache",
                    f"with LoRA adapters graph capture took {slots.min():.0f} to {slots.max():,.0f} s, by the number of their slots",
                ),
            ),
            provenance=_from(
                "FerranAgulloLopez/GPULLMAdapterOptimization bae36e2d, server logs", len(loads) + 4 * len(plain)
            ),
        )


# told, not measured here or there

_TOLD: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "kubernetes-unoptimised-llama-3.1-8b",
        "title": "Llama 3.1 8B in a container image of 20.2 GB on Kubernetes, nothing optimised",
        "model": "llama-3.1-8b",
        "weights_bytes": 15 * 10**9,
        "gpu": "unknown",
        "engine": "unknown",
        "source": "bentoml.com/blog/cold-starting-llms-on-kubernetes-in-under-30-seconds (April 2025)",
        "phases": {"image_pull": (300.0, 360.0), "image_extract": (180.0, 240.0), "engine": (120.0,)},
        "note": "as its authors say it may look: the ends of the ranges they give",
        "notes": ("engine: configuration and start; the weights are in the image", "30 s in all once optimised"),
    },
    {
        "name": "vllm-0.22-rtx-5090-qwen3.6-35b-a3b-nvfp4",
        "title": "nvidia/Qwen3.6-35B-A3B-NVFP4 on vLLM 0.22.1rc1, RTX 5090, RunPod serverless",
        "model": "qwen3.6-35b-a3b-nvfp4",
        "weights_bytes": round(21.82 * 2**30),
        "gpu": "rtx-5090",
        "engine": "vllm 0.22.1rc1",
        "source": "github.com/vllm-project/vllm/issues/44881 (June 2026)",
        "phases": {"process": (16.0,), "weights": (18.0,), "compile": (43.0,), "warm_up": (210.0,), "ready": (277.0,)},
        "note": "about so much, as a user reports it",
        "notes": ("compile: about 5 s once cached",),
    },
)


def _told() -> Iterator[ColdStart]:
    for one in _TOLD:
        phases: dict[Phase, Samples] = {
            phase: Samples(values=values, source="assumed", note=one["note"]) for phase, values in one["phases"].items()
        }
        yield ColdStart(
            **{key: one[key] for key in ("name", "title", "model", "weights_bytes", "gpu", "engine")},
            load=Load(bytes=one["weights_bytes"], phases=phases, notes=one["notes"]),
            provenance=Provenance(source=one["source"], licence="figures quoted", command=COMMAND, points=0),
        )


def _from(source: str, points: int) -> Provenance:
    return Provenance(source=source, licence=APACHE, command=COMMAND, points=points)


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None


def main(arguments: list[str]) -> int:
    """Make every shipped cold start from the tables below the folder given."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m calibration.coldstarts DATA\n")
        return 2
    try:
        for preset in make(Path(arguments[0])):
            save(preset, SHIPPED / f"{preset.name}.json")
    except ProfileError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
