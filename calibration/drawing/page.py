"""A profile as a picture, or as a page with the picture and its tables."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

from calibration.drawing import measured, steps
from calibration.drawing.style import MUTED, canvas, png, style
from calibration.residuals import is_measured
from calibration.sections import Section, heading, sections
from sim.errors import ProfileError

if TYPE_CHECKING:
    from sim.profiles.schema import Profile

__all__ = ["draw", "page", "picture"]

_STYLE: Final = """\
body { margin: 0 auto; max-width: 1040px; padding: 24px 20px 48px; background: #fff; color: #1c2530;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .2em; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.8em 0 .5em; }
p { margin: 0 0 .3em; color: #5a6673; overflow-wrap: anywhere; }
img { display: block; width: 100%; height: auto; margin: 18px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px 5px 0; text-align: right; border-bottom: 1px solid #dfe4ea; }
thead th { color: #5a6673; font-weight: 600; }
.word { text-align: left; }
"""


def picture(profile: Profile, facts: Mapping[str, Any], path: Path) -> bytes:
    """The file that ``path`` asks for by its ending. :raises ProfileError: it is neither .png nor .html."""
    if path.suffix == ".png":
        return draw(profile, facts)
    if path.suffix in (".html", ".htm"):
        return page(profile, facts)
    raise ProfileError(f"{path}: a profile is drawn to a .png or an .html file")


def draw(profile: Profile, facts: Mapping[str, Any]) -> bytes:
    """All panels, two abreast, as a PNG file."""
    panels = [*(steps.panels(profile) if profile.step is not None else ()), *measured.panels(profile)]
    rows = (len(panels) + 1) // 2
    with style():
        figure = canvas(0.9 + 3.3 * rows)
        grid = figure.add_gridspec(rows, 2)
        for number, paint in enumerate(panels):
            row, column = divmod(number, 2)
            wide = column == 0 and number == len(panels) - 1
            paint(figure.add_subplot(grid[row, :] if wide else grid[row, column]))
        what, who = heading(facts)
        figure.suptitle(f"{facts['name']}\n{what}", x=0.01, ha="left", fontsize=11, fontweight="bold")
        hollow = (
            "" if profile.step is None or is_measured(profile) else "; hollow: points of the fit, not measured ones"
        )
        figure.supxlabel(fill(who + hollow, 150), x=0.01, ha="left", fontsize=8.5, color=MUTED)
        return png(figure)


def page(profile: Profile, facts: Mapping[str, Any]) -> bytes:
    """One HTML file with everything in it."""
    drawn = base64.b64encode(draw(profile, facts)).decode()
    name = escape(facts["name"])
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>',
        f"<h1>{name}</h1>",
        *(f"<p>{escape(line)}</p>" for line in heading(facts)),
        f'<img alt="Step times, measured points and lines; residuals; load times" src="data:image/png;base64,{drawn}">',
        *(_table(section) for section in sections(facts)),
        *(f"<p>Note: {escape(note)}</p>" for note in facts["notes"]),
    ]
    return ("\n".join(parts) + "\n").encode()


def _table(section: Section) -> str:
    def row(cells: tuple[str, ...], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=word' if number < section.texts else ''}>{escape(cell)}</{tag}>"
            for number, cell in enumerate(cells)
        )

    head = f"<thead><tr>{row(section.head, 'th')}</tr></thead>" if any(section.head) else ""
    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in section.rows)
    notes = "".join(f"<p>{escape(note)}</p>" for note in section.notes)
    return (
        f'<h2>{escape(section.title)}</h2><div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>{notes}'
    )
