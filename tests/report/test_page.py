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
from sim.report.page import render, write
from sim.report.view import View

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


def test_it_stays_small_with_many_requests_and_options(compared: Callable[..., View]) -> None:
    view = compared()
    options = tuple(replace(view.options[0], name=f"option-{number}") for number in range(12))
    assert len(render(replace(view, options=options)).encode()) < 2_000_000


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
