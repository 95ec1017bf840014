"""Validating a profile: errors that were built in are found, and the verdict says what may be decided."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from calibration.cli import app
from calibration.endpoint.client import Client
from calibration.importers.requests import read_run
from calibration.intervals import mean_error
from calibration.live import Load, measured
from calibration.replay import replay
from calibration.runs import RequestLog
from calibration.validate import Error, Group, Validation, in_system, validate
from calibration.verdict import judgements, sentence
from sim import profiles
from sim.errors import ProfileError
from tests.calibration.endpoint.engine import App, Engine, Memory, VirtualLoop
from tests.calibration.toys import constant
from tests.paths import shared

ENGINE = {"max_num_seqs": 8, "max_num_batched_tokens": 512, "kv_blocks": 9000, "async_scheduling": False}


def served(step_us: float = 1000.0, rate: float = 20.0, count: int = 200, **changed: Any) -> RequestLog:
    """A run of a server whose every step takes ``step_us``, as its clients saw it: Poisson arrivals."""
    sent = np.cumsum(np.random.default_rng(4).exponential(1.0 / rate, count))
    return _seen(sent - sent[0], step_us, **changed)


def alone(step_us: float = 1000.0, **changed: Any) -> RequestLog:
    """The same, each request a second after the one before, which is long answered."""
    return _seen(np.arange(200.0), step_us, **changed)


def _seen(sent: np.ndarray, step_us: float, **changed: Any) -> RequestLog:
    chance = np.random.default_rng(3)
    prompt, output = chance.integers(10, 1000, len(sent)), chance.integers(2, 60, len(sent))
    nothing = np.full(len(sent), np.nan)
    truth = replay(constant(step_us), RequestLog(sent, prompt, output, nothing, nothing), engine=ENGINE)
    return dataclasses.replace(truth, **{"source": "run.csv", "about": {}} | changed)


# --- errors


def test_the_profile_that_made_the_run_has_no_error() -> None:
    found = validate(constant(), [served()], engine=ENGINE)
    for metric in ("ttft", "tpot", "e2e"):
        assert [error.value for error in found.whole.errors[metric].values()] == pytest.approx([0.0] * 4, abs=1e-9)
        assert found.whole.typical[metric] == pytest.approx(0.0, abs=1e-9)
    assert set(judgements(found.whole).values()) == {"within"}


def test_steps_a_fifth_too_short_show_in_every_figure_of_requests_that_never_meet() -> None:
    found = validate(constant(800.0), [alone()], engine=ENGINE)
    for metric in ("ttft", "tpot", "e2e"):
        assert [error.value for error in found.whole.errors[metric].values()] == pytest.approx([-0.2] * 4, abs=1e-6)
        assert found.whole.errors[metric]["mean"].half_width == pytest.approx(0.0, abs=1e-6)
        assert found.whole.typical[metric] == pytest.approx(0.2, abs=1e-6)
    assert found.by_load == ()  # nobody met anybody


def test_inter_token_latencies_are_compared_where_the_log_has_the_times_of_tokens() -> None:
    run = alone()
    steps = [0.001 * np.arange(count) for count in run.output]
    times = tuple(sent + ttft + rest for sent, ttft, rest in zip(run.sent, run.ttft, steps, strict=True))
    found = validate(constant(800.0), [dataclasses.replace(run, token_times=times)], engine=ENGINE)
    assert list(found.whole.errors) == ["ttft", "tpot", "itl", "e2e"]
    assert [error.value for error in found.whole.errors["itl"].values()] == pytest.approx([-0.2] * 4, abs=0.005)
    assert "itl" not in validate(constant(800.0), [run], engine=ENGINE).whole.errors


def test_a_queue_makes_errors_grow_with_the_load() -> None:
    """At nine tenths of what the server can do a wait is many services long, and a faster server shortens it out of proportion."""
    found = validate(constant(900.0), [served(rate=220.0, count=600)], engine=ENGINE)
    ttft = [group.errors["ttft"]["mean"].value for group in found.by_load]
    assert [group.name for group in found.by_load] == ["light", "medium", "heavy"]
    assert sum(group.requests for group in found.by_load) == 600
    assert ttft[2] < ttft[0] < -0.05
    assert ttft[2] < -0.2
    tops = [group.system for group in found.by_load]
    assert tops[0][1] < tops[1][0] <= tops[1][1] < tops[2][0]


def test_in_system_counts_those_sent_before_and_not_yet_answered() -> None:
    nan = np.nan
    sent, e2e = np.array([0.0, 1.0, 1.0, 2.0, 5.0]), np.array([2.0, 9.0, nan, 1.0, 1.0])
    run = RequestLog(sent, np.ones(5, int), np.ones(5, int), e2e, e2e)
    # the first ends at 2 just as the fourth is sent; the third failed; the second is there until 10
    assert in_system(run).tolist() == [0, 1, 2, 1, 1]


def test_the_difference_of_two_runs_stands_beside_the_error() -> None:
    found = validate(constant(), [alone(1000.0), alone(1100.0)], engine=ENGINE)
    for error in found.whole.errors["tpot"].values():
        assert error.spread == pytest.approx(0.1 / 1.05, rel=1e-6)
    assert found.whole.errors["tpot"]["mean"].value == pytest.approx(1.0 / 1.05 - 1.0)
    assert validate(constant(), [served()], engine=ENGINE).whole.errors["tpot"]["mean"].spread is None


# --- intervals


def _neighbours(chance: np.random.Generator, count: int, correlation: float) -> np.ndarray:
    shocks = chance.normal(size=count + 100)
    series = np.zeros(count + 100)
    for i in range(1, len(series)):
        series[i] = correlation * series[i - 1] + np.sqrt(1.0 - correlation**2) * shocks[i]
    return series[100:]


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_intervals_hold_the_true_error_as_often_as_they_say_though_neighbours_err_together(correlation: float) -> None:
    chance = np.random.default_rng(11)
    held = 0
    for _ in range(400):
        predicted = np.exp(0.5 * _neighbours(chance, 300, correlation))
        noise = np.exp(0.3 * _neighbours(chance, 300, correlation) - 0.045)  # of mean 1
        held += mean_error(predicted * noise / 1.1, predicted).holds(0.1)
    assert 0.90 <= held / 400 <= 0.98


def test_a_handful_of_requests_decides_nothing() -> None:
    interval = mean_error([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert interval.mean == 0.0
    assert interval.half_width == np.inf


# --- the verdict


def verdict(**errors: tuple[float, float] | tuple[float, float, float]) -> str:
    """The sentence on means with those (error, half-width[, spread])."""
    made = {
        metric: {"mean": Error(1.0, 1.0 + values[0], values[1], values[2] if len(values) > 2 else None)}
        for metric, values in errors.items()
    }
    return sentence(Validation("p", (), (), Group("all", 300, (0, 41), made, {})))


def test_within_all_limits_is_fit_for_capacity_up_to_the_load_that_was_seen() -> None:
    assert verdict(ttft=(-0.1, 0.04), tpot=(0.01, 0.01), e2e=(0.02, 0.02)) == (
        "Within 5 % on mean TPOT and E2E and 15 % on mean TTFT: fit for capacity questions at this load, up to 42 requests at once."
    )


def test_outside_names_the_metric_its_error_and_what_not_to_decide() -> None:
    said = verdict(ttft=(-0.23, 0.04), tpot=(0.01, 0.01), e2e=(0.02, 0.02))
    assert said.startswith("Mean TTFT is off by −23.0 % (±4.0): do not decide on TTFT with this profile.")
    assert "Within 5 % on mean TPOT and E2E." in said
    assert "fit for" not in said


@pytest.mark.parametrize("error", [0.02, 0.12])
def test_an_interval_over_the_limit_is_undecided_on_whichever_side_its_middle_is(error: float) -> None:
    said = verdict(e2e=(error, 0.08))
    assert said == f"Mean E2E is off by +{100 * error:.1f} % (±8.0): too few requests to tell whether within 5 %."


def test_an_error_inside_twice_the_engines_own_spread_is_said_to_be() -> None:
    assert "the engine's own runs lie 14.0 % apart" in verdict(ttft=(-0.25, 0.02, 0.14))
    assert "do not decide on TTFT" in verdict(ttft=(-0.25, 0.02, 0.12))
    assert "In TPOT it is not farther off than twice the engine's own spread" in verdict(tpot=(0.03, 0.01, 0.02))


# --- what cannot be compared


def test_failed_requests_are_left_out_and_counted() -> None:
    run = served()
    e2e = run.e2e.copy()
    e2e[:7] = np.nan
    found = validate(constant(), [dataclasses.replace(run, e2e=e2e)], engine=ENGINE)
    assert found.whole.requests == 193
    assert "run.csv: 7 of 200 requests failed: they are not compared" in found.warnings


def test_a_log_without_first_tokens_is_compared_in_e2e_alone() -> None:
    run = served()
    found = validate(constant(), [dataclasses.replace(run, ttft=np.full(len(run), np.nan))], engine=ENGINE)
    assert list(found.whole.errors) == ["e2e"]
    assert any("no times of first tokens" in warning for warning in found.warnings)


def test_too_few_requests_are_refused() -> None:
    with pytest.raises(
        ProfileError, match=r"^run.csv: 19 of its 19 requests were served; at least 20 are needed to compare$"
    ):
        validate(constant(), [served(count=19)], engine=ENGINE)


def test_a_run_of_another_model_is_refused_by_its_name_where_the_catalog_knows_it() -> None:
    other = served(about={"model": "meta-llama/Llama-3.1-70B"})
    with pytest.raises(
        ProfileError, match=r"is a run of meta-llama/Llama-3.1-70B, the profile toy/constant is of llama-3.1-8b"
    ):
        validate(constant(), [other], engine=ENGINE)
    same = served(about={"model": "meta-llama/Llama-3.1-8B"})
    assert validate(constant(), [same], engine=ENGINE).whole.requests == 200


def test_two_runs_must_be_of_the_same_requests() -> None:
    other = served()
    other = dataclasses.replace(other, prompt=other.prompt + 1, source="b.csv")
    with pytest.raises(ProfileError, match=r"^b.csv: has other requests than run.csv"):
        validate(constant(), [served(), other], engine=ENGINE)


# --- the command


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["validate", *arguments])


@pytest.fixture
def toy(tmp_path: Path) -> tuple[str, str]:
    """A profile file 20 % too fast for the run beside it."""
    profile, run = tmp_path / "toy.json", tmp_path / "run.csv"
    profiles.save(constant(800.0), profile)
    log = alone()
    rows = zip(log.sent, log.prompt, log.output, log.ttft, log.e2e, strict=True)
    run.write_text(
        "sent_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n"
        + "".join(",".join(map(repr, map(float, row))) + "\n" for row in rows)
    )
    return str(profile), str(run)


SETTINGS = [text for name, value in ENGINE.items() for text in ("--set", f"{name}={value}")]


def test_the_command_says_errors_settings_and_a_verdict(toy: tuple[str, str]) -> None:
    profile, run = toy
    result = invoke(profile, "--against", run, *SETTINGS)
    assert result.exit_code == 0, result.output
    for said in (
        "toy/constant against run.csv",
        "200 requests",
        "max_num_seqs 8",
        "synchronous",
        "−20.0 %",
        "do not decide on TTFT",
    ):
        assert said in " ".join(result.stdout.split())


def test_json_holds_what_the_table_shows(toy: tuple[str, str]) -> None:
    profile, run = toy
    found = json.loads(invoke(profile, "--against", run, "--json", *SETTINGS).stdout)
    assert found["judgements"] == {"ttft": "outside", "tpot": "outside", "e2e": "outside"}
    assert found["whole"]["errors"]["e2e"]["p90"]["error"] == pytest.approx(-0.2, abs=1e-5)
    assert found["engine"]["kv_blocks"] == 9000
    assert found["whole"]["in_system"] == [0, 0]


@pytest.mark.parametrize(("tolerance", "code"), [("19%", 1), ("0.21", 0)])
def test_check_decides_the_exit_code(toy: tuple[str, str], tolerance: str, code: int) -> None:
    profile, run = toy
    assert invoke(profile, "--against", run, "--check", tolerance, *SETTINGS).exit_code == code


def test_the_picture_is_a_png_and_the_same_twice(toy: tuple[str, str], tmp_path: Path) -> None:
    profile, run = toy
    pictures = []
    for name in ("a.png", "b.png"):
        assert invoke(profile, "--against", run, "--figure", str(tmp_path / name), *SETTINGS).exit_code == 0
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0].startswith(b"\x89PNG")
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "max_num_seq=8"), "did you mean 'max_num_seqs'"),
        (("--set", "max_num_seqs"), "--set: 'max_num_seqs' is not NAME=VALUE"),
        (("--check", "five"), "--check: 'five' is not a fraction"),
        (("--figure", "nowhere/v.png"), "nowhere/v.png: No such file or directory"),
        (("--against", "absent.csv"), "absent.csv"),
        (("--architecture", "llama-3.1-8c"), "did you mean 'llama-3.1-8b'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(toy: tuple[str, str], arguments: tuple[str, ...], said: str) -> None:
    profile, run = toy
    result = invoke(profile, "--against", run, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not result.stdout


# --- a server that is there


@pytest.fixture
def server() -> Callable[..., Client]:
    """A client of an engine whose every step takes 10 ms, in simulated time."""

    def client(url: str, **more: Any) -> Client:
        steps = Engine(budget=512, seats=8, host=0.0, seconds=lambda chunks, contexts: 0.010)
        app = App(steps, max_model_len=2048)
        return Client(url, transport=Memory(app), loop_factory=VirtualLoop, **more)

    return client


def test_a_live_server_is_met_by_the_profile_of_its_steps(server: Callable[..., Client]) -> None:
    with server("http://engine") as client:
        runs = measured(client, Load(rate=20.0, requests=150), times=2)
    assert np.array_equal(runs[0].prompt, runs[1].prompt)
    found = validate(constant(10_000.0), runs, engine=ENGINE)
    for metric in ("ttft", "tpot", "itl", "e2e"):
        assert found.whole.errors[metric]["mean"].value == pytest.approx(0.0, abs=0.01)
        assert found.whole.errors[metric]["mean"].spread == pytest.approx(0.0, abs=0.01)
    assert found.whole.system[1] > 3  # they met


def test_lengths_of_a_live_load_fit_what_the_server_takes(server: Callable[..., Client]) -> None:
    with server("http://engine") as client:
        (run,) = measured(client, Load(rate=50.0, requests=60, prompt=1200, output=400))
        assert (run.prompt + run.output).max() <= 2048
        assert run.prompt.max() <= 1536
        assert run.ok.all()
        with pytest.raises(ProfileError, match=r"^output: a median of 600 tokens is more than the 512 that fit"):
            measured(client, Load(rate=50.0, requests=60, output=600))


def test_the_command_sends_a_load_to_a_url_and_keeps_its_requests(
    toy: tuple[str, str], server: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("calibration.endpoint.client.Client", server)
    kept = tmp_path / "sent.csv"
    load = ("--against", "http://engine", "--rate", "600/min", "--requests", "40", "--requests-out", str(kept))
    result = invoke(toy[0], *load, *SETTINGS, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["whole"]["requests"] == 40
    assert len(read_run(kept)) == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--against", "http://engine"), "--rate: needed for http://engine"),
        (
            ("--against", "http://engine", "--against", "run.csv", "--rate", "4"),
            "--against: several runs must be files, or the same",
        ),
        (("--against", "http://engine", "--rate", "often"), "--rate: 'often' is not a rate"),
        (("--against", "http://127.0.0.1:9", "--rate", "4"), "http://127.0.0.1:9"),
        (("--against", "http://engine", "--rate", "4", "--api-key-env", "NOT_THERE"), "no variable 'NOT_THERE'"),
    ],
)
def test_a_load_that_cannot_be_sent_is_one_line_and_exit_2(
    toy: tuple[str, str], arguments: tuple[str, ...], said: str
) -> None:
    result = invoke(toy[0], *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_load_sent_late_is_said() -> None:
    found = validate(constant(), [served(about={"latest_s": 0.25})], engine=ENGINE)
    assert "run.csv: requests were sent up to 0.25 s late: what sent them was short of time" in found.warnings


# --- real runs


def test_the_recorded_run_of_vllm_on_an_rtx_pro_6000_is_met_as_documented() -> None:
    """docs/validation.md: mean TTFT −1.8 %, TPOT −0.6 %, E2E −0.9 %; median TTFT −7.6 %; median request 2.8, 1.2, 1.1 %."""
    run = read_run(shared("truth", "vllm-0.19_rtxpro6000_llama-3.1-8b", "vllm_requests.csv"))
    profile = profiles.load("rtx-pro-6000/llama-3.1-8b/tp1")
    settings = {"max_num_seqs": 128, "max_num_batched_tokens": 2048, "kv_blocks": 40_000}
    found = validate(profile, [run], engine=settings)
    errors = {metric: row["mean"].value for metric, row in found.whole.errors.items()}
    assert errors == pytest.approx({"ttft": -0.018, "tpot": -0.006, "e2e": -0.009}, abs=5e-4)
    assert found.whole.errors["ttft"]["p50"].value == pytest.approx(-0.076, abs=5e-4)
    assert found.whole.typical == pytest.approx({"ttft": 0.028, "tpot": 0.012, "e2e": 0.011}, abs=5e-4)
    assert set(judgements(found.whole).values()) == {"within"}


def test_two_recorded_runs_of_one_server_differ_by_what_their_summaries_say() -> None:
    """The means in light_a_summary.json and light_b_summary.json, of the same requests sent twice."""
    folder = shared("truth", "vllm-0.32_cpu_llama-40m")
    summaries = [json.loads((folder / f"light_{one}_summary.json").read_text())["summary"] for one in "ab"]
    runs = [read_run(folder / f"light_{one}_requests.csv") for one in "ab"]
    found = validate(constant(), runs, engine=ENGINE)
    for metric in ("ttft", "tpot"):
        means = [summary[f"{metric}_mean"] for summary in summaries]
        error = found.whole.errors[metric]["mean"]
        assert error.measured == pytest.approx(np.mean(means), rel=1e-4)
        assert error.spread == pytest.approx(abs(means[0] - means[1]) / np.mean(means), abs=1e-4)
