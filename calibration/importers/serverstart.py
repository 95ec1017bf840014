"""How long a vLLM server took to start, by phase, and what it was set to, from its log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from calibration.importers.files import opened
from calibration.importers.iterations import stamp
from sim.errors import ProfileError
from sim.profiles.parts import Samples
from sim.profiles.served import Served
from sim.profiles.startup import Load, Phase

__all__ = ["Start", "load_of", "read_starts"]

_GIB: Final = 2**30
_YEAR: Final = 366 * 86_400.0  # stamps without a year are taken to be of a leap year
_NUMBER: Final = r"([\d.]+)"
# What vLLM logs; each worker of a tensor-parallel group its own. Texts of 0.8 to 0.32.
_SECONDS: Final = {
    "weights": re.compile(rf"Loading weights took {_NUMBER} s"),
    "build": re.compile(rf"Initializing model took {_NUMBER} s"),
    "model": re.compile(rf"Model loading took [\d.]+ GiB(?: memory)? and {_NUMBER} s"),
    "compile": re.compile(
        rf"torch\.compile (?:takes|took|and initial profiling/warmup run together took) {_NUMBER} s in total"
    ),
    "graph_capture": re.compile(rf"Graph capturing finished in {_NUMBER} secs"),
    "init": re.compile(rf"init engine \(profile, create kv cache, warmup model\) took {_NUMBER} s"),
}
_MODEL_GIB: Final = re.compile(rf"Model loading took {_NUMBER} GiB")
_CHECKPOINT_GIB: Final = re.compile(rf"Checkpoint size: {_NUMBER} GiB")
_KV_TOKENS: Final = re.compile(r"(CPU|GPU) KV cache size: ([\d,]+) tokens")
_VERSION: Final = re.compile(r"(?:vLLM (?:API )?server|█ ) version ([\w.+-]+)")  # a line, or beside the logo
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_SET: Final = re.compile(r"non-default args: \{")
_LOADING: Final = re.compile(r"Starting to load model ")
_READY: Final = re.compile(r"Application startup complete|Starting vLLM (?:API )?server")
_PROCESS: Final = re.compile(r"^\d+\.\d+ (\d+) |\bpid=(\d+)")
_PREFIX: Final = 160  # characters in which a line has its time; what follows may speak of others
_BLOCK: Final = {"GPU": 16, "CPU": 128}  # tokens of a KV block, where the log does not say: vLLM's defaults


@dataclass(frozen=True)
class Start:
    """One start: seconds by phase, and what else the log says of it.

    ``weights_bytes`` is of all GPUs together, None where the log does not say; ``served`` what it says of the engine's settings.
    """

    source: str
    version: str | None
    phases: dict[Phase, float]
    weights_bytes: int | None
    served: Served


def read_starts(path: str | Path) -> list[Start]:
    """Every start in a vLLM server's log that came to its end, packed or not, with time stamps of any kind or none.

    ``weights``: reading them in; ``build``: the module tree (or what loading took beyond the weights); ``compile``: torch.compile;
    ``graph_capture``; ``warm_up``: the rest of the engine's initialisation, or ``engine``: all of it, where no part was logged;
    ``process``: from the first line with a time to the beginning of the load, imports of all processes, device contexts and
    communication set-up included; ``ready``: from that line until the server listened. Of several workers the longest counts.

    :raises ProfileError: unreadable, or no start in it that came to its end.
    """
    path = Path(path)
    starts = [_Reading(path.name)]
    with opened(path) as file:
        for line in (_COLOUR.sub("", one) if "\x1b" in one else one for one in file):
            if starts[-1].seconds and _VERSION.search(line):
                starts.append(_Reading(path.name))
            starts[-1].read(line)
    whole = [reading.start() for reading in starts if "init" in reading.seconds]
    if whole:
        return whole
    if any(reading.seconds for reading in starts):
        raise ProfileError(f"{path}: the start in it did not come to its end (no line `init engine (...) took`)")
    raise ProfileError(
        f"{path}: has none of the lines of a vLLM start (`Loading weights took`, `init engine (...) took`)"
    )


def load_of(starts: Sequence[Start], weights_bytes: int | None = None) -> Load:
    """The load part of a profile from starts of one kind: a distribution of each phase.

    ``weights_bytes`` are those of the model; without, as the logs say. :raises ProfileError: they do not, or contradict each other.
    """
    if weights_bytes is None:
        said = sorted({start.weights_bytes for start in starts if start.weights_bytes})
        if not said:
            raise ProfileError(f"{starts[0].source}: does not say how many bytes of weights were loaded: give them")
        if said[-1] > 1.1 * said[0]:
            sizes = ", ".join(f"{size / _GIB:.2f}" for size in said)
            raise ProfileError(f"the starts are not of one model: {sizes} GiB of weights were loaded")
        weights_bytes = said[-1]
    phases: dict[Phase, Samples] = {}
    for name in dict.fromkeys(name for start in starts for name in start.phases):
        values = sorted(start.phases[name] for start in starts if name in start.phases)
        phases[name] = Samples(values=tuple(values), note=_NOTES.get(name, ""))
    versions = sorted({start.version for start in starts if start.version})
    counted = f"{len(starts)} start{'s' if len(starts) > 1 else ''} of vLLM"
    return Load(bytes=weights_bytes, phases=phases, notes=(f"{' '.join([counted, *versions])}, from the log",))


_NOTES: Final[dict[Phase, str]] = {
    "process": "from the first line logged, before which the first process has made its own imports, to the load",
    "ready": "from the first line logged until the server listened",
    "warm_up": "initialisation of the engine less compilation and graph capture",
}


@dataclass
class _Reading:
    """One start, as its lines come."""

    source: str
    version: str | None = None
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)  # by phase and process
    gib: dict[str, float] = field(default_factory=dict)  # of weights, by process
    checkpoint: float = 0.0
    kv: tuple[str, int] | None = None
    settings: str = ""
    first: float | None = None
    last: float | None = None
    loading: float | None = None
    ready: float | None = None

    def read(self, line: str) -> None:
        """One line of the log."""
        at, _ = stamp(line[:_PREFIX])
        if at == at:  # not NaN
            self.first = at if self.first is None else self.first
            self.last = at
        found = _PROCESS.search(line)
        process = (found[1] or found[2]) if found else ""
        for phase, pattern in _SECONDS.items():
            if found := pattern.search(line):
                by_process = self.seconds.setdefault(phase, {})
                by_process[process] = by_process.get(process, 0.0) + float(found[1])  # a draft model's come on top
        if found := _MODEL_GIB.search(line):
            self.gib[process] = self.gib.get(process, 0.0) + float(found[1])
        if found := _CHECKPOINT_GIB.search(line):
            self.checkpoint = max(self.checkpoint, float(found[1]))
        if found := _KV_TOKENS.search(line):
            self.kv = found[1], int(found[2].replace(",", ""))
        if found := _VERSION.search(line):
            self.version = found[1]
        if _SET.search(line):
            self.settings = line
        if self.loading is None and _LOADING.search(line):
            self.loading = self.last
        if self.ready is None and _READY.search(line):
            self.ready = self.last

    def start(self) -> Start:
        """What was read; the engine's initialisation was."""
        longest = {phase: max(by_process.values()) for phase, by_process in self.seconds.items()}
        weights = longest.get("weights", longest.get("model"))
        build = longest.get("build")
        if build is None and "model" in longest and "weights" in longest:
            build = max(longest["model"] - longest["weights"], 0.0)
        compiled, captured = longest.get("compile"), longest.get("graph_capture")
        rest = max(longest["init"] - (compiled or 0.0) - (captured or 0.0), 0.0)
        in_parts = compiled is not None or captured is not None
        phases: dict[Phase, float | None] = {
            "process": _since(self.first, self.loading),
            "build": build,
            "weights": weights,
            "compile": compiled,
            "graph_capture": captured,
            "warm_up": rest if in_parts else None,
            "engine": None if in_parts else rest,
            "ready": _since(self.first, self.ready),
        }
        known = {phase: round(seconds, 6) for phase, seconds in phases.items() if seconds is not None}
        gib = self.checkpoint or sum(self.gib.values())
        return Start(self.source, self.version, known, round(gib * _GIB) or None, self._served())

    def _served(self) -> Served:
        numbers: dict[str, int] = {}
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size"):
            if found := re.search(rf"'{name}': (\d+)", self.settings):
                numbers[name] = int(found[1])
        if self.kv is not None:
            numbers.setdefault("block_size", _BLOCK[self.kv[0]])
            numbers["kv_blocks"] = self.kv[1] // numbers["block_size"]
        found = re.search(r"'async_scheduling': (True|False)", self.settings)
        ahead = found[1] == "True" if found else None
        if self.kv is not None and self.kv[0] == "CPU":
            ahead = False  # vllm/platforms/cpu.py switches it off
        return Served.model_validate(numbers | {"async_scheduling": ahead})


def _since(first: float | None, then: float | None) -> float | None:
    """Seconds between two stamps, None where one is not known; those without a year may go over its end."""
    if first is None or then is None:
        return None
    seconds = then - first
    if seconds < -_YEAR / 2.0:
        seconds += _YEAR
    return seconds if seconds >= 0.0 else None
