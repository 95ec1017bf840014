"""Requests that leave before their end, replicas that die and step times that change, worked out by hand.

A step takes one second whatever is in it. What vLLM does was read in 0.32.0: ``EngineCore.step`` and ``step_with_batch_queue``
(vllm/v1/engine/core.py) see aborts when a step's output has come, before ``update_from_output``, which skips the requests
aborted meanwhile; ``Scheduler.finish_requests`` (vllm/v1/core/sched/scheduler.py) takes them out of ``running`` or ``waiting`` and
frees their blocks. With the batch queue (asynchronous scheduling) the next step has been formed by then.
"""

from __future__ import annotations

from math import inf, isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import SimulationError
from sim.kernel.clock import QUANTUM, on_grid
from sim.perf.steptable import StepTable
from sim.serving.ledger import OK, UNFINISHED, Ledger
from sim.serving.replica import Replica
from sim.serving.scheduler import Scheduler
from sim.serving.settings import EngineSettings
from sim.testing.tables import constant_step_table, step_table


class Bench:
    """A replica whose steps take a second, driven up to given times."""

    def __init__(self, *, seats: int = 4, budget: int = 64, blocks: int = 101, **settings: object) -> None:
        self.engine = EngineSettings(
            max_num_seqs=seats,
            max_num_batched_tokens=budget,
            kv_blocks=blocks,
            max_model_len=200,
            block_size=1,
            **settings,  # type: ignore[arg-type]
        )
        self.table = constant_step_table(1.0, seats, budget)
        self.ledger = Ledger([], 1)
        self.replica = Replica(0, self.engine, self.table, self.ledger)

    def arrive(self, now: float, prompt: int, output: int, priority: int = 0) -> int:
        self.run(now)
        row = self.ledger.add_row(now)
        self.replica.arrive(row, prompt, output, priority, now, late=True)
        return row

    def run(self, until: float) -> None:
        """Carry out every step that ends by ``until``."""
        replica = self.replica
        while replica.end <= until and replica.end < inf:
            end = replica.end
            replica.complete(end)
            replica.begin(end)

    def abort(self, now: float, row: int) -> bool:
        self.run(now)
        return self.replica.abort(row, now)


@pytest.mark.parametrize(("asynchronous", "steps"), [(False, 4), (True, 5)])
def test_a_running_request_takes_part_in_every_step_that_has_been_formed_with_it(
    asynchronous: bool, steps: int
) -> None:
    """Aborted during the fourth step; with asynchronous scheduling the fifth had been formed then."""
    bench = Bench(async_scheduling=asynchronous)
    row = bench.arrive(0.0, 10, 50)
    assert bench.abort(3.5, row)
    assert bench.replica.end == float(steps)
    assert bench.replica.requests() == []
    assert bench.replica.held == 0
    bench.run(100.0)
    replica, ledger = bench.replica, bench.ledger
    assert replica.end == inf
    assert replica.steps == steps
    assert replica.busy == float(steps)
    assert (replica.prefill_tokens, replica.decode_tokens) == (10, steps - 1)
    assert replica.scheduler.free_blocks == 100
    assert replica.scheduler.peak_blocks == 10 + steps - 1
    assert ledger.first_token[row] == 1.0
    assert isnan(ledger.end[row])
    assert ledger.outcome[row] == UNFINISHED
    assert sum(ledger.itl.counts) == 2  # the tokens at 2 s and 3 s; that of the fourth step came after the abort


@pytest.mark.parametrize(("asynchronous", "admitted"), [(False, 4.0), (True, 5.0)])
def test_its_seat_is_free_for_the_first_step_formed_without_it(asynchronous: bool, admitted: float) -> None:
    bench = Bench(seats=1, async_scheduling=asynchronous)
    first = bench.arrive(0.0, 10, 50)
    second = bench.arrive(0.5, 10, 1)
    bench.abort(3.5, first)
    bench.run(100.0)
    assert bench.ledger.scheduled[second] == admitted
    assert bench.ledger.end[second] == admitted + 1.0


