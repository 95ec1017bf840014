"""Profiles from logs of steps: what the commands write, and that they replay what they were made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from calibration.cli import app
from calibration.importers.stepcsv import read_steps
from calibration.importers.stepdurations import read_step_durations
from calibration.validate import validate
from sim import profiles
from sim.errors import ProfileError
from sim.perf.compile import step_table
from tests.paths import shared

runner = CliRunner()
RECORDING = "truth/vllm-0.32_cpu_llama-40m"
STEPS = "prefill_tokens,past_tokens,prompts,decodes,context_tokens,ms"


def seconds(prefill: int, past: int, decodes: int, context: int) -> float:
    """Milliseconds of a made-up engine: fixed, by tokens, by attention of prompts and of decodes."""
    return 5.0 + 0.1 * (prefill + decodes) + 1e-4 * prefill * (2 * past + prefill) + 1e-3 * context


def steps_file(folder: Path) -> Path:
    rows = []
    for prefill in (16, 32, 64, 128, 256, 512):
        rows += [(prefill, past, 1, 0, 0, seconds(prefill, past, 0, 0)) for past in (0, 256, 512)]
    for decodes in (1, 2, 4, 8, 16):
        rows += [(0, 0, 0, decodes, decodes * c, seconds(0, 0, decodes, decodes * c)) for c in (32, 256, 1024)]
        rows += [(64, 0, 1, decodes, decodes * 256, seconds(64, 0, decodes, decodes * 256))]
    path = folder / "steps.csv"
    path.write_text("\n".join([STEPS, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def test_step_times_in_a_file_come_out_of_the_profile_again(tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    arguments = ["--model", "llama-3.1-8b", "--gpu", "h100-sxm", "--engine", "other", "-o", str(out)]
    result = runner.invoke(app, ["import", "steps", str(steps_file(tmp_path)), *arguments])
    assert result.exit_code == 0, result.output
    made = profiles.load(out)
    assert made.engine == "other"
    assert made.name == "h100-sxm/llama-3.1-8b/tp1"
    table = step_table(made, 16, 512)
    for decodes, context in ((1, 256), (4, 2048), (16, 4096), (16, 16384)):
        expected = seconds(0, 0, decodes, context) * 1e-3
        assert table.decode_step(decodes, context, 0) == pytest.approx(expected, rel=0.03)
    for prefill, past in ((16, 0), (128, 256), (512, 512)):
        work = prefill * (2 * past + prefill)
        expected = seconds(prefill, past, 0, 0) * 1e-3
        assert table.mixed_step(prefill, work, 0, 0, 0, 1) == pytest.approx(expected, rel=0.05)


def test_prefill_tokens_are_spread_over_prompts(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(f"{STEPS}\n30,10,3,2,7,1.5\n0,,,1,9,1\n", encoding="utf-8")
    first, second = read_steps(path)
    assert (first.prefill_tokens, first.prompts, first.prefill_work) == (30, 3, 3 * 10 * (2 * 10 + 10))
    assert (first.seconds, first.whole) == (0.0015, True)
    assert (second.prompts, second.prefill_work, second.context) == (0, 0, 9)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,0,0,0,0,1", "row 1: has no tokens, or took no time"),
        ("0,0,0,4,3,1", "row 1: 4 decodes have 3 tokens of context between them"),
        ("3,0,5,0,0,1", "row 1: 3 prefill tokens are of 5 prompts"),
        ("3,0,1,1.5,2,1", ":2: column decodes: '1.5' is not a whole number of at least 0"),
        ("3,0,1,1,2,x", ":2: column ms: 'x' is not a number of at least 0"),
    ],
)
def test_a_wrong_step_is_said_in_a_line(tmp_path: Path, row: str, message: str) -> None:
    path, out = tmp_path / "s.csv", tmp_path / "p.json"
    path.write_text(f"{STEPS}\n{row}\n", encoding="utf-8")
    arguments = ["import", "steps", str(path), "--model", "llama-3.1-8b", "--gpu", "h100-sxm", "-o", str(out)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_an_imported_log_replays_the_run_it_came_from(tmp_path: Path) -> None:
    folder, out = shared(RECORDING), tmp_path / "p.json"
    requests = folder / "light_a_requests.csv"
    arguments = ["import", "iterations", str(folder / "light_a_iterations.csv.gz"), "--requests", str(requests)]
    arguments += ["--model", "llama-40m", "--gpu", "cpu", "--memory", "24GiB", "--budget-tokens", "512", "-o", str(out)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "100.0% of 4890 iterations" in result.stdout
    from calibration.importers.requests import read_run

    engine = {"max_num_seqs": 16, "kv_blocks": 819, "block_size": 128, "async_scheduling": False}
    found = validate(profiles.load(out), [read_run(requests)], engine=engine)
    # what is asked of a prediction, held here against the very run: mean TPOT and E2E within 5 %, TTFT within 15 %
    assert abs(found.whole.errors["tpot"]["mean"].value) < 0.05
    assert abs(found.whole.errors["e2e"]["mean"].value) < 0.05
    assert abs(found.whole.errors["ttft"]["mean"].value) < 0.15


def test_a_log_alone_says_what_it_does_not_tell(tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    log = shared(RECORDING) / "server_start.log.gz"
    arguments = ["--model", "llama-40m", "--gpu", "cpu", "--memory", "24GiB", "-o", str(out)]
    result = runner.invoke(app, ["import", "iterations", str(log), *arguments])
    assert result.exit_code == 0, result.output
    assert "of 298 iterations is known" in result.stdout
    made = profiles.load(out)
    assert made.engine == "vllm 0.32.0"
    assert made.served is not None
    assert made.served.max_num_batched_tokens == 512  # as the log's first lines say
    assert any("what lies between iterations" in note for note in made.provenance.notes)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--gpu", "cpu"], "--gpu cpu needs --memory"),
        (["--gpu", "cpu", "--memory", "lots"], "--memory: 'lots' is not a size"),
        (["--gpu", "h100-sxn"], "did you mean 'h100-sxm'?"),
        (["--gpu", "h100-sxm", "--engine", "3"], "engine 3"),
        (["--gpu", "h100-sxm", "--requests", "no.csv"], "no.csv: No such file or directory"),
    ],
)
def test_what_cannot_be_imported_is_said_in_a_line(tmp_path: Path, more: list[str], message: str) -> None:
    log, out = tmp_path / "server.log", tmp_path / "p.json"
    line = (
        "Iteration({}): 1 context requests, {} context tokens, 0 generation requests, 0 generation tokens,"
        " iteration elapsed time: 9.44 ms"
    )
    log.write_text("\n".join(line.format(i, i + 1) for i in range(30)), encoding="utf-8")
    result = runner.invoke(app, ["import", "iterations", str(log), "--model", "llama-3.1-8b", *more, "-o", str(out)])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()


# steps of which nothing but the time is known


def test_step_durations_are_read_by_run_and_order(tmp_path: Path) -> None:
    path = tmp_path / "steps.parquet"
    rows = pd.DataFrame(
        {
            "run": ["b", "a", "a", "a", "b"],
            "step": [2, 3, 1, 2, 1],
            "dt_ms": [7.0, 12.0, 50.0, 10.0, 9.0],
            "sched_us": [30.0, 20.0, 90.0, 10.0, 40.0],
        }
    )
    rows.to_parquet(path)
    found = read_step_durations(path)
    assert list(found) == ["a", "b"]
    assert found["a"].seconds == pytest.approx([0.05, 0.01, 0.012])
    assert found["a"].host == pytest.approx(20e-6)
    assert found["a"].quantiles({"p50": 0.5}) == pytest.approx({"p50": 0.011})
    rows.drop(columns="dt_ms").to_parquet(path)
    with pytest.raises(ProfileError, match=r"no column dt_ms \(has: run, step, sched_us\)$"):
        read_step_durations(path)


def test_recorded_step_durations_have_the_quantiles_published_beside_them() -> None:
    folder = shared("truth/vllm-0.8.5_h100_lora")
    found = read_step_durations(folder / "iteration_timestamps.parquet")
    said = pd.read_csv(folder / "iteration_steps.csv").set_index("path")
    for run in [name for name in found if name.startswith("find_available_gpu_memory")][:20]:
        row = said.loc[f"digital_twin_dynamic/estimators/{run}"]
        assert np.median(found[run].seconds) * 1e3 == pytest.approx(row["step_ms_p50"], rel=0.01)
        assert found[run].host * 1e6 == pytest.approx(row["sched_us_p50"], rel=0.05)
