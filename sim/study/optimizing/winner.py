"""The winner as a scenario file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.config import Scenario

__all__ = ["written"]


def written(scenario: Scenario, folder: Path, sentence: str) -> str:
    """``scenario`` as YAML that ``sim.load`` reads from ``folder``: complete, with what was left out still left out.

    Files it names are given as they are found from there.
    """
    import yaml

    content = scenario.model_dump(
        mode="json", exclude_unset=True, exclude={"options", "sweep", "optimize", "sensitivity"}
    )
    head = "".join(f"# {line}\n" for line in wrap(f"Found by twinfer optimize: {sentence}", 110))
    return head + yaml.safe_dump(_moved(content, folder), sort_keys=False, allow_unicode=True, width=120)


def _moved(value: Any, folder: Path) -> Any:
    """``value`` with the paths of files in it as they are from ``folder``."""
    if isinstance(value, Mapping):
        return {
            key: os.path.relpath(Path(item).expanduser(), folder) if _file(key, item) else _moved(item, folder)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_moved(item, folder) for item in value]
    return value


def _file(key: str, value: Any) -> bool:
    """Whether it names a file: fields that take a name of the catalog take one as well."""
    fields = ("architecture", "gpu", "profile", "trace", "preset")
    return key in fields and isinstance(value, str) and Path(value).expanduser().exists()
