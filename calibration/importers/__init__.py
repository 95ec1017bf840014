"""Profiles from kernel timings that others measured.

``import_layers`` reads the layer timings of LLMServingSim's vLLM profiler, ``import_kernels`` the kernel tables of aiconfigurator.
"""

from __future__ import annotations

from calibration.importers.kernels import import_kernels
from calibration.importers.layers import import_layers

__all__ = ["import_kernels", "import_layers"]
