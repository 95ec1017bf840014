"""The examples of docs/controllers/routers.md run, and hold what they assert."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.paths import DATA, ROOT

PAGE = (ROOT / "docs" / "controllers" / "routers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[0] for block in BLOCKS])
def test_example_runs(block: str) -> None:
    assert "assert" in block
    exec(compile(block, "routers.md", "exec"), {"__name__": "example"})


def test_the_page_counts_the_cases() -> None:
    cases = yaml.safe_load((DATA / "control" / "router_cases.yaml").read_text(encoding="utf-8"))
    assert len(BLOCKS) == 8
    assert f"{len(cases)} cases (`tests/data/control/router_cases.yaml`)" in PAGE
