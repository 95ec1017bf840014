"""From a scenario file to a Scenario, or to every fault that is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from sim.config import checks, document, faults, paths
from sim.config.files import listed, opened
from sim.config.fleet import Deployment, Model, Pool
from sim.config.outages import Fault
from sim.config.run import Run
from sim.config.scenario import STUDIES, Scenario
from sim.config.space import FACTORS, OPTION, no_option
from sim.config.tree import Node, Place, merge, node_of
from sim.config.units import shown
from sim.config.values import Part
from sim.config.workload import Workload
from sim.errors import ConfigError, Problem, did_you_mean

__all__ = ["at_point", "build", "load", "load_text", "located"]

_MAX_FILES = 20
_Part = TypeVar("_Part", bound=Part)


def load(path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Scenario:
    """The scenario in the file ``path``, with ``overrides`` set.

    ``overrides`` are values by path, as ``--set`` gives them: ``{"deployments.chat.replicas": 4}``. Text among them is read as
    YAML would read it (``"4"`` is a number, ``"[1, 2]"`` a list). Raises ConfigError with every problem found.
    """
    try:
        shown_path = os.fsdecode(path)
    except (TypeError, ValueError):
        raise ConfigError([Problem(f"{shown(path)} is not the path of a scenario file")]) from None
    problems: list[Problem] = []
    tree = _read(shown_path, problems, (), None)
    return _finish(tree, problems, overrides, Path(shown_path))


def load_text(text: str, overrides: Mapping[str, Any] | None = None, *, file: str = "scenario.yaml") -> Scenario:
    """As :func:`load`, from the content of a file; ``file`` is its name in messages and what its paths are relative to."""
    problems: list[Problem] = []
    tree = _extended(*_parsed(text, file), problems, (os.path.realpath(file),))
    return _finish(tree, problems, overrides, Path(file))


def _finish(tree: Node, problems: list[Problem], overrides: Mapping[str, Any] | None, path: Path) -> Scenario:
    if overrides is not None and not isinstance(overrides, Mapping):
        raise ConfigError([Problem(f"{shown(overrides)} is not a mapping of values by path", path="overrides")])
    for name, value in (overrides or {}).items():
        try:
            tree = _override(tree, name, value)
        except ConfigError as error:
            problems.extend(error.problems)
    scenario, found = _examine(tree)
    problems.extend(found)
    problems.extend(_of_studies(tree))
    seen = set(found)
    options = tree.fields.get("options")
    for name in options.fields if options is not None else ():
        try:
            found = _examine(_with_option(tree, name))[1]
        except ConfigError as error:
            found = list(error.problems)
        problems.extend(_of_option(problem, tree, name) for problem in found if problem not in seen)
    if problems or scenario is None:
        raise ConfigError(_in_order(problems))
    return _sealed(scenario, tree, path, None)


def _in_order(problems: list[Problem]) -> list[Problem]:
    files = list(dict.fromkeys(problem.file for problem in problems if problem.file is not None))
    order = {file: index for index, file in enumerate(files)}
    return sorted(dict.fromkeys(problems), key=lambda p: (order.get(p.file or "", len(files)), p.line or 0))


def build(tree: Node, path: Path | None, option: str | None) -> Scenario:
    """A scenario from its tree, with one option applied. ConfigError with every problem found."""
    changed = tree if option is None else _with_option(tree, option)
    scenario, problems = _examine(changed)
    if problems or scenario is None:
        own = problems if option is None else [_of_option(problem, tree, option) for problem in problems]
        raise ConfigError(_in_order(own))
    return _sealed(scenario, tree, path, option)


def located(tree: Node, option: str | None, steps: Sequence[str | int], message: str) -> Problem:
    """A problem of what stands at ``steps`` of a scenario that is right in itself."""
    if option is None:
        return faults.problem_at(tree, steps, message)
    return _of_option(faults.problem_at(_with_option(tree, option), steps, message), tree, option)


def _sealed(scenario: Scenario, tree: Node, path: Path | None, option: str | None) -> Scenario:
    scenario._tree, scenario._path, scenario._option = tree, path, option
    return scenario


# --- files


def _read(path: str, problems: list[Problem], above: tuple[str, ...], extending: Node | None) -> Node:
    """The tree of a file, with those it extends merged in. ``above``: the files that extend it, innermost last."""
    place = Place(file=path) if extending is None else extending.place

    def refuse(message: str) -> ConfigError:
        if extending is None:
            return ConfigError([Problem(message, file=path)])
        return ConfigError([place.problem(f"{extending.shown()}: {message}", "extends")])

    real = os.path.realpath(path) if "\0" not in path else path
    if real in above:
        raise refuse("extends itself, in a circle")
    if len(above) >= _MAX_FILES:
        raise refuse(f"more than {_MAX_FILES} files extend each other")
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(document.MAX_BYTES + 1)
    except IsADirectoryError:
        raise refuse("is a folder, not a scenario file") from None
    except FileNotFoundError:
        raise refuse(f"there is no such file{_nearest(path)}") from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > document.MAX_BYTES:
        raise refuse(f"is larger than {document.MAX_BYTES >> 20} MiB; a scenario is a page")
    return _extended(*_parsed(data, path), problems, (*above, real))


def _nearest(path: str) -> str:
    folder = Path(path).parent
    try:
        beside = [entry.name for entry in folder.iterdir()]
    except OSError:
        return f": the folder {str(folder)!r} cannot be read"
    return did_you_mean(Path(path).name, beside)


def _parsed(data: bytes | str, path: str) -> tuple[Node, list[Problem]]:
    place = Place(file=path, line=1, folder=os.path.dirname(path))  # noqa: PTH120 - empty, not ".", for a bare name
    tree, problems = document.parse(data, place)
    if not isinstance(tree.value, dict):
        message = (
            "is empty"
            if tree.value is None
            else f"a scenario is a mapping (run:, models:, ...), this is {tree.shown()}"
        )
        raise ConfigError([*problems, tree.place.problem(message)])
    return tree, problems


def _extended(tree: Node, found: list[Problem], problems: list[Problem], above: tuple[str, ...]) -> Node:
    problems.extend(found)
    extends = tree.fields.get("extends")
    if extends is None:
        return tree
    own = tree.with_child("extends", None)
    if extends.value is None:
        return own
    if not isinstance(extends.value, str) or not extends.value.strip():
        problems.append(extends.place.problem(f"{extends.shown()} is not the path of a scenario file", "extends"))
        return own
    path = os.path.join(extends.place.folder, os.path.expanduser(extends.value))  # noqa: PTH111, PTH118
    try:
        base = _read(path, problems, above, extends)
    except ConfigError as error:
        problems.extend(error.problems)
        return own
    return merge(base, own)


# --- changes


def _override(tree: Node, path: Any, value: Any) -> Node:
    shown_value = str(value) if not isinstance(value, Mapping | list | tuple) else repr(value)
    cut = shown_value if len(shown_value) <= 80 else f"{shown_value[:77]}..."
    place = Place(source=f"--set {path}={cut}", target=str(path), batch="--set")
    try:
        node = _value(value, place) if isinstance(value, str) else node_of(value, place)
        return paths.assign(tree, str(path), node)
    except ValueError as error:
        raise ConfigError([place.problem(str(error))]) from None
    except RecursionError:
        raise ConfigError([place.problem("is nested too deeply")]) from None


def _value(text: str, place: Place) -> Node:
    """A value from the command line: YAML if it is bracketed or quoted, else a plain scalar, whatever characters it holds."""
    stripped = text.strip()
    if stripped[:1] in ("[", "{", '"', "'"):
        node, problems = document.parse(stripped, place)
        if problems:
            raise ConfigError(problems)
        return node
    return Node(document.scalar(stripped), place, stripped)


def _with_option(tree: Node, name: str) -> Node:
    """``tree`` as the option ``name`` changes it. ConfigError with every path in it that names nothing."""
    options = tree.fields.get("options")
    changes = options.fields.get(name) if options is not None else None
    problems: list[Problem] = []
    for path, value in changes.fields.items() if changes is not None else ():
        source = value.place.source or f"options.{name}.{path}"  # --set may have written the option
        place = replace(value.place, source=source, target=path, batch=f"option {name}")
        try:
            if path.split(".")[0] == "options":
                raise ValueError("an option cannot change the options")
            tree = paths.assign(tree, path, value.sourced(place))
        except ValueError as error:
            problems.append(place.problem(str(error)))
    if problems:
        raise ConfigError(problems)
    return tree


def _of_option(problem: Problem, tree: Node, name: str) -> Problem:
    """A problem that shows where an option changes nothing, as one of the option that brings it about."""
    if problem.path.startswith((f"options.{name}.", "--set ")):
        return problem
    node = tree.fields["options"].fields[name]
    return node.place.problem(f"{problem.path}: {problem.message}", f"options.{name}")


def at_point(tree: Node, path: Path | None, option: str | None, changes: Mapping[str, Any]) -> Scenario:
    """A scenario from its tree with an option applied, then values by path. ConfigError with every problem found."""
    chosen = changes.get(OPTION, option)
    if chosen is not None:
        known = list(tree.fields["options"].fields) if "options" in tree.fields else []
        if chosen not in known:
            file = None if path is None else str(path)
            raise ConfigError([Problem(no_option(chosen, known), path=OPTION, file=file)])
        tree = _with_option(tree, chosen)
    for name in ("options", *STUDIES):
        tree = tree.with_child(name, None)
    problems: list[Problem] = []
    for name, value in changes.items():
        if name != OPTION:
            place = Place(source=f"{name}: {shown(value)[1:-1]}", target=name, batch="point")
            try:
                tree = paths.assign(tree, name, node_of(value, place))
            except ValueError as error:
                problems.append(place.problem(str(error)))
    scenario, found = _examine(tree)
    problems.extend(found)
    if problems or scenario is None:
        raise ConfigError(_in_order(problems))
    return _sealed(scenario, tree, path, None)


def _of_studies(tree: Node) -> Iterator[Problem]:
    """Paths that studies vary and no scenario has."""
    options = tree.fields.get("options")
    known = [] if options is None else list(options.fields)
    for name in STUDIES:
        over = tree.fields.get(name, Node({})).fields.get("over")
        for path, node in over.fields.items() if over is not None else ():
            where = f"{name}.over.{path}"
            if path in FACTORS and name == "sensitivity":
                continue
            if path != OPTION:
                try:
                    paths.steps_of(tree, path)
                except ValueError as error:
                    yield node.place.problem(str(error), where)
                continue
            for item in node.items:
                if item.value not in known:
                    said = no_option(item.value if item.text is None else item.text, known)
                    yield item.place.problem(said, where)


# --- the whole


def _examine(tree: Node) -> tuple[Scenario | None, list[Problem]]:
    """The scenario of a tree and all that is wrong with it; None if it cannot be made."""
    tree = opened(tree)
    data = tree.plain()
    scenario: Scenario | None = None
    problems: list[Problem] = []
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        problems.extend(faults.problems(error, tree))
    parts = _parts(scenario, tree)

    def say(steps: Any, message: str) -> None:
        problems.append(faults.problem_at(tree, steps, message))

    checks.check(parts, tree, say)
    return scenario, problems


def _parts(scenario: Scenario | None, tree: Node) -> checks.Parts:
    if scenario is not None:
        return checks.Parts(
            scenario.run,
            dict(scenario.models),
            list(scenario.cluster.pools),
            list(scenario.workloads),
            list(scenario.deployments),
            list(scenario.faults),
        )
    cluster, models = tree.fields.get("cluster"), tree.fields.get("models")
    return checks.Parts(
        _tried(Run, tree.fields.get("run", Node({}))),
        {name: _tried(Model, node) for name, node in (models.fields if models is not None else {}).items()},
        [_tried(Pool, node) for node in listed(cluster, "pools")],
        [_tried(Workload, node) for node in listed(tree, "workloads")],
        [_tried(Deployment, node) for node in listed(tree, "deployments")],
        [_tried(Fault, node) for node in listed(tree, "faults")],
    )


def _tried(kind: type[_Part], node: Node) -> _Part | None:
    try:
        return kind.model_validate({} if node.value is None else node.plain())
    except ValidationError:
        return None
