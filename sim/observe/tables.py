"""Requests, timeline and events of a run as Arrow tables with fixed schemas and a fixed order of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sim.observe.costs import account
from sim.observe.metrics import Floats
from sim.observe.record import ReplicationRecord
from sim.serving.ledger import OUTCOMES, REJECTED

__all__ = ["EVENTS", "REQUESTS", "STEPS", "TIMELINE", "events", "requests", "steps", "timeline"]

REQUESTS = pa.schema(
    [
        ("replication", pa.int32()),
        ("request", pa.int64()),
        ("model", pa.string()),
        ("tenant", pa.string()),
        ("priority", pa.int64()),
        ("arrival_s", pa.float64()),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("attempts", pa.int32()),
        ("deployment", pa.string()),
        ("replica", pa.int32()),
        ("queued_s", pa.float64()),
        ("scheduled_s", pa.float64()),
        ("first_token_s", pa.float64()),
        ("end_s", pa.float64()),
        ("queue_s", pa.float64()),
        ("ttft_s", pa.float64()),
        ("tpot_s", pa.float64()),
        ("e2e_s", pa.float64()),
        ("retry_s", pa.float64()),
        ("gateway_s", pa.float64()),
        ("preempted_s", pa.float64()),
        ("preemptions", pa.int64()),
        ("cost_usd", pa.float64()),
    ]
)
"""A row a request, by replication and number of the request. Times are seconds, null for what never happened. ``replica`` counts
within its deployment, -1: never routed. The latencies are of requests served to their last token. ``retry_s``: from the arrival until
the attempt that was answered (or the last) was sent; ``gateway_s``: from then until a replica got it, or none did; ``preempted_s``: in
the engine, taken out of the batch. ``cost_usd`` is the request's share, by prompt and output tokens, of what its deployment cost in
that replication, idle GPUs included; 0 if it was not served."""

TIMELINE = pa.schema(
    [
        ("replication", pa.int32()),
        ("t_s", pa.float64()),
        ("deployment", pa.string()),
        ("replica", pa.int32()),
        ("running", pa.int64()),
        ("waiting", pa.int64()),
        ("kv_used", pa.int64()),
        ("kv_blocks", pa.int64()),
        ("busy", pa.float64()),
    ]
)
"""A row a replica and moment. ``running`` and ``waiting`` requests and KV blocks in use are those of the moment; ``busy`` is the
share of time in steps since the sample before (null at the first)."""

EVENTS = pa.schema(
    [
        ("replication", pa.int32()),
        ("t_s", pa.float64()),
        ("kind", pa.string()),
        ("deployment", pa.string()),
        ("replica", pa.int32()),
        ("request", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""A row a decision, in order of time, with the reason; ``detail`` is a JSON object of the numbers it was made from. What does not apply
is empty, or -1 for ``replica`` and ``request``."""

