"""How long a replica takes to start, each phase apart: weights from the disk to the device, and all that a new process does beside."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from calibration.campaign import Campaign, Record
from calibration.probes import links, starting, storage, weights
from sim.errors import ProfileError
from sim.profiles.parts import Samples
from sim.profiles.startup import Load, Phase, Route, Tier, Transfer

if TYPE_CHECKING:
    from calibration.device import Device
    from calibration.probes.subject import MakeSubject

__all__ = ["LIMIT", "READERS", "measure_load"]

LIMIT: Final = 4 * 2**30
"""Bytes of weights that are loaded at most; larger models are measured by their rates."""
READERS: Final = (1, 2, 4)
COPIES: Final = (1, 2)
PATIENCE: Final = 20.0
"""Seconds that repeats of one thing may take together; it is measured once at least."""
_COPY: Final = 2**30  # bytes of one copy to the device at most
_READ: Final = 4.0  # seconds that one read of files should take at most; longer, and a part of them is read,
_LEAST: Final = 2**26  # of that many bytes at least


def measure_load(
    campaign: Campaign,
    *,
    device: Device,
    build: Callable[[], Any],
    make: MakeSubject,
    itemsize: int,
    folder: Path,
    given: Path | None = None,
    limit: int = LIMIT,
    repeats: int = 3,
    tokens: int = 256,
) -> Load:
    """The load part of a profile.

    ``build`` makes the whole model's module tree without weights (device 'meta'), and so says which tensors its checkpoint holds, of
    ``itemsize`` bytes a value; files of that size, of ``limit`` bytes at most, are written under ``folder`` and removed, or ``given`` ones
    are read. ``make`` makes the layers that are compiled, captured and warmed up with steps of ``tokens``. Both run in other processes.

    :raises ProfileError: too little room on the disk or in memory, or files that are not there.
    """
    files = _Files(campaign, build, itemsize, folder, given, limit)
    free = device.free_bytes()
    if files.size > 0.9 * free:
        raise ProfileError(
            f"{device.title}: loading {files.size / 1e9:.1f} GB of weights needs more than the {free / 1e9:.1f} GB of memory that "
            "are free; leave the load out (--parts step,power,memory)"
        )
    ways: tuple[Route, ...] = ("pageable",) if device.kind == "cpu" else ("pinned", "pageable")
    campaign.expect(repeats * (9 + 2 * len(ways)))
    notes = list(files.notes)
    with files:
        read = _reads(campaign, files, repeats, notes)
        phases = _loads(campaign, files, device, repeats)
    copies = {way: _copies(campaign, device, way, min(files.size, _COPY), repeats) for way in ways}
    if device.kind == "cpu":
        read["host_memory"] = copies.pop("pageable")
    phases |= _starts(campaign, device, build, make, tokens, repeats, notes)
    return Load(
        bytes=files.size,
        files=files.count,
        phases=phases,
        read=read,
        to_device=copies,
        device_to_device=links.measure_links(campaign, device),
        notes=tuple(notes),
    )


class _Files:
    """The files that are loaded: given ones, or ones written when a measurement first needs them and removed at the end."""

    def __init__(
        self, campaign: Campaign, build: Callable[[], Any], itemsize: int, folder: Path, given: Path | None, limit: int
    ) -> None:
        self._stack = ExitStack()
        self._paths: list[Path] | None = None
        self._itemsize = itemsize
        # Beside a journal that no other process may have open, so nobody else's.
        self._home = folder / f".{campaign.path.name}.weights"
        if given is not None:
            self._paths = weights.found(given, limit)
            self.size = sum(path.stat().st_size for path in self._paths)
            self.count, self.tier = len(self._paths), weights.tier(given)
            whole = sum(path.stat().st_size for path in weights.found(given))
        else:
            if not folder.is_dir():
                raise ProfileError(f"{folder}: is not a folder to write weights in")
            tensors = {name: tuple(value.shape) for name, value in build().state_dict().items()}
            whole = weights.total(tensors, itemsize)
            self._plan = weights.plan(tensors, itemsize, min(whole, limit))
            self.size = sum(weights.total(part, itemsize) for part in self._plan)
            self.count, self.tier = len(self._plan), weights.tier(folder)
        self.notes = [] if self.size >= whole else [_part(whole, self.size)]

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        shutil.rmtree(
            self._home, ignore_errors=True
        )  # what a killed process left, where nothing had to be written again

    def paths(self) -> list[Path]:
        """Where they are."""
        if self._paths is None:
            self._paths = self._stack.enter_context(weights.written(self._plan, self._itemsize, self._home))
        return self._paths


def _part(whole: int, size: int) -> str:
    return (
        f"of {whole / 1e9:.1f} GB of weights {size / 1e9:.1f} GB were loaded: rates hold for all, seconds of the phases weights and "
        "deserialise for what was loaded"
    )


def _series(
    campaign: Campaign, name: str, repeats: int, probe: Callable[[], Record], patience: float = PATIENCE
) -> list[Record]:
    """``repeats`` records of one thing: fewer once they took ``patience`` seconds together or the campaign's time is up; one at least."""
    records: list[Record] = []
    for i in range(repeats):
        key = f"load/{name}/{i}"
        spent = sum(record["seconds"] for record in records)
        if records and key not in campaign and (spent > patience or campaign.time_left <= 0.0):
            break
        records.append(campaign.measure(key, probe))
    return records


