"""The shipped presets: what they say of themselves, and how near their draws come to the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.errors import ConfigError, TraceError
from sim.kernel.streams import generator
from sim.workload.figures import figures, length_figures
from sim.workload.fit import fit, fit_arrivals, fit_lengths, to_text
from sim.workload.inspect import inspect
from sim.workload.presets import from_content, names, preset
from sim.workload.readers import read
from sim.workload.trace import Trace, spread
from tests.paths import shared

FITTED = {
    "azure-2023-conv": "azure_llm_2023_conv.csv.gz",
    "azure-2023-code": "azure_llm_2023_code.csv.gz",
    "mooncake-conversation": "mooncake_conversation.jsonl.gz",
}


def fine_trace(name: str) -> Trace:
    return spread(read(str(shared("traces", FITTED[name]))), generator(0, 0, "fit/ticks"))


def test_the_presets_that_are_promised_are_there():
    assert names() == sorted([*FITTED, "reasoning", "summarisation"])


@pytest.mark.parametrize("name", names())
def test_a_preset_names_its_source_licence_and_what_is_assumed(name: str):
    chosen = preset(name)
    assert chosen.name == name
    assert all((chosen.description, chosen.source, chosen.licence, chosen.citation))
    for part in ("arrivals", "lengths"):
        assert any(word in chosen.basis[part] for word in ("fitted", "published", "assumed"))


@pytest.mark.parametrize("name", names())
def test_draws_of_a_preset_come_near_its_data(name: str):
    """Within what the mean of 64 draws is known to, and 3 % (10 % for the 99th percentile of lengths)."""
    seen = inspect(name)
    assert seen.errors, "there is something to compare with"
    for key, error in seen.errors.items():
        if key in ("idc_10s", "idc_300s"):
            continue  # not aimed at; see below
        low, high = seen.spread[key]
        scale = 1.0 if key == "rank_correlation" else abs(seen.measured[key])
        # 80 % of a normal are within 1.28 standard deviations; the mean of 64 draws has an eighth of one
        noise = (high - low) / 2.56 / 8.0 / scale
        tolerance = 0.10 if key.endswith("_p99") else 0.03
        assert abs(error) < tolerance + 4.0 * noise, key


@pytest.mark.parametrize("name", FITTED)
def test_the_data_is_not_unusual_among_draws_of_its_preset(name: str):
    """At the scales that were not fitted too, the trace lies among single draws of the preset."""
    seen = inspect(name)
    for key in ("rate", "gap_cv", "idc_10s", "idc_60s", "idc_300s"):
        low, high = seen.spread[key]
        width = (high - low) / 2.56
        assert low - 1.5 * width < seen.measured[key] < high + 1.5 * width, key


@pytest.mark.parametrize("name", FITTED)
def test_the_figures_a_preset_holds_are_those_of_the_data(name: str):
    measured = {key: float(f"{value:.5g}") for key, value in figures(fine_trace(name)).items()}
    assert preset(name).measured == measured


@pytest.mark.parametrize("name", FITTED)
def test_the_lengths_a_preset_holds_are_fitted_to_the_data(name: str):
    assert preset(name).length_model == fit_lengths(fine_trace(name))


def test_the_summaries_are_fitted_to_the_lengths_that_came_with_vidur():
    trace = read(str(shared("traces", "arxiv_summarization_lengths.csv.gz")), arrivals=False)
    assert len(trace) == 28_257
    assert preset("summarisation").length_model == fit_lengths(trace)
    measured = {key: float(f"{v:.5g}") for key, v in length_figures(trace.prompt_tokens, trace.output_tokens).items()}
    assert preset("summarisation").measured == measured


def test_the_data_has_the_figures_that_others_found_in_it():
    """Rates, CVs, percentiles and code's dispersion as the data's own description gives them."""
    for name, rate, cv, idc, lengths in (
        ("azure-2023-code", 2.57, 13.2, 161, (1469, 5188, 7436, 13, 55, 252)),
        ("azure-2023-conv", 5.53, 1.09, None, (1020, 2735, 4142, 129, 424, 601)),
        ("mooncake-conversation", 3.40, None, 2.9, (6909, 27367, 85400, 350, 597, 1119)),
    ):
        measured = preset(name).measured
        assert measured["rate"] == pytest.approx(rate, rel=0.002)
        if cv is not None:
            assert measured["gap_cv"] == pytest.approx(cv, rel=0.005)
        if idc is not None:
            assert measured["idc_60s"] == pytest.approx(idc, rel=0.03)
        found = [measured[f"{which}_p{p}"] for which in ("prompt", "output") for p in (50, 90, 99)]
        assert found == pytest.approx(lengths, abs=1.0)


def test_reasoning_has_the_published_output_lengths():
    """ServeGen's deepseek-r1: output p50, p90, p99 of 552, 1623, 8452 tokens."""
    points = dict(map(tuple, preset("reasoning").length_model["output"]))
    assert [points[chance] for chance in (0.5, 0.9, 0.99)] == [552.0, 1623.0, 8452.0]


