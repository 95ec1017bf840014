"""The control plane: routers and their registry, and the fleet they control."""

from sim.control.router import FleetView, Router

__all__ = ["FleetView", "Router"]
