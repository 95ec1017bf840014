"""Paths of files in a scenario, as they can be opened from the working directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from sim.config.tree import Node

__all__ = ["listed", "opened"]


def opened(tree: Node) -> Node:
    """``tree`` with the paths of files as they can be opened from the working directory."""
    from sim import catalog, profiles

    for steps, kind in list(_file_fields(tree)):
        node = tree
        for step in steps:
            found = node.child(step)
            assert found is not None
            node = found
        if not isinstance(node.value, str) or not node.value.strip():
            continue
        known: list[str] = []
        if kind == "architecture":
            known = catalog.names("models")
        elif kind == "profile":
            known = [*profiles.names(), profiles.ROOFLINE]
        elif kind == "gpu":
            known = [*catalog.names("gpus"), *profiles.names()]
        elif kind == "trace":
            known = catalog.names("traces")
        tree = _replaced(tree, steps, replace(node, value=_opened(node.value, node.place.folder, known, kind)))
    return tree


def _file_fields(tree: Node) -> Iterator[tuple[tuple[str | int, ...], str]]:
    models = tree.fields.get("models")
    for name, model in (models.fields if models is not None else {}).items():
        if model.child("architecture"):
            yield ("models", name, "architecture"), "architecture"
    for index, pool in enumerate(listed(tree.fields.get("cluster"), "pools")):
        if pool.child("gpu"):
            yield ("cluster", "pools", index, "gpu"), "gpu"
    for index, deployment in enumerate(listed(tree, "deployments")):
        if deployment.child("profile"):
            yield ("deployments", index, "profile"), "profile"
    for index, workload in enumerate(listed(tree, "workloads")):
        for part, key in (("arrivals", "trace"), ("arrivals", "preset"), ("lengths", "preset"), ("lengths", "trace")):
            holder = workload.child(part)
            if holder is not None and holder.child(key):
                yield ("workloads", index, part, key), key


def _replaced(node: Node, steps: tuple[str | int, ...], value: Node) -> Node:
    if not steps:
        return value
    child = node.child(steps[0])
    assert child is not None
    return node.with_child(steps[0], _replaced(child, steps[1:], value))


def _opened(text: str, folder: str, known: list[str], kind: str) -> str:
    """``text`` if it is a name that twinfer knows, else the path of the file it stands for."""
    if text in known:
        return text
    text = os.path.expanduser(text)  # noqa: PTH111
    if not folder or os.path.isabs(text):  # noqa: PTH117
        return text
    joined = os.path.normpath(os.path.join(folder, text))  # noqa: PTH118
    if os.sep not in joined:
        joined = os.path.join(".", joined)  # noqa: PTH118
    looks_like_a_path = kind == "trace" or text.endswith(".json") or text.startswith(("./", "../"))
    return joined if looks_like_a_path or os.path.exists(joined) else text  # noqa: PTH110


def listed(node: Node | None, key: str) -> list[Node]:
    """The nodes of the list under ``key``; empty if there is none."""
    found = None if node is None else node.fields.get(key)
    return [] if found is None else found.items
