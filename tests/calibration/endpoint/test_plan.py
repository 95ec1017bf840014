"""Which loads are planned, and that they have room and time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.endpoint.plan import Cell, Costs, Limits, plan
from sim.errors import ProfileError

CPU = Costs(((1, 0.018), (128, 0.066), (512, 0.25), (2040, 1.3)), 0.011)
"""Of vLLM on two CPU cores."""
SERVER = Limits(max_model_len=2048, max_num_seqs=16, kv_tokens=104_832, token_budget=512)

limits = st.builds(
    Limits,
    max_model_len=st.none() | st.integers(256, 40_000),
    max_num_seqs=st.none() | st.integers(1, 300),
    kv_tokens=st.none() | st.integers(4_000, 500_000),
    token_budget=st.none() | st.integers(128, 16_384),
    concurrency=st.integers(1, 128),
    shortest=st.integers(1, 40),
)


@given(limits, st.floats(60.0, 3600.0))
def test_no_load_is_larger_than_what_the_server_takes(found: Limits, budget: float) -> None:
    costs = Costs(((found.shortest, 0.01), (1000 + found.shortest, 0.05)), 0.005)
    for cell in plan(found, costs, budget).cells:
        output = 1 if cell.kind == "prompt" else found.output(cell)
        lot = max((len(lot) for lot in cell.injected), default=0)
        assert cell.prompt + output <= found.longest
        assert cell.streams <= found.concurrency
        assert cell.streams + lot <= (found.max_num_seqs or 10_000)
        assert cell.streams * (cell.prompt + output) <= (found.kv_tokens or 10**9)
        assert min((cell.prompt, *(tokens for lot in cell.injected for tokens in lot))) >= found.shortest


@pytest.mark.parametrize("budget", [60.0, 120.0, 300.0, 900.0])
def test_whole_rounds_fit_into_the_time_that_is_not_for_the_mix(budget: float) -> None:
    chosen = plan(SERVER, CPU, budget)
    round_ = sum(CPU.of(cell, SERVER.output(cell)) for cell in chosen.cells)
    assert chosen.rounds >= 3
    assert chosen.rounds * round_ <= 0.8 * budget


def test_more_time_gives_more_loads_and_then_more_rounds() -> None:
    plans = [plan(SERVER, CPU, budget) for budget in (60.0, 120.0, 300.0, 600.0, 3600.0)]
    assert all(set(less.cells) <= set(more.cells) for less, more in pairwise(plans))
    assert len(plans[0].cells) < len(plans[2].cells)
    assert plans[-1].rounds > plans[0].rounds
    assert plans[-1].left_out == 0


def test_even_a_short_plan_has_the_corners() -> None:
    cells = plan(SERVER, CPU, 120.0).cells
    decode = {(cell.streams, cell.prompt) for cell in cells if cell.kind == "decode"}
    assert {(1, 32), (16, 32), (1, 512), (16, 512)} <= decode
    assert {1, 2040} <= {cell.prompt for cell in cells if cell.kind == "prompt"}
    mixed = [cell for cell in cells if cell.kind == "mixed"]
    assert {1, 2040} <= {tokens for cell in mixed for lot in cell.injected for tokens in lot if cell.streams == 1}
    assert any(len(lot) > 1 for cell in mixed for lot in cell.injected)
    assert max(cell.streams for cell in mixed) > 1


def test_each_round_has_all_cells_in_an_order_of_its_own_that_the_seed_decides() -> None:
    chosen = plan(SERVER, CPU, 120.0)
    order = list(chosen.order(7))
    rounds = [[cell.key for number, cell in order if number == which] for which in range(chosen.rounds)]
    keys = sorted(cell.key for cell in chosen.cells)
    assert all(sorted(one) == keys for one in rounds)
    assert len({tuple(one) for one in rounds}) == chosen.rounds
    assert list(chosen.order(7)) == order
    assert list(chosen.order(8)) != order


def test_a_key_does_not_depend_on_the_order_in_which_prompts_are_put_beside() -> None:
    assert Cell("mixed", 32, 4, 4, ((64,), (1,))).key == Cell("mixed", 32, 4, 4, ((1,), (64,))).key


def test_too_little_time_for_anything_says_how_much_it_takes() -> None:
    with pytest.raises(ProfileError, match=r"a budget of 5 s is too short for this server: .* takes \d+ s"):
        plan(SERVER, CPU, 5.0)


def test_costs_rise_beyond_what_was_seen_as_they_did_at_its_end() -> None:
    costs = Costs(((1, 0.01), (100, 0.02), (200, 0.04)), 0.01)
    assert costs.prefill(150) == pytest.approx(0.03)
    assert costs.prefill(400) == pytest.approx(0.08)
