"""Whatever goes wrong together: only what broke is repaired, what ends leaves nothing behind, and no fault keeps a run up."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sim.control.cluster.distribution import Fixed
from sim.control.cluster.plans import PoolPlan, ReplicaPlan
from sim.control.faults import (
    At,
    FaultPlan,
    GpuFailure,
    MetricsOutage,
    NodeFailure,
    Partition,
    Renewal,
    ReplicaCrash,
    Rollout,
    Slowdown,
    SpotReclaim,
    ZoneLoss,
    start,
)
from sim.kernel.drive import drive
from tests.control.faults.stage import TEN, Stage, stage

END = 500.0

SECONDS = st.integers(0, 300).map(float)
WHENS = st.one_of(
    st.lists(SECONDS, min_size=1, max_size=3).map(lambda times: At(tuple(sorted(times)))),
    st.builds(Renewal, st.sampled_from([50.0, 300.0]), st.sampled_from([0.5, 1.0, 2.0]), until=st.just(END)),
)
LASTS = st.integers(0, 200).map(lambda seconds: Fixed(float(seconds)))
SHARES = st.sampled_from([None, 0.3, 1.0])
ZONES = st.sampled_from([None, "a", "b"])

FAULTS: list[Any] = [
    st.builds(NodeFailure, name=st.just("node"), when=WHENS, repair=LASTS, zone=ZONES, share=SHARES),
    st.builds(
        GpuFailure, name=st.just("gpu"), when=WHENS, repair=LASTS, share=SHARES, takes=st.sampled_from(["node", "replica"]),
        detected_after=st.sampled_from([None, 0.0, 7.0]),
    ),
    st.builds(ReplicaCrash, name=st.just("crash"), when=WHENS, share=SHARES, detected_after=st.sampled_from([0.0, 7.0])),
    st.builds(
        Slowdown, name=st.just("slow"), when=WHENS, lasts=LASTS, factor=st.sampled_from([0.5, 3.0]), share=SHARES,
        of=st.sampled_from(["node", "replica"]), zone=ZONES,
    ),
    st.builds(Partition, name=st.just("cut"), when=WHENS, lasts=LASTS, zone=ZONES, share=SHARES),
    st.builds(
        SpotReclaim, name=st.just("spot"), when=WHENS, pool=st.just("p"), notice=st.sampled_from([0.0, 30.0]),
        returns=st.one_of(st.none(), LASTS), drain_on_notice=st.booleans(), share=SHARES,
    ),
    st.builds(ZoneLoss, name=st.just("zone"), when=WHENS, zone=st.sampled_from(["a", "b"]), lasts=LASTS),
    st.builds(
        Rollout, name=st.just("new"), at=SECONDS, deployment=st.just("d"), pace=st.sampled_from([1.0, 2.0]), ready=st.booleans(),
        progress_deadline=st.just(60.0), rollback_on_deadline=st.just(True),
    ),
    st.builds(MetricsOutage, name=st.just("blind"), when=WHENS, lasts=LASTS),
]  # fmt: skip

FLEETS = st.lists(st.one_of(FAULTS), min_size=1, max_size=5, unique_by=lambda plan: plan.name)


def run(faults: list[FaultPlan], seed: int) -> Stage:
    pool = PoolPlan("p", gpus=2, nodes=4, zones=("a", "b"), placement="spread", monitor=5.0, toleration=20.0)
    it = Stage([pool], [ReplicaPlan("d", "p", 5, start=TEN)], faults, seed)
    it.run(20_000.0)
    return it


@settings(max_examples=150, deadline=None)
@given(FLEETS, st.integers(0, 5))
def test_all_that_ends_leaves_nothing_behind(faults: list[FaultPlan], seed: int) -> None:
    it = run(faults, seed)
    assert it.operator.blind == 0
    assert not it.scene.ailments.active
    assert all(state.state == "up" for state in it.cluster.nodes())
    assert len(it.cluster.nodes()) == 4
    assert it.phases() == ["ready"] * 5
    living = {state.replica: state.generation for state in it.cluster.states(0)}
    assert it.plane.open_ == set(living)
    assert not it.plane.cut_ & set(living)
    for replica, generation in living.items():
        pace = it.cluster.groups[0].generations[generation].pace
        assert it.plane.paces.get(replica, 1.0) == pace


@settings(max_examples=100, deadline=None)
@given(FLEETS, st.integers(0, 5))
def test_nothing_is_repaired_that_was_not_broken(faults: list[FaultPlan], seed: int) -> None:
    it = run(faults, seed)
    broken: set[int] = set()
    zones: dict[str, int] = {}
    for kind, _, reason, numbers in it.log:
        node, zone = numbers.get("node"), numbers.get("zone")
        if (kind == "fault" and "machine failed" in reason) or (kind == "fault" and "GPU failed" in reason):
            assert node not in broken
            broken.add(node)
        elif kind == "repair" and reason == "repaired":
            broken.remove(node)
        elif kind == "fault" and reason.endswith("is lost"):
            zones[zone] = zones.get(zone, 0) + 1
        elif kind == "repair" and reason.endswith("is back"):
            assert zones.pop(zone) > 0
    assert not zones


@settings(max_examples=30, deadline=None)
@given(FLEETS, st.integers(0, 5))
def test_the_same_seed_gives_the_same_run(faults: list[FaultPlan], seed: int) -> None:
    assert run(faults, seed).log == run(faults, seed).log


def test_no_fault_keeps_a_run_up() -> None:
    """A plane that has something to do until 100 s; faults for ever and without end."""

    class Brief:
        notices: list[Any] = []  # noqa: RUF012

        def advance(self, until: float) -> bool:
            return until < 100.0

    it = stage(2, [], nodes=2)
    faults: list[FaultPlan] = [
        NodeFailure(name="n", when=Renewal(30.0), repair=Fixed(10.0)),
        ReplicaCrash(name="c", when=Renewal(30.0)),
        MetricsOutage(name="m", when=Renewal(30.0), lasts=Fixed(1e6)),
        Rollout(name="r", at=50.0, deployment="d", ready=False),
    ]
    start(it.env, it.cluster, it.plane, it.operator, faults, it._stream(1), it._log)
    drive(it.env, Brief(), float("inf"))
    assert 50.0 < it.env.now < 200.0


def test_without_faults_nothing_happens() -> None:
    it = stage(1, [])
    it.run(1000.0)
    assert it.plane.deeds == [("open", 0, 0.0)]
    assert it.kinds("fault", "repair") == []
