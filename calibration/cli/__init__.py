"""``twinfer calibrate``: from measurements to profiles."""

from __future__ import annotations

import typer

from calibration.cli import endpoint, importing, predicting, showing, torch, validating

__all__ = ["app"]

app = typer.Typer(
    name="calibrate",
    help="Profiles of hardware and engines, from measurements.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for module in (endpoint, importing, predicting, showing, torch, validating):
    module.register(app)
