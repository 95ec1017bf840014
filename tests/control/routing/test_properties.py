"""What must hold of routers whatever they are asked: sizes add up, bounds are kept, the short form decides as the long one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.control.router import FleetView
from sim.control.routing.bounded import BoundedLoad, bounded_capacity
from sim.control.routing.consistent import Maglev, Rendezvous, RingHash
from sim.control.routing.dynamo import softmax_probabilities
from sim.control.routing.gateway import Gateway
from sim.control.routing.hashing import xxhash64
from sim.control.routing.pools import CheapestFirst, LeastLatency, PoolView, Weighted
from sim.control.routing.prefix_index import PrefixIndex, hash_prompt
from sim.control.routing.prefixes import SentPrefixes
from sim.control.routing.radix import RadixTree
from sim.control.routing.sglang import CacheAware, CacheAwareConfig, SglangCacheAware


def common(a: str, b: str) -> int:
    """How many characters ``a`` and ``b`` begin with alike."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


words = st.text(alphabet="ab", min_size=1, max_size=8)
inserts = st.lists(st.tuples(words, st.sampled_from(["t1", "t2", "t3"])), max_size=30)


@pytest.mark.parametrize(
    ("text", "hashed"),
    # the specification's empty input; the example of python-xxhash's README, 39 bytes and so through its four lanes
    [("", 0xEF46DB3751D8E999), ("Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1)],
)
def test_xxhash64_of_published_inputs(text: str, hashed: int) -> None:
    assert xxhash64(text.encode()) == hashed


@given(inserts, st.integers(0, 20), words)
def test_radix_tree_counts_what_it_holds(asked: list[tuple[str, str]], limit: int, query: str) -> None:
    tree = RadixTree()
    for now, (text, tenant) in enumerate(asked):
        tree.insert(text, tenant, float(now))
    assert tree.used_size_per_tenant() == tree.tenant_char_count
    matched, _ = tree.prefix_match(query, 100.0)
    longest = max((common(text, query) for text, _ in asked), default=0)
    assert matched == query[:longest]
    for tenant in ("t1", "t2", "t3"):
        own = [common(text, query) for text, owner in asked if owner == tenant]
        assert tree.prefix_match_tenant(query, tenant) == query[: max(own, default=0)]
    tree.evict_tenant_by_size(limit)
    sizes = tree.used_size_per_tenant()
    assert all(size <= limit for size in sizes.values())
    assert all(sizes.get(tenant, 0) == count for tenant, count in tree.tenant_char_count.items())
    for tenant in list(tree.tenant_char_count):
        tree.remove_tenant(tenant)
    assert tree.used_size_per_tenant() == {}


turns = st.lists(
    st.tuples(st.integers(-1, 4), st.integers(1, 30), st.lists(st.integers(0, 40), min_size=3, max_size=3))
)


@given(turns, st.sampled_from(["smallest_tree", "min_load"]), st.sampled_from([0.0, 0.3, 0.9]))
def test_sglang_by_sessions_decides_as_by_texts(
    asked: list[tuple[int, int, list[int]]], below: str, threshold: float
) -> None:
    config = CacheAwareConfig(threshold, 16, 1.5, 0.0, 10**9, below)  # type: ignore[arg-type]
    texts, names = CacheAware(["0", "1", "2"], config), ["0", "1", "2"]
    sessions = SglangCacheAware(threshold, 16, 1.5, 0.0, 10**9, below, chars_per_token=1.0)  # type: ignore[arg-type]
    view, grown = FleetView(3), dict.fromkeys(range(5), 0)
    for request, (session, more, loads) in enumerate(asked):
        if session < 0:  # a text that begins as no other does
            text = chr(1000 + request) * more
        else:  # the session's turns so far, and more
            grown[session] += more
            text = chr(100 + session) * grown[session]
        view.outstanding, view.prompt_tokens = loads, len(text)
        assert sessions.choose(session, len(text) + 5, view) == texts.select(names, loads, text)


@given(st.lists(st.tuples(st.integers(-1, 5), st.integers(0, 50)), max_size=60), st.integers(0, 120))
def test_sent_prefixes_add_up_and_fit(asked: list[tuple[int, int]], capacity: int) -> None:
    sent, longest, loose = SentPrefixes(), dict.fromkeys(range(6), 0), 0
    for session, size in asked:
        sent.add(session, size)
        if session < 0:
            loose += size
        else:
            longest[session] = max(longest[session], size)
    assert sent.total == loose + sum(longest.values())
    assert [sent.length(session) for session in range(6)] == list(longest.values())
    sent.trim(capacity)
    assert sent.total <= capacity
    assert sum(sent.length(session) for session in range(6)) <= sent.total


@given(st.integers(1, 9), st.integers(1, 60), st.sampled_from([100, 125, 200]), st.integers(0, 999))
def test_bounded_load_keeps_its_bound(replicas: int, requests: int, factor: int, first: int) -> None:
    router, view = BoundedLoad(factor, probing="ring", minimum_ring_size=64), FleetView(replicas)
    for request in range(requests):
        capacity = bounded_capacity(sum(view.outstanding), replicas, factor / 100)
        chosen = router.choose(first if request % 2 else request, 100, view)
        view.outstanding[chosen] += 1
        assert view.outstanding[chosen] <= capacity


@given(st.integers(2, 8), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_only_keys_of_the_host_that_goes_move(hosts: int, keys: list[int]) -> None:
    names = [f"host-{i}" for i in range(hosts)]
    for table in (lambda n: RingHash(n, None, 16 * len(n)), Rendezvous):
        before, after = table(names), table(names[:-1])
        for key in keys:
            if before.choose(key) != hosts - 1:
                assert after.choose(key) == before.choose(key)


@given(st.integers(1, 12))
def test_maglev_shares_evenly(hosts: int) -> None:
    table = Maglev([f"host-{i}" for i in range(hosts)], None, 251)
    counts = [table.table.count(i) for i in range(hosts)]
    assert sum(counts) == 251
    assert max(counts) - min(counts) <= 1


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), st.sampled_from([0.0, 0.1, 1.0, 10.0]))
def test_softmax_chances_sum_to_one_and_fall_with_cost(costs: list[float], temperature: float) -> None:
    chances = softmax_probabilities(costs, temperature)
    assert sum(chances) == pytest.approx(1.0)
    order = np.argsort(costs, kind="stable")
    assert all(chances[a] >= chances[b] - 1e-12 for a, b in itertools.pairwise(order))


@given(
    st.lists(st.tuples(st.text("xy", max_size=24), st.sampled_from(["a", "b"])), max_size=12),
    st.text("xy", max_size=24),
)
def test_prefix_index_finds_whole_blocks_in_common(asked: list[tuple[str, str]], query: str) -> None:
    index = PrefixIndex()
    for prompt, server in asked:
        index.add(hash_prompt(prompt, block_size=4), server)
    found = index.match(hash_prompt(query, block_size=4))
    for server in ("a", "b"):
        own = [common(prompt, query) // 4 for prompt, owner in asked if owner == server]
        assert found.get(server, 0) == max(own, default=0)


@given(st.lists(st.integers(0, 30), min_size=2, max_size=6))
def test_gateway_by_queue_alone_picks_the_shortest(queues: list[int]) -> None:
    view = FleetView(len(queues))
    base = view.look(0)
    view.look = lambda i: base._replace(waiting=queues[i])
    chosen = Gateway(scorers={"queue-scorer": 1.0}).choose(-1, 100, view)
    assert queues[chosen] == min(queues)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 50), st.floats(0.1, 10.0), st.floats(1e-5, 1e-2)),
        min_size=1,
        max_size=5,
    )
)
def test_pools_are_chosen_among_those_that_are_ready(asked: list[tuple[int, int, float, float]]) -> None:
    pools = [
        PoolView(f"p{i}", ready, outstanding, 0, ready * 20, outstanding * 500, usd, pace)
        for i, (ready, outstanding, usd, pace) in enumerate(asked)
    ]
    for policy in (CheapestFirst(), LeastLatency(), Weighted(by="capacity")):
        chosen = policy.choose(500, 100, pools, 0.0)
        assert 0 <= chosen < len(pools)
        assert pools[chosen].ready > 0 or all(pool.ready == 0 for pool in pools)
