"""The page on faults: its examples run, its scenarios are right, its tables are those of the code and the catalog."""

from __future__ import annotations

import re

import pytest
import yaml

from sim import catalog
from sim.config.outages import KINDS, Fault, plans
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("python"))
def test_examples_run(block: str) -> None:
    exec(compile(block, "docs/faults.md", "exec"), {"__name__": "page"})


@pytest.mark.parametrize("block", blocks("yaml"))
def test_scenarios_are_right(block: str) -> None:
    entries = [Fault.model_validate(entry) for entry in yaml.safe_load(block)["faults"]]
    assert len(plans(entries)) == len(entries)


def test_every_kind_and_every_rate_is_told_of() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)[: len(KINDS)] == list(KINDS)
    for name in catalog.names("failures"):
        assert f"`{name}`" in PAGE or f"`-{name.rpartition('-')[2]}`" in PAGE, name
    for name in (
        "llama3-405b",
        "llama3-405b-gpu",
        "llama3-405b-software",
        "llama3-405b-node",
        "llama3-405b-host",
        "meta-rsc-1",
    ):
        row = re.search(rf"^\| `{name}` \| \w+ \| ([\d,]+) \|", PAGE, re.MULTILINE)
        assert row is not None
        assert int(row[1].replace(",", "")) == round(catalog.failure(name).mtbf / 3600.0)
