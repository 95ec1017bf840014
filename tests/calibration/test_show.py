"""Showing a profile: what the tables and the picture say is what is in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from calibration.cli import app
from calibration.digest import PARTS, PHASES, digest
from calibration.residuals import is_measured, residuals, total
from calibration.sections import sections
from sim import profiles
from sim.profiles.schema import Batch, Curve, Curves, Profile
from sim.profiles.startup import Phase
from tests.calibration.toys import LOAD, batches, constant


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["show", *arguments])


def words(text: str) -> str:
    return " ".join(text.split())


# --- numbers


def test_residuals_are_those_the_importer_found_in_the_tables_it_read() -> None:
    profile = profiles.load("rtx-pro-6000/llama-3.1-8b/tp1")
    found = residuals(profile)
    for name in ("tokens", "sequences", "decode"):
        held = getattr(profile.steps, name).held_out
        assert np.median(np.abs(found[name])) == pytest.approx(held.median, abs=1e-4)
        assert np.quantile(np.abs(found[name]), 0.9) == pytest.approx(held.p90, abs=1e-4)


def test_a_residual_is_that_of_the_straight_line_between_the_neighbours() -> None:
    at, us = (1, 3, 5), (100.0, 160.0, 200.0)  # the middle of 100 and 200 is 150
    profile = constant(step=None, batch=Batch(input="x", at=at, us=us))
    assert residuals(profile)["batch"].tolist() == pytest.approx([150.0 / 160.0 - 1.0])


def test_kernels_are_added_where_any_was_measured() -> None:
    curves = Curves(parts={"a": Curve(at=(1, 4), us=(1.0, 4.0)), "b": Curve(at=(2, 4), us=(10.0, 10.0))})
    at, us = total(curves)
    assert at.tolist() == [1, 2, 4]
    assert us.tolist() == [11.0, 12.0, 14.0]  # b is held below its first point


def test_points_of_a_fit_have_no_residuals() -> None:
    fitted = Curve(at=(1, 2, 4096), us=(1.0, 5.0, 9.0), source="fitted")
    profile = constant()
    profile = profile.model_copy(
        update={"step": profile.steps.model_copy(update={"tokens": Curves(parts={"f": fitted})})}
    )
    assert not is_measured(profile)
    assert residuals(profile) == {}
    assert is_measured(constant())


def test_every_phase_and_part_has_its_words() -> None:
    from typing import get_args

    assert set(PHASES) == set(get_args(Phase))
    held = {name for name in type(constant().steps).model_fields if name not in ("host", "held_out")}
    assert held <= set(PARTS)


def test_a_start_is_summed_up_by_median_and_range() -> None:
    phase = digest(batches())["load"]["phases"]["weights"]
    assert phase["median"] == pytest.approx((15.1 + 15.3) / 2)
    assert (phase["low"], phase["high"], phase["repeats"]) == (14.2, 22.8, 4)


def test_doubt_is_given_as_deviations() -> None:
    doubt = {"parts": ["tokens", "host"], "covariance": [[0.0004, 0.0], [0.0, 0.01]], "method": "least squares"}
    profile = Profile.model_validate(constant().model_dump() | {"doubt": doubt})
    assert digest(profile)["doubt"]["deviation"] == pytest.approx({"tokens": 0.02, "host": 0.1})


# --- the command


@pytest.mark.parametrize("name", ["rtx-pro-6000/llama-3.1-8b/tp1", "h100-sxm/llama-3.1-70b/tp8"])
def test_a_shipped_profile_shows_its_parts_sources_and_errors(name: str) -> None:
    result = invoke(name)
    assert result.exit_code == 0, result.output
    profile = profiles.load(name)
    said = words(result.stdout)
    assert f"{profile.provenance.points:,} measured points" in said
    for part in ("tokens", "decode"):
        held = getattr(profile.steps, part).held_out
        assert f"{held.median:.1%} {held.p90:.1%}".replace("%", " %") in said
        assert held.method in said
    assert "each step assumed 0 µs" in said


def test_a_profile_file_shows_load_phases_power_and_all_four_errors(tmp_path: Path) -> None:
    path = tmp_path / "vision.json"
    profiles.save(batches(), path)
    said = words(invoke(str(path)).stdout)
    assert "batches 1–128 of 3x224x224 measured 8 1.2 % 3.0 % 4.1 % −0.4 %" in said
    assert "weights measured 15.2 s 14.2 s – 22.8 s 4" in said
    assert "local disk measured 1.15 GB/s 1.1 GB/s – 1.2 GB/s 2 2: 1.3 GB/s" in said
    assert "at rest 71 W" in said
    assert "the disk was also read by others" in said


def test_json_is_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "vision.json"
    profiles.save(batches(), path)
    assert json.loads(invoke(str(path), "--json").stdout) == json.loads(json.dumps(digest(batches())))


def every_part() -> Profile:
    """A profile with everything that can be drawn."""
    measured = profiles.load("rtx-pro-6000/llama-3.1-8b/tp1").model_dump()
    return Profile.model_validate(
        measured | {"load": LOAD.model_dump(), "power": batches().power, "batch": batches().batch}
    )


@pytest.mark.parametrize(
    "profile",
    [constant(), batches(), every_part(), profiles.load("h100-sxm/llama-3.1-8b/tp1")],
    ids=["constant", "batches", "everything", "kernels"],
)
def test_any_profile_is_drawn_and_the_same_twice(profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    profiles.save(profile, path)
    pictures = []
    for name in ("a.png", "b.png"):
        result = invoke(str(path), "-o", str(tmp_path / name))
        assert result.exit_code == 0, result.output
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0].startswith(b"\x89PNG")
    assert int.from_bytes(pictures[0][16:20], "big") == 1500  # pixels wide
    assert pictures[0] == pictures[1]


def test_the_page_has_the_picture_and_every_table_in_one_file(tmp_path: Path) -> None:
    source, path = tmp_path / "p.json", tmp_path / "p.html"
    profiles.save(batches().model_copy(update={"name": "a <b> & c"}), source)
    assert invoke(str(source), "-o", str(path)).exit_code == 0
    text = path.read_text(encoding="utf-8")
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in text
    assert "data:image/png;base64," in text
    assert text.count("<h2>") == len(sections(digest(batches())))
    assert not re.findall(r'(?:src|href)="(?!data:)', text)  # nothing is fetched


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("h100-sxm/llama-3.1-8b/tp2",), "neither shipped nor a file (did you mean 'h100-sxm/llama-3.1-8b/tp1'?)"),
        (("absent.json",), "absent.json: no such profile file"),
        (("h100-sxm/llama-3.1-8b/tp1", "-o", "p.pdf"), "p.pdf: a profile is drawn to a .png or an .html file"),
        (("h100-sxm/llama-3.1-8b/tp1", "-o", "nowhere/p.png"), "nowhere/p.png: No such file or directory"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: tuple[str, ...], said: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not result.stdout
