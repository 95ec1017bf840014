"""The example of docs/controllers/oracles.md runs."""

import re

from tests.paths import ROOT

_PAGE = (ROOT / "docs" / "controllers" / "oracles.md").read_text(encoding="utf-8")


def test_the_example_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    assert "assert" in block
    exec(compile(block, "oracles.md", "exec"), {})