def test_its_seat_does_not_wait_for_a_finish_that_comes_with_its_last_step() -> None:
    """Asynchronous: aborted during step 4, and its last token would come with step 5. A request that finishes with step 5 keeps
    its seat while step 6 is formed; this one was taken out when step 4 ended."""
    bench = Bench(seats=1, async_scheduling=True)
    first = bench.arrive(0.0, 10, 5)
    second = bench.arrive(0.5, 10, 1)
    bench.abort(3.5, first)
    bench.run(100.0)
    assert bench.ledger.scheduled[second] == 5.0
    assert bench.ledger.outcome[first] == UNFINISHED


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_who_waited_behind_an_aborted_request_gets_in_at_once(asynchronous: bool, policy: str) -> None:
    """35 blocks, of which the first request holds 5 and one more a step: a prompt of 33 does not fit, one of 3 does."""
    bench = Bench(blocks=36, async_scheduling=asynchronous, policy=policy)
    bench.arrive(0.0, 5, 25)
    large = bench.arrive(2.5, 33, 1)
    small = bench.arrive(3.5, 3, 1)
    bench.run(5.5)
    assert isnan(bench.ledger.scheduled[small])
    assert bench.abort(5.5, large)
    bench.run(100.0)
    # the sixth step was in progress, with asynchronous scheduling the seventh formed
    assert bench.ledger.scheduled[small] == (7.0 if asynchronous else 6.0)
    assert isnan(bench.ledger.scheduled[large])


def test_a_waiting_request_that_the_step_formed_already_admits_takes_part_in_that_step() -> None:
    """Asynchronous. The first runs alone until 1 s, when nothing has been formed; step 2 has the second alone for want of
    budget; step 3, formed while it runs, has the third, aborted at 1.5 s: the engine runs that step for nobody."""
    bench = Bench(seats=2, budget=4, async_scheduling=True)
    bench.arrive(0.0, 4, 1)
    bench.arrive(0.25, 4, 1)
    third = bench.arrive(0.5, 4, 9)
    bench.abort(1.5, third)
    bench.run(100.0)
    assert bench.replica.steps == 3
    assert bench.replica.prefill_tokens == 12
    assert isnan(bench.ledger.scheduled[third])
    assert isnan(bench.ledger.first_token[third])


def test_a_waiting_request_that_the_step_formed_already_has_no_place_for_is_gone() -> None:
    """Asynchronous, one seat: step 4 was formed while the first, whose last step is 3, had it."""
    bench = Bench(seats=1, async_scheduling=True)
    bench.arrive(0.0, 4, 3)
    second = bench.arrive(0.25, 4, 9)
    bench.abort(2.5, second)
    bench.run(100.0)
    assert bench.replica.steps == 3


def test_a_partial_prefill_gives_its_blocks_back() -> None:
    bench = Bench(budget=8, async_scheduling=False)
    row = bench.arrive(0.0, 30, 5)
    assert not bench.abort(1.5, row)  # the second chunk's step ends when it would anyway
    bench.run(100.0)
    assert (bench.replica.steps, bench.replica.prefill_tokens) == (2, 16)
    assert bench.replica.scheduler.free_blocks == 100
    assert isnan(bench.ledger.first_token[row])


def test_a_request_that_would_finish_with_the_step_is_not_reported() -> None:
    bench = Bench(async_scheduling=False)
    row = bench.arrive(0.0, 5, 3)
    bench.run(2.5)
    bench.replica.abort(row, 2.5)
    assert bench.replica.complete(3.0) == []
    assert isnan(bench.ledger.end[row])


def test_aborting_who_is_not_here_changes_nothing() -> None:
    bench = Bench()
    assert not bench.replica.abort(0, 0.0)
    row = bench.arrive(0.0, 5, 9)
    assert not bench.abort(1.5, row + 1)
    assert bench.abort(2.5, row)
    assert not bench.abort(2.75, row)
    bench.run(100.0)
    assert not bench.abort(100.0, row)


