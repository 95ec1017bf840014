"""Draws of profiles from their doubt: which numbers move, by how much, and how the factors are distributed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from sim.perf.doubt import draw, factors
from sim.profiles.doubt import Doubt
from sim.profiles.schema import Host, MixedAttention, MixedBlock, Profile, Spread
from tests.profiles.shapes import chunk_us, decode_us, profile

PARTS = ("tokens", "sequences", "prefill", "decode", "host", "request")


def doubt(parts: tuple[str, ...], covariance: Any) -> Doubt:
    return Doubt(parts=parts, covariance=covariance, method="made up")  # type: ignore[arg-type]


def alone(part: str, variance: float = 0.04) -> Doubt:
    return doubt((part,), ((variance,),))


def doubtful(part: str) -> tuple[Profile, Profile, float]:
    """A profile whose ``part`` is in doubt, a draw of it, and the factor."""
    block = MixedBlock(
        chunks=(64, 1024), pasts=(0, 256), sequences=(1, 32), contexts=(16, 4096), us=(*[40.0] * 15, None)
    )
    whole = profile(
        mixed=MixedAttention(blocks=(block,)),
        spread=Spread(sequences=(1, 8), decode_us=(0.1, 0.2), mixed_us=(0.1, 0.3)),
        host=Host(us=30.0, request_us=4000.0, cuda_graphs=False),
    ).model_copy(update={"doubt": alone(part)})
    assert whole.doubt is not None
    drawn = draw(whole, np.random.default_rng(3))
    return whole, drawn, factors(whole.doubt, np.random.default_rng(3))[part]  # type: ignore[index]


def numbers(found: Any) -> list[float]:
    """Every microsecond of a part, in order."""
    plain = found.model_dump() if hasattr(found, "model_dump") else found
    if isinstance(plain, dict):
        kept = [
            value
            for name, value in plain.items()
            if name == "us" or name.endswith("_us") or name in ("parts", "gemm", "lm_head")
        ]
        return [number for value in kept for number in numbers(value)]
    if isinstance(plain, list | tuple):
        return [number for value in plain for number in numbers(value)]
    return [] if plain is None else [float(plain)]


@pytest.mark.parametrize(
    ("part", "moved"),
    [
        ("tokens", {"tokens"}),
        ("sequences", {"sequences"}),
        ("prefill", {"prefill"}),
        ("decode", {"decode", "spread"}),
    ],
)
def test_the_times_of_a_part_are_multiplied_by_its_factor_and_no_others(part: str, moved: set[str]) -> None:
    whole, drawn, factor = doubtful(part)
    for name in ("tokens", "sequences", "prefill", "decode", "spread"):
        expected = factor if name in moved else 1.0
        before, after = numbers(getattr(whole.steps, name)), numbers(getattr(drawn.steps, name))
        assert len(before) > 1
        assert after == pytest.approx([value * expected for value in before]), name
    assert drawn.steps.host == whole.steps.host
    assert drawn.memory == whole.memory
    assert drawn == Profile.model_validate(drawn.model_dump())  # still a profile


def test_host_and_request_time_move_apart() -> None:
    for part, host, request in (("host", 1, 0), ("request", 0, 1)):
        whole, drawn, factor = doubtful(part)
        assert drawn.steps.host.us == pytest.approx(30.0 * factor**host)
        assert drawn.steps.host.request_us == pytest.approx(4000.0 * factor**request)
        assert numbers(drawn.steps.tokens) == numbers(whole.steps.tokens)


@pytest.mark.parametrize("part", ["prefill", "decode"])
def test_a_chunk_together_with_decodes_moves_by_the_share_of_each(part: str) -> None:
    _, drawn, factor = doubtful(part)
    assert drawn.steps.mixed is not None
    block = drawn.steps.mixed.blocks[0]
    assert block.us[-1] is None
    values = np.array([np.nan if value is None else value for value in block.us]).reshape(2, 2, 2, 2)
    for i, chunk in enumerate(block.chunks):
        for j, past in enumerate(block.pasts):
            for k, sequences in enumerate(block.sequences):
                for m, context in enumerate(block.contexts):
                    lone, others = chunk_us(chunk, past), decode_us(sequences, context)
                    share = (lone if part == "prefill" else others) / (lone + others)
                    if not np.isnan(values[i, j, k, m]):
                        assert values[i, j, k, m] == pytest.approx(40.0 * (1.0 + share * (factor - 1.0)))


def test_factors_have_median_1_and_the_covariance_that_is_asked_of_their_logarithms() -> None:
    covariance = ((0.04, 0.018, 0.0), (0.018, 0.01, 0.0), (0.0, 0.0, 0.0225))
    asked = doubt(("tokens", "decode", "host"), covariance)
    generator = np.random.default_rng(11)
    drawn = [factors(asked, generator) for _ in range(20_000)]
    logs = np.log([[one["tokens"], one["decode"], one["host"]] for one in drawn])
    deviation = np.sqrt(np.diag(covariance))
    # the median of 20,000 normals is within 4 standard errors, 1.2533 sd / sqrt(n) each
    assert (np.abs(np.median(logs, axis=0)) < 4 * 1.2533 * deviation / math.sqrt(len(logs))).all()
    assert np.cov(logs.T) == pytest.approx(np.array(covariance), abs=4 * 0.04 * math.sqrt(2 / len(logs)))
    assert {one["prefill"] for one in drawn} == {1.0}


def test_parts_that_vary_as_one_have_one_factor() -> None:
    asked = doubt(("tokens", "sequences"), ((0.09, 0.09), (0.09, 0.09)))  # of rank 1
    for seed in range(5):
        one = factors(asked, np.random.default_rng(seed))
        assert one["tokens"] == pytest.approx(one["sequences"], rel=1e-6)
        assert one["tokens"] != 1.0


def test_a_profile_without_doubt_is_drawn_as_it_is() -> None:
    whole = profile()
    assert draw(whole, np.random.default_rng(0)) is whole


def test_a_covariance_that_nothing_can_have_is_refused() -> None:
    with pytest.raises(ValidationError, match="not positive semidefinite"):
        doubt(("tokens", "decode"), ((0.01, 0.02), (0.02, 0.01)))
    with pytest.raises(ValidationError, match="not positive semidefinite"):
        doubt(("tokens",), ((float("nan"),),))
