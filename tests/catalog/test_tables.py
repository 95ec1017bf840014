"""Every row of every table is complete, in known units, with a source; names are found or refused helpfully."""

from __future__ import annotations

import csv
import gzip
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sim import CatalogError, catalog
from sim.catalog.tables import UNITS
from tests.paths import shared

CELLS = {"memory", "memory_bandwidth", "bf16_flops", "tdp_watts", "sm_count", "pcie_bandwidth"}
OPTIONAL_CELLS = {"reported_memory", "fp8_flops", "fp4_flops", "nvlink_bandwidth"}


def table(kind: str) -> dict[str, dict[str, Any]]:
    return {name: {cell["field"]: cell for cell in catalog.describe(kind, name)} for name in catalog.names(kind)}


def test_the_catalog_is_as_wide_as_what_people_deploy() -> None:
    assert len(catalog.names("gpus")) >= 20
    assert len(catalog.names("models")) >= 30
    assert sum(catalog.model(name).is_moe for name in catalog.names("models")) >= 10
    assert len(catalog.names("instances")) >= 40
    assert len({catalog.instance(name).provider for name in catalog.names("instances")}) >= 3


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_every_row_loads_and_every_figure_has_a_source(kind: str) -> None:
    for name, cells in table(kind).items():
        assert name == name.strip()
        assert cells
        for cell in cells.values():
            if isinstance(cell["value"], int | float) and not isinstance(cell["value"], bool):
                assert cell["source"], (name, cell)
                assert cell["unit"], (name, cell)
    assert len(catalog.rows(kind)) == len(catalog.names(kind))
    assert len({tuple(row) for row in catalog.rows(kind)}) == 1, "every row has the same columns"


def test_every_gpu_figure_is_positive_and_in_a_known_unit() -> None:
    for name, cells in table("gpus").items():
        figures = {field for field, cell in cells.items() if cell["unit"]}
        assert figures >= CELLS, name
        assert figures - CELLS <= OPTIONAL_CELLS, name
        for field in figures:
            assert cells[field]["value"] > 0
            assert cells[field]["unit"] in UNITS
        assert set(catalog.gpu(name).sources) == figures


def test_gpu_figures_are_of_a_plausible_size() -> None:
    for name in catalog.names("gpus"):
        gpu = catalog.gpu(name)
        assert 14 * 2**30 < gpu.usable_memory <= gpu.memory < 300 * 2**30, name
        assert 0.2e12 < gpu.memory_bandwidth < 10e12, name
        assert 50e12 < gpu.bf16_flops < 3e15, name
        if gpu.fp8_flops is not None:
            assert gpu.fp8_flops == pytest.approx(2 * gpu.bf16_flops, rel=0.02), name
        if gpu.fp4_flops is not None:
            assert gpu.fp8_flops is not None
            assert 2 * gpu.fp8_flops * 0.99 <= gpu.fp4_flops <= 4.1 * gpu.fp8_flops, name
        assert 60 <= gpu.tdp_watts <= 1500, name
        # Reported memory is smaller than sold, by ECC and firmware: never by a tenth.
        assert gpu.usable_memory > 0.9 * gpu.memory, name


def test_every_model_shape_is_consistent() -> None:
    for name in catalog.names("models"):
        model = catalog.model(name)
        assert model.heads % model.kv_heads == 0, name
        assert 0 <= model.sliding_layers <= model.layers, name
        assert bool(model.sliding_layers) == bool(model.sliding_window), name
        assert model.is_moe == (model.moe_ffn > 0) == (model.experts_per_token > 0), name
        assert model.dense_layers < model.layers, name
        assert 0 < model.active_parameters(embedding=False) <= model.active_parameters() <= model.parameters(), name
        assert model.native_dtype in catalog.DTYPE_BYTES, name
        assert model.sources["*"], name
        for dtype in catalog.DTYPE_BYTES:
            assert 0 < model.weight_bytes(dtype) <= 4 * model.parameters(), name


def test_every_instance_has_a_known_gpu_and_a_plausible_price() -> None:
    for name in catalog.names("instances"):
        machine = catalog.instance(name)
        assert machine.gpu in catalog.names("gpus"), name
        assert 1 <= machine.gpus <= 16, name
        assert 0.3 < machine.usd_per_hour / machine.gpus < 25, name
        if machine.spot_usd_per_hour is not None:
            assert 0 < machine.spot_usd_per_hour < machine.usd_per_hour, name
        assert machine.region, name


