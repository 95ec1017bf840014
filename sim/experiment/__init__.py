"""Scenarios run: systems built, replications spread over the cores, results and comparisons put together."""

from sim.experiment.runner import Progress, compare, simulate

__all__ = ["Progress", "compare", "simulate"]
