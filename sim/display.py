"""What notebooks show of an object: small HTML tables, everything in them escaped, without colours of their own, so that they are
read on a light page and on a dark one. A leaf: it knows nothing of what it shows.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

__all__ = ["details", "html_table", "paragraph", "plain"]


def html_table(rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table; the first row is its heading. Cells are text."""
    head, *body = [
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        for tag, row in zip(["th"] + ["td"] * (len(rows) - 1), rows, strict=True)
    ]
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table>"


def paragraph(text: str, *, strong: bool = False) -> str:
    """A paragraph; nothing of an empty one."""
    said = html.escape(text)
    return f"<p>{f'<strong>{said}</strong>' if strong else said}</p>" if text else ""


def details(summary: str, content: str) -> str:
    """``content``, which is HTML, folded under a line of text."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def plain(value: object) -> str:
    """A value of a scenario as a person would write it on one line: {kind: hpa, min: 1}."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(plain, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
