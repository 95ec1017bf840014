"""Everything a calibration of an endpoint saw, read from its journal; what it means for trust, and what it cannot tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from calibration.campaign import Campaign, Record
from calibration.endpoint.cells import undisturbed
from calibration.endpoint.observe import Budget, Observed, Prompted, budget, decode, mixed, prompted
from calibration.endpoint.server import Started
from calibration.runs import RequestLog
from calibration.samples import StepSample
from sim.errors import ProfileError
from sim.profiles.library import write_text

__all__ = ["Facts", "Observations", "dumped_log", "observations", "save_requests"]

_MUCH: Final = 0.02  # of the decoding time interrupted, before it is said
_DRIFT: Final = 0.1
_CLIENT: Final = 0.7  # of a core: then a client is late in noting times
Usable = dict[str, list[Record]]


@dataclass(frozen=True)
class Facts:
    """What is known of the server, None where it is not. ``token_budget`` from the user, the server or the samples; ``round_trip``
    seconds of the fastest request for nothing; ``measurements`` counts cells."""

    url: str
    model: str
    engine: str | None
    version: str | None
    max_model_len: int | None
    max_num_seqs: int | None
    token_budget: int | None
    kv_tokens: int | None
    block_tokens: int | None
    prefix_cache: bool | None
    round_trip: float
    measurements: int


@dataclass(frozen=True, eq=False)
class Observations:
    """What a fit needs: ``samples`` of steps, start to start; ``prompted``, times to first tokens, which hold what a request spends
    outside of steps; ``mix``, a Poisson load that no fit may see; ``starts`` of the server. ``spread`` is the median relative
    standard deviation of equal cells. ``notes`` bear on trust; ``unidentified`` says what these data cannot tell."""

    samples: tuple[StepSample, ...]
    prompted: tuple[Prompted, ...]
    mix: RequestLog | None
    facts: Facts
    starts: tuple[Started, ...] = ()
    spread: float | None = None
    notes: tuple[str, ...] = ()
    unidentified: tuple[str, ...] = ()

    def dump(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {
            "facts": asdict(self.facts),
            "spread": self.spread,
            "samples": [asdict(sample) for sample in self.samples],
            "prompted": [asdict(one) for one in self.prompted],
            "starts": [asdict(start) for start in self.starts],
            "mix": None if self.mix is None else dumped_log(self.mix),
            "notes": list(self.notes),
            "unidentified": list(self.unidentified),
        }


def observations(
    campaign: Campaign, *, token_budget: int | None = None, max_num_seqs: int | None = None
) -> Observations:
    """Read the journal of an endpoint's calibration. ``token_budget`` and ``max_num_seqs`` are what the user says of the server.

    :raises ProfileError: nothing in it shows a step.
    """
    records = campaign.records
    server = records.get("server")
    if server is None:
        raise ProfileError(f"{campaign.path}: has no measurements of an endpoint")
    cells = [record for key, record in records.items() if key.startswith("cell/")]
    usable: Usable = defaultdict(list)
    for record in cells:
        if undisturbed(record):
            usable[record["kind"]].append(record)
    seen = budget(usable["mixed"])
    tokens = token_budget or server["token_budget"] or seen.tokens
    known = Budget(tokens or seen.low, seen.high, tokens)
    found = Observed()
    for record in usable["decode"]:
        found.add(decode(record))
    for record in usable["mixed"]:
        found.add(mixed(record, known))
    if not found.samples:
        raise ProfileError(f"{campaign.path}: none of {len(cells)} loads shows a step: {_why(cells)}")
    lone = prompted(usable["prompt"], known)
    together = max((record["together"] for record in cells), default=0)
    found_seats = next((record["seats"] for record in cells if record["seats"]), None)
    facts = Facts(
        url=server["url"],
        model=server["model"],
        engine=server["engine"],
        version=server["version"],
        max_model_len=server["max_model_len"],
        max_num_seqs=max_num_seqs or server["max_num_seqs"] or found_seats,
        token_budget=tokens,
        kv_tokens=server["kv_tokens"],
        block_tokens=server["block_tokens"],
        prefix_cache=server["prefix_cache"],
        round_trip=server["round_trip"],
        measurements=len(cells),
    )
    starts = tuple(Started(**record) for key, record in records.items() if key.startswith("start/"))
    spread, drift = _repeats(records)
    mix = _log(records.get("mix"))
    return Observations(
        samples=tuple(found.samples),
        prompted=(*lone, *found.prompted),
        mix=mix,
        facts=facts,
        starts=starts,
        spread=spread,
        notes=tuple(_notes(server, cells, found, facts, drift, found_seats, mix)),
        unidentified=tuple(_unidentified(server, facts, seen, lone, found, together)),
    )


def _notes(
    server: Record,
    cells: Sequence[Record],
    found: Observed,
    facts: Facts,
    drift: float | None,
    found_seats: int | None,
    mix: RequestLog | None,
) -> Iterator[str]:
    yield from server["notes"]
    loaded = sum(bool(record["busy"] or record["others"]) for record in cells)
    if loaded:
        yield f"others used the server during {loaded} of {len(cells)} loads; those were left out"
    if mix is not None and (mix.about.get("others") or mix.about["failed"]):
        yield f"in the load kept aside {mix.about['failed']} requests failed, and {mix.about.get('others', 0)} were of others"
    preempted = sum(bool(record["preemptions"]) for record in cells)
    if preempted:
        yield f"the KV cache was too small for {preempted} of {len(cells)} loads (requests were preempted); those were left out"
    retried = sum(record["retried"] for record in cells)
    if retried:
        yield f"{retried} loads failed or were disturbed, and were measured again"
    cached = sum(record["cached"] for record in cells)
    if cached:
        yield f"the server found {cached} tokens of prompts in its prefix cache, though all prompts were new to it"
    slow = [record for record in cells if record["client"] > _CLIENT]
    if slow:
        most = max(len(record["replies"]) for record in slow)
        yield (
            f"this client was busy for most of {len(slow)} loads of up to {most} streams: times in them can be late "
            "(lower --max-concurrency, or run it on another machine)"
        )
    if found.seconds and found.interrupted > _MUCH * found.seconds:
        share = found.interrupted / found.seconds
        yield f"{share:.0%} of the decoding time were interruptions, steps over three times the median: left out"
    if drift is not None and abs(drift) > _DRIFT:
        yield f"the same loads took {drift:+.0%} at the end of the calibration against its beginning: something changed meanwhile"
    processes = {record["process"] for record in cells if record["process"] is not None}
    if len(processes) > 1:
        yield f"the server was restarted between loads ({len(processes)} processes): step times of processes differ"
    if found_seats is not None:
        yield f"no more than {found_seats} requests ran at once: taken for max_num_seqs"
    if found.apart:
        yield (
            f"{found.apart} prompts were run in steps without the decodes, as SGLang does; twinfer simulates engines that run "
            "them together"
        )
    if found.lost:
        yield f"{found.lost} prompts sent beside decodes cannot be matched to steps, and were left out"
    if found.unread:
        yield f"{found.unread} loads were left out: their streams never decoded all together, or came several tokens at a time"


def _unidentified(
    server: Record, facts: Facts, seen: Budget, lone: Sequence[Prompted], found: Observed, together: int
) -> Iterator[str]:
    if facts.token_budget is None:
        yield (
            f"token budget: at least {seen.low}: no prompt was split (--max-num-batched-tokens says it)"
            if seen.high is None
            else f"token budget: somewhere between {seen.low} and {seen.high} (--max-num-batched-tokens says it)"
        )
    if facts.max_num_seqs is None:
        yield f"max_num_seqs: {together} requests ran together, more were not sent (--max-num-seqs says it)"
    if facts.max_model_len is None:
        longest = max((one.prompt for one in lone), default=0)
        yield f"max_model_len: prompts of up to {longest} tokens were served, longer ones were not tried"
    if facts.kv_tokens is None:
        yield "KV cache: its size is neither in /metrics nor told otherwise, and no request was preempted"
    shortest = min((one.prompt for one in lone), default=None)
    if shortest is None or shortest > 16:
        least = "no lone prompt was measured" if shortest is None else f"the shortest prompt had {shortest} tokens"
        yield f"what a request spends outside of steps: {least}, so it is not told apart from a prompt's own step"
    if not any(sample.prompts for sample in found.samples):
        yield "prompts beside decodes: no step of both was seen"
    if server["engine"] is None:
        yield "other clients: the server has no metrics that are known, so loads of others would not be noticed"


def _repeats(records: Mapping[str, Record]) -> tuple[float | None, float | None]:
    """The median relative standard deviation of cells that were measured several times, and how much longer their last time took
    than their first, in the median. A cell's time is that to its last token."""
    took: dict[str, list[float]] = defaultdict(list)
    for key, record in records.items():
        if key.startswith("cell/"):
            _, _, name = key.split("/", 2)
            took[name].append(max(reply["times"][-1] for reply in record["replies"]) - record["replies"][0]["sent"])
    several = [np.array(values) for values in took.values() if len(values) > 1]
    if not several:
        return None, None
    spread = float(np.median([np.std(values, ddof=1) / np.mean(values) for values in several]))
    return spread, float(np.median([values[-1] / values[0] for values in several])) - 1.0


