"""Panels of what is measured beside step times: residuals, load phases, batches of models that do not generate, power."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from calibration.digest import PARTS, PHASES
from calibration.drawing.style import INK, MUTED, SERIES, counted, logarithmic, titled
from calibration.residuals import residuals
from calibration.sections import PLACES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.profiles.parts import Samples
    from sim.profiles.schema import Profile

__all__ = ["panels"]

Panel = Callable[["Axes"], None]

_WORST: Final = 0.30  # residuals beyond are drawn at the edge
_DOTS: Final = 600  # of a part; of more, so many are chosen at random


def panels(profile: Profile) -> Iterator[Panel]:
    """The panels for which there is something."""
    if profile.batch is not None:
        yield lambda axes: _batch_times(axes, profile)
        yield lambda axes: _batch_rates(axes, profile)
    if residuals(profile):
        yield lambda axes: _residuals(axes, profile)
    if profile.load is not None:
        if profile.load.phases:
            yield lambda axes: _phases(axes, profile)
        if profile.load.read or profile.load.to_device:
            yield lambda axes: _transfers(axes, profile)
    if profile.power is not None and profile.power.at:
        yield lambda axes: _power(axes, profile)


def _residuals(axes: Axes, profile: Profile) -> None:
    """Each point left out and read from its neighbours: a dot a point, a bar over the middle 80 %."""
    titled(axes, "Each point left out and read from its neighbours: error", "bar: the middle 80 % of the points")
    found = residuals(profile)
    chance = np.random.default_rng(0)
    for place, (name, errors) in enumerate(found.items()):
        y = len(found) - 1 - place
        shown = errors if len(errors) <= _DOTS else chance.choice(errors, _DOTS, replace=False)
        dots = np.clip(shown, -_WORST, _WORST)
        axes.plot(
            dots, y + chance.uniform(-0.24, 0.08, len(shown)), ".", color=SERIES[0], markersize=3.5, alpha=0.4, mew=0
        )
        low, middle, high = np.clip(np.quantile(errors, [0.1, 0.5, 0.9]), -_WORST, _WORST)
        axes.plot([low, high], [y - 0.34, y - 0.34], color=INK, linewidth=2.2, solid_capstyle="butt")
        axes.plot(middle, y - 0.34, "o", color=INK, markersize=4.5)
        sizes = np.abs(errors)
        said = f"{PARTS[name]}: median {np.median(sizes):.1%}, p90 {np.quantile(sizes, 0.9):.1%}".replace("%", " %")
        axes.annotate(
            said, (0.0, y + 0.16), xycoords=("axes fraction", "data"), fontsize=8.5, color=INK, va="bottom",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
    axes.axvline(0.0, color=MUTED, linewidth=0.8, zorder=0)
    reach = min(_WORST, 1.1 * max(float(np.quantile(np.abs(errors), 0.99)) for errors in found.values()))
    axes.set_xlim(-max(reach, 0.02), max(reach, 0.02))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_ylim(-0.6, len(found) - 0.45)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", visible=False)


def _phases(axes: Axes, profile: Profile) -> None:
    """Phases of a start: the median as a bar, each repeat as a dot."""
    load = profile.load
    assert load is not None
    titled(axes, f"A start, {load.bytes / 1e9:.3g} GB of weights: seconds")
    rows = [(words, load.phases[name], name == "ready") for name, words in PHASES.items() if name in load.phases]
    _bars(axes, [(words, samples, 1.0, "s", SERIES[7] if whole else SERIES[0]) for words, samples, whole in rows])


def _transfers(axes: Axes, profile: Profile) -> None:
    """Ways that weights come: the median as a bar, each repeat as a dot."""
    load = profile.load
    assert load is not None
    titled(axes, "How fast weights come: GB/s")
    rates = [*load.read.items(), *load.to_device.items()]
    rows = [(PLACES[name], rate.bytes_per_second, 1e-9, "GB/s", SERIES[4]) for name, rate in rates]
    _bars(axes, rows)


def _bars(axes: Axes, rows: list[tuple[str, Samples, float, str, str]]) -> None:
    most = max(factor * samples.values[-1] for _, samples, factor, _, _ in rows)
    for place, (name, samples, factor, unit, colour) in enumerate(reversed(rows)):
        values = factor * np.asarray(samples.values)
        middle = factor * median(samples.values)
        axes.barh(place, middle, height=0.36, color=colour, alpha=0.30, linewidth=0)
        axes.plot([values[0], values[-1]], [place, place], color=colour, linewidth=1.6)
        axes.plot(values, np.full(len(values), place), "o", color=colour, markersize=4)
        axes.annotate(
            f"{middle:.3g} {unit}", (max(values[-1], middle), place), xytext=(7, 0), textcoords="offset points", va="center",
            fontsize=8.5,
        )  # fmt: skip
        axes.annotate(name, (0.0, place + 0.22), fontsize=8.5, va="bottom", color=INK)
    axes.set_yticks([])
    axes.set_ylim(-0.4, len(rows) - 0.3)
    axes.set_xlim(0.0, 1.2 * most)
    axes.grid(axis="y", visible=False)


def _batch_times(axes: Axes, profile: Profile) -> None:
    batch = profile.batch
    assert batch is not None
    titled(axes, f"One pass over a batch of {batch.input}, ms", "batch size")
    axes.plot(batch.at, 1e-3 * np.asarray(batch.us), "o-", color=SERIES[0], markersize=4)
    logarithmic(axes, "x", 2)
    logarithmic(axes, "y")


def _batch_rates(axes: Axes, profile: Profile) -> None:
    batch = profile.batch
    assert batch is not None
    titled(axes, "Inputs a second", "batch size")
    axes.plot(batch.at, 1e6 * np.asarray(batch.at) / np.asarray(batch.us), "o-", color=SERIES[1], markersize=4)
    logarithmic(axes, "x", 2)
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_formatter(FuncFormatter(counted))


def _power(axes: Axes, profile: Profile) -> None:
    power: Any = profile.power
    titled(axes, "Power of one GPU, W", "batch size" if profile.step is None else "scheduled tokens a step")
    axes.plot(power.at, power.watts, "o-", color=SERIES[3], markersize=4)
    top = max(power.watts)
    for level, name in ((power.idle_watts, "at rest"), (power.limit_watts, "limit")):
        if level is not None and level <= 2.0 * top:
            axes.axhline(level, color=MUTED, linewidth=1.0, linestyle=(0, (4, 2)))
            axes.annotate(
                name, (1.0, level), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points", ha="right",
                fontsize=8.5, color=MUTED,
            )  # fmt: skip
    logarithmic(axes, "x", 2)
    axes.set_ylim(
        0.0, 1.15 * max(top, power.limit_watts if power.limit_watts and power.limit_watts <= 2.0 * top else 0.0)
    )
