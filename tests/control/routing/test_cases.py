"""Published cases of routers, step by step (tests/data/control/router_cases.yaml)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import yaml

from sim.control.routing import (
    bounded,
    consistent,
    dynamo,
    filters,
    pickers,
    pools,
    production_stack,
    ray,
    scorers,
    sglang,
)
from sim.control.routing import least_request as least
from sim.control.routing.endpoints import Endpoint
from sim.control.routing.prefix_index import PrefixIndex, hash_prompt
from sim.control.routing.radix import RadixTree
from sim.control.routing.saturation import ConcurrencyDetector, SaturationDetector
from tests.paths import DATA

CASES = yaml.safe_load((DATA / "control" / "router_cases.yaml").read_text(encoding="utf-8"))
NOW = 100.0


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-5, abs=1e-6)


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def endpoints(rows: list[Any]) -> list[Endpoint]:
    found = []
    for i, row in enumerate(rows):
        if isinstance(row, dict):
            found.append(Endpoint(**{"name": f"e{i}", **row}))
        else:
            waiting, running, kv_usage, active = [*row, *[0] * (4 - len(row))]
            found.append(Endpoint(f"e{i}", waiting, running, kv_usage, active))
    return found


def aged(rows: list[Any]) -> list[Endpoint]:
    return [
        Endpoint(updated=None) if row is None else Endpoint("", row[0], 0, row[1], updated=NOW - row[2] / 1000)
        for row in rows
    ]


SCORERS: dict[str, Callable[..., list[float]]] = {
    "queue": scorers.queue_scores,
    "running": scorers.running_requests_size_scores,
    "kv": scorers.kv_cache_utilization_scores,
    "load_aware": scorers.load_aware_scores,
    "active": scorers.active_request_scores,
    "lora": scorers.lora_affinity_scores,
    "session": scorers.session_affinity_scores,
    "context": scorers.context_length_scores,
    "token_load": scorers.token_load_scores,
}


def scores(case: dict[str, Any]) -> None:
    given = endpoints(case["endpoints"])
    assert SCORERS[case["scorer"]](given, **case.get("args", {})) == near(case["expected"])


def prefix_scores(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        given = [Endpoint(name) for name in step["matched"]]
        found = scorers.prefix_cache_scores(given, step["matched"], step["total"], **case.get("args", {}))
        assert found == near(step["expected"])


def prefix_refused(case: dict[str, Any]) -> None:
    for given in case["given"]:
        with pytest.raises(ValueError, match="match_length_"):
            scorers.prefix_cache_scores([], {}, 1, **given)


def context_filter(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        given = [Endpoint(context_range=label) for label in step["ranges"]]
        assert scorers.context_length_filter(given, step["length"]) == step["expected"]


def no_hit_lru(case: dict[str, Any]) -> None:
    given = [Endpoint(name) for name in case["endpoints"]]
    scorer = scorers.NoHitLru()
    for step in case["steps"]:
        found = scorer.scores(given, step["matched"])
        if "expected" in step:
            assert found == near(step["expected"])
        if "highest" in step:
            assert found.index(max(found)) == step["highest"]
        if "sent" in step:
            scorer.sent(step["sent"])


def weighted_sum(case: dict[str, Any]) -> None:
    assert scorers.weighted_sum([tuple(pair) for pair in case["scored"]], 2) == near(case["expected"])


def pick_max(case: dict[str, Any]) -> None:
    generator = rng()
    orders = set()
    for _ in range(50):
        found = pickers.pick_max_score(case["scores"], generator, case["max"])
        orders.add(tuple(found))
        at = 0
        for tied in case["expected"]:
            assert sorted(found[at : at + len(tied)]) == tied
            at += len(tied)
        assert at == len(found)
    assert len(orders) == max(len(tied) for tied in case["expected"])  # 1 order, or both of the two tied


def pick_weighted(case: dict[str, Any]) -> None:
    generator = rng()
    counts = [0] * len(case["scores"])
    for _ in range(10_000):
        counts[pickers.pick_weighted_random(case["scores"], generator)[0]] += 1
    assert [count / 10_000 for count in counts] == pytest.approx(case["expected"], abs=0.05)
    assert all(count == 0 for count, score in zip(counts, case["scores"], strict=True) if score == 0)


def pick_turns(case: dict[str, Any]) -> None:
    picker = pickers.MaxScorePicker()
    picked = [picker.pick(case["scores"]) for _ in range(case["picks"])]
    assert [picked.count([i]) for i in range(len(case["scores"]))] == case["expected"]


def pick_random(case: dict[str, Any]) -> None:
    generator = rng()
    for step in case["steps"]:
        counts = [0] * len(step["scores"])
        for _ in range(10_000):
            for i in pickers.pick_random(step["scores"], generator, step["max"]):
                counts[i] += 1
        assert [count / 10_000 for count in counts] == pytest.approx(step["expected"], abs=0.05)


def top_k(case: dict[str, Any]) -> None:
    found = [pickers.effective_top_k(case["candidates"], *bounds) for bounds in case["bounds"]]
    assert found == case["expected"]


def filtered(case: dict[str, Any]) -> None:
    given = endpoints(case["endpoints"])
    kept = getattr(filters, case["filter"])(given, **case.get("args", {}))
    assert [given.index(endpoint) for endpoint in kept] == case["expected"]


def lora_shares(case: dict[str, Any]) -> None:
    given, generator, counts = endpoints(case["endpoints"]), rng(), [0, 0]
    for _ in range(10_000):
        (kept,) = filters.lora_affinity(given, case["target_model"], generator, case["threshold"])
        counts[given.index(kept)] += 1
    assert [count / 10_000 for count in counts] == pytest.approx(case["expected"], abs=0.05)


def default_filter(case: dict[str, Any]) -> None:
    given = endpoints(case["endpoints"])
    kept = filters.default_filter(given, generator=rng(), **case["args"])
    assert [given.index(endpoint) for endpoint in kept] == case["expected"]


def saturation(case: dict[str, Any]) -> None:
    detector = SaturationDetector(**case["config"])
    for step in case["steps"]:
        assert detector.saturation(aged(step["endpoints"]), NOW) == near(step["expected"])


def saturation_credit(case: dict[str, Any]) -> None:
    detector = SaturationDetector(**case["config"])
    for step in case["steps"]:
        assert detector.saturation(endpoints(step["endpoints"])) == near(step["expected"])


def concurrency(case: dict[str, Any]) -> None:
    detector = ConcurrencyDetector(**case["config"])
    for step in case["steps"]:
        size = len(step.get("active", step.get("tokens")))
        nothing = [0] * size
        pairs = zip(step.get("active", nothing), step.get("tokens", nothing), strict=True)
        given = [Endpoint(active=active, active_tokens=tokens) for active, tokens in pairs]
        assert detector.saturation(given) == near(step["expected"])
        if "kept" in step:
            assert detector.filter(given) == step["kept"]


def concurrency_refused(case: dict[str, Any]) -> None:
    for given in case["given"]:
        (name,) = given
        with pytest.raises(ValueError, match=name):
            ConcurrencyDetector(**given)


def saturation_filter(case: dict[str, Any]) -> None:
    detector = SaturationDetector(**case["config"])
    for step in case["steps"]:
        assert detector.filter(aged(step["endpoints"]), NOW) == step["expected"]


def is_saturated(case: dict[str, Any]) -> None:
    detector = SaturationDetector(**case["config"])
    for step in case["steps"]:
        assert detector.is_saturated(aged(step["endpoints"]), NOW) is step["expected"]


def prefix(case: dict[str, Any]) -> None:
    index, pods = PrefixIndex(), [Endpoint("pod1"), Endpoint("pod2")]
    for step in case["steps"]:
        hashes = hash_prompt(
            step["prompt"], step["model"], case["block_size"], model_block=case.get("model_block", False)
        )
        assert len(hashes) == step["hashes"]
        assert scorers.prefix_cache_scores(pods, index.match(hashes), len(hashes)) == near(step["expected"])
        index.add(hashes, step["picked"])


def prefix_index(case: dict[str, Any]) -> None:
    index = PrefixIndex(case["capacity"])
    for step in case["steps"]:
        if "add" in step:
            index.add(step["add"], step["server"], step.get("own", 0))
            assert index.size(step["server"]) == step["size"]
        elif "remove" in step:
            index.remove(step["remove"])
        else:
            assert sorted(index.get(step["get"])) == step["expected"]


def imbalanced(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        assert sglang.is_imbalanced(step["loads"], step["abs"], step["rel"]) is step["expected"]


def cache_aware(case: dict[str, Any]) -> None:
    config = sglang.CacheAwareConfig(**{"eviction_interval_secs": 0.0, **case.get("config", {})})
    policy = sglang.CacheAware(case["workers"], config)
    for step in case["steps"]:
        if "remove" in step:
            policy.remove_worker(step["remove"])
            continue
        found = policy.select(case["workers"], step["loads"], step["text"], healthy=step.get("healthy"))
        if "expected" in step:
            assert found == step["expected"]


def power_of_two(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        assert sglang.power_of_two(step["loads"], tuple(step["pair"])) == step["expected"]


def radix(case: dict[str, Any]) -> None:
    tree = RadixTree()
    for step in case["steps"]:
        if "insert" in step:
            tree.insert(step["insert"], step["tenant"], step.get("now", 0.0))
        elif "match" in step:
            assert list(tree.prefix_match(step["match"], 1.0)) == step["expected"]
        elif "evict" in step:
            tree.evict_tenant_by_size(step["evict"])
        elif "smallest" in step:
            assert tree.smallest_tenant() == step["smallest"]
        else:
            assert tree.used_size_per_tenant() == step["sizes"]
            assert tree.tenant_char_count == step["sizes"]


def softmax(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        found = dynamo.softmax_sample(step["costs"], step["temperature"], step.get("sample", 0.0))
        assert found == step["expected"]


def dynamo_cost(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        found = dynamo.worker_costs(
            case["isl_tokens"], case["prefill_tokens"], case["decode_blocks"], 16, step["weight"]
        )
        assert found == near(step["expected"])


def dynamo_logit(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        assert dynamo.worker_logit(**step["args"]) == near(step["expected"])


def dynamo_loads(case: dict[str, Any]) -> None:
    found = dynamo.potential_loads(
        case["isl_tokens"], case["overlaps"], case["active_blocks"], case["active_tokens"], 16, case["shared_blocks"]
    )
    assert list(found) == case["expected"]


def dynamo_legacy(case: dict[str, Any]) -> None:
    assert dynamo.legacy_logits(**case["args"]) == near(case["expected"])


def session(case: dict[str, Any]) -> None:
    assert production_stack.route_session(case["endpoints"], case["session"], case["qps"]) == case["expected"]


def ring_moves(case: dict[str, Any]) -> None:
    before, after = production_stack.UHashRing(case["before"]), production_stack.UHashRing(case["after"])
    moved = 0
    for key in case["sessions"]:
        old, new = before.get_node(key), after.get_node(key)
        assert new in case["after"]
        moved += old != new
        if old in case["after"]:  # consistent: it moves only if its node has gone, or to one that has come
            assert new == old or new not in case["before"]
    assert moved < len(case["sessions"])


def prefix_aware(case: dict[str, Any]) -> None:
    found = set()
    for seed in range(20):
        trie, generator = production_stack.HashTrie(), np.random.default_rng(seed)
        for step in case["steps"]:
            flat = step["prompt"]
            prompt = "".join(letter * count for letter, count in zip(flat[::2], flat[1::2], strict=True))
            chosen = production_stack.route_prefix_aware(
                case["endpoints"], prompt, trie, generator, case["minimum"], step.get("qps"), step.get("inflight")
            )
            assert chosen in step["expected"]
            _, holders = trie.longest_prefix_match(prompt, case["endpoints"])
            assert chosen in holders
        found.add(chosen)
    assert found == set(case["steps"][-1]["expected"])


def kv_aware(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        found = production_stack.route_kv_aware(
            case["endpoints"],
            step["tokens"],
            step["matched"],
            None,
            case["qps"],
            step.get("threshold", 2000),
            case.get("holder", "longest"),
        )
        assert found == step["expected"]


def round_robin(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        router, urls = production_stack.RoundRobin(), [str(i) for i in range(step["endpoints"])]
        chosen = [router.choose(urls) for _ in range(step["requests"])]
        counts = [chosen.count(url) for url in urls]
        assert max(counts) - min(counts) <= 1


def load_aware(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        found = production_stack.route_load_aware(
            step["endpoints"], 2048, step["matched"], step["inflight"], step["beta"]
        )
        assert found == step["expected"]


def relative_loads(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        assert production_stack.relative_loads(step["endpoints"], step["inflight"]) == near(step["expected"])


def load_scores(case: dict[str, Any]) -> None:
    for matched, prompt, relative, beta, expected in case["steps"]:
        assert production_stack.load_aware_score(matched, prompt, relative, beta) == near(expected)


def ray_select(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        cached, probed = step["cached"], step["probed"]
        found, probes = ray.select_replica(
            range(len(cached)), lambda i, known=cached: known[i], lambda i, said=probed: said[i], lambda _: 10
        )
        assert found == step["expected"]
        assert probes == step["probes"]


def ray_cache(case: dict[str, Any]) -> None:
    cache = ray.QueueLengthCache()
    for step in case["steps"]:
        now = step["at"]
        if "update" in step:
            cache.update("r1", step["update"], now)
        if "decrement" in step:
            cache.decrement("r1", now)
        if "send" in step:
            cache.on_send_request("r1", now)
        if "invalidate" in step:
            cache.invalidate("r1")
        if "expected" in step:
            assert cache.get("r1", now) == step["expected"]


def ray_backoff(case: dict[str, Any]) -> None:
    assert ray.backoff_sequence(case["tries"]) == near(case["expected"])


def ray_deadline(case: dict[str, Any]) -> None:
    for index, expected in case["steps"]:
        assert ray.probe_deadline_s(index) == near(expected)


def _replicas(case: dict[str, Any]) -> list[ray.Replica]:
    return [ray.Replica(name, node_id=node, availability_zone=zone) for name, node, zone in case["replicas"]]


def ray_locality(case: dict[str, Any]) -> None:
    routing, replicas = ray.LocalityRouting(**case["routing"]), _replicas(case)
    for names, backoff in case["expected"]:
        assert [replica.name for replica in routing.candidates(replicas)] == names
        assert routing.should_backoff is backoff


def ray_rank(case: dict[str, Any]) -> None:
    ranked = ray.rank_by_locality(_replicas(case), "n", "z")
    assert [[replica.name for replica in rank] for rank in ranked] == case["expected"]


def ring(case: dict[str, Any]) -> None:
    table = consistent.RingHash(case["hosts"], case.get("weights"), **case["args"])
    if "ring" in case:
        assert [list(point) for point in table.ring] == case["ring"]
    for key, host in case["keys"]:
        assert table.choose(key) == host


def ring_attempts(case: dict[str, Any]) -> None:
    table = consistent.RingHash(case["hosts"], None, **case["args"])
    assert {attempt: table.choose(case["key"], attempt) for attempt in case["expected"]} == case["expected"]


def maglev(case: dict[str, Any]) -> None:
    table = consistent.Maglev(case["hosts"], case.get("weights"), case["table_size"])
    assert [table.choose(key) for key in range(case["table_size"])] == case["expected"]


def maglev_attempts(case: dict[str, Any]) -> None:
    table = consistent.Maglev(case["hosts"], None, case["table_size"])
    assert {attempt: table.choose(case["key"], attempt) for attempt in case["expected"]} == case["expected"]


def shuffles(case: dict[str, Any]) -> None:
    assert {seed: bounded.shuffled(case["hosts"], seed) for seed in case["expected"]} == case["expected"]


class Listed:
    """A table that gives the host at the key's place, as Envoy's test has it."""

    def __init__(self, hosts: list[int]) -> None:
        self.hosts = hosts

    def choose(self, key: int, attempt: int = 0) -> int | None:
        return self.hosts[key]


def bounded_envoy(case: dict[str, Any]) -> None:
    factors, hosts = case["factors"], case.get("hosts", len(case["ring"]))
    found = {key: bounded.choose_envoy(Listed(case["ring"]), key, hosts, lambda i: factors[i]) for key in case["keys"]}
    assert found == case["keys"]


def overload(case: dict[str, Any]) -> None:
    for active, overall, weight, factor, expected in case["steps"]:
        assert bounded.overload_factor(active, overall, weight, factor) == near(expected)


def bound(case: dict[str, Any]) -> None:
    for active, servers, c, expected in case["steps"]:
        assert bounded.bounded_capacity(active, servers, c) == expected


def haproxy(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        assert bounded.haproxy_slots(step["served"], step["weights"], step["factor"]) == step["expected"]


def n_choices(case: dict[str, Any]) -> None:
    for step in case["steps"]:
        draws = iter(step["draws"])
        found = least.pick_n_choices(step["active"], lambda given=draws: next(given), len(step["draws"]))
        assert found == step["expected"]


def full_scan(case: dict[str, Any]) -> None:
    generator, picks = rng(), 20_000
    found = [least.pick_full_scan(case["active"], lambda: int(generator.integers(1 << 60))) for _ in range(picks)]
    shares = {host: found.count(host) / picks for host in sorted(set(found))}
    assert shares == pytest.approx(case["expected"], abs=0.015)  # 4.5 standard deviations of a third


def weighted(case: dict[str, Any]) -> None:
    schedule = least.WeightedLeastRequest(case["weights"], case.get("bias", 1.0))
    for step in case["steps"]:
        assert [schedule.choose(step["active"]) for _ in step["expected"]] == step["expected"]


def weighted_share(case: dict[str, Any]) -> None:
    schedule = least.WeightedLeastRequest(case["weights"], 1.0, [0] * len(case["weights"]))
    found = [schedule.choose(case["active"]) for _ in range(case["picks"])]
    for host, expected in case["expected"].items():
        assert found.count(host) == pytest.approx(expected, abs=2)


def nginx(case: dict[str, Any]) -> None:
    balancer = least.NginxLeastConn(case["weights"])
    for step in case["steps"]:
        assert balancer.choose(step["conns"]) == step["expected"]


def haproxy_least(case: dict[str, Any]) -> None:
    balancer = least.HaproxyLeastConn(case["weights"])
    for step in case["steps"]:
        if "drop" in step:
            balancer.drop(step["drop"])
        else:
            assert balancer.choose() == step["expected"]


POLICIES: dict[str, Callable[..., pools.PoolRouter]] = {
    "cheapest": pools.CheapestFirst,
    "latency": pools.LeastLatency,
    "weighted": pools.Weighted,
    "length": pools.ByLength,
}


def pool(case: dict[str, Any]) -> None:
    policy = POLICIES[case["policy"]](**case.get("args", {}))
    assert isinstance(policy, pools.PoolRouter)
    for step in case["steps"]:
        views = [pools.PoolView(*row) for row in step["pools"]]
        prompt = step.get("prompt", case.get("prompt", 100))
        assert policy.choose(prompt, case.get("output", 50), views, 0.0) == step["expected"]


CALLS: dict[str, Callable[[dict[str, Any]], None]] = {
    **{
        run.__name__: run
        for run in (
            scores, no_hit_lru, weighted_sum, pick_max, pick_weighted, top_k, lora_shares, default_filter, saturation,
            saturation_filter, is_saturated, prefix, prefix_index, imbalanced, cache_aware, power_of_two, radix, softmax,
            dynamo_cost, dynamo_loads, dynamo_legacy, session, ring_moves, prefix_aware, kv_aware, ray_select, ray_cache,
            ray_backoff, ray_deadline, ray_locality, ray_rank, ring, ring_attempts, maglev, maglev_attempts, shuffles,
            prefix_scores, prefix_refused, context_filter, pick_turns, pick_random, saturation_credit, concurrency,
            concurrency_refused, dynamo_logit, round_robin, load_aware, relative_loads, load_scores,
            bounded_envoy, overload, bound, haproxy, n_choices, full_scan, weighted, weighted_share, nginx, haproxy_least,
        )
    },
    "filter": filtered,
    "pools": pool,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_published_case(case: dict[str, Any]) -> None:
    CALLS[case["call"]](case)


def test_cases_have_names_of_their_own_and_sources() -> None:
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names)
    assert all(len(case["source"]) > 10 for case in CASES)
    assert {case["call"] for case in CASES} == set(CALLS)
