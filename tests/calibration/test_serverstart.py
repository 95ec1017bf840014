"""A server's start from its log: phases of old and new vLLM, of several workers, and what is said of a log without one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibration.cli import app
from calibration.importers.serverstart import load_of, read_starts
from sim import profiles
from sim.errors import ProfileError
from sim.profiles.startup import Load
from tests.paths import shared
from tests.profiles.shapes import profile

# As people posted them: vLLM 0.8.5 (github.com/vllm-project/vllm/issues/20264) after the lines that come before.
OLD = """\
INFO 06-19 23:04:40 [api_server.py:1043] vLLM API server version 0.8.5
INFO 06-19 23:04:55 [core.py:58] Initializing a V1 LLM engine (v0.8.5) with config: model='m', seed=0
INFO 06-19 23:05:00 [gpu_model_runner.py:1258] Starting to load model m...
INFO 06-19 23:05:01 [loader.py:447] Loading weights took 0.69 seconds
INFO 06-19 23:05:01 [gpu_model_runner.py:1273] Model loading took 3.4213 GiB and 0.902026 seconds
INFO 06-19 23:05:09 [backends.py:426] Dynamo bytecode transform time: 7.51 s
INFO 06-19 23:05:18 [monitor.py:33] torch.compile takes 7.51 s in total
INFO 06-19 23:05:18 [kv_cache_utils.py:578] GPU KV cache size: 613,024 tokens
INFO 06-19 23:05:35 [gpu_model_runner.py:1608] Graph capturing finished in 17 secs, took 0.48 GiB
INFO 06-19 23:05:35 [core.py:162] init engine (profile, create kv cache, warmup model) took 34.11 seconds
INFO 06-19 23:05:36 [api_server.py:1090] Starting vLLM API server on http://0.0.0.0:8000
INFO:     Application startup complete.
"""
# The texts of 0.32 (v1/worker/gpu_model_runner.py, compilation/monitor.py, v1/engine/core.py), by two workers, in colour.
NEW = """\
\x1b[0;36m(APIServer pid=1)\x1b[0;0m \x1b[32mINFO\x1b[0m \x1b[90m12-31 23:59:40\x1b[0m [a.py:1] vLLM server version 0.32.0, serving model m
(APIServer pid=1) INFO 12-31 23:59:40 [a.py:2] non-default args: {'max_model_len': 8192, 'max_num_seqs': 64, 'async_scheduling': True}
(Worker_TP0 pid=7) INFO 01-01 00:00:10 [gpu_model_runner.py:5040] Starting to load model m...
(Worker_TP0 pid=7) INFO 01-01 00:00:11 [base_loader.py:83] Initializing model took 0.500000 seconds
(Worker_TP1 pid=8) INFO 01-01 00:00:11 [base_loader.py:83] Initializing model took 0.400000 seconds
(Worker_TP0 pid=7) INFO 01-01 00:00:15 [default_loader.py:502] Loading weights took 4.25 seconds
(Worker_TP1 pid=8) INFO 01-01 00:00:16 [default_loader.py:502] Loading weights took 5.75 seconds
(Worker_TP0 pid=7) INFO 01-01 00:00:16 [gpu_model_runner.py:5150] Model loading took 7.5 GiB memory and 6.500000 seconds
(Worker_TP1 pid=8) INFO 01-01 00:00:16 [gpu_model_runner.py:5150] Model loading took 7.5 GiB memory and 6.600000 seconds
(Worker_TP0 pid=7) INFO 01-01 00:00:40 [monitor.py:60] torch.compile took 20.00 s in total
(EngineCore pid=2) INFO 01-01 00:00:41 [kv_cache_utils.py:2327] GPU KV cache size: 1,600 tokens, Maximum concurrency for 8,192 tokens: 0.2x
(Worker_TP0 pid=7) INFO 01-01 00:00:50 [gpu_model_runner.py:6582] Graph capturing finished in 8 secs, took 0.50 GiB
(EngineCore pid=2) INFO 01-01 00:00:52 [core.py:1] init engine (profile, create kv cache, warmup model) took 35.50 s (compilation: 20.00 s)
(APIServer pid=1) INFO 01-01 00:00:55 [launcher.py:31] Starting vLLM server on http://0.0.0.0:8000
"""

runner = CliRunner()


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_start_of_vllm_0_8(tmp_path: Path) -> None:
    (start,) = read_starts(written(tmp_path / "a.log", OLD))
    assert start.phases == pytest.approx(
        {
            "process": 20.0,
            "build": 0.902026 - 0.69,
            "weights": 0.69,
            "compile": 7.51,
            "graph_capture": 17.0,
            "warm_up": 34.11 - 7.51 - 17.0,
            "ready": 56.0,
        }
    )
    assert start.version == "0.8.5"
    assert start.weights_bytes == round(3.4213 * 2**30)


def test_a_start_of_vllm_0_32_on_two_gpus_over_the_turn_of_the_year(tmp_path: Path) -> None:
    path = tmp_path / "a.log.gz"
    path.write_bytes(gzip.compress(NEW.encode()))
    (start,) = read_starts(path)
    # of two workers the slower one, and the weights of both
    assert start.phases == pytest.approx(
        {
            "process": 30.0,
            "build": 0.5,
            "weights": 5.75,
            "compile": 20.0,
            "graph_capture": 8.0,
            "warm_up": 7.5,
            "ready": 75.0,
        }
    )
    assert start.weights_bytes == 15 * 2**30
    assert start.served.max_num_seqs == 64
    assert start.served.max_model_len == 8192
    assert start.served.kv_blocks == 100
    assert start.served.async_scheduling is True


def test_without_compilation_and_graphs_the_engine_is_one_phase(tmp_path: Path) -> None:
    eager = "\n".join(line for line in OLD.splitlines() if "torch.compile" not in line and "Graph" not in line)
    (start,) = read_starts(written(tmp_path / "a.log", eager))
    assert start.phases["engine"] == pytest.approx(34.11)
    assert "warm_up" not in start.phases


def test_the_version_is_read_beside_the_logo_too(tmp_path: Path) -> None:
    logo = "(APIServer pid=1) INFO 06-19 23:04:40 [api_utils.py:347]  ▄▄ ▄█ █     █     █ ▀▄▀ █\x1b[0m  version \x1b[37m0.32.0\x1b[0m"
    _, *rest = OLD.splitlines()
    (start,) = read_starts(written(tmp_path / "a.log", "\n".join([logo, *rest])))
    assert start.version == "0.32.0"
    assert start.phases["process"] == pytest.approx(20.0)


def test_without_times_there_are_the_phases_the_engine_reports_itself(tmp_path: Path) -> None:
    bare = "\n".join(line.partition("] ")[2] or line for line in OLD.splitlines())
    (start,) = read_starts(written(tmp_path / "a.log", bare))
    assert list(start.phases) == ["build", "weights", "compile", "graph_capture", "warm_up"]


def test_a_log_of_several_starts_has_them_all_but_the_one_that_broke_off(tmp_path: Path) -> None:
    broken = OLD.partition("INFO 06-19 23:05:35 [core.py")[0]
    starts = read_starts(written(tmp_path / "a.log", OLD + broken + OLD.replace("took 34.11", "took 44.11")))
    assert [start.phases["warm_up"] for start in starts] == pytest.approx([9.6, 19.6])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "has none of the lines of a vLLM start"),
        (OLD.partition("INFO 06-19 23:05:35 [core.py")[0], "the start in it did not come to its end"),
    ],
)
def test_a_log_without_a_whole_start_is_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        read_starts(written(tmp_path / "a.log", text))
    assert "\n" not in str(caught.value)


def test_several_starts_are_a_distribution(tmp_path: Path) -> None:
    logs = [written(tmp_path / f"{i}.log", OLD.replace("took 0.69", f"took {0.5 + i / 10}")) for i in (3, 1, 2)]
    load = load_of([start for log in logs for start in read_starts(log)])
    assert load.phases["weights"].values == (0.6, 0.7, 0.8)
    assert load.bytes == round(3.4213 * 2**30)
    assert "3 starts of vLLM 0.8.5" in load.notes[0]


def test_starts_of_different_models_are_not_one_distribution(tmp_path: Path) -> None:
    logs = [written(tmp_path / f"{size}.log", OLD.replace("3.4213", size)) for size in ("3.4213", "7.1")]
    with pytest.raises(ProfileError, match=r"not of one model: 3\.42, 7\.10 GiB"):
        load_of([start for log in logs for start in read_starts(log)])


# the command


def test_the_command_writes_the_load_part(tmp_path: Path) -> None:
    log, out = written(tmp_path / "a.log", OLD), tmp_path / "load.json"
    result = runner.invoke(app, ["import", "start", str(log), str(log), "-o", str(out)])
    assert result.exit_code == 0, result.output
    load = Load.model_validate_json(out.read_bytes())
    assert load.phases["compile"].values == (7.51, 7.51)
    assert "compile       7.51 s" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "load.json"]


def test_the_command_puts_the_load_part_into_a_profile_and_changes_nothing_else(tmp_path: Path) -> None:
    log, into = written(tmp_path / "a.log", OLD), tmp_path / "p.json"
    before = profile()
    profiles.save(before, into)
    result = runner.invoke(app, ["import", "start", str(log), "--into", str(into)])
    assert result.exit_code == 0, result.output
    after = profiles.load(into)
    assert after.load is not None
    assert after.load.bytes == before.memory.weights_bytes * before.tensor_parallel
    assert after.load.phases["graph_capture"].values == (17.0,)
    assert after.model_copy(update={"load": before.load}) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "say either --out, a file to write, or --into"),
        (["-o", "x.json", "--into", "y.json"], "say either --out, a file to write, or --into"),
        (["--into", "y.json"], "y.json: no such profile file"),
        (["-o", "nowhere/x.json"], "No such file or directory"),
    ],
)
def test_a_command_that_cannot_be_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["import", "start", str(written(tmp_path / "a.log", OLD)), *more])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


# the recording


def test_the_recorded_start() -> None:
    (start,) = read_starts(shared("truth/vllm-0.32_cpu_llama-40m") / "server_start.log.gz")
    # times as the log's first, `Starting to load model` and `Starting vLLM server` lines have them
    assert start.phases["process"] == pytest.approx(1795425342.174096 - 1795425302.494289)
    assert start.phases["ready"] == pytest.approx(1795425345.582486 - 1795425302.494289)
    assert start.phases["engine"] == 0.54
    assert start.phases["weights"] == 0.06
    assert start.served.kv_blocks == 819  # as the recording's own description counts them
    assert start.served.async_scheduling is False
