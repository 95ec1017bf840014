"""The kit for those who extend twinfer: conformance suites to inherit, Hypothesis strategies, small synthetic models.

``RouterConformance`` is run by pytest, :mod:`sim.testing.strategies` needs Hypothesis; nothing else of twinfer imports
either.
"""

from __future__ import annotations

from sim.testing.routers import RouterConformance

__all__ = ["RouterConformance"]
