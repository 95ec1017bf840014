"""Many tests at once: by hand, and against statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import against_control, benjamini_hochberg, bonferroni, holm, paired

_P_VALUES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12)


def test_holm_by_hand() -> None:
    """Smallest times 4, next times 3, ... and never less than the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_and_hochbergs_own_example() -> None:
    """Their table of 15 p-values (JRSS B 57, 1995, section 4.2): at 5 % the first four are rejected, Bonferroni rejects three."""
    p_values = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
    ]  # fmt: skip
    assert [p <= 0.05 for p in benjamini_hochberg(p_values)] == [True] * 4 + [False] * 11
    assert [p <= 0.05 for p in bonferroni(p_values)] == [True] * 3 + [False] * 12


@pytest.mark.parametrize(
    ("adjust", "name"), [(bonferroni, "bonferroni"), (holm, "holm"), (benjamini_hochberg, "fdr_bh")]
)
@given(p_values=_P_VALUES)
def test_adjusted_p_values_are_those_of_statsmodels(adjust, name: str, p_values: list[float]) -> None:  # type: ignore[no-untyped-def]
    from statsmodels.stats.multitest import multipletests

    assert adjust(p_values) == pytest.approx(multipletests(p_values, method=name)[1].tolist(), abs=1e-15)


@given(_P_VALUES)
def test_holm_keeps_the_order_and_stays_between_the_value_and_bonferroni(p_values: list[float]) -> None:
    adjusted, most = holm(p_values), bonferroni(p_values)
    for i, p in enumerate(p_values):
        assert p <= adjusted[i] <= most[i] + 1e-12
        for j, q in enumerate(p_values):
            if p < q:
                assert adjusted[i] <= adjusted[j]
            if p == q:
                assert adjusted[i] == adjusted[j]


@pytest.mark.parametrize("adjust", [bonferroni, holm, benjamini_hochberg])
@given(p_values=_P_VALUES, random=st.randoms())
def test_the_order_of_the_tests_does_not_matter(adjust, p_values: list[float], random) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(p_values)))
    random.shuffle(order)
    assert adjust([p_values[i] for i in order]) == [adjust(p_values)[i] for i in order]


@pytest.mark.parametrize("adjust", [bonferroni, holm, benjamini_hochberg])
def test_a_test_that_could_not_be_made_is_not_counted(adjust) -> None:  # type: ignore[no-untyped-def]
    adjusted = adjust([0.02, math.nan, 0.01])
    assert math.isnan(adjusted[1])
    assert [adjusted[0], adjusted[2]] == adjust([0.02, 0.01])


def test_intervals_that_hold_together_are_paired_ones_of_a_higher_level() -> None:
    generator = np.random.default_rng(1)
    shared = generator.normal(0.0, 2.0, 10)
    options = {
        name: shared + generator.normal(effect, 1.0, 10) for name, effect in (("a", 0.0), ("b", 2.0), ("c", 0.1))
    }
    found = against_control(options, "a")
    assert list(found) == ["b", "c"]
    for name, pair in found.items():
        alone = paired(options[name], options["a"], 0.975)
        assert pair.half_width == pytest.approx(alone.half_width)
        assert pair.p == min(1.0, 2.0 * alone.p)
        assert (abs(pair.difference) > pair.half_width) == (pair.p < 0.05)
    assert against_control({"a": [1.0, 2.0]}, "a") == {}
    with pytest.raises(ValueError, match="control: 'd' is none of a, b, c"):
        against_control(options, "d")
