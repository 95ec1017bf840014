"""The parts of the page that say why, and the log that they are read from."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sim.cli.tables import show_comparison, show_run
from sim.observe import Result, WorkloadFacts, load
from sim.report.log import ResultLog
from sim.report.page import render
from sim.report.reading import view_of
from sim.report.view import Option, View
from tests.observe import making
from tests.report.test_page import HOSTILE, Elements


@pytest.fixture(name="page", scope="module")
def _page(elastic: View) -> str:
    return render(elastic)


def headings(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", page)


def test_the_answer_comes_first_and_why_the_losers_lose_next(page: str) -> None:
    assert headings(page)[:4] == ["Options", "Cost and service", "What breaks first", "Why not the others"]
    assert page.index('class="answer') < page.index('id="options"') < page.index("hpa misses as replicas start.")


def test_sections_follow_what_is_known(page: str, html: str) -> None:
    told = [
        "Where the time goes",
        "Load and replicas",
        "What became of the requests",
        "Cold starts",
        "Money and energy",
        "Decisions",
    ]
    assert [heading for heading in headings(page) if heading in told] == told
    assert not set(told) & set(headings(html))


def test_every_picture_is_said_in_words_and_every_id_is_one(page: str) -> None:
    elements = Elements(page)
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)
    assert "hpa 6.1 s: cold start 71%, compute 18%, failure 11%" in page
    assert "Ready: 2.3 on average, 1 to 3; asked for: 3 at most. Marked: 1 fault." in page  # (1 x 200 + 3 x 400) / 600


def test_outcomes_are_shares_of_the_requests_that_came(page: str) -> None:
    (row,) = (row for row in re.findall(r"<tr>.*?</tr>", page) if "queue full" in row)
    assert re.findall(r">([^<>]+)<", row) == [
        "hpa", "97.0%", "3.0%", "–", "–", "–", "1.20 ±0.01", "queue full 3.0%",
    ]  # fmt: skip


def test_starts_and_money_are_rows(page: str) -> None:
    assert "waited for GPUs 10.0 s, weights (local disk) 30.0 s" in page
    (row,) = (row for row in re.findall(r"<tr>.*?</tr>", page) if "h100 (h100-sxm)" in row)
    assert re.findall(r">([^<>]+)<", row) == [
        "hpa", "h100 (h100-sxm)", "12.0 ±0.5", "20.0% ±1.0", "1.50 ±0.10", "2.50",
    ]  # fmt: skip


def test_many_decisions_are_listed_to_a_point_and_counted_beyond(
    elastic: View, elastic_option: Callable[..., Option], told: Callable[..., Any]
) -> None:
    page = render(replace(elastic, options=(elastic_option("busy", told(scales=1000)),)))
    assert page.count("load is over the target") == 39  # and the fault
    assert "1,000 scale" in page
    assert "961 more are in events.parquet" in page
    assert "1:01:40" in page  # 3700.5 s
    assert "01:40.0" in page  # 100 s


def test_hostile_names_and_reasons_are_text(
    elastic: View, elastic_option: Callable[..., Option], told: Callable[..., Any]
) -> None:
    hostile = replace(elastic_option(HOSTILE, told(text=HOSTILE)), limits=(HOSTILE,))
    elements = Elements(render(replace(elastic, options=(hostile, *elastic.options))))
    assert not elements.named("script")
    assert HOSTILE in elements.text["td"]


def result(**others: Any) -> Result:
    """One replication with a decision, what followed from it, a fault and a remark."""
    events = [
        {"t_s": 5.0, "kind": "scale", "reason": "load", "deployment": "pool", "before": 1, "after": 2, "load": 12.3456},
        {"t_s": 5.0, "kind": "place", "reason": "pack", "deployment": "pool", "replica": 0, "node": 1},
        {
            "t_s": 9.0,
            "kind": "fault",
            "reason": "lost",
            "deployment": "",
            "pool": "h100",
            "zone": "a",
            "nodes": [1, 2],
            "lasts": None,
        },
        {"t_s": 0.0, "kind": "exhausted", "reason": "no more requests"},
    ]
    rows = [making.request(0.1 * place, 0.1 * place, 0.1 * place + 0.1, 0.1 * place + 0.5) for place in range(100)]
    return Result(making.scenario(), [making.record(rows, events=events, end=12.0, **others)])


def test_the_log_lists_decisions_with_their_numbers_and_counts_the_rest() -> None:
    listed, counts = ResultLog(result()).decisions(10)
    assert [(one.kind, one.where, one.reason, one.numbers) for one in listed] == [
        ("scale", "pool", "load", "1 → 2, load 12.35"),
        ("fault", "h100 zone a", "lost", "nodes 1 2"),
    ]
    assert counts == {"fault": 1, "place": 1, "scale": 1}


def test_incidents_are_faults_of_the_deployment_or_of_machines() -> None:
    assert [one.kind for one in ResultLog(result()).incidents("pool")] == ["fault"]


def test_arrivals_are_a_rate() -> None:
    moments, rate = ResultLog(result()).arrivals("pool")
    assert rate.sum() * (moments[1] - moments[0]) == pytest.approx(100.0)
    assert rate[:90] == pytest.approx(10.0, rel=0.11)  # ten a second, one each 0.1 s: a stretch of that length has 1
    assert rate[110:].tolist() == [0.0] * 10


def test_a_result_is_read_with_its_explanations() -> None:
    view = view_of(result())
    (option,) = view.options
    assert option.course is not None
    assert [pool.name for pool in option.course.pools] == ["pool"]
    assert option.explanation is not None
    assert "Decisions" in headings(render(view))


def test_the_terminal_says_why_in_a_line_for_each_missed_objective(elastic: View) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    show_comparison(elastic, console)
    show_run(replace(elastic, options=elastic.options[-1:]), console)
    lines = [line.strip() for line in console.export_text().splitlines() if line.startswith("why")]
    assert lines == [
        "why  hpa: hpa misses as replicas start.",
        "why  hpa misses as replicas start.",
        "why  chat was limited for 30% of the time.",
    ]


def test_what_kept_its_objectives_is_counted_by_when_it_came() -> None:
    """Ten requests a second apart, the last four late: of the last two fifths none kept the limit of 0.5 s."""
    workload = WorkloadFacts("chat", "llama", "default", {"ttft_p99": 0.5})
    rows = [making.request(float(at), at, at + (0.1 if at < 6 else 0.9), at + 1.0) for at in range(10)]
    found = Result(making.scenario(), [making.record(rows, workloads=(workload,))])
    (kept,) = found.course.kept
    assert (kept.workload, kept.end, sum(kept.came), sum(kept.kept)) == ("chat", 9.0, 10, 6)
    assert [place for place, count in enumerate(kept.kept) if count] == [int(at / 9.0 * 60.0) for at in range(6)]


def test_a_saved_result_gives_the_same_page(tmp_path: Path) -> None:
    found = result()
    found.records[0].events.append(
        {"t_s": 8.0, "kind": "ready", "reason": "probed", "deployment": "pool", "replica": 0, "seconds": 8.0, "waited": 0.0,
         "phases": {"weights": 5.0, "compile": 3.0}}
    )  # fmt: skip
    found.save(tmp_path / "run")
    page = render(view_of(found))
    assert "weights 5.0 s, compile 3.0 s" in page
    assert render(view_of(load(tmp_path / "run"))) == page