def test_every_link_has_a_kind_and_a_bandwidth() -> None:
    for name in catalog.names("links"):
        link = catalog.link(name)
        assert link.kind in {"gpu", "host", "network", "storage"}, name
        assert 1e7 < link.bandwidth < 1e12, name
        assert link.latency is None or 0 < link.latency < 1, name
        assert "bandwidth" in link.sources, name


def test_every_trace_states_where_it_is_from_and_its_licence() -> None:
    for name in catalog.names("traces"):
        trace = catalog.trace(name)
        assert trace.url.startswith("https://"), name
        assert trace.licence, name
        assert trace.citation, name
        assert trace.format in {"azure", "mooncake", "burstgpt"}, name
        if trace.sha256 is None:
            assert "checksum not published" in trace.source, name
        else:
            assert len(bytes.fromhex(trace.sha256)) == 32, name


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("azure-2023-conv", "azure_llm_2023_conv.csv.gz"),
        ("azure-2023-code", "azure_llm_2023_code.csv.gz"),
        ("mooncake-conversation", "mooncake_conversation.jsonl.gz"),
    ],
)
def test_trace_checksums_are_those_of_the_published_files(name: str, file: str) -> None:
    content = gzip.decompress(shared("traces", file).read_bytes())
    assert len(content) == catalog.trace(name).bytes
    assert hashlib.sha256(content).hexdigest() == catalog.trace(name).sha256


def test_kv_bytes_agree_with_those_derived_by_others() -> None:
    """model_architectures.csv derives KV bytes independently, for the same hub ids; it leaves out what slides."""
    compared = 0
    with shared("catalog", "model_architectures.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            try:
                model = catalog.model(row["model"])
            except CatalogError:
                continue
            if model.index_head_dim:
                continue  # their derivation leaves out the indexer's keys
            assert model.kv_bytes_per_token() == float(row["kv_bytes_per_token_bf16"]), row["model"]
            assert (model.layers, model.hidden, model.heads, model.vocab) == tuple(
                int(float(row[key])) for key in ("layers", "hidden", "heads", "vocab")
            ), row["model"]
            compared += 1
    assert compared >= 30


@pytest.mark.parametrize(
    ("look_up", "name", "nearest"),
    [
        (catalog.gpu, "h100-sxm5", "h100-sxm"),
        (catalog.model, "lama-3.1-8b", "llama-3.1-8b"),
        (catalog.model, "meta-llama/Llama-3.1-9B", "llama-3.1-8b"),
        (catalog.instance, "aws/p5.48xlarg", "aws/p5.48xlarge"),
        (catalog.link, "nvlink6", "nvlink"),
        (catalog.trace, "azure-2023", "azure-2023"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one_and_how_to_list(look_up: Any, name: str, nearest: str) -> None:
    with pytest.raises(CatalogError) as caught:
        look_up(name)
    assert repr(name) in str(caught.value)
    assert f"did you mean '{nearest}" in str(caught.value)
    assert "twinfer catalog" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_and_an_unknown_dtype_are_refused() -> None:
    with pytest.raises(CatalogError, match="did you mean 'gpus'"):
        catalog.names("gpu")
    with pytest.raises(CatalogError, match="did you mean 'fp8'"):
        catalog.model("llama-3.1-8b").kv_bytes_per_token("fp88")


def test_a_hub_id_is_an_alias_whatever_its_case() -> None:
    assert catalog.model("meta-llama/Llama-3.1-8B-Instruct") == catalog.model("llama-3.1-8b")
    assert catalog.model("QWEN/qwen3-32b") == catalog.model("qwen3-32b")


def test_no_two_models_share_an_alias() -> None:
    aliases = [
        alias.lower()
        for cells in table("models").values()
        for alias in {
            *([cells["hf_id"]["value"]] if "hf_id" in cells else []),
            *(cells["aliases"]["value"] if "aliases" in cells else []),
        }
    ]
    assert len(aliases) == len(set(aliases))


def test_importing_the_catalog_loads_no_heavy_library() -> None:
    code = "import sys, sim.catalog; sys.exit(bool({'numpy', 'pandas', 'scipy', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0
