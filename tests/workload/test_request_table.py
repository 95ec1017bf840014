"""Drawing the whole workload of a run."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sim.errors import ConfigError, TraceError
from sim.kernel.clock import TICKS_PER_SECOND
from sim.workload import draw

LENGTHS = {"prompt": {"lognormal": {"median": 500, "sigma": 1.0}}, "output": {"fixed": 20}, "correlation": 0.2}


def workload(name: str, lengths: Any = LENGTHS, priority: int = 0, **arrivals: Any) -> SimpleNamespace:
    return SimpleNamespace(name=name, priority=priority, arrivals=arrivals, lengths=lengths)


def trace_file(folder: Path, rows: str, name: str = "trace.csv") -> str:
    path = folder / name
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    return str(path)


def test_open_loop_rows_are_merged_in_order_of_arrival_and_on_the_grid():
    table = draw([workload("a", rate=5.0), workload("b", rate=3.0, priority=2)], 200.0, None, 1, 0)
    assert np.all(np.diff(table.arrival) >= 0.0)
    assert table.arrival[-1] < 200.0
    np.testing.assert_array_equal(table.arrival * TICKS_PER_SECOND, np.rint(table.arrival * TICKS_PER_SECOND))
    np.testing.assert_array_equal(table.priority, np.where(table.workload == 1, 2, 0))
    assert table.workload_names == ["a", "b"]
    assert table.arrival.dtype == np.float64
    assert table.workload.dtype == np.int16
    for column in (table.prompt_tokens, table.output_tokens, table.priority, table.session):
        assert column.dtype == np.int64
        assert len(column) == len(table)
    assert table.prompt_tokens.min() >= 1


def test_lengths_of_a_trace_come_in_its_order_and_again_from_the_start(tmp_path):
    path = trace_file(tmp_path, "0,10,1\n5,20,2\n7,30,3\n")
    table = draw([workload("users", {"trace": path}, closed_loop=2)], None, 5, 1, 0)
    assert table.prompt_tokens.tolist() == [10, 20, 30, 10, 20]
    assert table.output_tokens.tolist() == [1, 2, 3, 1, 2]


def test_two_that_arrive_together_keep_the_order_of_the_workloads():
    specs = [workload("a", rate=1.0, process="deterministic"), workload("b", rate=1.0, process="deterministic")]
    assert draw(specs, 3.5, None, 0, 0).workload.tolist() == [0, 1, 0, 1, 0, 1]


def test_a_workload_is_the_same_whatever_else_the_scenario_holds():
    alone = draw([workload("chat", rate=4.0)], 100.0, None, 9, 3)
    others = [workload("code", preset="azure-2023-code"), workload("chat", rate=4.0), workload("batch", closed_loop=4)]
    together = draw(others, 100.0, None, 9, 3)
    mine = together.workload == 1
    np.testing.assert_array_equal(together.arrival[mine], alone.arrival)
    np.testing.assert_array_equal(together.prompt_tokens[mine], alone.prompt_tokens)


def test_arrivals_do_not_change_with_the_lengths_nor_lengths_with_the_arrivals():
    one = draw([workload("chat", rate=4.0)], None, 50, 9, 3)
    two = draw([workload("chat", lengths={"prompt": 5, "output": 5}, rate=4.0)], None, 50, 9, 3)
    three = draw([workload("chat", rate=8.0, cv=3.0)], None, 50, 9, 3)
    np.testing.assert_array_equal(one.arrival, two.arrival)
    np.testing.assert_array_equal(one.prompt_tokens, three.prompt_tokens)


def test_replications_and_seeds_differ_and_repeat():
    specs = [workload("chat", rate=4.0)]
    first = draw(specs, 100.0, None, 9, 0).arrival
    np.testing.assert_array_equal(first, draw(specs, 100.0, None, 9, 0).arrival)
    assert not np.array_equal(first[:10], draw(specs, 100.0, None, 9, 1).arrival[:10])
    assert not np.array_equal(first[:10], draw(specs, 100.0, None, 8, 0).arrival[:10])


def test_a_limit_is_for_each_workload():
    table = draw([workload("a", rate=5.0), workload("b", rate=3.0), workload("c", closed_loop=2)], None, 7, 1, 0)
    assert np.bincount(table.workload).tolist() == [7, 7, 7]


def test_closed_loop_rows_come_last_without_an_arrival():
    specs = [workload("users", closed_loop=3), workload("open", rate=1.0), workload("more", closed_loop=2)]
    table = draw(specs, 30.0, None, 1, 0)
    opened = np.count_nonzero(table.workload == 1)
    assert not np.isnan(table.arrival[:opened]).any()
    assert np.isnan(table.arrival[opened:]).all()
    assert np.all(np.diff(table.workload[opened:]) >= 0)
    assert np.count_nonzero(table.workload == 0) >= 10_000


def test_scale_multiplies_rates_and_compresses_the_time_of_a_preset():
    single = draw([workload("chat", rate=2.0, process="deterministic")], 10.5, None, 1, 0)
    double = draw([workload("chat", rate=2.0, process="deterministic", scale=2.5)], 10.5, None, 1, 0)
    assert (len(single), len(double)) == (20, 52)
    plain = draw([workload("chat", None, preset="azure-2023-conv")], 600.0, None, 1, 0)
    faster = draw([workload("chat", None, preset="azure-2023-conv", scale=4.0)], 150.0, None, 1, 0)
    np.testing.assert_allclose(faster.arrival, plain.arrival / 4.0, atol=1e-10)
    np.testing.assert_array_equal(faster.prompt_tokens, plain.prompt_tokens)


def test_a_curve_and_states_keep_their_times_when_scaled():
    curve = [[0, 1.0], [10, 1.0], [10, 0.0], [20, 0.0]]
    table = draw([workload("chat", curve=curve, cv=0.0, scale=3.0)], 20.0, None, 1, 0)
    assert len(table) == 30
    assert table.arrival[-1] <= 10.0
    table = draw([workload("chat", mmpp={"rates": [10.0, 0.0], "dwell": [1.0, 1.0]}, scale=3.0)], 2_000.0, None, 1, 0)
    assert len(table) == pytest.approx(30_000, rel=0.15)


def test_jitter_moves_arrivals_by_no_more_than_it_says():
    plain = draw([workload("chat", rate=1.0, process="deterministic")], None, 100, 1, 0).arrival
    moved = draw([workload("chat", rate=1.0, process="deterministic", jitter=0.25)], None, 100, 1, 0).arrival
    assert 0.0 < np.abs(moved - plain).max() <= 0.25


def test_a_trace_is_replayed_as_it_stands(tmp_path: Path):
    path = trace_file(tmp_path, "0.5,10,20\n1.5,30,40\n2.25,50,60\n")
    table = draw([workload("chat", None, priority=3, trace=path)], None, None, 1, 0)
    assert table.arrival.tolist() == [0.5, 1.5, 2.25]
    assert table.prompt_tokens.tolist() == [10, 30, 50]
    assert table.output_tokens.tolist() == [20, 40, 60]
    assert table.priority.tolist() == [3, 3, 3]
    assert table.session.tolist() == [-1, -1, -1]


def test_priority_and_session_of_a_trace_are_used(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens,priority,session\n0,1,1,5,u1\n1,1,1,-1,\n2,1,1,0,u1\n")
    table = draw([workload("chat", None, priority=3, trace=str(path))], None, None, 1, 0)
    assert table.priority.tolist() == [5, -1, 0]
    assert table.session.tolist() == [0, -1, 0]


def test_a_trace_is_sliced_looped_and_scaled_in_that_order(tmp_path: Path):
    path = trace_file(tmp_path, "".join(f"{second},{second + 1},1\n" for second in range(10)))
    given = {"trace": path, "slice": [2.0, 5.0], "loop": 2, "scale": 2.0}
    table = draw([workload("chat", None, **given)], None, None, 1, 0)
    assert table.prompt_tokens.tolist() == [3, 4, 5, 3, 4, 5]
    assert table.arrival.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_a_trace_looped_without_a_count_fills_the_run(tmp_path: Path):
    path = trace_file(tmp_path, "0,1,1\n1,2,1\n2,3,1\n")
    table = draw([workload("chat", None, trace=path, loop=True)], 10.0, None, 1, 0)
    assert table.arrival.tolist() == [float(second) for second in range(10)]
    assert len(draw([workload("chat", None, trace=path, loop=True)], None, 8, 1, 0)) == 8
    with pytest.raises(ConfigError, match="loops for ever"):
        draw([workload("chat", None, trace=path, loop=True)], None, None, 1, 0)


def test_a_trace_may_be_given_other_lengths(tmp_path: Path):
    path = tmp_path / "times.csv"
    path.write_text("arrival_s\n0\n1\n")
    table = draw([workload("chat", {"prompt": 7, "output": 9}, trace=str(path))], None, None, 1, 0)
    assert table.prompt_tokens.tolist() == [7, 7]
    assert table.output_tokens.tolist() == [9, 9]
    with pytest.raises(TraceError, match="no column for prompt_tokens"):
        draw([workload("chat", None, trace=str(path))], None, None, 1, 0)


def test_an_empty_slice_is_an_error(tmp_path: Path):
    path = trace_file(tmp_path, "0,1,1\n1,2,1\n")
    with pytest.raises(TraceError, match=r"trace.csv: no request arrives in slice \[100, 200\] of its 2 s"):
        draw([workload("chat", None, trace=path, slice=[100, 200])], None, None, 1, 0)


def test_what_cannot_be_drawn_is_a_config_error():
    with pytest.raises(ConfigError, match="never ends"):
        draw([workload("chat", rate=1.0)], None, None, 1, 0)
    with pytest.raises(ConfigError, match="needs lengths"):
        draw([workload("chat", None, rate=1.0)], 10.0, None, 1, 0)
    with pytest.raises(ConfigError, match="lasts 1e-09 s on average; at least"):
        draw([workload("chat", mmpp={"rates": [1.0, 2.0], "dwell": [1e-9, 1e-9]})], 10.0, None, 1, 0)
    with pytest.raises(ConfigError, match="did you mean 'azure-2023-conv'"):
        draw([workload("chat", None, preset="azure-2023-con")], 10.0, None, 1, 0)


@pytest.mark.parametrize(
    "arrivals",
    [
        {"rate": 1e9},
        {"preset": "reasoning", "scale": 1e6},
        {"mmpp": {"rates": [1e9, 0.0], "dwell": [1.0, 1.0]}},
        {"curve": [[0, 0.0], [3600, 1e9]]},
        {"curve": [[0, 0.0], [1e-3, 1e9]], "loop": True},
    ],
)
def test_more_requests_than_fit_into_memory_are_refused_before_they_are_drawn(arrivals: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"workloads.chat.arrivals: would draw about .* requests; a run can hold"):
        draw([workload("chat", **arrivals)], 3_600.0, None, 1, 0)


def test_closed_loop_users_have_more_requests_than_they_can_issue():
    """At 2 ms a token, faster than any GPU decodes; and no more than a million."""
    short = {"prompt": 10, "output": 10}
    assert len(draw([workload("users", short, closed_loop=32)], 600.0, None, 1, 0)) == 32 * 600 / 0.02
    assert len(draw([workload("users", short, closed_loop=32, think=0.98)], 600.0, None, 1, 0)) == 32 * 600
    assert len(draw([workload("users", short, closed_loop=5_000)], 6_000.0, None, 1, 0)) == 1_000_000


def test_lengths_may_be_given_as_named_quantiles():
    lengths = {
        "prompt": {"quantiles": {"p0": 5, "p50": 10, "p99.9": 50, "p100": 60}},
        "output": {"quantiles": [[0.5, 3]]},
    }
    table = draw([workload("chat", lengths, rate=1.0)], None, 20_001, 1, 0)
    assert np.median(table.prompt_tokens) == pytest.approx(10, abs=1)
    assert table.prompt_tokens.max() <= 60
    assert set(table.output_tokens.tolist()) == {3}


def test_no_workload_is_an_empty_table():
    assert len(draw([], 10.0, None, 1, 0)) == 0


def test_a_million_requests_are_drawn_in_less_than_two_seconds():
    start = time.process_time()
    table = draw([workload("chat", None, preset="azure-2023-conv")], None, 1_000_000, 1, 0)
    assert len(table) == 1_000_000
    assert time.process_time() - start < 2.0
