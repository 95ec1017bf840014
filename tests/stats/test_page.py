"""The examples of docs/statistics.md run, in order, as a reader would type them."""

from __future__ import annotations

import re

import pytest

import sim.stats
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "statistics.md").read_text("utf-8")


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 7
    for block in blocks:
        exec(compile(block, "docs/statistics.md", "exec"), names)
    said = capsys.readouterr().out
    assert said.startswith("0.415 ± 0.021\n")
    assert "(False, True, True, True)" in said
    assert names["best"] == 1


def test_the_page_names_what_there_is() -> None:
    table = PAGE.split("## Which one for what")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert named <= set(sim.stats.__all__)
    functions = {
        name for name in sim.stats.__all__ if name[0].islower() or name in ("KimNelson", "Feasibility", "Stopping")
    }
    assert functions - named == {
        # parts of others, and what twinfer itself needs
        "autocorrelation", "bonferroni", "coverage", "histogram_quantiles", "lower_bound", "quantiles", "standard_errors", "t_cdf",
        "t_quantile", "von_neumann",
    }  # fmt: skip
