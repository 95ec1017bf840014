"""The shipped cold starts: true to their tables, physical, and found by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibration import coldstarts as maker
from sim.catalog import names as catalogued
from sim.errors import ProfileError
from sim.profiles import coldstarts
from sim.profiles.parts import Samples
from tests.paths import shared

NAMES = coldstarts.names()


def test_what_is_shipped_is_what_the_tables_say() -> None:
    made = {preset.name: preset for preset in maker.make(shared("coldstart").parent)}
    assert sorted(made) == NAMES
    for name, preset in made.items():
        assert coldstarts.load(name) == preset, f"{name}: run `python -m calibration.coldstarts DATA`"


def test_the_sources_are_all_there() -> None:
    assert {name.partition("-")[0] for name in NAMES} == {
        "kubernetes", "runai", "safetensors", "serverlessllm", "tensorizer", "vllm",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_what_it_is_of_and_who_says_so(name: str) -> None:
    preset = coldstarts.load(name)
    assert preset.name == name
    assert preset.load.bytes == preset.weights_bytes
    measured = preset.provenance.licence == "Apache-2.0"
    for one in preset.load.phases.values():
        assert one.source == ("measured" if measured else "assumed")
        assert measured or one.note
        assert len(one.values) <= 41
    assert measured == (preset.provenance.points > 0)
    assert preset.gpu in catalogued("gpus") or preset.gpu in ("rtx-a5000", "unknown")
    assert (coldstarts.SHIPPED / f"{name}.json").stat().st_size < 4_000


def test_no_load_is_faster_than_the_storage_and_the_bus() -> None:
    # ServerlessLLM's H100 machine reads 29.4 GB/s from NVMe (its table says so; one load in thirty found pages in memory); a PCIe 5.0
    # x16 slot carries 63 GB/s, and S3 at most the 40 Gbit/s of a g5.12xlarge
    for name in NAMES:
        read = coldstarts.load(name).load.read
        if "h100-nvme" in name:
            assert np.median(read["local_disk"].bytes_per_second.values) < 29.4e9
            if "page_cache" in read:
                assert max(read["page_cache"].bytes_per_second.values) < 63e9
        if "-s3-" in name:
            assert max(read["object_store"].bytes_per_second.values) < 40e9 / 8


def test_memory_is_faster_than_disk() -> None:
    for model in ("qwen3-32b", "deepseek-r1-distill-qwen-32b"):
        for kind in ("serverlessllm", "safetensors"):
            read = coldstarts.load(f"{kind}-h100-nvme-{model}").load.read
            cached, disk = (np.median(read[tier].bytes_per_second.values) for tier in ("page_cache", "local_disk"))
            assert cached > disk


def test_a_distribution_of_many_values_keeps_its_quantiles() -> None:
    values = np.random.default_rng(1).lognormal(size=1000)
    kept = maker.samples(values, "why")
    assert isinstance(kept, Samples)
    assert len(kept.values) == maker.MOST
    assert kept.values[0] == pytest.approx(values.min(), rel=1e-4)
    assert kept.values[-1] == pytest.approx(values.max(), rel=1e-4)
    for q in (0.1, 0.5, 0.9):
        assert np.quantile(kept.values, q) == pytest.approx(np.quantile(values, q), rel=0.02)
    assert kept.note == "41 evenly spaced order statistics of 1000; why"
    assert maker.samples([3.0, 1.0]).values == (1.0, 3.0)


def test_a_saved_preset_reads_back_the_same(tmp_path: Path) -> None:
    preset = coldstarts.load(NAMES[0])
    coldstarts.save(preset, tmp_path / "c.json")
    assert coldstarts.load(tmp_path / "c.json") == preset
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a cold start: not a JSON text"),
        ("[]", "c.json: cold start: Input should be"),
        (json.dumps({"version": 2}), "version: Input should be 1"),
    ],
)
def test_what_is_not_a_preset_is_said_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        coldstarts.load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ProfileError, match=r"did you mean 'vllm-0\.8\.5-h100-qwen2\.5-7b'\?"):
        coldstarts.load("vllm-0.8.5-h100-qwen2.5-8b")
    with pytest.raises(ProfileError, match=r"no\.json: No such file or directory$"):
        coldstarts.load("no.json")
