"""The figures of a run go into annotations, if the run is of the very scenario; folders are written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sim
import sim.deploy
from sim.config import Scenario
from sim.deploy.expectation import shown
from sim.errors import ResultError, TwinferError
from sim.observe.objectives import Estimate
from tests.deploy.manifests import documents, validate
from tests.small import small

SMALL = small(objectives="ttft_p95: 2s")


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    """A small scenario on disk."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return sim.load(path)


def annotations(texts: dict[str, str]) -> dict[str, str]:
    """Those of the Deployment."""
    found, *rest = documents(texts["chat.yaml"])
    for document in (found, *rest):
        validate(document)
    return dict(found["metadata"]["annotations"])


def test_without_a_run_nothing_is_expected_and_the_page_says_so(scenario: Scenario) -> None:
    texts = sim.deploy.files(scenario)
    found = annotations(texts)
    assert found["twinfer.dev/digest"] == f"sha256:{scenario.digest()}"
    assert found["twinfer.dev/scenario"] == "small.yaml"
    assert found["twinfer.dev/version"] == sim.__version__
    assert not [name for name in found if name.startswith("expect.")]
    assert "No expectation is written" in texts["README.md"]


def test_the_figures_of_a_comparison_are_those_of_the_option(scenario: Scenario) -> None:
    comparison = sim.compare(scenario, jobs=1)
    two = scenario.with_option("two")
    texts = sim.deploy.files(two, result=comparison)
    found = annotations(texts)
    result = comparison.options["two"]
    estimate = result.workloads["chat"]["ttft_p95"]
    value, sign, half_width, unit = found["expect.twinfer.dev/ttft_p95"].split()
    assert (sign, unit) == ("+/-", "s")
    assert float(value) == pytest.approx(estimate.value, rel=1e-3)
    assert float(half_width) == pytest.approx(estimate.half_width, rel=0.05)
    assert found["twinfer.dev/option"] == "two"
    assert found["twinfer.dev/replications"] == "3"
    assert found["twinfer.dev/confidence"] == "0.95"
    # two machines of $2.50 an hour, whatever the traffic
    assert found["expect.twinfer.dev/usd_per_hour"].startswith("5 +/- ")
    assert {"expect.twinfer.dev/ttft_p99", "expect.twinfer.dev/tpot_p99", "expect.twinfer.dev/slo_attainment"} <= set(
        found
    )
    assert "| chat: ttft_p95 | 2 s |" in texts["README.md"]
    assert found != annotations(sim.deploy.files(scenario.with_option("one"), result=comparison))


def test_a_run_of_another_scenario_is_refused(scenario: Scenario, tmp_path: Path) -> None:
    comparison = sim.compare(scenario, jobs=1)
    other = sim.load(tmp_path / "small.yaml", {"deployments.chat.engine.max_num_seqs": 8}).with_option("two")
    with pytest.raises(ResultError, match=r"option 'two' was run with other values"):
        sim.deploy.files(other, result=comparison)
    with pytest.raises(ResultError, match=r"digest [0-9a-f]{10}, and its digest is [0-9a-f]{10}"):
        sim.deploy.files(other, result=comparison.options["two"])
    with pytest.raises(ResultError, match="the figures are not of this scenario"):
        sim.deploy.files(other, result=sim.deploy.Expectation.of(comparison, scenario.with_option("two")))


def test_seed_and_replications_do_not_make_another_scenario(scenario: Scenario, tmp_path: Path) -> None:
    again = sim.load(tmp_path / "small.yaml", {"run.seed": 99, "run.replications": 2})
    result = sim.simulate(again, jobs=1)
    assert annotations(sim.deploy.files(scenario, result=result))["twinfer.dev/replications"] == "2"


def test_figures_without_a_result_do_as_well(scenario: Scenario) -> None:
    result = sim.simulate(scenario, jobs=1)
    expected = sim.deploy.Expectation.of_figures(result.figures, scenario.digest(), "ab" * 32)
    found = annotations(sim.deploy.files(scenario, result=expected))
    assert found["twinfer.dev/result"] == "sha256:" + "ab" * 32
    assert "expect.twinfer.dev/ttft_p99" in found


def test_figures_are_written_with_interval_and_unit() -> None:
    assert shown("ttft_p99", Estimate(1.23456, 0.0567, 6)) == "1.235 +/- 0.057 s"
    assert shown("slo_attainment", Estimate(0.991, 0.0, 6)) == "0.991 +/- 0"
    assert shown("usd_per_hour", Estimate(27.52, 2.9e-15, 6)) == "27.52 +/- 0 USD/h"  # equal but for rounding
    assert shown("usd_per_hour", Estimate(27.52, None, 1)) == "27.52 USD/h, a single replication"
    assert shown("tpot_p99", Estimate(float("nan"), None, 1)) == "none"


# on disk


