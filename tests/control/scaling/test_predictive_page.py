"""The examples of docs/controllers/predictive.md run."""

from __future__ import annotations

import re

import pytest

from tests.paths import ROOT

PAGE = (ROOT / "docs" / "controllers" / "predictive.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_examples(block: str) -> None:
    assert "assert" in block
    exec(compile(block, "predictive.md", "exec"), {})


def test_the_page_names_every_key_of_every_scaler() -> None:
    from inspect import signature

    from sim.control.scaling.oracle import OracleScaler
    from sim.control.scaling.predictive import PredictiveScaler
    from sim.control.scaling.schedule import ScheduleScaler
    from sim.control.scaling.slo import SloScaler

    for scaler in (PredictiveScaler, ScheduleScaler, SloScaler, OracleScaler):
        for name in signature(scaler).parameters:
            assert name == "knowledge" or f"`{name}`" in PAGE, f"{scaler.__name__}: {name}"
