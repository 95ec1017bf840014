"""Where memory ends: how many blocks of KV cache a profile says fit, and how many do when they are allocated and a full step is run."""

from __future__ import annotations

import ctypes
import mmap
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from calibration.campaign import Record

if TYPE_CHECKING:
    from calibration.device import Device
    from calibration.probes.subject import MakeSubject, Subject
    from sim.profiles.schema import Memory

__all__ = ["BLOCK", "activations", "blocks", "find_boundary", "most", "process_bytes", "said"]

BLOCK: Final = 16
"""Tokens a block, vLLM's default on GPUs."""
_PAGE: Final = {"cuda": 2**21, "cpu": mmap.PAGESIZE}
"""Bytes in which the driver, or the kernel, gives memory."""
_ROOM: Final = 64  # blocks for which there is room on a CPU, where the limit is our own choice
_ARENAS, _THRESHOLD = -8, -3  # M_ARENA_MAX, M_MMAP_THRESHOLD of mallopt(3)


def activations(memory: Memory, tokens: int, rows: int) -> int:
    """Bytes at the peak of a step: those of the layers or the logits, whichever are more."""
    return max(memory.activation_bytes_per_token * tokens, memory.logits_bytes_per_sequence * rows)


def blocks(limit: int, memory: Memory, tokens: int, rows: int, page: int = 1, block: int = BLOCK) -> int:
    """How many blocks of ``block`` tokens fit in ``limit`` bytes, given out in whole ``page``s, beside all else at the peak of a step:
    (limit − weights − context − activations − allocator) / bytes a block; 0 if none does."""
    other = memory.weights_bytes + memory.context_bytes + memory.allocator_bytes + activations(memory, tokens, rows)
    return max((limit - other) // page * page // (memory.kv_bytes_per_token * block), 0)


def find_boundary(device: Device, make: MakeSubject, memory: Memory, workspace: int, tokens: int, rows: int) -> Record:
    """Predict how many blocks fit, then find it: allocate so many, run a full step, and see whether memory runs out.

    To be called in a process of its own. On a GPU the limit is what was free of the card's memory before. On a CPU, where nothing but the
    machine's end would stop a process, its address space is limited, some way above what it has: that stands for the context, with
    ``workspace``, the part of activations that does not grow. Weights of layers that are not built are allocated too, if they fit.
    """
    card = device.card
    limit = card.memory_bytes - card.used_bytes() if card else 0
    if not card:
        _plain_malloc()
    import torch

    subject = make()
    here = sum(value.nbytes for value in subject.module.state_dict().values())
    filler = _filler(device, max(memory.weights_bytes - here, 0))
    _full(subject, tokens, rows)  # loads kernels; and shows that a failure below is for want of memory
    weights = here + (0 if filler is None else filler.nbytes)
    present = memory.model_copy(update={"weights_bytes": weights})
    size = memory.kv_bytes_per_token * BLOCK
    if not card:
        space = process_bytes()[1]
        present = present.model_copy(update={"context_bytes": space - weights + workspace})
        limit = space + workspace + activations(memory, tokens, rows) + _ROOM * size + size // 2
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    predicted = blocks(limit, present, tokens, rows, _PAGE[device.kind])

    def fits(count: int) -> bool:
        room = True
        try:
            cache = torch.empty(count * size, dtype=torch.uint8, device=device.torch)
            _full(subject, tokens, rows)
            device.synchronize()
            del cache
        except (RuntimeError, MemoryError):  # torch's OutOfMemoryError is a RuntimeError
            room = False
        if card:
            torch.cuda.empty_cache()
        return room

    return {
        "predicted": predicted,
        "found": most(fits, predicted),
        "block_bytes": size,
        "limit": limit,
        "whole": weights >= memory.weights_bytes,
        "tokens": tokens,
        "rows": rows,
    }


def most(fits: Callable[[int], bool], guess: int) -> int:
    """The largest count that ``fits``, looked for from ``guess`` in doubling steps and then by halving; -1 if not even 0 does."""
    if fits(guess):
        good, step = guess, 1
        while fits(good + step):
            good, step = good + step, 2 * step
        bad = good + step
    else:
        bad, step = guess, 1
        while bad >= 0 and not fits(max(bad - step, 0)):
            if bad - step <= 0:
                return -1
            bad, step = bad - step, 2 * step
        good = max(bad - step, 0)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def said(record: Record) -> str:
    """A note for people: what was predicted, and what was found."""
    where = "" if record["whole"] else ", of the measured layers alone"
    return (
        f"out of memory: {record['found']} KV blocks of {record['block_bytes'] / 2**10:,.0f} KiB fitted in "
        f"{record['limit'] / 2**20:,.0f} MiB{where}, beside a step of {record['tokens']} tokens; {record['predicted']} were predicted"
    )


def process_bytes() -> tuple[int, int]:
    """Bytes of this process in memory, and of its address space."""
    size, held, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(held) * mmap.PAGESIZE, int(size) * mmap.PAGESIZE


def _full(subject: Subject, tokens: int, rows: int) -> None:
    subject.step(tokens)
    subject.head(rows)


def _filler(device: Device, size: int) -> Any:
    """Memory in place of the weights that are not built; None if there is not so much."""
    import torch

    try:
        return torch.empty(size, dtype=torch.uint8, device=device.torch)
    except RuntimeError:
        return None


def _plain_malloc() -> None:
    """Let glibc give each tensor pages of its own and take them back at once: what a process has is then what its tensors have."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_ARENAS, 1)
    libc.mallopt(_THRESHOLD, 2**16)
