"""The frame of every page twinfer writes: head and style, a title, a table of contents, sections with tables and pictures.

    html = shell("A title", [Section("points", "Points", [table("Points of the sweep", heads, rows), pictures(plots)])])
    save(html, Path("sweep.html"))

One file that loads nothing, the same bytes for the same contents; light and dark, on a phone and on paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sim.atomic import replacing
from sim.errors import ResultError
from sim.report.markup import Content, Markup, tag

if TYPE_CHECKING:
    from sim.report.plot import Plot

__all__ = ["Section", "picture", "pictures", "save", "scroll", "shell", "table"]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page under a heading of the second level. ``name`` is its id: letters, digits and dashes, one a page."""

    name: str
    heading: str
    content: Content


def shell(
    title: str,
    sections: Iterable[Section],
    *,
    eyebrow: str = "",
    lead: Content = None,
    contents: bool = True,
    footer: str = "Written by twinfer. This file needs no network.",
) -> str:
    """A whole page: ``eyebrow`` in small letters, ``title``, ``lead`` (before any heading), a table of contents unless there is one
    section, ``sections``. Strings are escaped; :func:`sim.report.markup.tag` makes what is not."""
    parts = list(sections)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · twinfer"),
        tag("style", style()),
    )
    main = tag(
        "main",
        tag("p", eyebrow, class_="eyebrow") if eyebrow else None,
        tag("h1", title),
        lead,
        _contents(parts) if contents and len(parts) > 1 else None,
        *(tag("section", tag("h2", part.heading, id=part.name), part.content) for part in parts),
    )
    body = tag("body", main, tag("footer", footer) if footer else None)
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _contents(sections: Sequence[Section]) -> Markup:
    links = (tag("li", tag("a", section.heading, href=f"#{section.name}")) for section in sections)
    return tag("nav", tag("ol", *links), class_="contents", aria_label="Contents")


@cache
def style() -> Markup:
    """The style sheet, with the colours of the plots."""
    from sim.report.plot import DARK, LIGHT

    text = resources.files("sim.report").joinpath("style.css").read_text(encoding="utf-8")
    for marker, colours in (("/*LIGHT*/", LIGHT), ("/*DARK*/", DARK)):
        text = text.replace(marker, " ".join(f"--{role}: {colour};" for role, colour in colours.items()))
    return Markup(text)


def table(
    caption: str, heads: Sequence[Content], rows: Iterable[Sequence[Content]], *, words: bool = True, class_: str = ""
) -> Markup:
    """A table that scrolls by itself where it is too wide. The first cell of a row is its header. ``words``: to the left; else numbers,
    to the right. ``caption`` says what it is, shown to those who do not see it."""
    body = (tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows)
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *body),
        class_=" ".join(part for part in ("words" if words else "", class_) if part) or None,
    )
    return scroll(made, caption)


def scroll(content: Content, label: str, class_: str = "") -> Markup:
    """What may be wider than the page, in a region that scrolls and that the keyboard reaches, named ``label``."""
    return tag("div", content, class_=f"scroll {class_}".rstrip(), role="region", aria_label=label, tabindex=0)


def pictures(plots: Iterable[Plot]) -> Markup | None:
    """Plots side by side where there is room; None if there are none."""
    made = [picture(plot) for plot in plots]
    return tag("div", *made, class_="plots") if made else None


def picture(plot: Plot, class_: str | None = None) -> Markup:
    """A figure: the plot under its title (a heading of the third level), with its description."""
    identity = f"plot-{plot.name}"
    return tag(
        "figure",
        tag("h3", plot.title, id=identity),
        tag("div", plot.svg(), role="img", aria_labelledby=identity, aria_describedby=f"{identity}-says"),
        tag("figcaption", plot.description, id=f"{identity}-says"),
        class_=class_,
    )


def save(html: str, path: Path) -> None:
    """Write a page under a temporary name, then rename. ResultError if the place cannot be written."""
    try:
        with replacing(path) as scratch:
            scratch.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ResultError(f"{path}: cannot be written: {error.strerror or error}") from error
