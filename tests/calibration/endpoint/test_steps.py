"""Engine steps from the arrival times of streams' tokens, where the steps are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.endpoint.steps import Stream, chunks, pace, steps, together


def streams(ends: list[float], starts: list[int], counts: list[int], prompts: list[int]) -> list[Stream]:
    """Streams that get a token at each of ``ends`` from the ``starts``-th on, ``counts`` of them."""
    return [
        Stream(prompt, 0.0, np.array(ends[start : start + count]))
        for start, count, prompt in zip(starts, counts, prompts, strict=True)
    ]


@given(st.data())
def test_steps_are_those_from_the_last_ones_start_to_the_first_ones_end_with_their_contexts(
    data: st.DataObject,
) -> None:
    n = data.draw(st.integers(1, 6))
    starts = [data.draw(st.integers(0, 10)) for _ in range(n)]
    prompts = [data.draw(st.integers(1, 500)) for _ in range(n)]
    last = max(starts)
    counts = [last - start + data.draw(st.integers(8, 30)) for start in starts]
    gaps = [data.draw(st.floats(0.009, 0.012)) for _ in range(60)]
    ends = np.cumsum(gaps).tolist()
    found = steps(streams(ends, starts, counts, prompts))
    until = min(start + count for start, count in zip(starts, counts, strict=True))
    assert found is not None
    assert found.streams == n
    assert found.ends.tolist() == ends[last:until]
    assert found.gaps[1:] == pytest.approx(gaps[last + 1 : until])
    # before the step of its token number j (from 0) a request has its prompt and j - 1 tokens in the cache
    expected = [
        sum(p + (step - start) - 1 for p, start in zip(prompts, starts, strict=True)) for step in range(last, until)
    ]
    assert found.context.tolist() == expected


def test_late_notice_of_some_tokens_does_not_move_the_steps() -> None:
    chance = np.random.default_rng(1)
    ends = np.cumsum(np.full(40, 0.01))
    late = [Stream(10, 0.0, ends + chance.exponential(2e-4, 40)) for _ in range(8)]
    found = steps(late)
    assert found is not None
    assert np.mean(found.gaps[1:]) == pytest.approx(0.01, rel=0.01)
    assert found.context[0] == 8 * (10 - 1)


def test_streams_that_never_ran_together_or_not_in_step_have_no_steps() -> None:
    ends = np.cumsum(np.full(40, 0.01))
    assert steps([Stream(5, 0.0, ends[:10]), Stream(5, 0.0, ends[20:])]) is None
    assert steps([Stream(5, 0.0, ends), Stream(5, 0.0, 0.73 * ends)]) is None


def test_the_pace_of_tokens_that_come_in_fives_is_right_on_average() -> None:
    ends = np.cumsum(np.full(101, 0.01))
    batched = np.concatenate([ends[:1], np.repeat(ends[5::5], 5)])
    found = pace([Stream(50, 0.0, batched), Stream(50, 0.0, batched)])
    assert found is not None
    seconds, context, _ = found
    assert seconds == pytest.approx(0.01, rel=0.01)
    assert context == pytest.approx(2 * (50 + 50 - 1), abs=2)


def test_how_many_streams_ran_at_once() -> None:
    ends = np.arange(1.0, 11.0)
    assert together([Stream(1, 0.0, ends), Stream(1, 0.0, ends + 5.0), Stream(1, 0.0, ends + 20.0)]) == 2


@given(st.integers(1, 5000), st.integers(2, 1024), st.integers(0, 64))
def test_chunks_are_a_prompt_cut_by_the_budget_that_decodes_leave(prompt: int, budget: int, decodes: int) -> None:
    found = chunks(prompt, budget, decodes)
    sizes = [tokens for tokens, _ in found]
    assert sum(sizes) == prompt
    assert [past for _, past in found] == [sum(sizes[:number]) for number in range(len(sizes))]
    assert all(size == max(budget - decodes, 1) for size in sizes[:-1])
    assert 0 < sizes[-1] <= max(budget - decodes, 1)
