"""The figures of a workload, and how they are shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sim.errors import TraceError
from sim.workload import draw
from sim.workload.figures import arrival_figures, dispersion, rank_correlation
from sim.workload.inspect import inspect
from sim.workload.presets import preset
from sim.workload.readers import read


def test_figures_of_a_trace_by_hand(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,4\n1,20,3\n3,30,2\n4,40,1\n")
    seen = inspect(path)
    assert (seen.kind, seen.format, seen.figures["requests"]) == ("trace", "csv", 4)
    # the recording ends a mean gap (4/3 s) after the last request
    assert seen.figures["duration_s"] == pytest.approx(4 + 4 / 3)
    assert seen.figures["rate"] == pytest.approx(0.75)
    # gaps 1, 2, 1: mean 4/3, variance 2/9
    assert seen.figures["gap_cv"] == pytest.approx(math.sqrt(2 / 9) / (4 / 3))
    assert math.isnan(seen.figures["idc_60s"]), "there is no whole minute in it"
    assert (seen.figures["prompt_mean"], seen.figures["prompt_p50"]) == (25.0, 25.0)
    assert seen.figures["rank_correlation"] == pytest.approx(-1.0)
    content = json.loads(json.dumps(seen.to_json(), allow_nan=False))
    assert content["figures"]["idc_60s"] is None


def test_dispersion_counts_whole_windows_only():
    # counts 1, 3 in two windows of 10 s; a third is cut short
    assert dispersion(np.array([1.0, 11.0, 12.0, 13.0, 21.0]), 25.0, 10.0) == pytest.approx(1.0 / 2.0)
    assert math.isnan(dispersion(np.array([1.0]), 15.0, 10.0))


def test_a_constant_length_has_no_rank_correlation():
    assert math.isnan(rank_correlation(np.array([5, 5, 5]), np.array([1, 2, 3])))


def test_figures_of_a_single_request_are_no_error():
    assert math.isnan(arrival_figures(np.array([0.0]), 0.0)["gap_cv"])


def test_a_preset_is_shown_beside_its_data():
    seen = inspect("azure-2023-code")
    assert seen.kind == "preset"
    assert seen.licence == "CC-BY-4.0"
    assert seen.measured == preset("azure-2023-code").measured
    assert seen.errors["rate"] == pytest.approx(seen.figures["rate"] / seen.measured["rate"] - 1.0)
    assert set(seen.errors) <= set(seen.figures)
    low, high = seen.spread["idc_60s"]
    assert low < seen.figures["idc_60s"] < high


def test_a_trace_of_coarse_ticks_says_so(tmp_path: Path):
    lines = [json.dumps({"timestamp": 3000 * (n // 9), "input_length": 9 + n, "output_length": 9}) for n in range(90)]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(lines))
    seen = inspect(str(path))
    assert "ticks every 3 s" in seen.notes[0]
    assert seen.figures["gap_cv"] < 2.0, "spread, and not nine at once"


def test_a_drawn_table_and_a_trace_in_memory_are_shown_too(tmp_path: Path):
    spec = SimpleNamespace(name="chat", priority=0, arrivals={"rate": 5.0}, lengths={"prompt": 10, "output": 20})
    users = SimpleNamespace(name="users", priority=0, arrivals={"closed_loop": 2}, lengths={"prompt": 10, "output": 20})
    seen = inspect(draw([spec, users], 1_000.0, 4_000, 0, 0))
    assert seen.figures["rate"] == pytest.approx(5.0, rel=0.1)
    assert seen.notes == ("4000 closed-loop requests have no arrival of their own",)
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,2,2\n")
    assert inspect(read(str(path))).figures["requests"] == 2.0


def test_what_is_neither_preset_nor_trace_is_an_error():
    with pytest.raises(TraceError, match="there is no such file"):
        inspect("azure-2099")
