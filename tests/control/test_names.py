"""``from sim.control import ...``: every name leads somewhere, and no two systems' names are mixed up."""

from __future__ import annotations

from collections import Counter

import pytest

from sim import control
from sim.control import _NAMES


@pytest.mark.parametrize("name", control.__all__)
def test_every_name_can_be_imported(name: str) -> None:
    assert getattr(control, name) is not None


def test_no_name_stands_for_two_things() -> None:
    names = Counter(name for module in _NAMES.values() for name in module.split())
    assert [name for name, count in names.items() if count > 1] == []
