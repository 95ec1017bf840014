"""Requests, timeline and events of a run as Arrow tables with fixed schemas and a fixed order of rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sim.observe.costs import account
from sim.observe.metrics import Floats
from sim.observe.record import ReplicationRecord
from sim.serving.ledger import OUTCOMES, REJECTED

__all__ = ["EVENTS", "REQUESTS", "TIMELINE", "events", "requests", "timeline"]

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


def requests(records: Sequence[ReplicationRecord]) -> pa.Table:
    """The requests of all replications (:data:`REQUESTS`)."""
    return _concatenated([_requests(record) for record in records], REQUESTS)


def timeline(records: Sequence[ReplicationRecord]) -> pa.Table:
    """The samples of all replications (:data:`TIMELINE`)."""
    return _concatenated([_timeline(record) for record in records], TIMELINE)


def events(records: Sequence[ReplicationRecord]) -> pa.Table:
    """The decisions of all replications (:data:`EVENTS`)."""
    rows = [row for record in records for row in _events(record)]
    columns: dict[str, Any] = {}
    for field in EVENTS:
        if field.type == pa.string():
            columns[field.name] = _strings([row.get(field.name, "") for row in rows])
        else:
            columns[field.name] = np.array([row.get(field.name, -1) for row in rows])
    return _table(columns, EVENTS)


def _requests(record: ReplicationRecord) -> pa.Table:
    columns = record.columns
    latencies = record.latencies()
    waits = record.waits()
    values: dict[str, Any] = {
        "replication": np.full(len(record), record.replication),
        "model": _named([w.model for w in record.workloads], columns["workload"]),
        "tenant": _named([w.tenant for w in record.workloads], columns["workload"]),
        "outcome": _named(OUTCOMES, columns["outcome"]),
        "reason": _strings(record.reason_column()),
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
    for replica in range(len(record.owner)):
        rows = np.flatnonzero(of == replica)
        elapsed = np.diff(moments[rows])
        worked = np.diff(samples["busy_s"][order][rows])
        busy[rows[1:]] = np.divide(worked, elapsed, out=np.full(len(elapsed), np.nan), where=elapsed > 0)
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


def _events(record: ReplicationRecord) -> list[dict[str, Any]]:
    columns = record.columns
    replication = {"replication": record.replication}
    rows = []
    for i in np.flatnonzero(columns["outcome"] == REJECTED).tolist():
        number = int(columns["request"][i])
        tokens = {name: int(columns[name][i]) for name in ("prompt_tokens", "output_tokens")}
        rows.append(
            replication
            | {
                "t_s": float(columns["end_s"][i]),
                "kind": "reject",
                "deployment": record.deployments[columns["deployment"][i]].name,
                "request": number,
                "reason": record.reasons.get(number, ""),
                "detail": json.dumps(tokens, sort_keys=True),
            }
        )
    known = set(EVENTS.names)
    for event in record.events:
        detail = {name: value for name, value in event.items() if name not in known}
        named = {name: value for name, value in event.items() if name in known}
        rows.append(replication | {"detail": json.dumps(detail, sort_keys=True)} | named)
    return sorted(rows, key=lambda row: float(row["t_s"]))


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
