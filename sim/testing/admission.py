"""What every admission policy must do: inherit :class:`AdmissionConformance` in a test module, give it your policy, and run pytest.

from sim.testing.admission import AdmissionConformance

class TestMyPolicy(AdmissionConformance):
    def make_policy(self):
        return MyPolicy(...)
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from random import Random

from sim.control.limits.ask import ADMIT, DROPPED, REFUSE, AdmissionPolicy, Ask

__all__ = ["AdmissionConformance"]


class _Gateway:
    """Sends attempts through a policy as a gateway would, with attempts ending at random."""

    def __init__(self, policy: AdmissionPolicy, now: float = 0.0) -> None:
        self.policy = policy
        self.now = now
        self.row = 0
        self.inside: list[tuple[float, Ask]] = []

    def drive(self, requests: int, seed: int) -> list[float]:
        """What the policy answered to ``requests`` attempts, 0.1 s apart on average."""
        random = Random(seed)
        answers = []
        for _ in range(requests):
            self.now += random.expovariate(10.0)
            while self.inside and random.random() < 0.4:
                self.end(random.randrange(len(self.inside)), random.random() < 0.1)
            answers.append(self.offer(random, random.random() < 0.05))
        return answers

    def offer(self, random: Random, refused_behind: bool) -> float:
        """One attempt, which a policy behind may refuse."""
        self.row += 1
        ask = Ask(
            row=self.row,
            tenant=random.choice(("acme", "bolt", "corp")),
            model=random.choice(("large", "small")),
            priority=random.randint(0, 2),
            prompt_tokens=random.randint(1, 4000),
            output_tokens=random.randint(1, 500),
            inflight=len(self.inside),
        )
        before = [getattr(ask, name) for name in Ask.__slots__]
        answer = self.policy.offer(ask, self.now)
        assert [getattr(ask, name) for name in Ask.__slots__] == before, "a policy must not write to what it is asked"
        if answer < REFUSE:
            if refused_behind:
                self.policy.cancelled(ask, self.now)
            else:
                self.inside.append((self.now + answer, ask))
        return answer

    def end(self, index: int, dropped: bool = False) -> None:
        """An attempt that was let in ends, if it has begun."""
        began, ask = self.inside[index]
        if began < self.now:
            del self.inside[index]
            self.policy.ended(ask, self.now, DROPPED if dropped else self.now - began)

    def drain(self) -> None:
        """Everything ends, and nobody comes for a day."""
        self.now = max([self.now, *(began for began, _ in self.inside)]) + 1.0
        while self.inside:
            self.end(0)
        self.now += 86_400.0


class AdmissionConformance:
    """Inherit and define :meth:`make_policy`.

    Set ``reopens = False`` for a policy that may, by its purpose, let nobody in although nothing is in flight and nobody came for a day.
    """

    reopens: bool = True
    requests: int = 400
    seeds: Sequence[int] = (1, 2, 3)

    def make_policy(self) -> AdmissionPolicy:
        """A fresh policy in its initial state; if it is random, always from the same seed."""
        raise AssertionError(f"{type(self).__name__} must define make_policy()")

    def test_satisfies_the_protocol(self) -> None:
        policy = self.make_policy()
        assert isinstance(policy, AdmissionPolicy)
        assert isinstance(policy.reason, str), "reason: why a request was refused"
        assert policy.reason, "reason: why a request was refused"

    def test_answers_with_seconds_to_wait(self) -> None:
        for seed in self.seeds:
            for answer in _Gateway(self.make_policy()).drive(self.requests, seed):
                assert isinstance(answer, float), f"an answer is a float, not {type(answer).__name__}"
                assert answer >= ADMIT, f"{answer} is no time to wait"

    def test_is_deterministic(self) -> None:
        for seed in self.seeds:
            one, other = _Gateway(self.make_policy()), _Gateway(self.make_policy())
            assert one.drive(self.requests, seed) == other.drive(self.requests, seed)

    def test_policies_share_nothing(self) -> None:
        alone = _Gateway(self.make_policy()).drive(self.requests, 1)
        first, second = _Gateway(self.make_policy()), _Gateway(self.make_policy())
        first.drive(self.requests, 2)
        assert second.drive(self.requests, 1) == alone

    def test_can_be_pickled_in_the_middle(self) -> None:
        for seed in self.seeds:
            gateway = _Gateway(self.make_policy())
            gateway.drive(self.requests, seed)
            copy = pickle.loads(pickle.dumps(gateway))
            assert gateway.drive(self.requests, 9) == copy.drive(self.requests, 9)

    def test_lets_somebody_in_again_when_all_is_over(self) -> None:
        if not self.reopens:
            return
        for seed in self.seeds:
            gateway = _Gateway(self.make_policy())
            gateway.drive(self.requests, seed)
            gateway.drain()
            answers = [
                gateway.policy.offer(Ask(row=-1, tenant=tenant, priority=priority), gateway.now + number)
                for number, (tenant, priority) in enumerate((("acme", 0), ("new", 7)))
            ]
            assert answers == [ADMIT, ADMIT]

    def test_gives_back_what_a_refusal_behind_it_frees(self) -> None:
        """Whatever is refused behind it holds no place: a thousand of them leave the policy open."""
        if not self.reopens:
            return
        gateway = _Gateway(self.make_policy())
        random = Random(5)
        for _ in range(1000):
            gateway.now += 0.01
            gateway.offer(random, refused_behind=True)
        gateway.drain()
        assert gateway.policy.offer(Ask(row=-1, tenant="acme"), gateway.now) == ADMIT

    def test_does_not_keep_every_request(self) -> None:
        """Memory bounded in the number of requests: a policy that keeps a record of each is slow and grows for ever."""
        gateway = _Gateway(self.make_policy())
        gateway.drive(500, 1)
        gateway.drain()
        early = len(pickle.dumps(gateway.policy))
        gateway.drive(20_000, 4)
        gateway.drain()
        assert len(pickle.dumps(gateway.policy)) < early + 20_000
