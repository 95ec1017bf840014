"""Profiles from what an engine logged of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calibration.assemble import Subject, assemble
from calibration.fit import fit_steps
from calibration.importers.inference import infer
from calibration.importers.iterations import read_iterations
from calibration.importers.naming import dtype_name, profile_name
from calibration.importers.outside import outside
from calibration.importers.reconstruction import reconstruct
from calibration.importers.requests import read_run
from calibration.importers.serverstart import Start, read_starts
from calibration.importers.stepcsv import read_steps
from sim import catalog
from sim.errors import ProfileError
from sim.perf.operations import check_split
from sim.profiles.schema import Hardware, Profile, Served

__all__ = ["About", "Run", "import_iterations", "import_steps"]


@dataclass(frozen=True)
class About:
    """What no log says: the model (catalog name or config.json), the GPU (catalog name, or ``cpu`` with the bytes of its ``memory``), and
    how the one is laid out on the other. ``command`` is the provenance."""

    model: str
    gpu: str
    tensor_parallel: int = 1
    dtype: str | None = None
    memory: int | None = None
    engine: str = "vllm"
    command: str = ""

    def subject(self, served: Served | None = None, version: str | None = None) -> Subject:
        """For a profile. :raises ProfileError, CatalogError: what cannot be."""
        shape = catalog.model(self.model)
        check_split(shape, self.tensor_parallel)
        hardware = None
        if self.gpu != "cpu":
            catalog.gpu(self.gpu)
        elif self.memory is None:
            raise ProfileError("--gpu cpu needs --memory, how much the machine has, as 24GiB: the catalog has no CPUs")
        else:
            hardware = Hardware(title="CPU", memory_bytes=self.memory)
        dtype = dtype_name(self.dtype, None, None)
        return Subject(
            name=profile_name(self.gpu, self.model, shape, self.tensor_parallel, dtype),
            shape=shape,
            gpu=self.gpu,
            engine=f"{self.engine} {version or ''}".strip(),
            tensor_parallel=self.tensor_parallel,
            dtype=dtype,
            kv_dtype=dtype if dtype in ("bf16", "fp16") else "bf16",
            cuda_graphs=self.engine == "vllm" and self.gpu != "cpu",
            hardware=hardware,
            served=served,
            versions={self.engine: version} if version else {},
        )


@dataclass(frozen=True)
class Run:
    """The requests that an iteration log served: a file, its format and the number of the run in it."""

    path: Path
    format: str = "auto"
    number: int | None = None


def import_iterations(
    log: Path, about: About, run: Run | None = None, engine: int | None = None, budget: int | None = None
) -> Profile:
    """The profile of the server that wrote ``log``, from its iterations and, where they are known, the requests of ``run``.

    ``engine`` chooses among several in the log, ``budget`` is the token budget where the log does not say it.

    :raises ProfileError: an unreadable file, requests that are not the log's, too little to fit step times to.
    """
    iterations = read_iterations(log, engine)
    start = _start(log)
    served = start.served if start is not None else Served()
    if served.max_num_batched_tokens is None and budget is not None:
        served = served.model_copy(update={"max_num_batched_tokens": budget})
    subject = about.subject(served, start.version if start is not None else None)
    unknown = [] if start is not None else ["the log does not say what the engine was set to"]
    between = None
    if run is None:
        found = infer(iterations, served.max_num_batched_tokens)
        samples, notes = list(found.samples), list(found.notes)
    else:
        requests = read_run(run.path, run.format, run.number)
        books = reconstruct(iterations, requests)
        samples = books.known()
        notes = [f"{books.share:.1%} of {len(books.samples)} iterations are those of the requests"]
        seen = outside(books, requests)
        if len(seen.gap_seconds):
            between = seen.between()
            if between.request is None:
                notes.append("time outside of steps is not identified: no request met an idle engine")
    if between is None:
        notes.append("times are what the engine waited for each iteration: what lies between iterations is not in them")
    return assemble(
        fit_steps(samples),
        subject,
        source="an engine's log of its iterations" + (" and the requests it served" if run is not None else ""),
        licence="measured here",
        command=about.command,
        points=len(samples),
        notes=(*notes, *unknown),
        between=between,
    )


def import_steps(path: Path, about: About) -> Profile:
    """The profile of an engine whose step times are in a CSV file (:func:`calibration.importers.stepcsv.read_steps`).

    :raises ProfileError: an unreadable file, or too little to fit step times to.
    """
    samples = read_steps(path)
    return assemble(
        fit_steps(samples),
        about.subject(),
        source="step times in a file",
        licence="measured here",
        command=about.command,
        points=len(samples),
    )


def _start(log: Path) -> Start | None:
    """The last start in the log, whose iterations follow it; None where the log holds none."""
    try:
        return read_starts(log)[-1]
    except ProfileError:
        return None
