"""The command line, called in this process as tests/cli calls it."""

from __future__ import annotations

from tests.cli.conftest import twinfer

__all__ = ["twinfer"]
