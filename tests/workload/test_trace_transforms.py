"""What may be done to a trace: properties that hold for any trace."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel.streams import generator
from sim.workload.trace import Trace, jitter, loop, scale, slice_, spread


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    arrival = sorted(draw(st.lists(st.floats(0.0, 1e5, allow_subnormal=False), min_size=1, max_size=40)))
    count = len(arrival)
    tokens = np.arange(1, count + 1, dtype=np.int64)
    optional = draw(st.booleans())
    return Trace(
        arrival_s=np.array(arrival),
        prompt_tokens=tokens,
        output_tokens=tokens * 2,
        span=arrival[-1] + draw(st.floats(0.001, 100.0)),
        priority=tokens * 3 if optional else None,
        session=tokens * 4 if optional else None,
        tick=draw(st.sampled_from((0.0, 3.0))),
    )


def check(trace: Trace) -> None:
    """What every trace keeps: order, and the columns of a row together."""
    assert np.all(np.diff(trace.arrival_s) >= 0.0)
    np.testing.assert_array_equal(trace.output_tokens, trace.prompt_tokens * 2)
    if trace.priority is not None and trace.session is not None:
        np.testing.assert_array_equal(trace.priority, trace.prompt_tokens * 3)
        np.testing.assert_array_equal(trace.session, trace.prompt_tokens * 4)
    if len(trace):
        assert trace.arrival_s[0] >= 0.0


@given(traces(), st.floats(0.05, 20.0))
def test_scaling_divides_every_time(trace: Trace, factor: float):
    scaled = scale(trace, factor)
    check(scaled)
    np.testing.assert_allclose(scaled.arrival_s * factor, trace.arrival_s, rtol=1e-12)
    assert math.isclose(scaled.span * factor, trace.span, rel_tol=1e-12)
    np.testing.assert_array_equal(scaled.prompt_tokens, trace.prompt_tokens)


@given(traces(), st.floats(0.0, 1e5), st.floats(0.0, 1e5))
def test_a_slice_holds_just_the_arrivals_of_its_window(trace: Trace, one: float, other: float):
    start, end = min(one, other), max(one, other)
    window = slice_(trace, start, end)
    check(window)
    inside = [at - start for at in trace.arrival_s.tolist() if start <= at < end]
    np.testing.assert_allclose(window.arrival_s, inside)
    assert window.span <= end - start


@given(traces(), st.floats(0.0, 1e5))
def test_two_adjacent_slices_hold_every_request_once(trace: Trace, cut: float):
    before, after = slice_(trace, 0.0, cut), slice_(trace, cut)
    assert [*before.prompt_tokens.tolist(), *after.prompt_tokens.tolist()] == trace.prompt_tokens.tolist()


@given(traces(), st.integers(1, 5))
def test_a_loop_repeats_the_trace_a_span_later(trace: Trace, periods: int):
    looped = loop(trace, periods)
    check(looped)
    assert len(looped) == periods * len(trace)
    assert math.isclose(looped.span, periods * trace.span)
    for lap in range(periods):
        rows = slice(lap * len(trace), (lap + 1) * len(trace))
        np.testing.assert_allclose(looped.arrival_s[rows], trace.arrival_s + lap * trace.span)


@given(traces(), st.floats(0.0, 10.0), st.integers(0, 100))
def test_jitter_moves_no_request_further_than_it_says(trace: Trace, seconds: float, seed: int):
    moved = jitter(trace, seconds, generator(seed, 0, "jitter"))
    check(moved)
    was = dict(zip(trace.prompt_tokens.tolist(), trace.arrival_s.tolist(), strict=True))
    for tokens, at in zip(moved.prompt_tokens.tolist(), moved.arrival_s.tolist(), strict=True):
        assert abs(at - was[tokens]) <= seconds + 1e-9


@given(traces(), st.integers(0, 100))
def test_spreading_keeps_every_request_in_its_tick(trace: Trace, seed: int):
    fine = spread(trace, generator(seed, 0, "ticks"))
    check(fine)
    assert fine.tick == 0.0
    was = dict(zip(trace.prompt_tokens.tolist(), trace.arrival_s.tolist(), strict=True))
    for tokens, at in zip(fine.prompt_tokens.tolist(), fine.arrival_s.tolist(), strict=True):
        assert 0.0 <= at - was[tokens] <= 1.5 * trace.tick + 1e-9
    again = spread(trace, generator(seed, 0, "ticks"))
    np.testing.assert_array_equal(fine.arrival_s, again.arrival_s)


def test_a_transform_leaves_the_trace_as_it_was():
    arrival = np.array([0.0, 1.0, 2.0])
    trace = Trace(arrival, np.array([1, 2, 3]), np.array([2, 4, 6]), 3.0, tick=1.0)
    for array in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens):
        array.setflags(write=False)
    spread(trace, generator(0, 0, "a"))
    jitter(scale(loop(slice_(trace, 0.5), 3), 2.0), 0.1, generator(0, 0, "a"))
    assert trace.arrival_s.tolist() == [0.0, 1.0, 2.0]
