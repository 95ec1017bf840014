"""Where the tests find things: the project, its scenarios, and the measurements of others that lie beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = ROOT / "scenarios"
DATA = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared" / "data"
"""Published measurements (traces, kernel times, recorded runs), kept out of the project; it may be absent."""


def shared(*parts: str) -> Path:
    """The path of a file or folder under ``SHARED``; skips the calling test (or module), saying why, where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(
            f"the shared measurements are not here: {'/'.join(('shared/data', *parts))}", allow_module_level=True
        )
    return path
