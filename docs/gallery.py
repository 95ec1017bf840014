"""Makes the gallery: each shipped scenario run, its answer and one picture of its report.

python docs/gallery.py [NAME ...]      writes docs/gallery.md and docs/images/gallery/*.png; minutes, on a quiet machine

Runs are kept in runs/gallery and taken from there where the scenario is as it was; names are of scenarios to run anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import sim
from sim.observe import load
from sim.report import draw
from sim.report.reading import view_of

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "gallery"
PICTURES = ROOT / "docs" / "images" / "gallery"

# the plot that says most, by the beginning of its name
TELLING = {
    "autoscaler_shootout": "cost",
    "azure_replay": "cdf-ttft",
    "batch_vs_realtime": "cost",
    "black_friday": "fleet-",
    "chat_capacity": "cost",
    "rate_limits": "causes-",
    "retry_storm": "heat",
    "router_choice": "cdf-ttft",
    "scale_to_zero": "cost",
    "spot_savings": "cost",
    "zone_loss": "fleet-",
}


def entry(path: Path, *, anew: bool) -> str:
    """What the page says of one scenario; its picture is written beside."""
    scenario = sim.load(path)
    place = RUNS / path.stem
    comparison = None if anew else _kept(place, scenario)
    if comparison is None:
        comparison = sim.compare(scenario)
        comparison.save(place)
    plots = list(draw(view_of(comparison)))
    chosen = next((plot for plot in plots if plot.name.startswith(TELLING.get(path.stem, ""))), plots[0])
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / f"{path.stem}.png").write_bytes(chosen.file("png"))
    first, *rest = comparison.verdict.sentence.rstrip(".").split(". ")
    answer = ". ".join([first, *rest[: bool(rest and "also meets" in rest[0])]])  # the winner, and who is next
    return "\n".join(
        [
            f"## {path.stem.replace('_', ' ').capitalize()}",
            "",
            f"**{scenario.question}**",
            "",
            f"{answer}.",
            "",
            f"![{chosen.title}: {chosen.description}](images/gallery/{path.stem}.png)",
            "",
            f"    twinfer compare scenarios/{path.name}",
            "",
        ]
    )


def _kept(place: Path, scenario: sim.Scenario) -> sim.Comparison | None:
    """The comparison in ``place`` if it is of this scenario, by this version."""
    try:
        found = load(place)
    except sim.ResultError:
        return None
    if not isinstance(found, sim.Comparison) or list(found.options) != scenario.option_names():
        return None
    same = all(
        result.manifest.get("scenario") == scenario.with_option(name).digest() for name, result in found.options.items()
    )
    return found if same else None


def main(names: list[str]) -> None:
    """Write the page and its pictures."""
    paths = sorted((ROOT / "scenarios").glob("*.yaml"))
    unknown = sorted(set(names) - {path.stem for path in paths})
    if unknown:
        sys.exit(f"no such scenario: {', '.join(unknown)}")
    head = "# Gallery\n\nThe questions twinfer comes with, each under a minute on two cores, with what came out. Made by docs/gallery.py.\n"
    text = "\n".join([head, *(entry(path, anew=path.stem in names) for path in paths)])
    (ROOT / "docs" / "gallery.md").write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
