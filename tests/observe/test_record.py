"""What a record checks of itself."""

from __future__ import annotations

import numpy as np
import pytest

from sim.errors import SimulationError
from sim.observe import DeploymentFacts, ReplicationRecord, WorkloadFacts
from sim.serving.ledger import OK, REJECTED, Ledger
from sim.workload.table import RequestTable
from tests.observe.making import NAN, record, rejected, request


def test_littles_law_holds_for_requests_of_every_fate() -> None:
    made = record([request(0.0, 0.0, 1.0, 2.0), rejected(1.0), request(3.0)], end=10.0)
    assert made.area_requests == 2.0 + 0.0 + 7.0


@pytest.mark.parametrize("error", [1.00001, 0.99999])
def test_a_number_in_system_that_disagrees_with_the_rows_is_a_fault(error: float) -> None:
    with pytest.raises(SimulationError, match="Little's law"):
        record([request(0.0, 0.0, 1.0, 2.0)], area_requests=2.0 * error)


def test_requests_that_nobody_came_to_issue_are_dropped_and_the_others_keep_their_numbers() -> None:
    made = record(
        [request(NAN), request(0.0, 0.0, 1.0, 2.0), request(NAN), request(5.0, 5.0, 6.0, 7.0), request(90.0)], end=7.0
    )
    assert made.columns["request"].tolist() == [1, 3]
    assert len(made) == 2


def test_an_open_horizon_is_the_last_arrival() -> None:
    assert record([request(0.0, 0.0, 1.0, 2.0), request(4.0, 4.0, 5.0, 6.0)], horizon=float("inf")).horizon == 4.0


def test_a_missing_or_a_short_column_is_named() -> None:
    good = record([request(0.0, 0.0, 1.0, 2.0)])
    facts = {name: getattr(good, name) for name in good.__dataclass_fields__}
    with pytest.raises(SimulationError, match="no column end_s"):
        ReplicationRecord(**{**facts, "columns": {k: v for k, v in good.columns.items() if k != "end_s"}})
    with pytest.raises(SimulationError, match="not as many replica"):
        ReplicationRecord(**{**facts, "columns": good.columns | {"replica": np.zeros(2)}})


def test_a_ledger_becomes_a_record() -> None:
    table = RequestTable(
        arrival=np.array([0.0, 1.0, NAN]),
        workload=np.array([0, 1, 0], dtype=np.int16),
        prompt_tokens=np.array([10, 20, 30]),
        output_tokens=np.array([3, 1, 1]),
        priority=np.array([0, 5, 0]),
        session=np.array([-1, -1, -1]),
    )
    ledger = Ledger(table.arrival.tolist(), replicas=3)
    ledger.scheduled[0], ledger.first_token[0], ledger.end[0], ledger.outcome[0], ledger.replica[0] = (
        0.5,
        1.0,
        2.0,
        OK,
        0,
    )
    ledger.end[1], ledger.outcome[1], ledger.reason[1] = 1.0, REJECTED, "max_model_len"
    ledger.itl.add(0.5, 2)
    ledger.area, ledger.end_time = 2.0, 2.0
    made = ReplicationRecord.of(
        4,
        table,
        ledger,
        workloads=[WorkloadFacts("a"), WorkloadFacts("b")],
        deployments=[DeploymentFacts("x", 1, 1, 1.0, 9), DeploymentFacts("y", 2, 4, 8.0, 9)],
        deployment_of=[0, 1],
        horizon=2.0,
    )
    assert made.columns["deployment"].tolist() == [0, 1]
    assert made.reason_column() == ["", "max_model_len"]
    assert made.owner.tolist() == [0, 1, 1]
    assert [pool.terms.usd_per_hour for pool in made.pools] == [1.0, 8.0]
    assert made.itl_counts.sum() == 2
    assert made.columns["queued_s"].tolist() == [0.0, 1.0]
