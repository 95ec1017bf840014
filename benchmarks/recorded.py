"""A recorded vLLM on two CPU cores, predicted from its controlled cells alone.

The cells (prompts of known length, batches of known size, sent by themselves) give the step times, the recording's Poisson loads are
never looked at before they are compared. ``light_a`` and ``light_b`` are the same requests sent twice: how far the engine is
from itself.

    python -m benchmarks.recorded [--json] [--figure docs/images/recorded.png]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from calibration.assemble import Subject, assemble
from calibration.fit import fit_steps
from calibration.importers.cells import cells_outside, read_cells
from calibration.importers.requests import read_run
from calibration.validate import Validation, validate
from sim import catalog
from sim.profiles.schema import Hardware, Profile, Served

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
RECORDING = SHARED / "truth" / "vllm-0.32_cpu_llama-40m"
RUNS = {"light": ("light_a", "light_b"), "medium": ("medium_a",)}
CELLS = (2, 3)  # of three runs of the cells: the first was made beside other work (../shared/vllm-cpu.md)


def profile() -> Profile:
    """From the cells alone. The settings are those the server was started with."""
    samples = read_cells(RECORDING, CELLS)
    served = Served(
        max_num_seqs=16,
        max_num_batched_tokens=512,
        max_model_len=2048,
        kv_blocks=819,
        block_size=128,
        async_scheduling=False,
    )
    subject = Subject(
        name="cpu/llama-40m/tp1",
        shape=catalog.model("llama-40m"),
        gpu="cpu",
        engine="vllm 0.32.0",
        hardware=Hardware(title="two CPU cores", memory_bytes=24 * 2**30),
        served=served,
    )
    return assemble(
        fit_steps(samples),
        subject,
        source="controlled cells of a recording",
        licence="Apache-2.0",
        command="python -m benchmarks.recorded",
        points=len(samples),
        between=cells_outside(RECORDING, CELLS).between(),
    )


def study(made: Profile) -> dict[str, Validation]:
    """The loads of the recording, predicted and compared."""
    return {
        name: validate(made, [read_run(RECORDING / f"{run}_requests.csv") for run in runs], engine={})
        for name, runs in RUNS.items()
    }


def main() -> None:
    """Print the tables, or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the medium load to this file")
    arguments = parser.parse_args()
    made = profile()
    found = study(made)
    if arguments.json:
        print(json.dumps({name: one.to_json() for name, one in found.items()}, indent=1))
        return
    host = made.steps.host
    print(f"held-out error of steps {made.steps.held_out}")
    print(*made.provenance.notes, sep="\n")
    print(f"{host.us / 1e3:.2f} ms between steps, {host.request_us / 1e3:.2f} ms outside of them\n")
    for name, one in found.items():
        print(f"{name}: {one.to_json()['verdict']}")
        for metric, row in one.whole.errors.items():
            cells = [
                f"{figure} {error.value:+.1%}" + (f" (±{error.spread:.1%})" if error.spread is not None else "")
                for figure, error in row.items()
            ]
            print(f"  {metric.upper():5}" + "   ".join(cells))
    if arguments.figure:
        from calibration.drawing.style import put
        from calibration.drawing.validation import draw

        put(draw(found["medium"]), arguments.figure)


if __name__ == "__main__":
    main()