def _why(cells: Sequence[Record]) -> str:
    loaded = sum(bool(record["busy"] or record["others"]) for record in cells)
    if loaded > len(cells) // 2:
        return "others are using the server"
    return "requests did not decode together, or there was no time for more"


def dumped_log(log: RequestLog) -> Record:
    """A request log as a record of a journal; None for a time that is not there."""

    def times(column: Any) -> list[float | None]:
        return [round(float(value), 6) if np.isfinite(value) else None for value in column]

    return {
        "sent": times(log.sent),
        "prompt": [int(value) for value in log.prompt],
        "output": [int(value) for value in log.output],
        "ttft": times(log.ttft),
        "e2e": times(log.e2e),
        "token_times": [times(row) for row in log.token_times or ()],
        "source": log.source,
        "about": log.about,
    }


def _log(record: Record | None) -> RequestLog | None:
    if record is None:
        return None

    def times(name: str) -> Any:
        return np.array([np.nan if value is None else value for value in record[name]])

    return RequestLog(
        sent=times("sent"),
        prompt=np.array(record["prompt"], np.int64),
        output=np.array(record["output"], np.int64),
        ttft=times("ttft"),
        e2e=times("e2e"),
        token_times=tuple(np.array(row) for row in record["token_times"]) or None,
        source=record["source"],
        about=record["about"],
    )


def save_requests(log: RequestLog, path: Path) -> None:
    """Write a log as CSV that :func:`calibration.importers.requests.read_run` reads. :raises ProfileError: the place cannot be written."""

    def cell(value: float) -> str:
        return f"{value:.6f}" if np.isfinite(value) else ""

    rows = zip(log.sent, log.prompt, log.output, log.ttft, log.e2e, strict=True)
    lines = ["sent_s,prompt_tokens,output_tokens,ttft_s,e2e_s"]
    lines += [f"{cell(sent)},{prompt},{output},{cell(ttft)},{cell(e2e)}" for sent, prompt, output, ttft, e2e in rows]
    write_text(path, "\n".join(lines) + "\n")
