"""The pages under docs: those written from the code are current, and what pages point at is there."""

from __future__ import annotations

import re
import runpy

import pytest

from tests.paths import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", ["cli.md", "profiles.md", "scenario.md", "../../twinfer.schema.json"])
def test_reference_page_is_what_the_code_says(name: str) -> None:
    written = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()[name]
    committed = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert committed == written, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_files_lead_somewhere(page) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing
