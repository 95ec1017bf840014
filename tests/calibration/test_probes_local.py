"""``twinfer calibrate torch``, whole: what it writes, and how it fails."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from calibration.campaign import Campaign
from calibration.cli import app
from sim import profiles
from sim.perf.compile import step_table
from tests.paths import DATA

torch = pytest.importorskip("torch")

from calibration.probes import local  # noqa: E402
from calibration.probes.power import Meter, Reading  # noqa: E402

runner = CliRunner()
TINY = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 61,
    "max_position_embeddings": 64,
}  # fmt: skip
ENCODER = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 100, "max_position_embeddings": 32,
}  # fmt: skip
FAST = ["--device", "cpu", "--dtype", "fp32", "--parts", "step", "--repeats", "3", "--error", "900%", "--max-seqs", "4"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def model(folder: Path, content: dict[str, object], name: str = "tiny") -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return str(path)


def calibrate(*arguments: object) -> Result:
    return runner.invoke(app, ["torch", *map(str, arguments)])


def test_a_decoders_profile_compiles_and_its_error_on_whole_steps_is_said(tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    result = calibrate("--model", model(tmp_path, TINY), "-o", out, *FAST, "--max-tokens", "32")
    assert result.exit_code == 0, result.output
    assert "cpu/tiny/tp1-fp32, torch 2" in result.stdout
    assert "whole steps" in result.stdout
    profile = profiles.load(out)
    assert (profile.gpu, profile.model, profile.dtype, profile.kv_dtype) == ("cpu", "tiny", "fp32", "fp32")
    assert profile.hardware is not None
    assert profile.hardware.memory_bytes > 0
    assert profile.provenance.command == "twinfer calibrate torch --model tiny.json --device cpu --dtype fp32"
    assert str(tmp_path) not in out.read_text()
    assert profile.step is not None
    assert profile.step.held_out is not None
    assert profile.step.held_out.points == 8
    table = step_table(profile, 4, 32)
    assert table.decode_step(4, 64, 0) > 0.0
    assert table.mixed_step(16, 16 * 16, 2, 32, 0, 3) > table.decode_step(2, 32, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json", "tiny.json"]


def test_a_model_that_does_not_generate_has_times_and_peaks_by_batch_size(tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    result = calibrate("--model", model(tmp_path, ENCODER), "-o", out, *FAST, "--input", "16 tokens", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    profile = profiles.load(out)
    assert profile.step is None
    assert profile.batch is not None
    assert profile.batch.input == "16 tokens"
    assert (profile.batch.at[0], profile.batch.at[-1]) == (1, 4)
    assert all(b > a for a, b in pairwise(profile.batch.peak_bytes))
    assert said["parts"]["batch"]["points"] == len(profile.batch.at)
    assert said["name"] == "cpu/tiny/tp1-fp32"
    # a forward pass keeps at least the widest activation of each input: 16 tokens of 64 numbers
    assert profile.batch.peak_bytes[-1] >= 4 * 16 * 64 * 4


def test_the_config_of_the_small_model_is_the_catalogs() -> None:
    from sim import catalog

    config, known = catalog.model(DATA / "model_40m.json"), catalog.model("llama-40m")
    assert config.parameters() == known.parameters()
    assert config.kv_bytes_per_token() == known.kv_bytes_per_token() == 10_240  # as its recorded server says


def test_what_an_earlier_process_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p.json"
    arguments = ("--model", model(tmp_path, TINY), "-o", out, *FAST, "--max-tokens", "32")
    left = iter([60.0] * 5)
    with monkeypatch.context() as patch:
        patch.setattr(Campaign, "time_left", property(lambda campaign: next(left, 0.0)))
        result = calibrate(*arguments)
    assert result.exit_code == 2
    assert "the budget is too short: tokens was not measured" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()
    kept = [json.loads(line) for line in (tmp_path / "p.json.points.jsonl").read_bytes().splitlines()[1:]]
    first = next(one for one in kept if one["key"] == "sections/1+0")
    result = calibrate(*arguments)
    assert result.exit_code == 0, result.output
    projections = profiles.load(out).steps.tokens.parts["projections"]
    assert projections.us[projections.at.index(1)] == pytest.approx(first["projections"]["median"], rel=1e-4)


def test_a_journal_of_another_model_is_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    with Campaign(out, {"model": "another"}) as campaign:
        campaign.measure("sections/1+0", lambda: {"projections": 1.0})
    before = campaign.path.read_bytes()
    result = calibrate("--model", model(tmp_path, TINY), "-o", out, *FAST)
    assert result.exit_code == 2
    assert "measurements of something else (model 'another' there, 'tiny' here" in result.stderr
    assert not out.exists()
    assert campaign.path.read_bytes() == before


class Metered(Meter):
    """A device that draws 50 W at rest and 200 W otherwise."""

    counter = "rapl"
    watts: Iterator[float | None] = iter(())

    @contextmanager
    def watch(self) -> Iterator[Reading]:
        reading = Reading()
        yield reading
        reading.seconds, reading.watts = 1.0, next(self.watts)


def test_power_is_read_at_rest_and_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metered = Metered()
    metered.watts = iter([50.0, None, 200.0, 210.0])  # at rest, over all of the step part, then two loads
    monkeypatch.setattr(local, "meter", lambda device: metered)
    monkeypatch.setattr(local, "SUSTAINED", 0.01)
    out = tmp_path / "p.json"
    arguments = ["--model", model(tmp_path, TINY), "-o", out, *FAST, "--max-tokens", "32"]
    arguments[arguments.index("step")] = "step,power"
    result = calibrate(*arguments)
    assert result.exit_code == 0, result.output
    power = profiles.load(out).power
    assert power is not None
    assert (power.idle_watts, power.at, power.watts) == (50.0, (4, 32), (200.0, 210.0))
    assert "50 W idle, 200 W at 4, 210 W at 32" in result.stdout


def test_a_device_whose_power_nobody_counts_has_no_power_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "meter", lambda device: Meter())
    out = tmp_path / "p.json"
    arguments = ["--model", model(tmp_path, TINY), "-o", out, *FAST, "--max-tokens", "32"]
    arguments[arguments.index("step")] = "step,power"
    assert calibrate(*arguments).exit_code == 0
    profile = profiles.load(out)
    assert profile.power is None
    assert any(note.startswith("power: nothing") for note in profile.provenance.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "lama-3.1-8b", "--device", "cpu"], "did you mean 'llama-3.1-8b'"),
        (["--model", "bert-bse", "--device", "cpu"], "did you mean 'bert-base'"),
        (["--model", "nothing.json", "--device", "cpu"], "nothing.json: no such file"),
        (["--model", "deepseek-v3", "--device", "cpu"], "latent attention cannot be measured"),
        (["--model", "llama-40m", "--device", "gpu"], "is not one of cpu, cuda, cuda:N"),
        (["--model", "llama-40m", "--device", "cpu", "--dtype", "bf17"], "did you mean 'bf16'"),
        (["--model", "llama-40m", "--device", "cpu", "--tp", "2"], "a CPU has no link"),
        (["--model", "bert-base", "--device", "cpu", "--tp", "2"], "measured on one device"),
        (["--model", "llama-40m", "--device", "cpu", "--parts", "steps"], "did you mean 'step'"),
        (["--model", "llama-40m", "--device", "cpu", "--parts", "load"], "must have step"),
        (["--model", "llama-40m", "--device", "cpu", "--budget", "soon"], "--budget: 'soon' is not a duration"),
        (["--model", "llama-40m", "--device", "cpu", "--budget", "0s"], "must be more than 0"),
        (["--model", "llama-40m", "--device", "cpu", "--error", "-1%"], "is not a fraction"),
        (["--model", "llama-40m", "--device", "cpu", "--input", "12 tokens"], "llama-40m generates"),
        (["--model", "llama-40m", "--device", "cpu", "--max-context", "2000000000"], "lower --max-context"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = calibrate(*arguments, "-o", tmp_path / "p.json")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = calibrate("--model", "llama-40m", "-o", tmp_path / "p.json")
    assert result.exit_code == 2
    assert "--device" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    for out, message in ((tmp_path / "nowhere" / "p.json", "No such file"), (tmp_path, "is a folder")):
        result = calibrate("--model", "llama-40m", "--device", "cpu", "-o", out)
        assert result.exit_code == 2
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    if os.geteuid():
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        result = calibrate("--model", "llama-40m", "--device", "cpu", "-o", tmp_path / "p.json")
        assert "Permission denied" in result.stderr
