"""report.html: one file that loads nothing, says everything in words too, and cannot be made to say something else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from sim.errors import ResultError
from sim.report.assumptions import NOT_MODELLED
from sim.report.format import METRICS
from sim.report.page import render, write
from sim.report.plot import DARK, LIGHT
from sim.report.shell import style
from sim.report.view import Figure, View

HOSTILE = '<script>alert("x")</script>\'"&amp; $a^{$ _b javascript:'


class Elements(HTMLParser):
    """Every start tag with its attributes, every id, all text; complains of what is not closed in order."""

    VOID = frozenset({"meta", "br", "hr", "path", "use", "rect", "image", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)

    def named(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def test_it_loads_nothing_from_anywhere(html: str) -> None:
    elements = Elements(html)
    assert not elements.named("script", "link", "iframe", "img", "object", "embed", "base", "form")
    for attributes in (attributes for _, attributes in elements.tags):
        for name, value in attributes.items():
            if name in ("src", "srcset", "href", "xlink:href", "action", "data", "poster"):
                assert value is not None
                assert value.startswith("#"), (name, value)
    style = "".join(elements.text["style"])
    assert "@import" not in style
    assert "url(" not in style
    assert not re.search(r"url\((?!#)", html)


def test_hostile_names_and_questions_are_text(compared: Callable[..., View]) -> None:
    view = compared(HOSTILE, (HOSTILE, f"{HOSTILE}2", "_hidden"))
    elements = Elements(render(replace(view, answer=HOSTILE, manifest={HOSTILE: [HOSTILE]}, notes=(HOSTILE,))))
    assert not elements.named("script")
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    assert elements.text["h1"] == [HOSTILE]
    assert any(HOSTILE in text for text in elements.text["th"])


def test_every_picture_is_said_in_words(html: str) -> None:
    elements = Elements(html)
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = [attributes for _, attributes in elements.tags if attributes.get("role") == "img"]
    assert len(pictures) == len(elements.named("svg")) == len(elements.named("figcaption")) >= 6
    for attributes in pictures:
        assert attributes["aria-labelledby"] in ids
        assert attributes["aria-describedby"] in ids


def test_references_inside_pictures_resolve(html: str) -> None:
    ids = set(re.findall(r'\bid="([^"]+)"', html))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= ids
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= ids


def test_tables_have_headers_with_scope_and_the_page_a_language_and_one_title(two_workloads: View) -> None:
    elements = Elements(render(two_workloads))
    assert all(attributes.get("scope") in ("row", "col") for attributes in elements.named("th"))
    assert len(elements.named("table")) == len(elements.named("thead"))
    assert elements.named("html") == [{"lang": "en"}]
    assert len(elements.named("h1")) == 1
    levels = [int(tag[1]) for tag, _ in elements.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))


def test_a_violation_is_marked_by_more_than_colour(html: str) -> None:
    elements = Elements(html)
    cells = {
        attributes["class"]: attributes for attributes in elements.named("span") if attributes.get("class") == "misses"
    }
    assert cells
    words = "".join(elements.text["span"])
    assert "✗" in words
    assert "misses" in words
    assert "not decided" in words


def test_it_stays_small_with_many_requests_and_options(large: View) -> None:
    html = render(large)
    assert len(html.encode()) < 2_500_000  # half of what a mail may hold
    assert len(Elements(html).named("figure")) == 1 + 6 + 2 + 6 + 3 + 2 + 1  # causes .. cost: none is left out


def test_a_manager_reads_answer_table_picture_and_risks_before_any_detail(html: str) -> None:
    headings = re.findall(r"<h2[^>]*>([^<]*)</h2>", html)
    assert headings[:3] == ["Options", "Cost and service", "What breaks first"]
    assert headings[-4:] == ["All figures", "Assumptions", "Provenance", "Glossary"]
    assert html.index("<h1>") < html.index('class="headline"') < html.index("<nav") < html.index("<h2")


def test_the_contents_lead_to_every_section(html: str) -> None:
    nav = html[html.index("<nav") : html.index("</nav>")]
    assert re.findall(r'href="#([^"]+)">([^<]+)<', nav) == re.findall(r'<h2 id="([^"]+)">([^<]*)</h2>', html)


def test_what_scrolls_is_reached_by_keyboard_and_has_a_name(html: str) -> None:
    regions = [one for one in Elements(html).named("div") if (one.get("class") or "").startswith("scroll")]
    assert len(regions) == html.count("<table") == html.count("<caption") > 3
    assert all(one["tabindex"] == "0" and one["role"] == "region" and one["aria-label"] for one in regions)


def test_numbers_of_the_table_are_those_of_the_result(comparison: View, html: str) -> None:
    table = html[html.index('role="table"') : html.index("</table>")]
    heads = re.findall(r'<th scope="col"[^>]*>([^<]*)', table)
    named = {metric.title: name for name, metric in METRICS.items()}
    seen = 0
    for option, row in zip(comparison.options, re.findall(r"<tr role=\"row\">.*?</tr>", table)[-3:], strict=True):
        cells = re.findall(r"<td.*?</td>", row)
        assert option.name in row
        assert len(cells) == len(heads) - 1
        for head, cell in zip(heads[2:], cells[1:], strict=True):
            figure = option.overall[named[head]]
            shown = re.findall(r"[\d.]+", re.sub(r"<[^>]*>", " ", cell).replace(",", ""))
            unit = re.search(r'data-label="[^"]*, ([^"]*)"', cell)
            factor = {"ms": 1e3}.get(unit[1] if unit else "", 100.0 if "%" in cell else 1.0)
            for text, known in zip(shown, (figure.value, figure.half_width), strict=True):
                assert known is not None
                last = 10.0 ** -len(text.partition(".")[2])
                assert float(text) == pytest.approx(known * factor, abs=0.5001 * last), head
            seen += 1
    assert seen == 3 * 7  # price, TTFT, TPOT, goodput, SLO, GPU, tokens


def test_a_figure_within_its_limit_that_is_missed_is_explained(comparison: View, html: str) -> None:
    missed, *others = comparison.options
    lost = replace(missed, fates=tuple(replace(fate, figure=Figure(1.0, 0.1)) for fate in missed.fates))
    assert "too many requests were not served" in render(replace(comparison, options=(lost, *others)))
    assert "too many requests were not served" not in html


def test_studies_of_load_and_parameters_are_shown_with_their_numbers(studied: View) -> None:
    html = render(studied)
    assert "What breaks first" in html
    assert "gpus-8: p99 TTFT fails first, at 1.32 ± 0.05 times the load." in html
    assert "not up to 2" in html
    assert 'id="sensitivity"' in html
    assert "Most: load by 900 ms; prompt tokens by 80 ms." in html
    rows = [row for row in re.findall(r"<tr>.*?</tr>", html) if "0.8 x" in row]
    cells = [re.findall(r">([^<>]+)<", row) for row in rows]
    assert cells == [
        ["load", "0.8 x", "-200 ±50", "1.2 x", "+900 ±100"],
        ["prompt tokens", "0.8 x", "-50.0 ±10", "1.2 x", "+80.0 ±20"],
    ]
    assert "at what load each objective fails is not known" not in html


def test_without_studies_it_says_that_no_other_load_was_tried(html: str) -> None:
    assert "at what load each objective fails is not known" in html
    assert 'id="sensitivity"' not in html


def test_assumptions_name_profiles_warnings_and_what_is_not_modelled(comparison: View) -> None:
    source = {"profile": "gb200/x/tp1", "profile_source": "predicted by roofline from the catalog"}
    html = render(replace(comparison, manifest={"warm-up": "12 s", "deployments": {"chat": source}}))
    assert "profile gb200/x/tp1, predicted, not measured" in html
    assert "3 requests were still in the system" in html
    assert "Requests of the first 12 s are left out" in html
    text = " ".join((Path(__file__).parents[2] / "docs/engine.md").read_text(encoding="utf-8").split())
    assert all(one.lower() in text.lower() for one in NOT_MODELLED)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read_on_the_page_and_on_the_paper(colours: dict[str, str]) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 to 1."""
    blocks = re.findall(r":root \{(.*?)\}", str(style()), re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[0 if colours is LIGHT else 1]))
    assert found.items() >= colours.items()
    texts = ["ink", "muted", "good", "bad", "open", "link", *(f"s{number}" for number in range(8))]
    for text in texts:
        for ground in ("paper",) if re.fullmatch(r"s\d", text) else ("paper", "page"):  # pictures lie on paper
            pair = sorted((_luminance(found[text]), _luminance(found[ground])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (text, ground)


def test_shades_of_heat_step_away_from_the_paper_evenly() -> None:
    for colours in (LIGHT, DARK):
        away = [abs(_luminance(colours[f"h{step}"]) - _luminance(colours["paper"])) for step in range(1, 8)]
        assert away == sorted(away)


def test_the_same_view_gives_the_same_bytes(comparison: View, html: str) -> None:
    assert render(comparison) == html


def test_a_run_of_one_replication_says_that_it_has_no_intervals(one_replication: View) -> None:
    html = render(one_replication)
    assert "one replication" in html
    assert "±" not in html


def test_nothing_is_left_behind_when_it_cannot_be_written(comparison: View, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="cannot be written"):
        write(comparison, tmp_path / "absent" / "report.html")
    write(comparison, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
