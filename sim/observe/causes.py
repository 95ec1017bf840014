"""What the latency of each request was spent on: parts that add up to it.

Pure numpy over the columns of a record. In the order in which a request meets them:

- ``retry``: from its arrival until the attempt that was answered was sent: attempts that failed, pauses between them, the first stage of
  a cascade.
- ``admission``: held at the gateway, by a policy or in its line, with replicas there.
- ``failure``: waiting, at the gateway or in an engine's queue, while fewer replicas served than were asked for because a fault had taken
  some.
- ``cold start``: waiting while replicas of the deployment were on their way (created, not ready), or none was there.
- ``queueing``: the rest of the wait in the engine's queue.
- ``preemption``: from each preemption to the next token.
- ``batching``: time in steps beyond what the request would take alone: shared with others, waiting for its turn in the token budget,
  slowed down by a fault, or begun again elsewhere by a gateway that migrates.
- ``compute``: what it would take alone (:class:`sim.observe.alone.Alone`). Where that is not known ``batching`` is counted here.
- ``overhead``: the way to the engine and back.

Of the seconds preempted only the sum of a request is known: they are counted from the last token backwards, as running requests are
preempted far more often than prompts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.observe.presence import Presence

if TYPE_CHECKING:
    from sim.observe.record import ReplicationRecord

__all__ = ["CAUSES", "FAMILIES", "Split", "split"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

CAUSES = (
    *("retry", "admission", "failure", "cold start", "queueing", "preemption", "batching", "compute", "overhead"),
)
"""In the order in which a request meets them."""

FAMILIES = ("ttft", "tpot", "e2e", "queue")
"""Latencies that are split."""

Split = dict[str, Floats]
"""Seconds by cause, of each request."""


def split(
    record: ReplicationRecord,
    latency: str,
    rows: Array | None = None,
    presences: dict[int, Presence] | None = None,
) -> Split:
    """``latency`` (one of :data:`FAMILIES`) of the requests ``rows`` (all by default, which must have been served) by cause, in seconds.

    The parts are not negative and sum to ``record.latencies()[latency]``, to float accuracy. ``presences`` keeps what was worked
    out for each deployment, for the next call.
    """
    if rows is None:
        rows = np.flatnonzero(record.ok)
    columns = {
        name: record.columns[name][rows]
        for name in ("arrival_s", "began_s", "queued_s", "scheduled_s", "first_token_s", "end_s", "lost_s")
    }
    kept = {} if presences is None else presences
    parts = {cause: np.zeros(len(rows)) for cause in CAUSES}
    first, decoding = _in_steps(record, rows, columns)
    if latency == "tpot":
        gaps = np.maximum(record.columns["output_tokens"][rows] - 1, 1)
        return parts | {cause: seconds / gaps for cause, seconds in decoding.items()}
    _waiting(record, rows, columns, parts, kept, gateway=latency != "queue")
    if latency == "queue":
        return parts
    for cause, seconds in first.items():
        parts[cause] += seconds
    if latency == "e2e":
        for cause, seconds in decoding.items():
            parts[cause] += seconds
    return parts


def _waiting(
    record: ReplicationRecord,
    rows: Array,
    columns: dict[str, Floats],
    parts: Split,
    presences: dict[int, Presence],
    *,
    gateway: bool,
) -> None:
    """Everything before the first step."""
    served_by = record.columns["deployment"][rows]
    for number in np.unique(served_by).tolist():
        facts = record.deployments[number]
        presence = presences.get(number)
        if presence is None:
            presence = presences[number] = Presence.of(record, number)
        whose = np.flatnonzero(served_by == number)
        late = facts.request_overhead
        arrival, sent, scheduled = (columns[name][whose] for name in ("arrival_s", "began_s", "scheduled_s"))
        # the engine's clock is late by the overhead: what waits at the gateway and in the engine is looked up by that clock
        reached = np.maximum(columns["queued_s"][whose] - late, sent)
        if gateway:
            parts["retry"][whose] = sent - arrival
            parts["overhead"][whose] = late
            _attribute(presence, sent, reached, parts, whose, "admission")
        _attribute(presence, reached, np.maximum(scheduled - late, reached), parts, whose, "queueing")


def _attribute(presence: Presence, start: Floats, stop: Floats, parts: Split, whose: Array, otherwise: str) -> None:
    wait = stop - start
    failed = np.clip(presence.failed.within(start, stop), 0.0, wait)
    coming = np.clip(presence.coming.within(start, stop), 0.0, wait - failed)
    parts["failure"][whose] += failed
    parts["cold start"][whose] += coming
    parts[otherwise][whose] += wait - failed - coming


def _in_steps(record: ReplicationRecord, rows: Array, columns: dict[str, Floats]) -> tuple[Split, Split]:
    """From the first step to the first token, and from there to the last."""
    prefill = columns["first_token_s"] - columns["scheduled_s"]
    decode = columns["end_s"] - columns["first_token_s"]
    least_prefill, least_decode = prefill.copy(), decode.copy()
    prompt, output = (record.columns[name][rows] for name in ("prompt_tokens", "output_tokens"))
    served_by = record.columns["deployment"][rows]
    for number in np.unique(served_by).tolist():
        alone = record.deployments[number].alone
        if alone is not None:
            whose = np.flatnonzero(served_by == number)
            to_first, to_last = alone.seconds(prompt[whose], output[whose])
            least_prefill[whose] = np.fmin(to_first, prefill[whose])
            least_decode[whose] = np.fmin(to_last, decode[whose])
    beyond, beyond_first = decode - least_decode, prefill - least_prefill
    lost = np.minimum(columns["lost_s"], beyond)
    lost_first = np.minimum(columns["lost_s"] - lost, beyond_first)
    return (
        {"preemption": lost_first, "batching": beyond_first - lost_first, "compute": least_prefill},
        {"preemption": lost, "batching": beyond - lost, "compute": least_decode},
    )
