"""Execute the notebooks, each in a copy of its own: ``python notebooks/run.py [NAME ...]``.

A notebook is a pair: NAME.py (jupytext's percent format) is the source, NAME.ipynb is made from it, without outputs.
``--pair`` makes it. ``--out DIR`` keeps what was executed, outputs included.

Prints a line a notebook: its name, seconds, and ok or what went wrong. Exits 1 if any failed, 2 if a name is unknown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
AT_ONCE = 2  # each may keep a core busy
CELL_S = 300  # after which a cell counts as stuck


def names() -> list[str]:
    """The notebooks there are, sorted."""
    return sorted(path.stem for path in HERE.glob("*.py") if path != Path(__file__).resolve())


def read(name: str) -> Any:
    """The notebook that ``notebooks/name.py`` stands for, with ids and metadata that depend on nothing but its text."""
    import jupytext

    notebook = jupytext.reads((HERE / f"{name}.py").read_text(encoding="utf-8"), fmt="py:percent")
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02}"
        cell.metadata = {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def paired(name: str) -> str:
    """What ``notebooks/name.ipynb`` holds."""
    import nbformat

    return str(nbformat.writes(read(name))) + "\n"


def pair(name: str) -> None:
    """Write ``notebooks/name.ipynb``."""
    write(HERE / f"{name}.ipynb", paired(name))


def write(path: Path, text: str) -> None:
    """Write under another name, then rename."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def copied(folder: Path) -> Path:
    """A copy of ``notebooks`` and ``scenarios`` in ``folder``, side by side as they are here; where a notebook is to run."""
    ignored = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", "*.ipynb", "runs")
    shutil.copytree(ROOT / "scenarios", folder / "scenarios", ignore=ignored)
    shutil.copytree(HERE, folder / "notebooks", ignore=ignored)
    return folder / "notebooks"


def environment(folder: Path) -> dict[str, str]:
    """What a kernel gets: this checkout on its path, and nothing of the user's IPython or Jupyter."""
    own = {name: str(folder / name.lower()) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | own | {"PYTHONPATH": path, "MPLCONFIGDIR": str(folder / "matplotlib")}


async def execute(name: str, out: Path | None = None) -> str:
    """Run a notebook; what went wrong in one line, empty if nothing did. What it showed is written to ``out``/name.ipynb."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from traitlets.config import Config

    notebook = read(name)
    with tempfile.TemporaryDirectory(prefix="twinfer-") as scratch:
        folder = Path(scratch)
        # sockets in the folder instead of ports, which another kernel that starts now may take first
        settings = Config(KernelManager={"transport": "ipc", "ip": str(folder / "kernel")})
        client = NotebookClient(notebook, timeout=CELL_S, kernel_name="python3", config=settings)
        client.resources = {"metadata": {"path": str(copied(folder))}}
        fault = ""
        try:
            await client.async_execute(env=environment(folder))
        except CellExecutionError as error:
            fault = f"{cell_of(notebook)}: {error.ename}: {error.evalue}".splitlines()[0]
        except (CellTimeoutError, DeadKernelError) as error:
            fault = f"{cell_of(notebook)}: {error}".splitlines()[0]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write(out / f"{name}.ipynb", nbformat.writes(notebook) + "\n")
    return fault or complaint(notebook)


def cell_of(notebook: Any) -> str:
    """The cell that ran last, by its number."""
    ran = [number for number, cell in enumerate(notebook.cells, 1) if cell.get("execution_count")]
    return f"cell {ran[-1]}" if ran else "before its first cell"


def complaint(notebook: Any) -> str:
    """The first line written to stderr, a warning for example: a reader would see it."""
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                return f"cell {number} wrote to stderr: {output['text'].strip()}".splitlines()[0]
    return ""


async def execute_all(chosen: Sequence[str], out: Path | None) -> bool:
    """Execute the notebooks, some at once, and print a line for each in the order given. Whether all went well."""
    free = asyncio.Semaphore(AT_ONCE)

    async def timed(name: str) -> tuple[str, float]:
        async with free:
            begin = time.monotonic()
            fault = await execute(name, out)
            return fault, time.monotonic() - begin

    tasks = [asyncio.create_task(timed(name)) for name in chosen]
    width = max(map(len, chosen))
    good = True
    for name, task in zip(chosen, tasks, strict=True):
        fault, seconds = await task
        print(f"{name:{width}}  {seconds:5.1f} s  {fault or 'ok'}", flush=True)
        good = good and not fault
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """What the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="notebooks/run.py", description="Execute the notebooks, each in a copy.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of notebooks, without .py; all if left out")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the executed notebooks there")
    parser.add_argument("--pair", action="store_true", help="write NAME.ipynb from NAME.py, and execute nothing")
    given = parser.parse_args(arguments)
    known = names()
    unknown = [name for name in given.names if name not in known]
    if unknown:
        print(f"there is no notebook {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = list(dict.fromkeys(given.names)) or known
    if given.pair:
        for name in chosen:
            pair(name)
        return 0
    return 0 if asyncio.run(execute_all(chosen, given.out)) else 1


if __name__ == "__main__":
    sys.exit(main())
