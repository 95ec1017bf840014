"""What docs/coldstarts.md shows runs."""

from __future__ import annotations

import re

import yaml

from sim.config.growth import Growth, Storage
from sim.config.startup import ColdStart, Drain, WarmPool
from tests.paths import ROOT

PAGE = (ROOT / "docs/coldstarts.md").read_text()


def test_its_example_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/coldstarts.md", "exec"), {})


def test_its_yaml_can_be_written() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    blocks = [yaml.safe_load(block) for block in re.findall(r"(?m)(?:^    .*\n)+", prose)]
    cold = next(block["cold_start"] for block in blocks if "cold_start" in block)
    assert ColdStart.model_validate(cold).known(None, 16e9).start.image_bytes == 10e9
    pool = next(block["pools"][0] for block in blocks if isinstance(block, dict) and "pools" in block)
    assert Growth.model_validate(pool["growth"]).spare == 1
    assert Storage.model_validate(pool["storage"]).network == 12.5e9
    inline = dict(re.findall(r"`(warm_pool|drain): (\{.*?\})`", PAGE))
    assert WarmPool.model_validate(yaml.safe_load(inline["warm_pool"])).size == 2
    assert Drain.model_validate(yaml.safe_load(inline["drain"])).grace == 30.0
