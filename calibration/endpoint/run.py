"""A calibration of an endpoint from beginning to end: what the server says, a few probes, the plan, the load kept aside."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from calibration.campaign import Campaign, Record
from calibration.endpoint.cells import Bench
from calibration.endpoint.client import Client
from calibration.endpoint.faults import EndpointError
from calibration.endpoint.load import Lognormal, poisson
from calibration.endpoint.metrics import metrics, settings
from calibration.endpoint.observations import Observations, dumped_log, observations
from calibration.endpoint.observe import streams
from calibration.endpoint.plan import LONGEST, MIX_SHARE, STEPS, Cell, Costs, Limits, Plan, plan
from calibration.endpoint.server import Server
from calibration.endpoint.steps import steps
from sim.errors import ProfileError

__all__ = ["Wanted", "calibrate", "started"]

_UTILISATION: Final = 0.5  # of the capacity, by the mix
_REQUESTS: Final = (20, 400)
_PROBES: Final = (128, 512, 2048, 8192, LONGEST)
_SLOW: Final = 0.02  # of the budget: a prompt that takes so long is the last that is tried


@dataclass(frozen=True)
class Wanted:
    """What the user says: seconds there are, the most requests at once, and of the server what it does not say itself."""

    budget: float = 300.0
    concurrency: int = 32
    token_budget: int | None = None
    max_num_seqs: int | None = None
    seed: int = 0


def started(server: Server, campaign: Campaign, times: int) -> None:
    """Start ``server`` that many times, noting how long each took; the last one goes on running."""
    for number in range(times):
        key = f"start/{number}"
        if key not in campaign:
            server.stop()
        campaign.measure(key, lambda: asdict(server.start()))
    if not server.running:
        server.start()


def calibrate(client: Client, campaign: Campaign, wanted: Wanted) -> Observations:
    """Measure what the server behind ``client`` does, as far as the budget goes, and say what was seen.

    :raises EndpointError: a fault of the server that stays; what was measured before is in the journal, and said to be.
    """
    with _kept(campaign):
        server = campaign.measure("server", lambda: client.run(_server(client)))
        if server["model"] != client.served.model:
            raise ProfileError(
                f"{campaign.path}: has measurements of the model {server['model']!r}, the server has {client.served.model!r}: "
                "remove it to start anew"
            )
        bench = Bench(client, _limits(server, wanted, client))
        until = time.monotonic() + wanted.budget
        costs = _probed(bench, campaign, wanted)
        chosen = plan(bench.limits, costs, wanted.budget)
        _measured(bench, campaign, chosen, costs, wanted, until)
        campaign.measure("mix", lambda: _mix(client, campaign, bench.limits, costs, wanted, until - time.monotonic()))
    seen = observations(campaign, token_budget=wanted.token_budget, max_num_seqs=wanted.max_num_seqs)
    return replace(seen, notes=(*seen.notes, *_missing(campaign, chosen)))


@contextmanager
def _kept(campaign: Campaign) -> Iterator[None]:
    try:
        yield
    except EndpointError as error:
        if not campaign.records:
            raise
        text = f"{error}; {len(campaign.records)} measurements are kept in {campaign.path}, the same command goes on from there"
        raise EndpointError(text, status=error.status, passing=error.passing) from None


async def _server(client: Client) -> Record:
    """What the server says of itself, and how far away it is."""
    found, told = await metrics(client), await settings(client)
    if found is not None and found.busy:
        raise EndpointError(
            f"{client.url}: {found.busy} requests of others are on it: calibrate a server that nobody uses"
        )
    if found is not None and found.replicas > 1:
        raise EndpointError(f"{client.url}: {found.replicas} engines share the load behind it: calibrate one of them")
    return {
        "url": client.url,
        "model": client.served.model,
        "engine": (found.engine if found else None) or (told.version or "").partition(" ")[0].lower() or None,
        "version": told.version,
        "max_model_len": client.served.max_model_len or told.max_model_len,
        "max_num_seqs": told.max_num_seqs,
        "token_budget": told.token_budget,
        "kv_tokens": (found.kv_tokens if found else None) or told.kv_tokens,
        "block_tokens": found.block_tokens if found else None,
        "prefix_cache": found.prefix_cache if found else None,
        "round_trip": await client.round_trip(),
        "notes": list(client.dialect.notes),
    }


def _limits(server: Mapping[str, Any], wanted: Wanted, client: Client) -> Limits:
    return Limits(
        max_model_len=server["max_model_len"],
        max_num_seqs=wanted.max_num_seqs or server["max_num_seqs"],
        kv_tokens=server["kv_tokens"],
        token_budget=wanted.token_budget or server["token_budget"],
        concurrency=wanted.concurrency,
        shortest=client.dialect.shortest,
    )


def _probed(bench: Bench, campaign: Campaign, wanted: Wanted) -> Costs:
    """A few requests, to know how long others will take: growing prompts, until they are long or take long. They also warm the
    server up, and are not used further."""
    limits = bench.limits
    least = limits.shortest
    top = min(limits.longest - 8, LONGEST, int(0.9 * limits.kv_tokens) if limits.kv_tokens else LONGEST)

    def probe(cell: Cell) -> Record:
        return campaign.measure(f"probe/{cell.key}", lambda: bench.measure(cell))

    campaign.expect(5)
    took = {least: _ttft(probe(Cell("prompt", least)))}
    seen = probe(Cell("decode", max(least, 32), 1, STEPS))
    for size in sorted({min(size, top) for size in _PROBES if size > least}):
        try:
            took[size] = _ttft(probe(Cell("prompt", size)))
        except EndpointError as error:
            if error.status not in (400, 413, 422) or limits.max_model_len is not None or len(took) < 2:
                raise
            bench.limits = replace(limits, max_model_len=max(took) + 8)
            break
        if took[size] > _SLOW * wanted.budget:
            break
    found = steps(streams(seen["replies"]))
    times = seen["replies"][0]["times"]
    step = float(np.nanmedian(found.gaps)) if found else (times[-1] - times[0]) / max(len(times) - 1, 1)
    return Costs(tuple(sorted(took.items())), step)


def _ttft(record: Record) -> float:
    reply = record["replies"][0]
    return float(reply["times"][0] - reply["sent"])


def _measured(bench: Bench, campaign: Campaign, chosen: Plan, costs: Costs, wanted: Wanted, until: float) -> None:
    """The cells of the plan, round by round, until the time that is not for the mix is spent."""
    campaign.expect(len(chosen.cells) * chosen.rounds + 1)
    for number, cell in chosen.order(wanted.seed):
        key = f"cell/{number}/{cell.key}"
        if cell.streams > bench.limits.streams or not bench.limits.fits(cell):
            continue
        needed = costs.of(cell, bench.limits.output(cell)) + MIX_SHARE * wanted.budget
        if key not in campaign and until - time.monotonic() < needed:
            continue
        campaign.measure(key, partial(bench.measure, cell))


def _mix(client: Client, campaign: Campaign, limits: Limits, costs: Costs, wanted: Wanted, left: float) -> Record:
    """A Poisson load at about half of what the server can do, of lengths like people's, within the range that was measured."""
    longest = limits.longest
    prompts = Lognormal(
        max(min(longest / 16, 512), limits.shortest), 0.8, max(limits.shortest, 4), min(longest // 2, 4096)
    )
    outputs = Lognormal(32, 0.7, 4, min(128, longest // 4))
    decoding = [
        (len(record["replies"]), float(np.nanmedian(found.gaps)))
        for record in campaign.records.values()
        if record.get("kind") == "decode" and (found := steps(streams(record["replies"]))) is not None
    ]
    batch, step = max(decoding, default=(1, costs.step))
    capacity = 1.0 / (costs.prefill(round(prompts.mean)) + outputs.mean * step / batch)
    rate = _UTILISATION * capacity
    count = int(np.clip(0.8 * min(MIX_SHARE * wanted.budget, left) * rate, *_REQUESTS))
    before = client.run(metrics(client))
    log = poisson(client, rate, count, (prompts, outputs), wanted.seed)
    after = client.run(metrics(client))
    if before is not None and after is not None and before.finished is not None and after.finished is not None:
        log.about["others"] = max(after.finished - before.finished - len(log), 0)
    return dumped_log(log)


def _missing(campaign: Campaign, chosen: Plan) -> Iterator[str]:
    """What there was no time for."""
    keys = [f"cell/{number}/{cell.key}" for number, cell in chosen.order(0)]
    missed = sum(key not in campaign for key in keys)
    if chosen.left_out or missed:
        yield (
            f"for lack of time (--budget) {chosen.left_out} kinds of load were not measured, and {missed} of {len(keys)} "
            "repeats of the others"
        )