def test_a_replica_dies_in_mid_step() -> None:
    """Two decodes since 1 s; at 4.25 s three steps of theirs are done, a quarter of the next is lost."""
    bench = Bench(async_scheduling=False)
    rows = [bench.arrive(0.0, 5, 50), bench.arrive(0.5, 5, 50)]
    bench.run(4.25)
    assert bench.replica.kill(4.25) == rows
    replica = bench.replica
    assert replica.dead
    assert replica.end == inf
    assert (replica.steps, replica.prefill_tokens, replica.decode_tokens) == (4, 10, 5)
    assert replica.busy == replica.busy_at(50.0) == 4.25
    # one in the first step, two in the three after it and in the lost quarter
    assert replica.decode_seconds + replica.prefill_seconds == 1.0 + 2 * 3.0 + 2 * 0.25
    assert replica.snapshot(5.0) == (0, 0, 0)
    assert replica.requests() == replica.kill(5.0) == []
    assert sum(bench.ledger.itl.counts) == 5
    with pytest.raises(SimulationError, match="replica 0, which is dead"):
        replica.arrive(7, 5, 5, 0, 6.0)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_new_step_times_hold_from_the_next_step(asynchronous: bool) -> None:
    """Nine steps. The fourth runs when they become half as long: 4 + 5 * 0.5 s."""
    bench = Bench(async_scheduling=asynchronous)
    row = bench.arrive(0.0, 5, 9)
    bench.run(3.5)
    assert bench.replica.retable(bench.table.scaled(0.5), 3.5)
    assert bench.replica.end == 4.0
    bench.run(100.0)
    assert bench.ledger.end[row] == 6.5
    assert bench.replica.steps == 9


def test_new_step_times_let_nobody_in_early() -> None:
    """Asynchronous: who arrives during step 4 is in time for step 6, also when the step times change during step 4."""
    bench = Bench(async_scheduling=True)
    bench.arrive(0.0, 5, 30)
    second = bench.arrive(3.25, 5, 3)
    bench.replica.retable(bench.table.scaled(0.5), 3.5)
    bench.run(100.0)
    assert bench.ledger.scheduled[second] == 4.5


def test_time_lost_to_preemption_is_from_the_preemption_to_the_next_token() -> None:
    """Ten blocks of one token. Two prompts of 4, in the first two steps; then the cache is full and the second is preempted."""
    bench = Bench(blocks=11, async_scheduling=False)
    first = bench.arrive(0.0, 4, 6)
    second = bench.arrive(0.25, 4, 4)
    bench.run(100.0)
    ledger = bench.ledger
    # In step 2 the first holds 5 blocks and the second 4. For step 3 they would take 6 and 5 of the 10, so the second is
    # preempted at 2 s with one token. The first needs 6 to 9 blocks until its sixth token comes at 6 s; 5 are never free. Then
    # the second computes its 5 tokens in one step, so that its second token comes at 7 s, and its fourth at 9 s.
    assert ledger.end[first] == 6.0
    assert ledger.preemptions[second] == 1
    assert ledger.lost == [0.0, 5.0]
    assert ledger.end[second] == 9.0
    assert ledger.outcome == [OK, OK]


@pytest.mark.parametrize("how", ["abort", "kill"])
def test_time_lost_ends_with_an_abort_or_a_death(how: str) -> None:
    bench = Bench(blocks=11, async_scheduling=False)
    bench.arrive(0.0, 4, 6)
    second = bench.arrive(0.25, 4, 4)
    bench.run(4.5)
    if how == "abort":
        bench.replica.abort(second, 4.5)
    else:
        bench.replica.kill(4.5)
    bench.run(100.0)
    assert bench.ledger.lost == [0.0, 2.5]


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=20),
    st.sampled_from(["fcfs", "priority"]),
)
def test_a_queue_keeps_its_order_when_some_leave_it(requests: list[tuple[int, bool]], policy: str) -> None:
    scheduler = Scheduler(EngineSettings(1, 8, 100, 20, 16, policy=policy))
    for id, (priority, _) in enumerate(requests):
        scheduler.add(id, 1, 1, priority, float(id))
    for id, (_, leaves) in enumerate(requests):
        request = scheduler.find(id)
        if leaves and request is not None:
            scheduler.remove(request)
    stay = [id for id, (_, leaves) in enumerate(requests) if not leaves]
    served: list[int] = []
    while scheduler.schedule() or scheduler.schedule():
        served += scheduler.commit()
    assert served == (stay if policy == "fcfs" else sorted(stay, key=lambda id: (requests[id][0], id)))


