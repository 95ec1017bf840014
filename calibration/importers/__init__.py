"""Reading what others measured, and what engines and load generators logged.

``import_layers`` reads the layer timings of LLMServingSim's vLLM profiler, ``import_kernels`` the kernel tables of aiconfigurator: each
makes a profile. ``read_iterations`` reads vLLM's log of iterations, ``read_run`` the requests it served, ``iteration_samples`` says of
the two what each iteration was made of; ``read_cells`` does so for controlled loads, ``read_steps`` for any engine's step times.
``read_starts`` reads the phases of a server's start.
"""

from __future__ import annotations

from calibration.importers.cells import cells_outside, read_cells
from calibration.importers.iterations import read_iterations
from calibration.importers.kernels import import_kernels
from calibration.importers.layers import import_layers
from calibration.importers.reconstruction import iteration_samples
from calibration.importers.requests import read_run
from calibration.importers.serverstart import read_starts
from calibration.importers.stepcsv import read_steps

__all__ = [
    "cells_outside",
    "import_kernels",
    "import_layers",
    "iteration_samples",
    "read_cells",
    "read_iterations",
    "read_run",
    "read_starts",
    "read_steps",
]
