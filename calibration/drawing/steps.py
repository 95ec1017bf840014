"""Panels of step times: measured points on the lines that the simulation reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from calibration.drawing.style import MUTED, SERIES, legend, logarithmic, titled
from calibration.residuals import is_measured, rows, total
from sim.perf.compile import step_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.perf.steptable import StepTable
    from sim.profiles.schema import Profile

__all__ = ["Panel", "panels"]

Panel = Callable[["Axes"], None]

_MOST_TOKENS: Final = 32_768
_MOST_SEQUENCES: Final = 1024
_LINES: Final = 5  # in a panel: more cannot be told apart
_BEYOND: Final = (0, (3, 2))  # the line where nothing was measured


def panels(profile: Profile) -> Iterator[Panel]:
    """The panels of a model that generates."""
    steps = _Steps(profile)
    yield steps.by_tokens
    yield steps.by_context
    yield steps.by_chunk
    if profile.steps.mixed is not None:
        yield steps.together
    if profile.steps.spread is not None:
        yield steps.unequal


class _Steps:
    """A profile compiled for the largest batches that were measured, and its points, in milliseconds."""

    def __init__(self, profile: Profile) -> None:
        step = profile.steps
        tokens = min(max(curve.at[-1] for curve in step.tokens.parts.values()), _MOST_TOKENS)
        self.tokens = max(tokens, 2)
        self.sequences = min(step.decode.sequences[-1], _MOST_SEQUENCES, self.tokens)
        self.step = step
        self.table: StepTable = step_table(profile, self.sequences, self.tokens)
        self.face = None if is_measured(profile) else "white"  # points that nobody measured are hollow

    def by_tokens(self, axes: Axes) -> None:
        """What a step spends by its scheduled tokens, and by its sequences."""
        titled(axes, "A step without attention, ms", "scheduled tokens; sequences")
        for curves, values, most, name, colour in (
            (self.step.tokens, self.table.gemm, self.tokens, "by tokens: GEMMs and all else", SERIES[0]),
            (self.step.sequences, self.table.sample, self.sequences, "by sequences: LM head, sampler", SERIES[1]),
        ):
            at, us = total(curves)
            kept = at <= most
            axes.plot(range(1, most + 1), 1e3 * np.asarray(values[1 : most + 1]), color=colour, linewidth=1.3)
            self._points(axes, at[kept], us[kept] * 1e-3, colour, name)
        self._scales(axes)
        legend(axes)

    def by_context(self, axes: Axes) -> None:
        """A whole decode step by the context of its requests, for some batch sizes."""
        titled(axes, "A decode step, ms", "context of each request, tokens; dashed: not measured")
        grid = self.step.decode
        contexts = np.unique(np.geomspace(grid.contexts[0], grid.contexts[-1], 120).astype(int))
        known = [number for number, batch in enumerate(grid.sequences) if batch <= self.sequences]
        for colour, number in zip(SERIES, _some(known), strict=False):
            batch = grid.sequences[number]
            fixed = self.table.gemm[batch] + self.table.sample[batch] + self.table.host
            line = np.array([1e3 * self.table.decode_step(batch, batch * int(context), 0) for context in contexts])
            us = rows(grid.us)[number]
            last = grid.contexts[int(np.flatnonzero(np.isfinite(us))[-1])]
            axes.plot(contexts[contexts <= last], line[contexts <= last], color=colour, linewidth=1.3)
            axes.plot(
                contexts[contexts >= last], line[contexts >= last], color=colour, linewidth=1.0, linestyle=_BEYOND
            )
            self._points(axes, np.asarray(grid.contexts, float), 1e3 * fixed + us * 1e-3, colour, f"{batch:,}")
        self._scales(axes)
        legend(axes, "requests in the batch", 3)

    def by_chunk(self, axes: Axes) -> None:
        """Attention of a prefill chunk by its length, after some numbers of cached tokens."""
        titled(axes, "Attention of one prefill chunk, ms", "tokens in the chunk")
        grid = self.step.prefill
        most = min(grid.chunks[-1], self.tokens)
        chunks = np.unique(np.geomspace(grid.chunks[0], most, 120).astype(int))
        measured = _some(range(len(grid.pasts)))
        pasts = [grid.pasts[number] for number in measured] if len(measured) > 1 else [0, most // 8, most]
        for number, (colour, past) in enumerate(zip(SERIES, pasts, strict=False)):
            seconds = [self._lone(int(chunk), past) for chunk in chunks]
            known = past in grid.pasts
            name = f"{past:,}" if known else f"{past:,} (derived)"
            style = "-" if known else _BEYOND
            axes.plot(chunks, seconds, color=colour, linewidth=1.3, linestyle=style, label=None if known else name)
            if known:
                column = rows(grid.us)[:, measured[number]] * 1e-3
                self._points(axes, np.asarray(grid.chunks, float), column, colour, name, below=most)
        self._scales(axes)
        legend(axes, "cached tokens before it", 3)

    def together(self, axes: Axes) -> None:
        """Attention of a chunk and of decodes in one kernel, by the number of decodes, beside the sum of the two apart."""
        block = self.step.mixed.blocks[0] if self.step.mixed else None
        assert block is not None
        context = block.contexts[len(block.contexts) // 2]
        titled(axes, f"Attention of a chunk and decodes of {context:,} tokens, ms", "decodes beside the chunk")
        shape = (len(block.chunks), len(block.pasts), len(block.sequences), len(block.contexts))
        us = np.array([np.nan if value is None else value for value in block.us], dtype=float).reshape(shape)
        batches = np.unique(np.geomspace(1, min(block.sequences[-1], self.sequences), 60).astype(int))
        fitting = [number for number, chunk in enumerate(block.chunks) if chunk + batches[-1] <= self.tokens]
        for colour, number in zip(SERIES, _some(fitting, 3), strict=False):
            chunk = block.chunks[number]
            both = [self._mixed(chunk, int(batch), context) for batch in batches]
            apart = [self._lone(chunk, 0) + self._decodes(int(batch), context) for batch in batches]
            axes.plot(batches, both, color=colour, linewidth=1.3)
            axes.plot(batches, apart, color=colour, linewidth=1.0, linestyle=(0, (2, 2)))
            points = us[number, 0, :, block.contexts.index(context)] * 1e-3
            self._points(axes, np.asarray(block.sequences, float), points, colour, f"{chunk:,}", below=self.sequences)
        axes.plot([], [], color=MUTED, linewidth=1.0, linestyle=(0, (2, 2)), label="the two apart, added")
        self._scales(axes)
        legend(axes, "tokens in the chunk", 2)

    def unequal(self, axes: Axes) -> None:
        """What a step takes longer because contexts differ, for each 1,000 tokens of their standard deviation."""
        titled(axes, "Unequal contexts: ms more for 1,000 tokens of deviation", "decodes")
        spread = self.step.spread
        assert spread is not None
        for colour, values, name in (
            (SERIES[0], spread.decode_us, "decodes alone"),
            (SERIES[1], spread.mixed_us, "with a prefill chunk"),
        ):
            axes.plot(spread.sequences, values, color=colour, linewidth=1.3)
            axes.plot(spread.sequences, values, "o", color=colour, markersize=4, label=name)
        logarithmic(axes, "x", 2)
        axes.set_ylim(bottom=0.0)
        legend(axes)

    def _points(self, axes: Axes, x: Any, y: Any, colour: str, name: str, below: float = np.inf) -> None:
        kept = np.isfinite(y) & (x <= below)
        axes.plot(x[kept], y[kept], "o", color=colour, markersize=3.6, markerfacecolor=self.face or colour, label=name)

    def _scales(self, axes: Axes) -> None:
        logarithmic(axes, "x", 2)
        logarithmic(axes, "y")

    def _lone(self, chunk: int, past: int) -> float:
        """Milliseconds of attention of a chunk alone: what a step takes beyond its kernels by tokens and sequences."""
        whole = self.table.mixed_step(chunk, chunk * (2 * past + chunk), 0, 0, 0, 1)
        return 1e3 * (whole - self.table.gemm[chunk] - self.table.sample[1] - self.table.host)

    def _decodes(self, batch: int, context: int) -> float:
        fixed = self.table.gemm[batch] + self.table.sample[batch] + self.table.host
        return 1e3 * (self.table.decode_step(batch, batch * context, 0) - fixed)

    def _mixed(self, chunk: int, batch: int, context: int) -> float:
        whole = self.table.mixed_step(chunk, chunk * chunk, batch, batch * context, 0, batch + 1)
        fixed = self.table.gemm[chunk + batch] + self.table.sample[min(batch + 1, self.sequences)] + self.table.host
        return 1e3 * (whole - fixed)


def _some(values: Sequence[int] | range, most: int = _LINES) -> list[int]:
    """At most ``most`` of ``values``, evenly spread, the ends among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
