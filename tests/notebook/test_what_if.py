"""The what-if without a browser: knobs, pairs, the pinned baseline, the last request, errors."""

from __future__ import annotations

import builtins
import threading
import time
from typing import Any

import numpy as np
import pytest
from scipy import stats

import sim
from sim.config import load_text
from sim.notebook.knobs import custom, derived
from sim.notebook.latest import Latest, Superseded

TEXT = """
run: {duration: 20s, replications: 9, seed: 3, warmup: 0}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, instance: aws/p5.4xlarge, nodes: 4}]}
workloads:
  - name: chat
    model: llama
    arrivals: {rate: 10/s}
    lengths: {prompt: 500, output: 50}
    objectives: {ttft_p99: 2s, tpot_p99: 50ms}
deployments:
  - {name: chat, model: llama, pool: h100, replicas: 2, router: {kind: least-outstanding}}
options:
  three: {deployments.chat.replicas: 3}
  scaled: {deployments.chat.autoscaler: {kind: hpa, metric: concurrency, target: 8, min: 1, max: 4}}
"""


@pytest.fixture
def scenario() -> sim.Scenario:
    return load_text(TEXT)


@pytest.fixture
def w(scenario: sim.Scenario) -> Any:
    return sim.what_if(scenario, duration=10, replications=3)


def test_the_knobs_are_those_of_what_the_scenario_has(scenario: sim.Scenario) -> None:
    knobs = {knob.path: knob for knob in derived(scenario)}

    assert knobs["deployments.chat.replicas"].values == (1, 2, 3, 4)  # four machines with one GPU each
    assert knobs["workloads.chat.arrivals.scale"].shown[0] == "2.5 req/s"
    scalers = knobs["deployments.chat.autoscaler"]
    assert scalers.values[scalers.start] is None
    assert "hpa (scaled)" in scalers.shown
    assert all(knob.shown[knob.start] for knob in knobs.values())


def test_every_knob_at_every_place_gives_a_scenario_or_says_why_not(scenario: sim.Scenario) -> None:
    for knob in derived(scenario):
        for place in range(len(knob.values)):
            changed = scenario.with_changes(knob.turned({}, place))
            assert (changed.digest() == scenario.digest()) == (place == knob.start), (knob.path, knob.shown[place])


def test_both_see_the_same_requests(w: Any) -> None:
    w.set({"deployments.chat.replicas": 1})

    columns = ["replication", "arrival_s", "prompt_tokens", "output_tokens"]
    assert w.result.requests[columns].equals(w.baseline.requests[columns])


def test_the_difference_is_the_paired_t_interval_over_the_replications(w: Any) -> None:
    w.set({"deployments.chat.replicas": 1})

    gaps = np.array(w.result.figures.values("ttft_p99")) - np.array(w.baseline.figures.values("ttft_p99"))
    low, high = stats.t.interval(0.95, len(gaps) - 1, gaps.mean(), stats.sem(gaps))
    found = w.difference["ttft_p99"]
    assert len(gaps) == 3
    assert found.difference == pytest.approx(gaps.mean())
    assert (found.difference - found.half_width, found.difference + found.half_width) == pytest.approx((low, high))
    assert w.difference["usd_per_hour"].difference == pytest.approx(-6.88)  # a p5.4xlarge less
    assert w.frame().loc["usd_per_hour", "now"] == pytest.approx(6.88)


def test_pinning_makes_what_is_now_the_baseline(w: Any) -> None:
    w.set({"deployments.chat.replicas": 4})
    w.pin()

    assert w.pinned == {"deployments.chat.replicas": 4}
    assert w.baseline.summary == w.result.summary
    w.set({})
    assert w.difference["usd_per_hour"].difference == pytest.approx(-2 * 6.88)
    w.reset()
    assert w.changes == {"deployments.chat.replicas": 4}


def test_the_yaml_is_an_option_that_makes_the_same_scenario(scenario: sim.Scenario) -> None:
    w: Any = sim.what_if(scenario.with_option("three"), duration=5, replications=2)
    w.set({"workloads.chat.arrivals.scale": 2.0, "deployments.chat.autoscaler": {"kind": "slo", "min": 1, "max": 4}})

    pasted = load_text(TEXT.partition("options:")[0] + w.yaml("mine"))

    assert pasted.with_option("mine").digest() == scenario.with_changes({"option": "three"} | w.changes).digest()


