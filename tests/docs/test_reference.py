"""The pages under docs: those written from the code are current, and what pages point at is there."""

from __future__ import annotations

import re
import runpy

import pytest

from sim import profiles
from tests.calibration.toys import batches
from tests.paths import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize(
    "name", ["cli.md", "profiles.md", "roofline.md", "scenario.md", "../validation.md", "../../twinfer.schema.json"]
)
def test_reference_page_is_what_the_code_says(name: str) -> None:
    written = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()[name]
    committed = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert committed == written, "run `make docs`"


def test_the_table_of_profiles_has_their_p95_and_bias_and_models_that_do_not_generate() -> None:
    table = runpy.run_path(str(ROOT / "docs" / "generate.py"))["_held_out_table"]
    lines = table([batches(), profiles.load("h100-sxm/llama-3.1-8b/tp1")])
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == lines[3].count("|")
    assert lines[2] == "| `toy/batches` | 9 |  |  |  |  | 1.2% / 3.0%, p95 4.1%, bias −0.4% |"
    assert lines[3].endswith("|  |")  # it has no batches, nor could it


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_files_lead_somewhere(page) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing
