"""Timelines: what is in a trace, read by Google's protobuf; stretches of a run; files, options and faults of the command."""

from __future__ import annotations

import math
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sim
from sim import config
from sim.cli import main
from sim.errors import ConfigError, ResultError
from sim.observe import Comparison, Result
from sim.report import timeline
from sim.report.timeline import protobuf
from sim.report.timeline.lives import Life
from sim.report.timeline.moments import Moments
from sim.report.timeline.picture import draw as picture
from sim.report.timeline.trace import Trace
from tests.paths import ROOT

SMALL = """\
run: {requests: 60, warmup: 0, replications: 2, seed: 5, steps: true}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, gpu: h100-sxm, price: 2.5, nodes: 2}]}
workloads:
  - name: chat
    model: llama
    arrivals: {rate: 40/s}
    lengths: {prompt: 900, output: 30}
deployments:
  - {name: chat, model: llama, pool: h100, replicas: 1}
options:
  one: {}
  two: {deployments.chat.replicas: 2}
"""


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return sim.compare(config.load_text(SMALL), jobs=1)


@pytest.fixture(scope="module")
def result(comparison: Comparison) -> Result:
    return comparison.options["two"]


def decoded(content: bytes) -> Any:
    trace = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2").Trace()
    trace.ParseFromString(content)
    trace.DiscardUnknownFields()
    assert trace.ByteSize() == len(content)  # there was nothing that it does not know
    return trace


# --- the encoding


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (150, "9601"), (16383, "ff7f"), (16384, "808001"), (2**64 - 1, "ff" * 9 + "01")],
)  # fmt: skip
def test_varints_are_those_of_the_specification(value: int, encoded: str) -> None:
    """150 is the specification's own example; the others by the rule: seven bits a byte, the lowest first."""
    assert protobuf.varint(value).hex() == encoded


def test_fields_are_those_of_the_specification() -> None:
    assert protobuf.uint(1, 150).hex() == "089601"
    assert protobuf.text(2, "testing").hex() == "120774657374696e67"
    assert protobuf.double(3, 1.5) == b"\x19" + struct.pack("<d", 1.5)
    assert protobuf.fixed64(47, 7) == b"\xf9\x02" + struct.pack("<Q", 7)


def test_a_trace_in_the_eyes_of_protobuf() -> None:
    trace = Trace()
    group = trace.track("chat")
    lane = trace.track("requests", group, last=True)
    blocks = trace.counter("KV cache", group, "blocks", "chat KV")
    values = {"n": 3, "less": -2, "share": 0.25, "why": "for fun", "sure": True}
    trace.begin(lane, 1.5, "outer", "request", values, flows=[9])
    trace.slice(lane, 1.75, 2.0, "inner", "phase")
    trace.end(lane, 2.5)
    trace.instant(group, 3.0, "scale", "event", {"n": 1 << 40})
    trace.count(blocks, 0.1 + 0.2, 12345)
    packets = list(decoded(trace.encoded()).packet)
    names, tracks, events = packets[0], packets[1:4], packets[4:]
    known = {name: {one.iid: one.name for one in getattr(names.interned_data, name)}
             for name in ("event_names", "event_categories", "debug_annotation_names")}  # fmt: skip
    assert [(one.track_descriptor.uuid, one.track_descriptor.name, one.track_descriptor.parent_uuid) for one in tracks] == [
        (group, "chat", 0), (lane, "requests", group), (blocks, "KV cache", group),
    ]  # fmt: skip
    ranks = [one.track_descriptor.sibling_order_rank for one in tracks]
    assert ranks[1] > ranks[2] > ranks[0]
    assert (tracks[2].track_descriptor.counter.unit_name, tracks[2].track_descriptor.counter.y_axis_share_key) == (
        "blocks",
        "chat KV",
    )
    found = [
        (one.timestamp, one.track_event.type, one.track_event.track_uuid, known["event_names"].get(one.track_event.name_iid, ""),
         [known["event_categories"][iid] for iid in one.track_event.category_iids])
        for one in events
    ]  # fmt: skip
    begin, end, instant, counter = 1, 2, 3, 4
    assert found == [
        (1_500_000_000, begin, lane, "outer", ["request"]),
        (1_750_000_000, begin, lane, "inner", ["phase"]),
        (2_000_000_000, end, lane, "", []),
        (2_500_000_000, end, lane, "", []),
        (3_000_000_000, instant, group, "scale", ["event"]),
        (300_000_000, counter, blocks, "", []),
    ]
    said = {}
    for one in events[0].track_event.debug_annotations:
        said[known["debug_annotation_names"][one.name_iid]] = getattr(one, one.WhichOneof("value"))
    assert said == values
    assert list(events[0].track_event.flow_ids) == [9]
    assert events[4].track_event.debug_annotations[0].uint_value == 1 << 40
    assert events[5].track_event.counter_value == 12345
    assert {one.sequence_flags for one in events} == {2}
    assert names.sequence_flags == 1


