"""A scenario that runs in ten milliseconds, for studies of many points."""

from __future__ import annotations

from pathlib import Path

from tests.small import small

SMALL = small(question="How many replicas?", requests=40, replications=2, seed=3, nodes=8)

REPLICAS, RATE = "deployments.chat.replicas", "workloads.chat.arrivals.rate"


def write(folder: Path, text: str = SMALL) -> Path:
    """The scenario as a file."""
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a store that is not its page, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".html"
    }
