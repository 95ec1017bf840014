"""The control plane: routers and their registry, and the fleet they control."""

from sim.control.router import FleetView, Router
from sim.control.routers import (
    LeastOutstanding,
    LeastTokens,
    PowerOfTwo,
    RandomChoice,
    RoundRobin,
    SessionAffinity,
)

__all__ = [
    "FleetView",
    "LeastOutstanding",
    "LeastTokens",
    "PowerOfTwo",
    "RandomChoice",
    "RoundRobin",
    "Router",
    "SessionAffinity",
]