def test_a_whole_timeline_in_the_eyes_of_protobuf(result: Result, tmp_path: Path) -> None:
    written = timeline.write(result, tmp_path / "a.pftrace")
    packets = decoded(written.paths[0].read_bytes()).packet
    steps = result.steps
    begun = [one for one in packets if one.track_event.type == 1]
    assert len(begun) == sum(one.track_event.type == 2 for one in packets)
    categories = {one.iid: one.name for one in packets[0].interned_data.event_categories}
    mine = [one for one in begun if categories[one.track_event.category_iids[0]] == "step"]
    assert sorted(one.timestamp for one in mine) == sorted(round(start * 1e9) for start in steps.start_s)
    assert set(steps.replication) == {0}
    assert len(steps) > 20


# --- what is kept


def test_steps_change_nothing_and_cost_no_new_name(result: Result) -> None:
    scenario = config.load_text(SMALL).with_option("two")
    bare = scenario.model_copy(update={"run": scenario.run.model_copy(update={"steps": False})})
    assert bare.digest() == scenario.digest()
    without = sim.simulate(bare, jobs=1)
    assert without.steps.empty
    assert without.manifest == result.manifest
    pd.testing.assert_frame_equal(without.requests, result.requests, check_exact=True)
    pd.testing.assert_frame_equal(without.timeline, result.timeline, check_exact=True)


