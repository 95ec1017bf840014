"""``python -m benchmarks``: see :mod:`benchmarks.speed`."""

from benchmarks.speed import main

main()