def test_a_folder_holds_the_files_and_a_listing_and_is_written_anew(scenario: Scenario, tmp_path: Path) -> None:
    place = sim.deploy.write(tmp_path / "new" / "here", scenario)
    texts = sim.deploy.files(scenario)
    assert {
        path.name: path.read_text(encoding="utf-8") for path in place.iterdir() if path.name != "deploy.json"
    } == texts
    assert os.access(place / "chat.sh", os.X_OK)
    listing = json.loads((place / "deploy.json").read_text(encoding="utf-8"))
    assert (listing["scenario"], listing["flavour"]) == (scenario.digest(), "deployment")
    scaled = sim.load(
        tmp_path / "small.yaml", {"deployments.chat.autoscaler": "{kind: hpa, metric: queue, target: 2, max: 2}"}
    )
    sim.deploy.write(place, scaled)
    assert (place / "prometheus-adapter.values.yaml").exists()
    sim.deploy.write(place, scenario)  # and what is not written any more is gone
    assert {path.name for path in place.iterdir()} == {*texts, "deploy.json"}


def _foreign(place: Path) -> None:
    (place / "values.yaml").write_text("a: 1\n", encoding="utf-8")


def _edited(place: Path) -> None:
    (place / "chat.yaml").write_text("mine\n", encoding="utf-8")


def _no_listing(place: Path) -> None:
    (place / "deploy.json").unlink()


def _broken_listing(place: Path) -> None:
    (place / "deploy.json").write_text("[]", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_foreign, "holds 'values.yaml', which twinfer deploy did not write"),
        (_edited, "chat.yaml: was changed since twinfer deploy wrote it"),
        (_no_listing, "which twinfer deploy did not write"),
        (_broken_listing, "is not as twinfer deploy writes it"),
    ],
)
def test_what_is_not_ours_is_left_alone(
    scenario: Scenario, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    place = sim.deploy.write(tmp_path / "here", scenario)
    change(place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(TwinferError) as fault:
        sim.deploy.write(place, scenario.with_option("two"))
    assert said in str(fault.value)
    assert "\n" not in str(fault.value)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_a_file_in_place_of_the_folder(scenario: Scenario, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(TwinferError, match="taken: is a file, not a folder"):
        sim.deploy.write(tmp_path / "taken", scenario)
    with pytest.raises(TwinferError, match="cannot be written: Not a directory"):
        sim.deploy.write(tmp_path / "taken" / "deep", scenario)


def test_a_refusal_makes_no_folder(scenario: Scenario, tmp_path: Path) -> None:
    refused = sim.load(tmp_path / "small.yaml", {"deployments.chat.autoscaler": "{kind: oracle, max: 2}"})
    with pytest.raises(TwinferError, match="oracle"):
        sim.deploy.write(tmp_path / "none", refused)
    assert not (tmp_path / "none").exists()


# the command


def test_the_command_writes_what_the_function_does(
    twinfer: Callable[..., Any], scenario: Scenario, tmp_path: Path
) -> None:
    sim.compare(scenario, jobs=1).save("run")
    ended = twinfer("deploy", tmp_path / "small.yaml", "--option", "two", "--run", "run")
    assert (ended.code, ended.out, ended.err) == (0, "", "written to deploy/small-two\n")
    found = annotations({"chat.yaml": Path("deploy/small-two/chat.yaml").read_text(encoding="utf-8")})
    assert found["expect.twinfer.dev/usd_per_hour"].startswith("5 +/- ")
    ended = twinfer("deploy", tmp_path / "small.yaml", "--option", "one", "--json", "-o", "d", "--flavour", "kserve")
    given = json.loads(ended.out)
    assert given["out"] == "d"
    assert given["files"]["chat.yaml"] == Path("d/chat.yaml").read_text(encoding="utf-8")
    assert "no expectation is written" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--option", "tow"], "did you mean 'two'"),
        (["--run", "nowhere"], "nowhere: there is no such directory"),
        (["--set", "deployments.chat.autoscaler={kind: oracle, max: 2}"], "'oracle' knows the requests to come"),
        (["--set", "deployments.chat.replicas=x"], "deployments.chat.replicas"),
        (["--image", ""], "is not the name of a container image"),
        (["-o", "small.yaml"], "small.yaml: is a file, not a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    twinfer: Callable[..., Any], scenario: Scenario, arguments: list[str], said: str
) -> None:
    ended = twinfer("deploy", scenario.path, "-q", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not Path("deploy").exists()


def test_a_run_of_other_values_is_told_with_its_folder(twinfer: Callable[..., Any], scenario: Scenario) -> None:
    sim.compare(scenario, jobs=1).save("run")
    ended = twinfer(
        "deploy", scenario.path, "-q", "--option", "two", "--run", "run", "--set", "models.llama.dtype=fp16"
    )
    assert ended.code == 2
    assert ended.err.startswith("run: the run is not of this scenario: ")
