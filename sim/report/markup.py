"""HTML in which nothing goes unescaped: text and attributes always are, unless they were made here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

__all__ = ["Markup", "joined", "tag"]

_VOID = frozenset({"meta", "br", "hr"})


class Markup(str):
    """HTML that is safe to put in as it is, because :func:`tag` made it or it is a constant of this package."""

    __slots__ = ()


Content = str | Markup | None | Iterable["Content"]


def joined(content: Content) -> Markup:
    """The parts in one: strings are escaped, None is nothing."""
    if content is None:
        return Markup("")
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(escape(content, quote=False))
    return Markup("".join(joined(part) for part in content))


def tag(name: str, /, *content: Content, **attributes: str | int | bool | None) -> Markup:
    """``<name attributes>content</name>``; ``class_`` and ``data_label`` are written class and data-label, None and False left out."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")