def test_a_ledger_grows_in_every_column() -> None:
    ledger, new = Ledger([1.0, 2.0], 3), Ledger([1.0], 2)
    assert new.add_row(2.0) == 1
    assert new.add_replica() == 2
    for name in Ledger.__slots__:
        if name != "itl":
            assert repr(getattr(new, name)) == repr(getattr(ledger, name)), name


@given(st.integers(0, 1000), st.floats(0.01, 100.0), st.booleans(), st.booleans())
def test_a_scaled_table_takes_that_much_longer_and_stays_on_the_grid(
    seed: int, factor: float, mixed: bool, spread: bool
) -> None:
    """To half a quantum a stored number; a context sum below 1000 multiplies what rounding a slope left."""
    table = step_table(8, 32, seed, mixed=mixed, spread=spread)
    scaled = table.scaled(factor)
    off = 4000 * QUANTUM * (1.0 + factor)
    for n in range(1, 8):
        for context in range(n, 500, 31):
            seconds = scaled.decode_step(n, context, n * context if n > 1 else 0)
            assert seconds == on_grid(seconds)
            assert abs(seconds - factor * table.decode_step(n, context, n * context if n > 1 else 0)) < off
            seconds = scaled.mixed_step(9, 81, n, context, 0, n + 1)
            assert seconds == on_grid(seconds)
            assert abs(seconds - factor * table.mixed_step(9, 81, n, context, 0, n + 1)) < off
        for piece in range(len(scaled.knots[n]) + 1):
            base, slope = scaled.base[n], scaled.slope[n]
            assert all(value == on_grid(value) for value in (base[piece], slope[piece]))


def test_pieces_that_met_meet_when_scaled_and_never_fall() -> None:
    """Slopes of a tenth of a nanosecond, seven quanta: rounded to the grid each is off by percents, the line is not."""
    table = constant_step_table(1e-3, 2, 4)
    rise = 7 * QUANTUM
    base = on_grid(1e-3)
    table = StepTable(
        **{
            **{name: getattr(table, name) for name in StepTable.__init__.__annotations__ if name != "return"},
            "knots": [[], [1000.0, 5000.0, 9000.0], []],
            "base": [[], [base, base - 1000 * rise, base + 4000 * rise, base + 4000 * rise], [base]],
            "slope": [[], [0.0, rise, 0.0, 0.0], [0.0]],
            "attention_base": [[], [0.0, -1000 * rise, 4000 * rise, 4000 * rise], [0.0]],
            "attention_slope": [[], [0.0, rise, 0.0, 0.0], [0.0]],
        }
    )
    for factor in (0.3, 0.9, 1.0, 1.1, 2.5):
        scaled = table.scaled(factor)
        for piece, knot in enumerate((1000.0, 5000.0, 9000.0)):
            left = scaled.base[1][piece] + scaled.slope[1][piece] * knot
            assert left == scaled.base[1][piece + 1] + scaled.slope[1][piece + 1] * knot
        assert min(scaled.slope[1]) >= 0.0
        if factor == 1.0:
            assert (scaled.base, scaled.slope) == (table.base, table.slope)


def test_steps_outside_what_was_measured_count_with_the_table_that_was_scaled() -> None:
    table = step_table(8, 32)
    scaled = table.scaled(2.0).scaled(0.5)
    scaled.mixed_step(32, 32 * 32, 0, 0, 0, 1)
    assert table.outside == scaled.outside == 1


@pytest.mark.parametrize("factor", [0.0, -1.0, inf, float("nan")])
def test_a_factor_must_be_above_zero(factor: float) -> None:
    with pytest.raises(ValueError, match="factor must be above 0"):
        step_table(2, 4).scaled(factor)