def test_steps_are_saved_and_read_and_go_with_the_result_that_had_them(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    read = Result.load(tmp_path / "run")
    pd.testing.assert_frame_equal(read.steps, result.steps, check_exact=True)
    one, other = (
        timeline.write(read, tmp_path / "run" / "timeline.pftrace"),
        timeline.write(result, tmp_path / "b.pftrace"),
    )
    assert [path.read_bytes() for path in one.paths] == [path.read_bytes() for path in other.paths]
    scenario = config.load_text(SMALL, {"run.steps": False}).with_option("two")
    sim.simulate(scenario, jobs=1).save(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "events.parquet", "manifest.json", "requests.parquet", "summary.json", "timeline.parquet",
    ]  # fmt: skip


def test_steps_of_the_reference_are_not_kept() -> None:
    with pytest.raises(ConfigError, match=r"run\.steps: only the fast simulation keeps its steps"):
        config.load_text(SMALL, {"run.mode": "reference"})


# --- a stretch of a run


def test_a_stretch_has_what_overlaps_with_it(result: Result) -> None:
    requests, steps = result.requests, result.steps
    requests = requests[requests.replication == 0]
    start, stop = requests.arrival_s.quantile(0.4), requests.arrival_s.quantile(0.6)
    moments = Moments(result, start, stop)
    inside = requests[(requests.arrival_s <= stop) & (requests.end_s >= start)]
    assert moments.requests["request"].to_pylist() == inside.sort_values("arrival_s").request.tolist()
    assert len(moments.steps) == int(((steps.start_s <= stop) & (steps.end_s >= start)).sum()) < len(steps)
    assert 0 < len(moments.samples) < len(result.timeline[result.timeline.replication == 0])


@pytest.mark.parametrize(("start", "stop"), [(5.0, 5.0), (5.0, 3.0), (1e6, math.inf)])
def test_a_stretch_of_nothing_is_a_fault(result: Result, start: float, stop: float) -> None:
    with pytest.raises(ResultError, match="nothing"):
        Moments(result, start, stop)


def test_a_life_in_periods() -> None:
    life = Life(
        "chat",
        0,
        asked=1.0,
        placed=3.0,
        ready=10.0,
        closed=20.0,
        gone=22.0,
        phases={"weights/disk": 4.0, "warm_up": 2.0},
    )
    found = list(life.periods(99.0))
    assert [(one.name, one.begin, one.end) for one in found] == [
        ("waiting for GPUs", 1.0, 3.0), ("starting", 3.0, 10.0), ("ready", 10.0, 20.0), ("draining", 20.0, 22.0),
    ]  # fmt: skip
    assert [(one.name, one.begin, one.end) for one in found[1].parts] == [
        ("weights/disk", 4.0, 8.0),
        ("warm up", 8.0, 10.0),
    ]
    lost = Life("chat", 0, asked=0.0, placed=0.0, ready=0.0, lost=7.0, gone=9.0)
    assert [(one.name, one.begin, one.end) for one in lost.periods(99.0)] == [("ready", 0.0, 7.0), ("lost", 7.0, 9.0)]
    never = Life("chat", 0, asked=2.0, gone=5.0)
    assert [(one.name, one.begin, one.end) for one in never.periods(99.0)] == [("waiting for GPUs", 2.0, 5.0)]


def test_the_picture_says_what_it_shows(result: Result) -> None:
    plot = picture(Moments(result))
    requests = result.requests[result.requests.replication == 0]
    moments = pd.concat([requests.arrival_s, requests.end_s]).sort_values()
    most = max(int(((requests.arrival_s <= when) & ~(requests.end_s <= when)).sum()) for when in moments)
    said = int(plot.description.split("Highest requests in flight: chat ")[1].split(".")[0].replace(",", ""))
    assert 0.8 * most <= said <= most  # it is drawn at 480 moments
    assert "Highest replicas ready: chat 2" in plot.description
    labels = [element.text for element in ET.fromstring(plot.file("svg")).iter("{http://www.w3.org/2000/svg}text")]
    assert {"requests in flight", "waiting in engines", "KV cache in use", "requests a step", "replicas ready"} <= set(
        labels
    )
    assert plot.file("png").startswith(b"\x89PNG")


# --- the command


@pytest.fixture
def twinfer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["twinfer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return call


def test_a_run_gets_its_timeline_beside_it(twinfer: Any, result: Result, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    code, said = twinfer("report", "run", "--timeline", "--requests", "10")
    assert code == 0, said
    assert "the first 10 of 60 requests" in said
    assert "open https://ui.perfetto.dev and drag timeline.pftrace into it; nothing is uploaded" in said
    assert "engine steps" not in said
    assert {path.name for path in (tmp_path / "run").glob("timeline.*")} == {
        "timeline.parquet", "timeline.pftrace", "timeline.png", "timeline.svg",
    }  # fmt: skip
    assert not list((tmp_path / "run").glob(".*"))


def test_an_option_of_a_comparison(twinfer: Any, comparison: Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path / "both")
    code, said = twinfer(
        "report", "both", "--timeline", "--option", "one", "--from", "200ms", "--to", "1s", "-o", "x/y.pftrace"
    )
    assert code == 0, said
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["y.pftrace", "y.png", "y.svg"]
    assert twinfer("report", "both", "--timeline", "--option", "two")[0] == 0
    assert (tmp_path / "both" / "options" / "two" / "timeline.pftrace").exists()


def test_without_steps_it_says_how_to_get_them(twinfer: Any, tmp_path: Path) -> None:
    sim.simulate(config.load_text(SMALL, {"run.steps": False}), jobs=1).save(tmp_path / "run")
    code, said = twinfer("report", "run", "--timeline")
    assert code == 0
    assert "no engine steps: they are kept with --set run.steps=true" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["both", "--timeline"], "both: holds the options one, two: --option NAME chooses one"),
        (
            ["both", "--timeline", "--option", "tow"],
            "both: holds the options one, two: 'tow' is none (did you mean 'two'?)",
        ),
        (["run", "--timeline", "--option", "one"], "run: holds a run, which has no options: leave out --option"),
        (["run", "--timeline", "--from", "1h"], "nothing happened after 3600 s"),
        (["run", "--timeline", "--from", "soon"], "--from: 'soon' is not a duration"),
        (["run", "--timeline", "--format", "svg"], "leave out --format"),
        (["run", "--to", "3s"], "--to is of the timeline: give --timeline too"),
        (["run", "--timeline", "-o", "trace.json"], "trace.json: the name of a trace ends in .pftrace"),
        (["run", "--timeline", "-o", "taken/x.pftrace"], "x.pftrace: cannot be written"),
        (["nowhere", "--timeline"], "there is no such directory"),
    ],
)
def test_faults_are_a_line(
    twinfer: Any, comparison: Comparison, tmp_path: Path, arguments: list[str], message: str
) -> None:
    comparison.save(tmp_path / "both")
    comparison.options["one"].save(tmp_path / "run")
    (tmp_path / "taken").write_text("a file")
    code, said = twinfer("report", *arguments)
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.pftrace"))


def test_the_page_on_timelines_does_what_it_says() -> None:
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "timeline.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    exec(compile(block, "docs/timeline.md", "exec"), {})
