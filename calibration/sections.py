"""The digest of a profile in words and tables, for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from calibration.digest import PARTS, PHASES

__all__ = ["PLACES", "Section", "heading", "sections"]

Facts = Mapping[str, Any]

PLACES: Final = {
    "object_store": "object store",
    "network_disk": "network disk",
    "local_disk": "local disk",
    "page_cache": "page cache",
    "host_memory": "host memory",
    "pinned": "to the device, pinned",
    "pageable": "to the device, pageable",
}
"""Where weights come from, and by which way to the device, in words."""

_MEMORY: Final = {
    "weights_bytes": "weights",
    "context_bytes": "driver context",
    "allocator_bytes": "allocator, beyond what was asked",
    "activation_bytes_per_token": "activations a token of the budget",
    "logits_bytes_per_sequence": "logits a sequence",
    "kv_bytes_per_token": "KV cache a token",
}


@dataclass(frozen=True)
class Section:
    """A table with its title; ``notes`` stand below it. The first ``texts`` columns are words, the others numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    texts: int = 1


def heading(facts: Facts) -> list[str]:
    """What the profile is of, and who measured it: two lines."""
    kv = "" if facts["kv_dtype"] == facts["dtype"] else f", KV cache {facts['kv_dtype']}"
    degree = f", tensor parallel {facts['tensor_parallel']}" if facts["tensor_parallel"] > 1 else ""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    who = [f"{facts['points']:,} measured points", f"{facts['source']} ({facts['licence']})", versions]
    where = [facts["host"] or "", (facts["measured_at"] or "")[:10]]
    return [
        f"{facts['model']} on {facts['gpu']}{degree}, {facts['dtype']}{kv}, {facts['engine']}",
        ", ".join(text for text in (*who, *where) if text),
    ]


def sections(facts: Facts) -> list[Section]:
    """The tables, those left out for which there is nothing."""
    return [section for make in _SECTIONS for section in make(facts)]


def _times(facts: Facts) -> Iterator[Section]:
    rows: list[tuple[str, ...]] = []
    methods: dict[str, list[str]] = {}
    for part in facts["parts"]:
        held = part["held_out"]
        errors = ("", "", "", "") if held is None else (
            _percent(held["median"]), _percent(held["p90"]), _percent(held["p95"]), _signed(held["bias"])
        )  # fmt: skip
        name = PARTS[part["part"]]
        rows.append((name, part["covers"], ", ".join(part["sources"]), f"{part['points']:,}", *errors))
        if held is not None:
            methods.setdefault(held["method"], []).append(name)
    notes = tuple(f"left out of {' and '.join(names)}: {method}" for method, names in methods.items())
    head = ("part", "covers", "source", "points", "median", "p90", "p95", "bias")
    yield Section("Times, and the error of points left out of them", head, tuple(rows), notes, 3)


def _outside(facts: Facts) -> Iterator[Section]:
    outside = facts["outside_steps"]
    if outside is None:
        return
    rows = tuple(
        (f"each {what}", outside[f"{what}_source"], _duration(outside[f"{what}_s"])) for what in ("step", "request")
    )
    graphs = "batches are padded to CUDA graphs" if outside["cuda_graphs"] else "batches are not padded to CUDA graphs"
    yield Section("Beside the kernels", ("", "source", "time"), rows, (graphs,), 2)


def _start(facts: Facts) -> Iterator[Section]:
    load = facts["load"]
    if load is None:
        return
    phases = [(words, load["phases"][name]) for name, words in PHASES.items() if name in load["phases"]]
    files = f" in {load['files']} files" if load["files"] else ""
    if phases:
        rows = tuple((words, *_summary(phase, _duration)) for words, phase in phases)
        title = f"A start: {_bytes(load['bytes'])} of weights{files}"
        yield Section(title, ("phase", "source", "median", "range", "repeats"), rows, texts=2)
    rates: list[tuple[str, ...]] = [
        (PLACES[name], *_summary(rate, _rate), ", ".join(f"{n}: {_rate(one)}" for n, one in rate["together"].items()))
        for name, rate in {**load["read"], **load["to_device"]}.items()
    ]
    rates += [
        (f"device to device, {name}", "measured", _rate(rate), "", "", "")
        for name, rate in load["device_to_device"].items()
    ]
    if rates:
        columns = ("from", "source", "median", "range", "repeats", "several at once")
        yield Section("How fast weights come", columns, tuple(rates), texts=2)


def _summary(found: Facts, words: Callable[[float], str]) -> tuple[str, str, str, str]:
    """Source, median, range and number of repeats."""
    span = "" if found["repeats"] == 1 else f"{words(found['low'])} – {words(found['high'])}"
    return found["source"], words(found["median"]), span, str(found["repeats"])


def _memory(facts: Facts) -> Iterator[Section]:
    memory = facts["memory"]
    rows = tuple(
        (words, memory["source"].get(name, ""), _bytes(memory[name])) for name, words in _MEMORY.items() if memory[name]
    )
    yield Section("Memory of one GPU", ("", "source", "size"), rows, texts=2)


def _power(facts: Facts) -> Iterator[Section]:
    power = facts["power"]
    if power is None:
        return
    rows = [("at rest", f"{power['idle_watts']:.0f} W")]
    rows += [(f"steps of {at:,}", f"{watts:.0f} W") for at, watts in zip(power["at"], power["watts"], strict=True)]
    if power["limit_watts"]:
        rows.append(("limit", f"{power['limit_watts']:.0f} W"))
    clock = f"; SM clock {power['clock_mhz']:.0f} MHz" if power["clock_mhz"] else ""
    slowed = f"; throttled while measuring: {', '.join(power['throttled'])}" if power["throttled"] else ""
    yield Section("Power of one GPU", ("", "draws"), tuple(rows), (f"by {power['counter']}{clock}{slowed}",))


def _doubt(facts: Facts) -> Iterator[Section]:
    doubt = facts["doubt"]
    if doubt is not None:
        rows = tuple((name, f"±{_percent(value)}") for name, value in doubt["deviation"].items())
        yield Section(
            "Doubt: one standard deviation of each part", ("part", "deviation"), rows, (f"from {doubt['method']}",)
        )


def _served(facts: Facts) -> Iterator[Section]:
    if facts["served"]:
        rows = tuple(
            (name, f"{value:,}" if not isinstance(value, bool) else str(value).lower())
            for name, value in facts["served"].items()
        )
        yield Section("The server that was measured", ("setting", ""), rows)


def _hardware(facts: Facts) -> Iterator[Section]:
    found = facts["hardware"]
    if found is not None:
        rates = {
            "memory_bytes": ("memory", "B"),
            "memory_bandwidth": ("best bandwidth seen", "B/s"),
            "bf16_flops": ("best rate seen, BF16", "FLOP/s"),
        }
        rows = tuple((words, _scaled(found[name], unit)) for name, (words, unit) in rates.items() if name in found)
        yield Section(f"The device: {found['title']}", ("", ""), rows)


_SECTIONS: Final = (_times, _outside, _start, _memory, _power, _doubt, _served, _hardware)


# --- numbers in words


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100.0 * value:.1f} %"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{100.0 * value:+.1f} %".replace("-", "−")


def _duration(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _bytes(value: float) -> str:
    return _scaled(value, "B")


def _rate(value: float) -> str:
    return _scaled(value, "B/s")


def _scaled(value: float, unit: str) -> str:
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
