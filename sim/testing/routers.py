"""What every router must do: inherit :class:`RouterConformance` in a test module, give it your router, and run pytest.

from sim.testing import RouterConformance

class TestMyRouter(RouterConformance):
    def make_router(self):
        return MyRouter(...)
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from random import Random

from sim.control.router import FleetView, Router

__all__ = ["RouterConformance"]


class RouterConformance:
    """Inherit and define :meth:`make_router`. Every test is run for fleets of 1, 2, 3 and 8 replicas.

    Set ``balanced = False`` for a router that may, by its purpose, leave a replica without any request.
    """

    balanced: bool = True
    sizes: Sequence[int] = (1, 2, 3, 8)
    requests: int = 400

    def make_router(self) -> Router:
        """A fresh router in its initial state; if it is random, always from the same seed."""
        raise AssertionError(f"{type(self).__name__} must define make_router()")

    def drive(self, router: Router, replicas: int, requests: int | None = None, seed: int = 1) -> list[int]:
        """Send requests through the router as a fleet would, with requests ending at random; what it chose."""
        random = Random(seed)
        view = FleetView(replicas)
        served: list[tuple[int, int]] = []
        choices = []
        for _ in range(self.requests if requests is None else requests):
            tokens = random.randint(2, 4000)
            choice = router.choose(random.randint(-1, 40), tokens, view)
            choices.append(choice)
            view.outstanding[choice] += 1
            view.tokens[choice] += tokens
            served.append((choice, tokens))
            while served and random.random() < 0.48:
                replica, done = served.pop(random.randrange(len(served)))
                view.outstanding[replica] -= 1
                view.tokens[replica] -= done
        return choices

    def test_satisfies_the_protocol(self) -> None:
        assert isinstance(self.make_router(), Router)

    def test_chooses_a_replica_that_exists(self) -> None:
        for replicas in self.sizes:
            router = self.make_router()
            view = FleetView(replicas)
            for session in range(-1, 50):
                choice = router.choose(session, 100, view)
                assert isinstance(choice, int), f"an index is an int, not {type(choice).__name__}"
                assert 0 <= choice < replicas, f"index {choice} of {replicas} replicas"

    def test_does_not_write_to_its_view(self) -> None:
        for replicas in self.sizes:
            router = self.make_router()
            random = Random(2)
            for session in range(-1, 50):
                view = FleetView(replicas)
                view.outstanding = [random.randint(0, 5) for _ in range(replicas)]
                view.tokens = [count * 100 for count in view.outstanding]
                outstanding, tokens = list(view.outstanding), list(view.tokens)
                router.choose(session, 100, view)
                assert view.outstanding == outstanding
                assert view.tokens == tokens

    def test_is_deterministic(self) -> None:
        for replicas in self.sizes:
            assert self.drive(self.make_router(), replicas) == self.drive(self.make_router(), replicas)

    def test_reaches_every_replica(self) -> None:
        if not self.balanced:
            return
        for replicas in self.sizes:
            assert set(self.drive(self.make_router(), replicas)) == set(range(replicas))

    def test_can_be_pickled_in_the_middle(self) -> None:
        for replicas in self.sizes:
            router = self.make_router()
            self.drive(router, replicas, 20)
            copy = pickle.loads(pickle.dumps(router))
            assert self.drive(router, replicas, 50, seed=3) == self.drive(copy, replicas, 50, seed=3)

    def test_does_not_keep_every_request(self) -> None:
        """Memory bounded in the number of requests: a router that keeps a record of each is slow and grows for ever."""
        router = self.make_router()
        self.drive(router, 4, 500)
        early = len(pickle.dumps(router))
        self.drive(router, 4, 20_000, seed=4)
        assert len(pickle.dumps(router)) < early + 20_000
