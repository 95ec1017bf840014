"""Weights as they lie on a disk: files of the real size, and whether they are in memory already."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from sim.errors import ProfileError
from sim.profiles.startup import Tier

__all__ = ["SHARD", "Tensors", "evict", "found", "plan", "resident", "tier", "total", "written"]

Tensors = Mapping[str, tuple[int, ...]]
"""Names and shapes, in the order of the files."""

SHARD: Final = 5 * 10**9
"""Most bytes a file, as huggingface_hub splits checkpoints."""
_CODES: Final = {1: "U8", 2: "BF16", 4: "F32"}
"""Names of the safetensors format for values of that many bytes; which of them they are does not matter to loading."""
_BLOCK: Final = 2**24
_NETWORK: Final = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "afs",
    "fuse.",
    "virtiofs",
)
_MEMORY: Final = ("tmpfs", "ramfs")


def total(tensors: Tensors, itemsize: int) -> int:
    """Bytes of all ``tensors``."""
    return sum(prod(shape) for shape in tensors.values()) * itemsize


def plan(
    tensors: Tensors, itemsize: int, limit: int | None = None, shard: int = SHARD
) -> list[dict[str, tuple[int, ...]]]:
    """What each file holds: tensors in order, a new file before one would pass ``shard`` bytes.

    With a ``limit``, only as many as fit in that many bytes; the first one that does not is cut to the rows that do.
    """
    files: list[dict[str, tuple[int, ...]]] = [{}]
    room, left = shard, total(tensors, itemsize) if limit is None else limit
    for name, shape in tensors.items():
        size = prod(shape) * itemsize
        if size > left:
            rows = left * shape[0] // size if shape else 0
            shape = (rows, *shape[1:])  # noqa: PLW2901
            size = prod(shape) * itemsize if rows else 0
        if not size:
            break
        if size > room and files[-1]:
            files.append({})
            room = shard
        files[-1][name] = shape
        room, left = room - size, left - size
    if not files[-1]:
        raise ProfileError(f"there are no weights to write in {limit} bytes")
    return files


@contextmanager
def written(files: Sequence[Tensors], itemsize: int, folder: Path) -> Iterator[list[Path]]:
    """Safetensors files with these tensors of noise under ``folder``, synced to the disk; gone again however this ends.

    ``folder`` is made, and must not be anything else's: what a killed process left there is removed.

    :raises ProfileError: the disk has too little room, or cannot be written.
    """
    need = sum(total(tensors, itemsize) for tensors in files)
    shutil.rmtree(folder, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < need:
        raise ProfileError(
            f"{folder.parent}: weights of {need / 1e9:.1f} GB do not fit on this disk, which has {free / 1e9:.1f} GB free; "
            "write the profile to another disk, or leave the load out (--parts step,power,memory)"
        )
    try:
        try:
            folder.mkdir()
            paths = [
                _write(folder / f"model-{i:05}.safetensors", tensors, itemsize) for i, tensors in enumerate(files, 1)
            ]
        except OSError as error:
            raise ProfileError(f"{error.filename or folder}: {error.strerror or error}") from None
        yield paths
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def found(path: Path, limit: int | None = None) -> list[Path]:
    """The safetensors files of a checkpoint, a file or a folder of them: the first ones whose sizes come to ``limit`` bytes, or all.

    :raises ProfileError: there are none.
    """
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.suffix == ".safetensors" else []
    if not files or not all(file.is_file() for file in files):
        raise ProfileError(f"{path}: is neither a safetensors file nor a folder with any")
    taken, size = [], 0
    for file in files:
        taken.append(file)
        size += file.stat().st_size
        if limit is not None and size >= limit:
            break
    return taken


def evict(path: Path) -> None:
    """Ask the kernel to forget what it holds of a file in memory; :func:`resident` says whether it did."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # only clean pages can be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def resident(path: Path) -> float:
    """The share of a file's pages that is in memory (mincore); 1.0 too where the kernel does not tell, as of others' files."""
    length = path.stat().st_size
    if not length:
        return 0.0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    with path.open("rb") as file:
        address = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if address == ctypes.c_void_p(-1).value:
        return 1.0
    pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
    known = libc.mincore(address, length, pages) == 0
    libc.munmap(address, length)
    return float(np.mean(np.frombuffer(pages.raw[:-1], np.uint8) & 1)) if known else 1.0


def tier(folder: Path) -> Tier | None:
    """Where files in ``folder`` lie, by the type of its filesystem; None for one that is in memory.

    A cloud's network volume looks like any block device: only the user knows that one.
    """
    place = f"{folder.resolve()}/"
    kind, deepest = "", 0
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        point = line.split()[1].rstrip("/") + "/"
        if place.startswith(point) and len(point) >= deepest:  # of two mounts on one point the later one is seen
            kind, deepest = line.split()[2], len(point)
    if kind in _MEMORY:
        return None
    return "network_disk" if kind.startswith(_NETWORK) else "local_disk"


def _write(path: Path, tensors: Tensors, itemsize: int) -> Path:
    """One file in the safetensors format: eight bytes with the header's length, the header, the values.

    The values are noise, for disks that compress; written in blocks, since a file may be larger than memory.
    """
    header, at = {}, 0
    for name, shape in tensors.items():
        end = at + prod(shape) * itemsize
        header[name] = {"dtype": _CODES[itemsize], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(at)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, at, _BLOCK):
            file.write(random.bytes(min(_BLOCK, at - start)))
        file.flush()
        os.fsync(file.fileno())
    return path
