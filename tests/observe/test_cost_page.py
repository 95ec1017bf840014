"""The examples of docs/cost.md run, and it names what there is."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from sim.config.billing import Billing, Budget, Energy
from sim.config.fleet import Pool
from sim.observe.metrics import metrics
from tests.observe.test_energy import drawing
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "cost.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_examples(block: str) -> None:
    assert "assert" in block
    exec(compile(block, "cost.md", "exec"), {})


def written() -> dict[str, Any]:
    """The scenario fragments of the page."""
    found: dict[str, Any] = {}
    for block in re.findall(r"\n\n((?:    .*\n)+)", PAGE):
        found |= yaml.safe_load(block)
    return found


def test_what_the_page_writes_can_be_read() -> None:
    parts = written()
    assert [Pool.model_validate(pool).name for pool in parts["pools"]] == ["steady", "spot", "bid"]
    assert Budget.model_validate(parts["budget"]).objectives == {"usd_per_hour": 40.0, "usd_per_1m_tokens": 0.3}
    assert Energy.model_validate(parts["energy"]).site()["g_per_kwh"] == 8.0


def test_every_key_and_every_figure_is_on_the_page() -> None:
    for part in (Billing, Budget, Energy):
        for name in part.model_fields:
            assert f"`{name}`" in PAGE or f"{name}:" in PAGE, name
    money = [name for name in metrics(drawing()) if re.search("usd|hours|kwh|gco2|joule|j_per|idle", name)]
    assert len(money) >= 13
    for name in money:
        assert f"`{name}`" in PAGE, name
