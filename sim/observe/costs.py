"""The money and the energy of a replication: bills of its pools, who spends them, joules at the wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.observe.bill import Bill, bill, split
from sim.observe.energy import joules
from sim.observe.fleet import held, overlap
from sim.observe.record import ReplicationRecord

__all__ = ["Account", "account", "energy", "knows_power", "machine_seconds"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Account:
    """``bills`` by pool; ``own_usd`` and ``idle_usd`` by deployment, dollars of the whole run.

    A deployment pays for the GPU-seconds its replicas had, and a share of those that nobody had: machines that were coming, idle GPUs,
    reservations nobody needed, time rounded up.
    """

    bills: tuple[Bill, ...]
    own_usd: Floats
    idle_usd: Floats

    @property
    def usd(self) -> float:
        """All that was spent."""
        return sum(one.usd for one in self.bills)

    @property
    def deployment_usd(self) -> Floats:
        """What each deployment spent, its share of what was idle included."""
        return self.own_usd + self.idle_usd

    def between(self, start: float, stop: float) -> float:
        """What was spent from ``start`` to ``stop``."""
        return sum(one.between(start, stop) for one in self.bills)


def account(record: ReplicationRecord) -> Account:
    """What the whole run cost."""
    machines, pool_of = record.machines, record.pool_of
    used = held(record, 0.0, record.end)
    own, idle = np.zeros(len(used)), np.zeros(len(used))
    bills = []
    announced = [event["node"] for event in record.events if event["kind"] == "reclaim"]
    reclaimed = np.isin(machines["node"], np.array(announced, np.int64)) & (machines["ended"] != "")
    for number, pool in enumerate(record.pools):
        here = machines["pool"] == number
        had = np.stack([machines["start_s"][here], machines["end_s"][here]], axis=1)
        bills.append(bill(had, pool.terms, record.end, reclaimed[here]))
        mine = pool_of == number
        own[mine], idle[mine] = split(bills[-1].usd, bills[-1].paid_s * pool.gpus, used[mine])
    return Account(tuple(bills), own, idle)


def machine_seconds(record: ReplicationRecord, start: float, stop: float) -> Floats:
    """Machine-seconds of each pool between ``start`` and ``stop``, from when a machine was asked for."""
    machines = record.machines
    seconds = overlap(machines["start_s"], machines["end_s"], start, stop)
    return np.bincount(machines["pool"], weights=seconds, minlength=len(record.pools)).astype(np.float64)


def knows_power(record: ReplicationRecord) -> bool:
    """Whether it is known what all of its GPUs and machines draw."""
    return all(pool.site is not None for pool in record.pools) and all(one.power for one in record.deployments)


def energy(record: ReplicationRecord, busy: Floats, start: float, stop: float) -> Floats:
    """Joules of each pool between ``start`` and ``stop``, in which replicas were ``busy`` so many seconds each. ValueError: not known."""
    replicas, owner = record.replicas, record.owner
    had, pool_of = held(record, start, stop), record.pool_of
    machines = machine_seconds(record, start, stop)
    tokens, steps = replicas["prefill_tokens"] + replicas["decode_tokens"], replicas["steps"]
    a_step = np.divide(tokens, steps, out=np.ones(len(owner)), where=steps > 0)
    found = np.zeros(len(record.pools))
    for number, pool in enumerate(record.pools):
        own = np.flatnonzero(pool_of == number).tolist()
        at_work = 0.0
        for one in own:
            curve = record.deployments[one].power
            if curve is None:
                raise ValueError(
                    f"deployment {record.deployments[one].name}: nothing is known of the power of its GPUs"
                )
            whose = owner == one
            more = curve.busy_watts(a_step[whose]) - curve.idle_watts
            at_work += float((more * busy[whose] * replicas["gpus"][whose]).sum()) + curve.idle_watts * float(had[one])
        if pool.site is None:
            raise ValueError(f"pool {pool.name}: nothing is known of the power of its machines")
        found[number] = joules(at_work, float(machines[number]) * pool.gpus, float(had[own].sum()), pool.site)
    return found
