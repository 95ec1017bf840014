"""docs/optimize.md: what it shows runs."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "optimize.md"


def test_its_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        names: dict[str, object] = {}
        exec(block, names)
        assert "is the cheapest of 6 configurations" in names["found"].sentence  # type: ignore[attr-defined]
