"""Every built-in router passes the kit that a user's own router is given."""

from __future__ import annotations

import pytest

from sim.control import registry
from sim.control.router import FleetView, Router
from sim.kernel.streams import generator
from sim.testing import RouterConformance

BUILT_IN = ("least-outstanding", "least-tokens", "power-of-two", "random", "round-robin", "session-affinity")


def make(kind: str) -> Router:
    return registry.router(kind, {}, generator(7, 0, "router"))


class TestRoundRobin(RouterConformance):
    def make_router(self) -> Router:
        return make("round-robin")


class TestRandom(RouterConformance):
    def make_router(self) -> Router:
        return make("random")


class TestLeastOutstanding(RouterConformance):
    def make_router(self) -> Router:
        return make("least-outstanding")


class TestLeastTokens(RouterConformance):
    def make_router(self) -> Router:
        return make("least-tokens")


class TestPowerOfTwo(RouterConformance):
    def make_router(self) -> Router:
        return make("power-of-two")


class TestSessionAffinity(RouterConformance):
    def make_router(self) -> Router:
        return make("session-affinity")


def test_every_built_in_router_is_in_this_module() -> None:
    assert set(BUILT_IN) <= set(registry.names("router"))


class First:
    """Breaks the rules it is asked to: the kit must notice."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.log: list[int] = []

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        if self.fault == "index":
            return len(fleet.outstanding)
        if self.fault == "writes":
            fleet.outstanding[0] += 1
        if self.fault == "keeps":
            self.log.append(tokens)
        return 0


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("index", RouterConformance.test_chooses_a_replica_that_exists),
        ("writes", RouterConformance.test_does_not_write_to_its_view),
        ("keeps", RouterConformance.test_does_not_keep_every_request),
        ("one", RouterConformance.test_reaches_every_replica),
    ],
)
def test_the_kit_finds_a_faulty_router(fault: str, test: object) -> None:
    class Faulty(RouterConformance):
        def make_router(self) -> Router:
            return First(fault)

    assert callable(test)
    with pytest.raises(AssertionError):
        test(Faulty())
