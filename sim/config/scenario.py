"""A scenario: one question, and everything needed to answer it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr

from sim.config.billing import Budget, Energy
from sim.config.fleet import Cluster, Deployment, Model
from sim.config.outages import Fault
from sim.config.run import Run
from sim.config.space import Optimize, Sensitivity, Sweep, no_option
from sim.config.tree import Node
from sim.config.units import shown
from sim.config.values import Name, Part, Reader, Text
from sim.config.workload import Workload
from sim.errors import ConfigError, Problem

__all__ = ["STUDIES", "Scenario"]

STUDIES = ("sweep", "optimize", "sensitivity")
"""Sections that say what to do with a scenario, and nothing of it."""


def _options(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{shown(value)} is not a mapping of option names to changes, like {{four: {{deployments.chat.replicas: 4}}}}"
        )
    for name, changes in value.items():
        if changes is not None and not isinstance(changes, Mapping):
            raise ValueError(
                f"option {shown(name)} is {shown(changes)}, not a mapping of paths to values ({{}} changes nothing)"
            )
    return {name: {} if changes is None else changes for name, changes in value.items()}


_OPTIONS = Reader(_options, {"type": "object", "additionalProperties": {"type": ["object", "null"]}})


class Scenario(Part):
    """What ``sim.load`` returns. Frozen; a change makes another, by an option or by loading with overrides.

    Paths of files in it are as they can be opened from the working directory it was loaded in.
    """

    question: Text | None = Field(default=None, description="What the scenario is to answer.")
    run: Run = Field(default_factory=Run, description="How long and how often it is simulated.")
    models: dict[Name, Model] = Field(description="Models by the name the scenario calls them.")
    cluster: Cluster = Field(description="The machines.")
    workloads: tuple[Workload, ...] = Field(description="Who sends requests.")
    deployments: tuple[Deployment, ...] = Field(description="Who serves them.")
    faults: tuple[Fault, ...] = Field(default=(), description="What breaks, and what operators do on purpose.")
    budget: Budget | None = Field(
        default=None, description="What it may cost, as objectives beside those of workloads."
    )
    energy: Energy | None = Field(
        default=None, description="Where the machines stand and what they draw beside their GPUs."
    )
    options: Annotated[dict[Name, dict[str, Any]], _OPTIONS] = Field(
        default_factory=dict,
        description="What is compared: for each option, values by path, like {deployments.chat.replicas: 4}.",
    )

    sweep: Sweep | None = Field(default=None, description="The points of `twinfer sweep`.")
    optimize: Optimize | None = Field(default=None, description="What `twinfer optimize` may choose.")
    sensitivity: Sensitivity | None = Field(default=None, description="What `twinfer sensitivity` varies.")

    _tree: Node | None = PrivateAttr(default=None)
    _path: Path | None = PrivateAttr(default=None)
    _option: str | None = PrivateAttr(default=None)

    @property
    def path(self) -> Path | None:
        """The file it was loaded from."""
        return self._path

    @property
    def option(self) -> str | None:
        """The option that has been applied."""
        return self._option

    def option_names(self) -> list[str]:
        """The options that can be compared, in file order; empty if there are none."""
        return list(self.options)

    def with_option(self, name: str) -> Scenario:
        """The base scenario with one option's changes, validated anew. ConfigError if it cannot be."""
        from sim.config.loading import build

        if name not in list(self.options):  # a list, so that nothing else than a name is a name, nor a fault
            known = self.option_names()
            file = None if self._path is None else str(self._path)
            raise ConfigError([Problem(no_option(name, known), path="options", file=file)])
        return build(self._source(), self._path, name)

    def with_changes(self, changes: Mapping[str, Any]) -> Scenario:
        """The scenario with values set by path, validated anew: a point of a study. ConfigError if it cannot be.

        The path ``option`` applies that option before the rest. What it returns has no options, and asks for no study.
        """
        from sim.config.loading import at_point

        return at_point(self._source(), self._path, self._option, changes)

    def base(self) -> Scenario:
        """The scenario with no option applied."""
        from sim.config.loading import build

        return self if self._option is None else build(self._source(), self._path, None)

    def _source(self) -> Node:
        from sim.config.tree import Place, node_of

        if self._tree is None:  # made in Python, not loaded
            return node_of(self.model_dump(exclude_unset=True), Place())
        return self._tree

    def problem(self, steps: Sequence[str | int], message: str) -> Problem:
        """A fault that shows only when the scenario is built, at the place where what stands at ``steps`` was written."""
        from sim.config.loading import located

        return located(self._source(), self._option, steps, message)

    def _repr_html_(self) -> str:
        from sim.config.display import scenario_html

        return scenario_html(self)

    def digest(self) -> str:
        """SHA-256 of all that decides the outcome.

        The question, the options left aside, what studies vary and whether steps are kept do not count; files count by their
        content, wherever they lie.
        """
        content = self.model_dump(mode="json", exclude={"question", "options", *STUDIES})
        del content["run"]["steps"]
        for model in content["models"].values():
            model["architecture"] = _fingerprint(model["architecture"])
        for pool in content["cluster"]["pools"]:
            pool["gpu"] = _fingerprint(pool["gpu"])
        for deployment in content["deployments"]:
            deployment["profile"] = _fingerprint(deployment["profile"])
        for workload in content["workloads"]:
            arrivals, lengths = workload["arrivals"], workload["lengths"] or {}
            for holder, key in ((arrivals, "trace"), (arrivals, "preset"), (lengths, "preset"), (lengths, "trace")):
                if holder.get(key):
                    holder[key] = _fingerprint(holder[key])
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(name: str | None) -> str | None:
    """A name as it is; a file as the checksum of its content."""
    if name is None:
        return None
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / "config.json"
    try:
        state = path.stat()
    except OSError:
        return name
    return _checksum(str(path), state.st_mtime_ns, state.st_size) if path.is_file() else name


@lru_cache(maxsize=64)
def _checksum(path: str, modified: int, size: int) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"
