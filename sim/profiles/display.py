"""A profile as notebooks show it: what it is of, who measured it, and how far off it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.display import details, html_table, paragraph

if TYPE_CHECKING:
    from sim.profiles.parts import HeldOut
    from sim.profiles.schema import Profile

__all__ = ["profile_html"]


def profile_html(profile: Profile) -> str:
    """Provenance, errors, and the time of a few steps as measured; all text escaped."""
    origin = profile.provenance
    facts = [
        ["profile", profile.name],
        ["model", f"{profile.model}, {profile.dtype}, KV cache {profile.kv_dtype}"],
        ["GPU", f"{profile.gpu}, tensor parallel {profile.tensor_parallel}"],
        ["engine", profile.engine],
        ["source", origin.source],
        ["licence", origin.licence],
        [
            "measured",
            " · ".join(part for part in (origin.measured_at, origin.host, f"{origin.points:,} values") if part),
        ],
        ["versions", ", ".join(f"{name} {version}" for name, version in origin.versions.items())],
    ]
    head, *rest = [row for row in facts if row[1]]
    said = html_table([head, *rest])
    errors = [[part, *_error(held)] for part, held in _held(profile) if held is not None]
    if errors:
        said += html_table([["error of points left out", "points", "median", "90 % within", "bias"], *errors])
    else:
        said += paragraph("No point was left out to measure its error.")
    if profile.doubt is not None:
        said += paragraph(f"Doubt of its parts ({', '.join(profile.doubt.parts)}): {profile.doubt.method}")
    if profile.step is not None:
        said += html_table(_decode(profile))
    notes = "".join(paragraph(note) for note in origin.notes)
    return said + details("how it was made", paragraph(origin.command) + notes)


def _held(profile: Profile) -> list[tuple[str, HeldOut | None]]:
    step = profile.step
    if step is None:
        return []
    return [
        ("whole steps", step.held_out),
        ("by tokens", step.tokens.held_out),
        ("by sequences", step.sequences.held_out),
        ("attention of prefill", step.prefill.held_out),
        ("attention of decode", step.decode.held_out),
        ("attention of both", None if step.mixed is None else step.mixed.held_out),
        ("unequal contexts", None if step.spread is None else step.spread.held_out),
    ]


def _error(held: HeldOut) -> list[str]:
    bias = "" if held.bias is None else f"{held.bias:+.1%}"
    return [f"{held.points:,}", f"{held.median:.1%}", f"{held.p90:.1%}", bias]


_FEW = 5


def _decode(profile: Profile) -> list[list[str]]:
    """Attention of decode steps, in µs, at a few of the points measured."""
    grid = profile.steps.decode
    rows, columns = _few(len(grid.sequences)), _few(len(grid.contexts))
    table = [["decode attention (µs a step)", *(f"{grid.contexts[at]:,} tokens each" for at in columns)]]
    for row in rows:
        values = [grid.us[row][at] for at in columns]
        cells = ["" if value is None else f"{value:,.0f}" if value >= 1000.0 else f"{value:.4g}" for value in values]
        table.append([f"{grid.sequences[row]:,} sequences", *cells])
    return table


def _few(count: int) -> list[int]:
    """At most a few of ``count`` indices, the first and the last among them."""
    return sorted({round(step * (count - 1) / max(min(count, _FEW) - 1, 1)) for step in range(min(count, _FEW))})
