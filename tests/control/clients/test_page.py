"""The examples of docs/controllers/clients.md run."""

import re

import pytest

from tests.paths import ROOT

_PAGE = (ROOT / "docs" / "controllers" / "clients.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"## ([^\n]+)\n(?:(?!\n## ).)*?```python\n(.*?)```", _PAGE, re.DOTALL)


@pytest.mark.parametrize("block", [pytest.param(code, id=title) for title, code in _BLOCKS])
def test_the_example_runs(block: str) -> None:
    assert "assert" in block
    exec(compile(block, "clients.md", "exec"), {})


def test_every_block_is_run() -> None:
    assert len(_BLOCKS) == _PAGE.count("```python") == 7
