"""Interactive analysis in notebooks: ``sim.what_if(scenario)``.

knobs       what can be turned, from the scenario itself
trial       short runs on the same requests
latest      work in the background, of which only the last request counts
state       changes, the pinned baseline, and what the difference is
words       the state as HTML and as YAML
plots       latency distributions and the fleet over time (plotly)
panel       the widget (ipywidgets)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.notebook.panel import what_if
    from sim.notebook.state import WhatIf

_HOMES = {"what_if": "panel", "WhatIf": "state"}

__all__ = ["WhatIf", "what_if"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)