STEPS = pa.schema(
    [
        ("replication", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("deployment", pa.string()),
        ("replica", pa.int32()),
        ("steps", pa.int64()),
        ("prompts", pa.int64()),
        ("prefill_tokens", pa.int64()),
        ("decodes", pa.int64()),
        ("context_tokens", pa.int64()),
        ("running", pa.int64()),
        ("waiting", pa.int64()),
        ("kv_used", pa.int64()),
        ("kv_blocks", pa.int64()),
    ]
)
"""A row an engine step, or a span of ``steps`` equal ones (0: a step lost with its replica), by deployment, replica and start; of the
first replication, and only if ``run.steps`` asked for it. Times are on the clients' clock, as those of requests. In each step
``prompts`` requests had ``prefill_tokens`` of their prompts computed, and ``decodes`` requests got a token; ``context_tokens`` those had
in the KV cache before the first. ``running``, ``waiting`` and KV blocks in use are those of the first step's start."""


_KNOWN = frozenset(EVENTS.names)


def requests(records: Sequence[ReplicationRecord]) -> pa.Table:
    """The requests of all replications (:data:`REQUESTS`)."""
    return _concatenated([_requests(record) for record in records], REQUESTS)


def timeline(records: Sequence[ReplicationRecord]) -> pa.Table:
    """The samples of all replications (:data:`TIMELINE`)."""
    return _concatenated([_timeline(record) for record in records], TIMELINE)


def events(records: Sequence[ReplicationRecord]) -> pa.Table:
    """The decisions of all replications (:data:`EVENTS`)."""
    return _concatenated([_events(record) for record in records], EVENTS)


def steps(records: Sequence[ReplicationRecord]) -> pa.Table:
    """The steps that were kept (:data:`STEPS`)."""
    return _concatenated([_steps(record) for record in records if record.steps], STEPS)


def _requests(record: ReplicationRecord) -> pa.Table:
    columns = record.columns
    latencies = record.latencies()
    waits = record.waits()
    values: dict[str, Any] = {
        "replication": np.full(len(record), record.replication),
        "model": _named([w.model for w in record.workloads], columns["workload"]),
        "tenant": _named([w.tenant for w in record.workloads], columns["workload"]),
        "outcome": _named(OUTCOMES, columns["outcome"]),
        "reason": _named(*record.reason_index()),
        "deployment": _named([d.name for d in record.deployments], columns["deployment"]),
        "replica": _within_deployment(record, columns["replica"]),
        "queue_s": latencies["queue"],
        "ttft_s": latencies["ttft"],
        "tpot_s": latencies["tpot"],
        "e2e_s": latencies["e2e"],
        "retry_s": waits["retry"],
        "gateway_s": waits["gateway"],
        "preempted_s": columns["lost_s"],
        "cost_usd": _costs(record),
    }
    return _table({field.name: values.get(field.name, columns.get(field.name)) for field in REQUESTS}, REQUESTS)


def _costs(record: ReplicationRecord) -> Floats:
    columns = record.columns
    tokens = np.where(record.ok, columns["prompt_tokens"] + columns["output_tokens"], 0).astype(np.float64)
    served = np.bincount(columns["deployment"], weights=tokens, minlength=len(record.deployments))
    paid = account(record).deployment_usd
    rate = np.divide(paid, served, out=np.zeros(len(paid)), where=served > 0)
    return np.asarray(tokens * rate[columns["deployment"]])


def _timeline(record: ReplicationRecord) -> pa.Table:
    samples = record.timeline
    if not samples:
        return _concatenated([], TIMELINE)
    order = np.lexsort((samples["replica"], samples["t_s"]))
    moments, of = samples["t_s"][order], samples["replica"][order].astype(np.int64)
    busy = np.full(len(moments), np.nan)
    by_replica = np.lexsort((moments, of))
    again = of[by_replica][1:] == of[by_replica][:-1]
    elapsed = np.diff(moments[by_replica])
    worked = np.diff(samples["busy_s"][order][by_replica])
    share = np.divide(worked, elapsed, out=np.full(len(elapsed), np.nan), where=again & (elapsed > 0))
    busy[by_replica[1:]] = share
    owner = record.owner[of]
    return _table(
        {
            "replication": np.full(len(moments), record.replication),
            "t_s": moments,
            "deployment": _named([d.name for d in record.deployments], owner),
            "replica": _within_deployment(record, of),
            "running": samples["running"][order].astype(np.int64),
            "waiting": samples["waiting"][order].astype(np.int64),
            "kv_used": samples["kv_used"][order].astype(np.int64),
            "kv_blocks": np.array([d.kv_blocks for d in record.deployments])[owner],
            "busy": busy,
        },
        TIMELINE,
    )


def _steps(record: ReplicationRecord) -> pa.Table:
    replica = record.steps["replica"]
    owner, ordinal = record.owner[replica], record.replicas["ordinal"][replica]
    order = np.lexsort((record.steps["start_s"], ordinal, owner))
    values: dict[str, Any] = {name: column[order] for name, column in record.steps.items()}
    values |= {
        "replication": np.full(len(order), record.replication),
        "deployment": _named([d.name for d in record.deployments], owner[order]),
        "replica": ordinal[order],
        "kv_blocks": np.array([d.kv_blocks for d in record.deployments])[owner[order]],
    }
    return _table({field.name: values[field.name] for field in STEPS}, STEPS)


def _events(record: ReplicationRecord) -> pa.Table:
    """Rejections, which are read from the rows, and the other decisions, in order of time."""
    columns, names = record.columns, [deployment.name for deployment in record.deployments]
    rejected = np.flatnonzero(columns["outcome"] == REJECTED)
    count, rows = len(rejected), record.events
    reasons, reason = record.reason_index()
    tokens = zip(columns["output_tokens"][rejected].tolist(), columns["prompt_tokens"][rejected].tolist(), strict=True)
    text = {
        "kind": ["reject"] * count + [str(row["kind"]) for row in rows],
        "deployment": [names[one] for one in columns["deployment"][rejected].tolist()]
        + [str(row.get("deployment", "")) for row in rows],
        "reason": [reasons[one] for one in reason[rejected].tolist()] + [str(row.get("reason", "")) for row in rows],
        "detail": [f'{{"output_tokens": {output}, "prompt_tokens": {prompt}}}' for output, prompt in tokens]
        + [_detail(row) for row in rows],
    }
    when = np.concatenate([columns["end_s"][rejected], np.array([row["t_s"] for row in rows], np.float64)])
    order = np.argsort(when, kind="stable")
    ordered = order.tolist()
    return _table(
        {
            "replication": np.full(len(when), record.replication),
            "t_s": when[order],
            "replica": _joined(np.full(count, -1), [row.get("replica", -1) for row in rows])[order],
            "request": _joined(columns["request"][rejected], [row.get("request", -1) for row in rows])[order],
        }
        | {name: _strings([values[place] for place in ordered]) for name, values in text.items()},
        EVENTS,
    )


def _detail(event: Mapping[str, Any]) -> str:
    """What of an event has no column of its own, as JSON."""
    return json.dumps({name: value for name, value in event.items() if name not in _KNOWN}, sort_keys=True)


def _joined(first: Any, second: Sequence[int]) -> Any:
    return np.concatenate([first, np.array(second, np.int64)])


def _within_deployment(record: ReplicationRecord, replica: Any) -> Any:
    """Indices within deployments from global ones; -1 stays."""
    ordinal = record.replicas["ordinal"]
    return np.where(replica >= 0, ordinal[np.maximum(replica, 0)], -1) if len(ordinal) else replica


def _named(names: Sequence[str], index: Any) -> pa.Array:
    """``names[i]`` for each i of ``index``."""
    return pa.DictionaryArray.from_arrays(_numbers(index, pa.int32()), _strings(names)).dictionary_decode()


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = [
        values if isinstance(values, pa.Array) else _numbers(values, field.type)
        for field in schema
        for values in (columns[field.name],)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


# pa.array() looks whether it was given something of pandas, and imports pandas to know: a quarter of a second that a run of
# the command line would pay for nothing. From buffers it does not.


def _numbers(values: Any, kind: pa.DataType) -> pa.Array:
    """An Arrow array of ``kind`` (fixed width); NaN becomes null."""
    plain = np.ascontiguousarray(values, dtype=kind.to_pandas_dtype())
    missing = np.isnan(plain) if plain.dtype.kind == "f" else None
    if missing is None or not missing.any():
        return pa.Array.from_buffers(kind, len(plain), [None, pa.py_buffer(plain)])
    valid = np.packbits(~missing, bitorder="little")
    plain = np.where(missing, 0.0, plain)  # what lies under a null is nobody's business, but it is written
    return pa.Array.from_buffers(kind, len(plain), [pa.py_buffer(valid), pa.py_buffer(plain)])


def _strings(values: Sequence[str]) -> pa.Array:
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    return pa.Array.from_buffers(
        pa.string(), len(encoded), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def _concatenated(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables(tables) if tables else pa.Table.from_batches([], schema=schema)
