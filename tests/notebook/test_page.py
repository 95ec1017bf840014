"""The blocks of docs/notebooks.md run, one after another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_blocks_of_the_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "notebooks.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    names: dict[str, object] = {}

    for block in blocks:
        exec(block, names)

    assert len(blocks) == 2
    assert names["w"].pinned == {"deployments.chat.replicas": 6}  # type: ignore[attr-defined]