@pytest.mark.verify
@pytest.mark.parametrize("name", FITTED)
def test_the_arrivals_a_preset_holds_are_fitted_to_the_data(name: str):
    trace = fine_trace(name)
    again = fit_arrivals(trace.arrival_s, trace.span)
    shipped = preset(name).arrivals
    assert again["rate"] == shipped["rate"]
    assert again["wander"]["time"] == shipped["wander"]["time"]
    assert again["wander"]["cv"] == pytest.approx(shipped["wander"]["cv"], rel=0.01)
    assert json.dumps(again["gaps"].keys().__iter__().__next__()) in json.dumps(shipped["gaps"])


def test_an_unknown_preset_is_named_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"'resoning' is not a preset \(did you mean 'reasoning'\?\); there are: azure"
    ):
        preset("resoning")


def test_a_preset_of_ones_own_is_a_file(tmp_path: Path):
    content = json.loads(to_text({**_content("reasoning"), "name": "mine"}))
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    assert preset(str(path)).name == "mine"
    assert inspect(path).kind == "preset"
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"mine.json: preset: is not JSON"):
        preset(str(path))
    path.write_text('{"name": "mine"}')
    with pytest.raises(ConfigError, match="is not a preset's content: KeyError"):
        preset(str(path))
    with pytest.raises(ConfigError, match="No such file"):
        preset(str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("arrivals", {"rate": 0.0}, "arrivals.rate: 0.0 is not a rate above 0"),
        ("arrivals", {"wander": {"cv": -1.0, "time": 1.0}}, "arrivals.wander"),
        ("arrivals", {"gaps": {"gamma": 0.0}}, "arrivals.gaps.gamma: 0.0 is not a cv"),
        ("arrivals", {"gaps": {"hyperexponential": {"weights": [0.5, 0.5], "means": [1.0, 3.0]}}}, "must add up to 1"),
        ("arrivals", {"gaps": {}}, "KeyError"),
        ("arrivals", {"rate": "fast"}, "TypeError"),
        ("lengths", {"prompt": [[0.5, 10.0], [0.4, 20.0]]}, "lengths.prompt: probabilities must rise"),
        ("lengths", {"output": [[0.5, 0.0]]}, "lengths.output: not"),
        ("lengths", {"rank_correlation": 2.0}, "lengths.rank_correlation: 2.0"),
        ("measured", {"rate": "fast"}, "measured"),
    ],
)
def test_a_preset_that_cannot_be_drawn_from_is_refused(part: str, value: dict, message: str):
    content = _content("reasoning")
    content[part] = {**content[part], **value}
    with pytest.raises(ConfigError, match=message):
        from_content(content)


def _content(name: str) -> dict:
    chosen = preset(name)
    return {
        "name": chosen.name,
        "description": chosen.description,
        "source": chosen.source,
        "licence": chosen.licence,
        "citation": chosen.citation,
        "arrivals": chosen.arrivals,
        "lengths": chosen.length_model,
        "measured": chosen.measured,
        "basis": chosen.basis,
    }


def test_a_short_trace_is_not_fitted(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n700,1,1\n")
    with pytest.raises(TraceError, match="a fit needs 100 requests in 600 s"):
        fit(read(str(path)), "mine", source="mine")


def test_a_fit_finds_the_process_that_made_a_trace(tmp_path: Path):
    """A steady Poisson process: CV of gaps 1 and hardly any drift."""
    rng = generator(5, 0, "test")
    lines = [f"{at:.6f},{n},5" for n, at in enumerate(rng.exponential(0.5, 3_000).cumsum(), start=1)]
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(lines))
    content = fit(read(str(path)), "mine", source="a test")
    assert content["arrivals"]["rate"] == pytest.approx(2.0, rel=5 / 3_000**0.5)
    assert content["arrivals"]["gaps"]["gamma"] == pytest.approx(1.0, abs=5 / 3_000**0.5)
    assert content["arrivals"]["wander"]["cv"] < 0.15
    assert from_content(json.loads(to_text(content))).length_model["rank_correlation"] == 0.0
