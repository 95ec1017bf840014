"""What was assumed rather than measured, where every number comes from, and what the words mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.report.format import METRICS
from sim.report.markup import Content, Markup, joined, tag
from sim.report.shell import Section, table

if TYPE_CHECKING:
    from sim.report.view import View

__all__ = ["NOT_MODELLED", "assumptions", "glossary", "provenance"]

NOT_MODELLED = (
    "Prefix caching",
    "pipeline, expert and data parallelism",
    "disaggregated prefill and decode",
    "speculative decoding",
    "LoRA",
    "KV offloading and swapping",
    "multi-modal inputs and encoders",
    "structured output",
)
"""Of :doc:`docs/engine.md`, what changes figures most."""

_WORDS = {
    "option": "one of the architectures compared: what it changes in the scenario.",
    "objective": "a limit on a figure. An option meets it if the whole interval is within, misses it if the whole interval is beyond, and "
    "is not decided otherwise. A request that is not served counts as later than any limit.",
    "replication": "one run of the same scenario with random numbers of its own. Options share them: replication 3 of one sees the "
    "requests of replication 3 of all.",
    "±": "half of the width of the confidence interval of a figure, over replications (Student's t).",
    "warm-up": "the time from the start until the start no longer shows; requests that arrive in it are not counted.",
    "p99": "99% of requests are at or under it; p50 is the median.",
    "TTFT": "time to first token: from the arrival of a request to its first token.",
    "TPOT": "time per output token: a request's mean time between tokens after the first.",
    "ITL": "inter-token latency: the time between two tokens of one request.",
    "E2E": "end-to-end latency: from the arrival to the last token.",
    "KV cache": "memory of a GPU that holds what was computed of running requests. When it is full, requests wait or are preempted.",
    "Pareto front": "options that no other option beats in cost without losing in the share of requests within objectives.",
    "cold start": "from asking for a replica until it serves: machine, image, weights, compilation.",
}


def assumptions(view: View) -> Iterator[Section]:
    """Warnings first, then what a reader must know."""
    points: list[Content] = [
        [tag("strong", "Warning: "), _of_whom(names, view), text] for text, names in view.warnings()
    ]
    for profile, (source, deployments) in sorted(_profiles(view.manifest).items()):
        how = "predicted, not measured" if "predicted" in source.lower() else "from measurements"
        points.append(f"Step times of {', '.join(sorted(deployments))}: profile {profile}, {how} ({source}).")
    drawn = any(option.draws for option in view.options)
    if not drawn and any(figure.half_width for option in view.options for figure in option.overall.values()):
        points.append(
            "Intervals are of the traffic's chance alone: they do not include how far the profiles may be off."
        )
    if view.targets():
        points.append(
            f"The {100.0 * view.confidence:.4g}% are those of each objective by itself, not of all of them together, and of the traffic "
            "described, not of traffic that grows."
        )
    warmup = view.manifest.get("warm-up")
    if warmup:
        left_out = (
            "Nothing is left out as warm-up."
            if warmup == "0 s"
            else f"Requests of the first {warmup} are left out as warm-up."
        )
        points.append(left_out)
    points.append(
        "Prices are those of whole machines, by the catalog or as the scenario gives them. Engine settings left out are the "
        "engine's defaults."
    )
    points.append(f"Not modelled: {'; '.join(NOT_MODELLED)}. Step times have no noise of their own.")
    points.extend(view.notes)
    yield Section("assumptions", "Assumptions", tag("ul", *(tag("li", point) for point in points)))


def provenance(view: View) -> Iterator[Section]:
    """What made the result: the same scenario, seed and versions give the same bytes."""
    names = {option.name for option in view.options}
    own = {name: value for name, value in view.manifest.items() if name in names and isinstance(value, Mapping)}
    shared = {name: value for name, value in view.manifest.items() if name not in own}
    content: list[Content] = [
        tag("p", "The same scenario, seed and versions give the same file, byte for byte.", class_="muted")
    ]
    rows: list[list[Content]] = [[key, _value(value)] for key, value in _flat(shared)]
    if rows:
        content.append(table("Provenance", ("what", "value"), rows, class_="facts"))
    rows = [[name, [_pair(key, value) for key, value in _flat(rest)]] for name, rest in own.items()]
    if rows:
        content += [
            tag("h3", "What differs"),
            table("What differs between options", ("option", "what is its own"), rows, class_="apart"),
        ]
    if len(content) > 1:
        yield Section("provenance", "Provenance", content)


def glossary(view: View) -> Iterator[Section]:
    """The words of the page, then the figures that it names."""
    shown = {name for option in view.options for name in option.overall}
    figures = [
        (one.title, one.meaning)
        for name, one in METRICS.items()
        if name in shown and one.unit != "time" and one.meaning
    ]
    several = len(view.options) > 1
    needless = {
        *(() if several else ("option", "Pareto front")),
        *(() if any(figure.half_width for option in view.options for figure in option.overall.values()) else ("±",)),
        *(
            ()
            if any(option.course is not None and option.course.starts for option in view.options)
            else ("cold start",)
        ),
        *(() if view.targets() else ("objective",)),
    }
    terms = [
        *(item for item in _WORDS.items() if item[0] not in needless),
        *((title, f"{meaning}.") for title, meaning in figures),
    ]
    words = (part for term, meaning in terms for part in (tag("dt", term), tag("dd", meaning)))
    yield Section("glossary", "Glossary", tag("dl", *words))


def _of_whom(names: Sequence[str], view: View) -> Markup | None:
    return None if len(names) == len(view.options) else joined([", ".join(names), ": "])


def _profiles(found: Any) -> dict[str, tuple[str, set[str]]]:
    """Profile to its source and the deployments that use it, wherever in the manifest they are."""
    profiles: dict[str, tuple[str, set[str]]] = {}
    if not isinstance(found, Mapping):
        return profiles
    for key, value in found.items():
        if isinstance(value, Mapping) and isinstance(value.get("profile"), str):
            source = str(value.get("profile_source") or "no source given")
            profiles.setdefault(value["profile"], (source, set()))[1].add(str(key))
        for name, (source, deployments) in _profiles(value).items():
            profiles.setdefault(name, (source, set()))[1].update(deployments)
    return profiles


def _value(value: str) -> Content:
    return tag("code", value) if _hash_like(value) else value


def _pair(key: str, value: str) -> Markup:
    return tag("span", key, " ", tag("code", value), class_="pair")


def _hash_like(value: str) -> bool:
    return len(value) >= 32 and " " not in value


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in sorted(value.items()) if path else value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{path}.{index}")
    elif isinstance(value, list | tuple):
        if value:
            yield path, ", ".join(str(item) for item in value)
    elif value is not None and value != {}:
        yield path, {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
