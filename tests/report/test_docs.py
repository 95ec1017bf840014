"""docs/report.md: its examples run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "report.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("place", range(2))
def test_examples_of_the_page_run(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(BLOCKS) == 2
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[place], "docs/report.md", "exec"), names)
    assert names["html"].startswith("<!doctype html>")
    assert names.get("png", b"\x89PNG").startswith(b"\x89PNG")
    assert "What moves" in names["html"]