def latencies(bench: Bench) -> tuple[int, float]:
    """How many inter-token latencies were written down, and their sum."""
    itl = bench.ledger.itl
    return sum(itl.counts), itl.total + bench.replica.decode_seconds


def test_an_aborted_request_that_the_step_held_back() -> None:
    """Priorities; 10 blocks of one token. A holds 2, 3, 4 blocks in steps 1 to 3, B 2, 3 from step 2, C 2 in step 3. In step 4 A
    takes the tenth, and B, the least important, preempts itself: C gets nothing, and is aborted meanwhile.

    A's latencies are those of its tokens at 2, 3 and 4 s. B, without C, computes its 4 tokens in step 5: 3 s, then 5 s.
    """
    bench = Bench(blocks=11, policy="priority", async_scheduling=False)
    bench.arrive(0.0, 2, 4, priority=0)
    bench.arrive(0.25, 2, 3, priority=2)
    held_back = bench.arrive(1.25, 2, 9, priority=1)
    bench.abort(3.5, held_back)
    bench.run(100.0)
    assert bench.ledger.end == pytest.approx([4.0, 5.0, float("nan")], nan_ok=True)
    assert bench.ledger.lost == [0.0, 2.0, 0.0]
    assert latencies(bench) == (5, 4 * 1.0 + 2.0)
    assert bench.replica.scheduler.free_blocks == 10


def test_aborted_requests_that_the_step_formed_already_preempts_or_holds_back() -> None:
    """As before, with asynchronous scheduling: B is admitted to step 3 and C to step 4, and 11 blocks are full in step 5, when B
    preempts itself and C gets nothing. Both were aborted during step 4; nothing is written down of either but that."""
    bench = Bench(blocks=12, policy="priority", async_scheduling=True)
    bench.arrive(0.0, 2, 6, priority=0)
    least = bench.arrive(0.25, 2, 9, priority=2)
    held_back = bench.arrive(1.25, 2, 9, priority=1)
    for row in (least, held_back):
        bench.abort(3.5, row)
        bench.ledger.end[row] = 3.5
    bench.run(100.0)
    assert bench.ledger.end == [6.0, 3.5, 3.5]
    assert bench.ledger.preemptions == [0, 1, 0]
    assert bench.ledger.lost == [0.0, 0.0, 0.0]
    assert latencies(bench) == (5, 5.0)
    assert isnan(bench.ledger.first_token[held_back])


def test_a_step_that_only_preempts_does_not_run_an_aborted_request() -> None:
    """Priorities, asynchronous, 6 blocks: in step 3 A holds 4 and C, aborted meanwhile, 2. Step 4 was formed before that: A, first
    and the least important, preempts itself, and nobody gets a token. So it is formed anew when step 3 has ended, without C:
    A computes its 5 tokens and has its fourth at 4 s."""
    bench = Bench(blocks=7, policy="priority", async_scheduling=True)
    bench.arrive(0.0, 2, 5, priority=2)
    other = bench.arrive(0.25, 2, 9, priority=1)
    bench.abort(2.5, other)
    bench.run(100.0)
    assert bench.ledger.end[0] == 5.0
    assert bench.ledger.lost == [1.0, 0.0]
    assert (bench.replica.steps, bench.replica.prefill_tokens, bench.replica.decode_tokens) == (5, 9, 3)


def test_nothing_is_left_of_aborted_requests_when_a_later_one_comes() -> None:
    """As before, but both are aborted, so that the replica falls idle at 3 s. Latencies: A's second token, D's second token."""
    bench = Bench(blocks=7, policy="priority", async_scheduling=True)
    rows = [bench.arrive(0.0, 2, 5, priority=2), bench.arrive(0.25, 2, 9, priority=1)]
    for row in rows:
        bench.abort(2.5, row)
        bench.ledger.end[row] = 2.5
    bench.run(9.0)
    assert bench.replica.end == inf
    assert bench.replica.steps == 3
    last = bench.arrive(10.0, 2, 2)
    bench.run(100.0)
    assert bench.ledger.end[last] == 12.0
    assert latencies(bench) == (2, 2.0)
