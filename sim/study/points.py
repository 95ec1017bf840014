"""The points of a sweep: a grid of all combinations, or so many spread over the space.

The same specification gives the same points, in the same order, whatever is run of them and where.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from sim.config.space import OPTION, Dimension, dimension, no_option
from sim.config.units import shown
from sim.errors import ConfigError, Problem, did_you_mean

if TYPE_CHECKING:
    from sim.config import Scenario

__all__ = ["METHODS", "Point", "points", "share", "space"]

Point = dict[str, Any]
"""Values by path, as a scenario writes them."""

METHODS = ("grid", "random", "latin-hypercube", "sobol")
_MOST = 10**6


def space(scenario: Scenario, over: Mapping[str, Any], where: str = "over") -> dict[str, Dimension]:
    """What ``over`` says may vary in ``scenario``. ConfigError with every path and value that cannot be."""
    from sim.config.paths import steps_of

    if not isinstance(over, Mapping):
        raise ConfigError([Problem(f"{shown(over)} is not a mapping of paths to values", path=where)])
    problems: list[Problem] = []
    found: dict[str, Dimension] = {}
    tree = scenario._source()
    names = scenario.option_names()
    for path, given in over.items():
        try:
            found[str(path)] = one = dimension(given)
            if path != OPTION:
                steps_of(tree, str(path))
                continue
            for value in one.values or [None]:
                if value not in names:
                    raise ValueError(no_option(value, names))
        except ValueError as error:
            problems.append(Problem(str(error), path=f"{where}.{path}"))
    if problems:
        raise ConfigError(problems)
    if not found:
        raise ConfigError(
            [Problem("nothing varies: give paths with their values, like deployments.chat.replicas: 1..8", path=where)]
        )
    return found


def points(over: Mapping[str, Dimension], method: str = "grid", count: int | None = None, seed: int = 0) -> list[Point]:
    """The points of the space ``over``, each once: of a finite space there may be fewer than ``count``.

    ``grid``: all combinations, the last dimension fastest. ``random``: independent and uniform. ``latin-hypercube``: each dimension is
    cut in ``count`` stretches, and each of them is met once. ``sobol``: Owen-scrambled, and most even where ``count`` is a power of
    two. ConfigError for what cannot be done.
    """
    if method not in METHODS:
        raise ConfigError(
            [
                Problem(
                    f"{shown(method)} is not one of {', '.join(METHODS)}{did_you_mean(str(method), METHODS)}", "method"
                )
            ]
        )
    if method == "grid":
        if count is not None:
            raise ConfigError(
                [Problem("a grid has as many as its values make; give steps, or another method", "points")]
            )
        return _grid(over)
    if count is None:
        raise ConfigError([Problem(f"method {method} needs to know how many", "points")])
    if not 1 <= count <= _MOST:
        raise ConfigError([Problem(f"{count} is not a whole number from 1 to {_MOST:,}", "points")])
    shares = _shares(method, len(over), count, seed)
    return _once(
        [{path: one.at(share) for (path, one), share in zip(over.items(), row, strict=True)} for row in shares]
    )


def share(every: list[Point], shard: tuple[int, int]) -> list[Point]:
    """Of ``every`` point those of shard (k, n), k from 1 to n: every nth from the kth on. ConfigError if there is no such shard."""
    number, of = shard
    if not 1 <= number <= of:
        raise ConfigError([Problem(f"{number}/{of}: shards are numbered from 1 to {of}", "shard")])
    return every[number - 1 :: of]


def _grid(over: Mapping[str, Dimension]) -> list[Point]:
    values = []
    for path, one in over.items():
        try:
            values.append(one.grid())
        except ValueError as error:
            raise ConfigError([Problem(str(error), f"over.{path}")]) from None
    size = math.prod(map(len, values))
    if size > _MOST:
        raise ConfigError(
            [Problem(f"a grid of {size:,} points; allowed: at most {_MOST:,}. Fewer steps, or another method", "over")]
        )
    return _once([dict(zip(over, row, strict=True)) for row in product(*values)])


def _shares(method: str, dimensions: int, count: int, seed: int) -> list[list[float]]:
    """Points of the unit cube."""
    from scipy.stats import qmc

    from sim.kernel.streams import generator

    stream = generator(seed, 0, f"sweep/{method}")
    if method == "random":
        drawn = stream.random((count, dimensions))
    elif method == "latin-hypercube":
        drawn = qmc.LatinHypercube(dimensions, seed=stream).random(count)
    else:
        with warnings.catch_warnings():  # that a power of two is better, docs/sweeps.md says
            warnings.filterwarnings("ignore", message="The balance properties", category=UserWarning)
            drawn = qmc.Sobol(dimensions, scramble=True, seed=stream).random(count)
    found: list[list[float]] = drawn.tolist()
    return found


def _once(found: list[Point]) -> list[Point]:
    return list({json.dumps(point, sort_keys=True, default=str): point for point in reversed(found)}.values())[::-1]
