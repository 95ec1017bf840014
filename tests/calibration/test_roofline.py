"""Efficiencies are recovered from kernels that obey them; what is left out stays out; what is shipped is what the fits say."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from calibration import kernelrows, roofline
from calibration.cli import app
from calibration.leftout import PARTS, STEPS, ratios
from calibration.roofline import BEGIN, FOLDS, MODELS, Kind, fit, left_out
from sim import catalog, profiles
from sim.errors import ProfileError
from sim.perf import efficiency as times
from sim.perf.efficiency import Efficiency, Rates
from sim.perf.roofline import fitted
from tests.calibration.tables import GEMM_M, gemm_s, kernels
from tests.paths import shared

runner = CliRunner()

TRUE = replace(
    BEGIN, gemm_start=6.0, gemm_memory=0.7, gemm_compute=0.9, gemm_tile=0.2, gemm_bend=2.0,
    decode_start=15.0, decode_memory=0.9, decode_head=4.0, prefill_start=7.0, prefill_compute=0.5, prefill_path=0.8,
    reduce_start=8.0, reduce_once=0.4, reduce_second=6.0, reduce_twice=0.9, ring_start=40.0, ring_share=0.6,
)  # fmt: skip
CARDS = ("a100-sxm", "h100-sxm", "l40s")
LINKED = ("a100-sxm", "h100-sxm", "b200-sxm")


FIELDS = {
    "gemm": ("gemm_start", "gemm_memory", "gemm_compute", "gemm_tile", "gemm_bend"),
    "decode": ("decode_start", "decode_memory", "decode_head"),
    "prefill": ("prefill_start", "prefill_compute", "prefill_path"),
    "all_reduce": ("reduce_start", "reduce_once", "reduce_second", "reduce_twice", "ring_start", "ring_share"),
}


def made(name: str, gpus: tuple[str, ...], grids: dict[str, tuple[float, ...]]) -> Kind:
    """Kernels that take what ``TRUE`` says, of every combination of sizes on every GPU."""

    def time(e: Efficiency, rates: Rates, rows: pd.DataFrame) -> np.ndarray:
        return getattr(times, name)(e, rates, *(rows[column].to_numpy(float) for column in grids))

    sizes = pd.DataFrame(list(product(*grids.values())), columns=list(grids))
    rows = [sizes.assign(gpu=gpu, seconds=time(TRUE, Rates.of(catalog.gpu(gpu)), sizes)) for gpu in gpus]
    return Kind(name, FIELDS[name], pd.concat(rows, ignore_index=True), time)


def all_made() -> list[Kind]:
    heads = {"heads": (32.0,), "kv_heads": (2.0, 8.0), "head_dim": (128.0,)}
    return [
        made("gemm", CARDS, {"m": (1, 16, 128, 256, 1024, 8192), "n": (1024, 4096, 28672), "k": (1024, 8192)}),
        made("decode", CARDS, {"sequences": (1, 16, 256), "context": (128, 2048, 32768), **heads}),
        made("prefill", CARDS, {"chunk": (64, 512, 4096), "past": (0, 4096, 32768), **heads}),
        made("all_reduce", LINKED, {"size": tuple(2.0**x for x in range(11, 30)), "gpus": (2, 4, 8)}),
    ]


def test_the_numbers_that_made_the_kernels_are_found_again() -> None:
    found = fit(all_made())
    for name in (name for fields in FIELDS.values() for name in fields):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=1e-3), name


def test_noise_and_faulty_kernels_hardly_move_them() -> None:
    rng = np.random.default_rng(11)
    noisy = []
    for kind in all_made():
        factor = np.exp(rng.normal(0.0, 0.03, len(kind.rows)))
        factor[rng.random(len(factor)) < 0.05] *= 3.0
        noisy.append(replace(kind, rows=kind.rows.assign(seconds=kind.rows["seconds"] * factor)))
    found = fit(noisy)
    for kind in all_made():
        error = np.log(kind.seconds(found) / kind.rows["seconds"].to_numpy())
        assert np.median(np.abs(error)) < 0.03
    for name in ("gemm_memory", "gemm_compute", "decode_memory", "prefill_compute"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.05), name


def test_shares_of_a_peak_never_exceed_it() -> None:
    fast = [replace(kind, rows=kind.rows.assign(seconds=kind.rows["seconds"] / 5.0)) for kind in all_made()]
    found = fit(fast)
    for name in ("gemm_memory", "gemm_compute", "decode_memory", "prefill_compute", "reduce_twice", "ring_share"):
        assert getattr(found, name) <= 1.0


def test_a_gpu_with_many_kernels_weighs_as_much_as_one_with_few() -> None:
    """Half of the GPUs are twice as slow: repeating the rows of one changes nothing."""
    kind = all_made()[1]
    slow = kind.rows["gpu"] == "l40s"
    rows = kind.rows.assign(seconds=kind.rows["seconds"] * np.where(slow, 2.0, 1.0))
    once = fit([replace(kind, rows=rows)])
    often = fit([replace(kind, rows=pd.concat([rows, *[rows[slow]] * 20], ignore_index=True))])
    for name in FIELDS["decode"]:
        assert getattr(often, name) == pytest.approx(getattr(once, name), rel=1e-4)


def test_a_kind_without_kernels_keeps_what_was_known() -> None:
    kind = all_made()[1]
    assert fit([kind.kept(kind.rows["gpu"] == "none")], TRUE) == TRUE


def all_gpus(data: Path) -> Path:
    """Tables of the three GPUs, all with the kernels of an H100."""
    for name in kernelrows.FOLDERS.values():
        kernels(data / "kernels" / name)
    return data


def test_products_are_read_in_seconds_by_gpu_and_format_with_the_layers_that_were_measured(tmp_path: Path) -> None:
    rows = kernelrows.gemm(all_gpus(tmp_path))
    assert sorted(rows["gpu"].unique()) == ["a100-sxm", "h100-sxm", "h200-sxm", "rtx-pro-6000"]
    one = rows[(rows["gpu"] == "h200-sxm") & (rows["m"] == 128) & (rows["n"] == 8192) & (rows["k"] == 2048)]
    assert one.set_index("dtype")["seconds"].to_dict() == pytest.approx(
        {"bf16": gemm_s(128, 8192, 2048), "fp8": gemm_s(128, 8192, 2048, "fp8")}
    )
    assert set(rows.loc[rows["gpu"] != "rtx-pro-6000", "m"]) <= set(GEMM_M)
    measured = profiles.load(kernelrows.LAYERS).steps.tokens.parts["qkv_proj"]
    layer = rows[(rows["gpu"] == "rtx-pro-6000") & (rows["n"] == 6144) & (rows["m"] == measured.at[0])]
    assert layer["seconds"].to_list() == pytest.approx([measured.us[0] * 1e-6 / 32])


def test_reductions_are_those_under_cuda_graphs_by_bytes(tmp_path: Path) -> None:
    rows = kernelrows.collective(all_gpus(tmp_path), "all_reduce")
    one = rows[(rows["gpu"] == "h100-sxm") & (rows["gpus"] == 4) & (rows["size"] == 2 * 131072)]
    assert one["seconds"].to_list() == pytest.approx([5e-6 + 2 * 131072 / 200e9])


def test_a_missing_gpu_is_one_line(tmp_path: Path) -> None:
    kernels(tmp_path / "kernels" / "a100_sxm")
    with pytest.raises(ProfileError, match=r"h100_sxm: no such folder$"):
        kernelrows.gemm(tmp_path)


def test_the_command_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert roofline.main([]) == 2
    assert "usage" in capsys.readouterr().err
    assert roofline.main([str(tmp_path)]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_all_kernels_that_a_model_is_composed_of_are_left_out_with_it() -> None:
    shape = catalog.model("llama-3.1-8b")
    grid = [float(size) for size in (1024, 4096, 6144, 8192, 12288, 16384, 65536)]
    rows = pd.DataFrame([("h100-sxm", n, k) for n in grid for k in grid] + [("rtx-pro-6000", 1e5, 4096.0)],
                        columns=["gpu", "n", "k"])  # fmt: skip
    out = rows[kernelrows.of_model("gemm", rows, shape)]
    pairs = set(zip(out["n"], out["k"], strict=True))
    assert {
        (6144, 4096),
        (4096, 4096),
        (4096, 12288),
        (4096, 16384),
    } <= pairs  # qkv_proj, o_proj, beside down_proj's 14336
    assert (12288, 12288) not in pairs
    assert (out["gpu"] == "rtx-pro-6000").sum() == 1  # measured in this very model
    heads = pd.DataFrame({"gpu": "h100-sxm", "heads": [32, 16, 8, 64], "kv_heads": [8, 4, 2, 8]})
    assert kernelrows.of_model("decode", heads, shape).to_list() == [True, True, True, False]


def test_every_gpu_architecture_and_model_was_left_out_once() -> None:
    assert set(fitted().without) == {*FOLDS, *MODELS}
    measured = {profiles.load(name).gpu for name in profiles.names()}
    assert {gpu for gpus in FOLDS.values() for gpu in gpus} == measured & {*FOLDS}
    assert set(fitted().rows) == {gpu for gpus in FOLDS.values() for gpu in gpus}


@pytest.mark.parametrize("what", [*FOLDS, *MODELS])
def test_the_published_errors_are_those_of_the_shipped_fit_against_the_shipped_profiles(what: str) -> None:
    e = Efficiency(**fitted().without[what])
    found = [ratios(name, e) for name in left_out(what)]
    for part in (*PARTS, *STEPS):
        values = np.array([value for one in found for value in one[part]])
        if not len(values):
            assert part == "mixed step"
            continue
        said = fitted().of(part, what)
        assert said.points == len(values)
        assert said.median == pytest.approx(np.median(np.abs(values - 1.0)), abs=2e-3)
        assert said.bias == pytest.approx(np.mean(values) - 1.0, abs=2e-3)


def test_a_measured_step_that_was_predicted_without_its_gpu_is_near() -> None:
    """What the whole thing is for: half of the steps of a GPU left out within a tenth, nine in ten within a quarter."""
    for what in FOLDS:
        for step in ("decode step", "prefill step"):
            error = fitted().of(step, what)
            assert error.median < 0.125, (what, step)
            assert error.p90 < 0.25, (what, step)


@pytest.mark.verify
def test_the_tables_make_what_is_shipped() -> None:
    made_anew = roofline.make(shared("profiles"))
    for name, value in made_anew.efficiency.items():
        assert value == pytest.approx(fitted().efficiency[name], rel=0.01), name
    assert made_anew.rows == fitted().rows
    assert [(error.part, error.what, error.points) for error in made_anew.errors] == [
        (error.part, error.what, error.points) for error in fitted().errors
    ]
    assert asdict(BEGIN).keys() == fitted().efficiency.keys()


def test_predict_writes_the_profile_and_says_what_to_expect(tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    arguments = ["predict", "--model", "qwen3-14b", "--gpu", "l40s", "--tp", "2", "-o", str(out)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "predicted, not measured" in result.stdout
    assert "held-out error" in result.stdout
    assert profiles.load(out).name == "roofline/l40s/qwen3-14b/tp2"
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]
    assert runner.invoke(app, arguments[:-2]).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--model": "deepseek-v3", "--tp": "8"}, "no kernels of latent attention"),
        ({"--gpu": "h100-sxn"}, "did you mean 'h100-sxm'"),
        ({"--dtype": "int4"}, "dtype 'int4' cannot be predicted"),
        ({"--tp": "3"}, "cannot share evenly"),
        ({"-o": "/nowhere/at/all/p.json"}, "No such file or directory"),
    ],
)
def test_what_predict_cannot_do_is_one_line_and_exit_2(changes: dict[str, str], said: str) -> None:
    options = {"--model": "llama-3.1-8b", "--gpu": "l40s"} | changes
    result = runner.invoke(app, ["predict", *(word for pair in options.items() for word in pair)])
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
