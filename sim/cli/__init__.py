"""The ``twinfer`` command. Thin: it parses, calls and prints; nothing here is imported before it is needed.

app          the commands, and those that installed packages add
options      the flags that commands share
simulating   run, compare, report
sweeping     sweep, sweep show, sweep export
swept        the table of a sweep
scenarios    validate, schema, init
listing      catalog
tracing      traces list, fetch, inspect, fit
deploying    deploy
console      what goes to stdout and what to stderr; progress
tables       the tables for people
"""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]

BAD_INPUT = 2
INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit: 0 done, 1 objective not met under ``--check``, 2 bad input, 130 interrupted.

    SIGTERM interrupts as Ctrl-C does: else worker processes would stay behind, and process 1 of a container would not even notice.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from sim.cli.app import app
        from sim.errors import SimulationError, TwinferError

        try:
            app(prog_name="twinfer")
        except SimulationError as fault:
            sys.stderr.write(f"twinfer: {fault}\nThis is a fault of twinfer, not of your input: please report it.\n")
            sys.exit(BAD_INPUT)
        except TwinferError as fault:
            sys.stderr.write(f"{fault}\n")
            sys.exit(BAD_INPUT)
        except OSError as fault:
            place = f"{fault.filename}: " if fault.filename else ""
            sys.stderr.write(f"{place}{fault.strerror or fault}\n")
            sys.exit(BAD_INPUT)
        except SystemExit as end:
            # typer has caught the interrupt; a command that caught it itself has said what there is to say
            if end.code == INTERRUPTED and isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
