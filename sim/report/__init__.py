"""Results for people: the same view of a run or a comparison as a table in the terminal, a page and pictures.

view      what is shown: options, their figures with intervals, objectives and how each fares
format    numbers short enough for a table
figures   plots (matplotlib, imported when first drawn)
page      report.html: one file, no network
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.report.figures import draw
    from sim.report.page import render, write
    from sim.report.view import View

__all__ = ["View", "draw", "render", "write"]

_HOMES = {"View": "view", "draw": "figures", "render": "page", "write": "page"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