def _reads(campaign: Campaign, files: _Files, repeats: int, notes: list[str]) -> dict[Tier, Transfer]:
    """From the medium, dropped from memory before each read, and from the page cache."""
    found: dict[Tier, Transfer] = {}
    size = files.size
    if files.tier is None:
        notes.append("the files lie in memory: there is no medium to read them from")
    else:
        cold: dict[int, list[Record]] = {}
        for readers in READERS:
            probe = partial(_cold, files, size, readers)
            cold[readers] = _series(campaign, f"read/cold/{readers}", repeats, probe)
            first = cold[1][0]
            size = min(size, max(_LEAST, round(first["bytes"] / first["seconds"] * _READ)))
        stayed = max(record["resident"] for records in cold.values() for record in records)
        if stayed > storage.COLD:
            notes.append(
                f"the kernel kept {stayed:.0%} of the files in memory when told to drop them: no cold read was measured"
            )
        else:
            found[files.tier] = _transfer(cold)
    warm = {1: _series(campaign, "read/warm/1", repeats, partial(_warm, files, size))}
    held = min(record["resident"] for record in warm[1])
    if held < storage.WARM:
        notes.append(
            f"memory held only {held:.0%} of the files after they were read: no read of the page cache was measured"
        )
    else:
        found["page_cache"] = _transfer(warm)
    return found


def _cold(files: _Files, size: int, readers: int) -> Record:
    return storage.read(files.paths(), size, readers, cold=True)


def _warm(files: _Files, size: int) -> Record:
    storage.read(files.paths(), files.size, 1, cold=False)
    return storage.read(files.paths(), size, 1, cold=False)


def _loads(campaign: Campaign, files: _Files, device: Device, repeats: int) -> dict[Phase, Samples]:
    """All of the loading by safetensors, from the medium to the device, and its part that only makes tensors of what memory holds."""
    cold = files.tier is not None
    whole = _series(campaign, "weights", repeats, lambda: _load(files.paths(), device, cold=cold))
    parsed = _series(campaign, "deserialise", repeats, lambda: _parse(files.paths()))
    return {"weights": _seconds(whole), "deserialise": _seconds(parsed)}


def _load(paths: Sequence[Path], device: Device, *, cold: bool) -> Record:
    import torch
    from safetensors import safe_open

    if cold:
        for path in paths:
            weights.evict(path)
    loaded = []
    start = time.perf_counter()
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                value = file.get_tensor(name)
                loaded.append(torch.empty(value.shape, dtype=value.dtype, device=device.torch).copy_(value))
    device.synchronize()
    return {"bytes": sum(value.nbytes for value in loaded), "seconds": time.perf_counter() - start}


def _parse(paths: Sequence[Path]) -> Record:
    """Headers read and tensors made; their values stay where the page cache has them."""
    from safetensors import safe_open

    start = time.perf_counter()
    count = 0
    for path in paths:
        with safe_open(path, framework="pt") as file:
            count += len([file.get_tensor(name) for name in file.keys()])  # noqa: SIM118
    return {"tensors": count, "seconds": time.perf_counter() - start}


def _copies(campaign: Campaign, device: Device, way: Route, size: int, repeats: int) -> Transfer:
    return _transfer(
        {
            together: _series(
                campaign, f"copy/{way}/{together}", repeats, partial(links.copied, device, size, way, together)
            )
            for together in COPIES
        }
    )


def _starts(
    campaign: Campaign,
    device: Device,
    build: Callable[[], Any],
    make: MakeSubject,
    tokens: int,
    repeats: int,
    notes: list[str],
) -> dict[Phase, Samples]:
    """What a new process does beside loading weights."""
    processes = _series(campaign, "process", repeats, partial(starting.process, device))
    starts = _series(campaign, "start", repeats, partial(starting.started, device, build, make, tokens))
    compiles = _series(campaign, "compile", repeats, partial(starting.compiled, make, tokens), patience=10.0)
    phases: dict[Phase, Samples] = {}
    tables: tuple[tuple[Phase, list[Record], str], ...] = (
        ("process", processes, "a Python process that imports torch"),
        ("context", processes, ""),
        ("build", starts, "the whole module tree, no weights"),
        ("warm_up", starts, f"the first step of {tokens} tokens beyond later ones, on the layers that were measured"),
        (
            "graph_capture",
            starts,
            f"graphs of {', '.join(map(str, starting.GRAPH_SIZES))} tokens; a layer's times all layers",
        ),
        ("compile", compiles, "torch.compile of the layers that were measured, nothing cached"),
    )
    for phase, records, note in tables:
        values = sorted(record[phase] for record in records if record[phase] is not None)
        if values:
            phases[phase] = Samples(values=tuple(values), note=note)
    for what, records in (("CUDA graphs were not captured", starts), ("torch.compile was not measured", compiles)):
        notes.extend(dict.fromkeys(f"{what}: {record['why']}" for record in records if record["why"]))
    return phases


def _seconds(records: Sequence[Record]) -> Samples:
    return Samples(values=tuple(sorted(record["seconds"] for record in records)))


def _transfer(series: Mapping[int, Sequence[Record]]) -> Transfer:
    """Rates of one at a time, and the median of all together for each number at once."""
    rates = {
        count: sorted(record["bytes"] / record["seconds"] for record in records) for count, records in series.items()
    }
    together = {str(count): median(values) for count, values in rates.items()} if len(rates) > 1 else {}
    return Transfer(bytes_per_second=Samples(values=tuple(rates[1])), together=together)
