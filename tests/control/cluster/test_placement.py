"""Where replicas go, worked out by hand."""

from __future__ import annotations

import pytest

from sim.control.cluster.placement import Room, choose, missing
from sim.control.cluster.plans import PACK, SPREAD, PoolPlan, ReplicaPlan
from sim.errors import SimulationError
from tests.control.cluster.fakes import Rig


def test_packing_leaves_as_few_gpus_as_it_can() -> None:
    rooms = [Room(0, "a", 8), Room(1, "a", 2), Room(2, "a", 4)]
    assert choose(rooms, 2, PACK) == 1
    assert choose(rooms, 3, PACK) == 2
    assert choose(rooms, 5, PACK) == 0
    assert choose(rooms, 9, PACK) is None


def test_a_tie_goes_to_the_lowest_number() -> None:
    assert choose([Room(3, "a", 4), Room(1, "a", 4)], 4, PACK) == 1


def test_spreading_takes_the_zone_with_fewest_then_the_node_with_fewest_then_the_emptiest() -> None:
    rooms = [Room(0, "a", 4, same=2), Room(1, "b", 1, same=1), Room(2, "b", 6, same=0), Room(3, "b", 7, same=0)]
    assert choose(rooms, 1, SPREAD) == 3  # zone a has 2, b has 1; there nodes 2 and 3 have none, 3 has more room
    assert choose(rooms, 8, SPREAD) is None


def test_a_zone_without_room_is_not_waited_for() -> None:
    assert choose([Room(0, "a", 4, same=5), Room(1, "b", 0, same=0)], 2, SPREAD) == 0


@pytest.mark.parametrize(
    ("pending", "coming", "nodes"),
    [
        ([1, 1, 1], [], 1),
        ([4, 4, 4], [], 2),
        ([8, 1], [], 2),
        ([5, 4, 3], [], 2),  # 5 + 3 and 4
        ([4, 4], [8], 0),
        ([4, 4, 4], [8], 1),
        ([16], [], 0),  # fits on no node
        ([], [], 0),
    ],
)
def test_nodes_that_are_missing(pending: list[int], coming: list[int], nodes: int) -> None:
    assert missing(pending, coming, 8) == nodes


def test_a_replica_is_never_split_over_nodes() -> None:
    # 3 + 3 GPUs are free on two nodes of 4; a replica of 4 has to wait for a node of its own
    rig = Rig(
        [PoolPlan("p", gpus=4, nodes=2, most=3)], [ReplicaPlan("small", "p", 2), ReplicaPlan("large", "p", 0, gpus=4)]
    )
    rig.cluster.start()  # packed: both small ones on node 0
    assert [state.node for state in rig.cluster.states(0)] == [0, 0]
    rig.cluster.cordon(1)
    rig.cluster.scale(1, 1, "wanted")
    assert rig.phases(1) == ["pending"]
    rig.run(1.0)
    assert [(state.phase, state.node) for state in rig.cluster.states(1)] == [("ready", 2)]


def test_what_fits_starts_before_what_waits_for_more() -> None:
    rig = Rig([PoolPlan("p", gpus=4, nodes=1)], [ReplicaPlan("small", "p", 2), ReplicaPlan("large", "p", 0, gpus=4)])
    rig.cluster.start()
    rig.cluster.scale(1, 1, "wanted")
    rig.cluster.scale(0, 4, "wanted")
    rig.run(1.0)
    assert rig.phases(0) == ["ready"] * 4
    assert rig.phases(1) == ["pending"]


def test_the_largest_are_placed_first_at_the_start() -> None:
    # in the order given 1 + 1 GPUs would be on node 0 and 3 on node 1, and the replica of 4 nowhere
    plans = [ReplicaPlan("one", "p", 1), ReplicaPlan("three", "p", 1, gpus=3), ReplicaPlan("four", "p", 1, gpus=4)]
    rig = Rig([PoolPlan("p", gpus=4, nodes=2)], plans)
    rig.cluster.start()
    assert [rig.cluster.states(number)[0].node for number in range(3)] == [1, 1, 0]


def test_zones_are_filled_evenly() -> None:
    rig = Rig([PoolPlan("p", gpus=8, nodes=4, zones=("a", "b"), placement=SPREAD)], [ReplicaPlan("d", "p", 4)])
    rig.cluster.start()
    zones = {node.node: node.zone for node in rig.cluster.nodes()}
    assert sorted(zones[state.node or 0] for state in rig.cluster.states(0)) == ["a", "a", "b", "b"]
    assert len({state.node for state in rig.cluster.states(0)}) == 4


def test_replicas_that_do_not_fit_at_the_start_are_an_error_of_one_line() -> None:
    rig = Rig([PoolPlan("p", gpus=4, nodes=1)], [ReplicaPlan("d", "p", 3, gpus=2)])
    with pytest.raises(
        SimulationError, match=r"^deployments\.d: 3 replicas of 2 GPUs do not fit at the start: pool p has 1 nodes"
    ):
        rig.cluster.start()


def test_a_replica_larger_than_any_node_is_an_error() -> None:
    with pytest.raises(SimulationError, match=r"deployments\.d: 8 GPUs of a replica; a node of pool p has 4"):
        Rig([PoolPlan("p", gpus=4, nodes=1)], [ReplicaPlan("d", "p", 1, gpus=8)])