def test_an_option_is_taken_over_into_the_knobs(w: Any) -> None:
    w.apply("three")

    assert w.changes == {"deployments.chat.replicas": 3}
    assert w.panel.knobs["deployments.chat.replicas"].label == "3"
    with pytest.raises(sim.ConfigError, match=r"'thre' is not an option to apply \(did you mean 'three'\?\)"):
        w.apply("thre")


def test_turning_a_knob_of_the_widget_is_answered_in_the_background_and_leaves_no_thread(w: Any) -> None:
    before = threading.active_count()

    for place in (2, 3, 0):
        w.panel.knobs["deployments.chat.replicas"].index = place
    assert w.panel.wait(60)

    assert w.changes == {"deployments.chat.replicas": 1}  # the last of three
    assert threading.active_count() == before
    assert "$6.88/h" in w.panel.verdict.value
    assert w.panel.plots.fleet.data[3].y[0] == 1


def test_what_cannot_be_run_is_said_in_a_line_and_what_was_shown_stays(w: Any) -> None:
    w.panel.ask({"deployments.chat.replicas": 9})
    assert w.panel.wait(60)

    assert "\n" not in w.error
    assert "9" in w.error
    assert w.changes == {}
    assert w.error in w.panel.fault.value.replace("&#x27;", "'")
    with pytest.raises(sim.TwinferError):
        w.set({"deployments.chat.replicas": 9})
    w.set({"deployments.chat.replicas": 3})
    assert w.error == ""
    assert w.panel.fault.value == ""


def test_knobs_of_the_users_own_take_lists_and_ranges(scenario: sim.Scenario) -> None:
    sizes = custom(scenario, "deployments.chat.engine.block_size", [8, 16, 32])
    rates = custom(scenario, "workloads.chat.arrivals.rate", ["5/s", "10/s"])
    share = custom(scenario, "deployments.chat.engine.watermark", {"from": 0.1, "to": 0.3, "steps": 3})

    assert (sizes.start, rates.start, share.start) == (1, 1, 0)
    assert share.shown == ("as it is", "0.1", "0.2", "0.3")
    with pytest.raises(sim.ConfigError, match="block_siz"):
        custom(scenario, "deployments.chat.engine.block_siz", [8])


def test_a_scenario_is_asked_for_in_words() -> None:
    with pytest.raises(sim.ConfigError, match="is not a scenario"):
        sim.what_if("scenarios/chat_capacity.yaml")  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["plotly", "anywidget"])
def test_without_plotly_the_figures_are_there_and_a_line_says_what_is_missing(
    scenario: sim.Scenario, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    without(monkeypatch, missing)
    w: Any = sim.what_if(scenario, duration=5, replications=2)

    assert w.panel.plots is None
    assert "SLO met" in w.panel.cards.value
    assert any(
        "plots need plotly and anywidget: pip install" in getattr(one, "value", "")
        for one in w.panel.widget.children[1].children
    )


def test_without_ipywidgets_it_says_so(scenario: sim.Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "ipywidgets")

    with pytest.raises(sim.TwinferError, match="needs ipywidgets: pip install 'twinfer\\[notebooks\\]'"):
        sim.what_if(scenario)


def without(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """As if ``module`` were not installed."""
    real = builtins.__import__

    def refused(name: str, *given: Any, **more: Any) -> Any:
        if name.partition(".")[0] == module:
            raise ImportError(f"No module named {module!r}", name=module)
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", refused)


def test_only_the_last_request_is_answered_and_work_that_is_not_wanted_stops() -> None:
    begun, go = threading.Event(), threading.Event()
    stopped: list[int] = []
    answers: list[tuple[int, int]] = []

    def work(request: int, stale: Any) -> int:
        if request == 1:
            begun.set()
            go.wait(30)
            if stale():
                stopped.append(request)
                raise Superseded
        return request * 10

    latest: Latest[int, int] = Latest(work, lambda request, answer: answers.append((request, answer)), settle=0.01)
    latest.ask(1)
    assert begun.wait(30)
    latest.ask(2)
    latest.ask(3)
    go.set()
    assert latest.wait(30)

    assert stopped == [1]
    assert answers == [(3, 30)]
    latest.ask(4)
    latest.drop()
    assert latest.wait(30)
    time.sleep(0.05)
    assert answers == [(3, 30)]
