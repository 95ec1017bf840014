"""Every router of the package passes the kit that a user's own router is given, and follows a fleet that changes under it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable

import pytest

from sim.control.router import FleetView, Look, Router
from sim.control.routing.bounded import BoundedLoad
from sim.control.routing.dynamo import DynamoKv
from sim.control.routing.gateway import SCORERS, Gateway
from sim.control.routing.least_request import EnvoyLeastRequest
from sim.control.routing.production_stack_routers import ProductionStackPrefix, ProductionStackSession
from sim.control.routing.ray import RayPowerOfTwo
from sim.control.routing.sglang import SglangCacheAware
from sim.testing import RouterConformance

ROUTERS: dict[str, Callable[[], Router]] = {
    "gateway": Gateway,
    "gateway, every scorer": lambda: Gateway(
        scorers=dict.fromkeys(SCORERS, 1.0), picker="weighted-random-picker", endpoint_filter="utilization-detector"
    ),
    "gateway, decision tree": lambda: Gateway(picker="random-picker", endpoint_filter="decision-tree"),
    "sglang": SglangCacheAware,
    "sglang, least loaded": lambda: SglangCacheAware(below_threshold="min_load", max_tree_size=100_000),
    "dynamo": DynamoKv,
    "dynamo, warm": lambda: DynamoKv(router_temperature=0.5),
    "production-stack session": ProductionStackSession,
    "production-stack prefix": ProductionStackPrefix,
    "production-stack prefix, with a minimum": lambda: ProductionStackPrefix(prefix_min_match_length=1000),
    "ray": RayPowerOfTwo,
    "ray, small replicas": lambda: RayPowerOfTwo(max_ongoing_requests=3),
    "bounded load": BoundedLoad,
    "bounded load, ring": lambda: BoundedLoad(probing="ring"),
    "bounded load, maglev": lambda: BoundedLoad(table="maglev", table_size=251),
    "bounded load, rendezvous": lambda: BoundedLoad(table="rendezvous_hash"),
    "envoy": EnvoyLeastRequest,
    "envoy, full scan": lambda: EnvoyLeastRequest(selection_method="full_scan"),
    "envoy, bias": lambda: EnvoyLeastRequest(active_request_bias=1.0),
}


class TestGateway(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["gateway"]()


class TestGatewayEveryScorer(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["gateway, every scorer"]()


class TestGatewayDecisionTree(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["gateway, decision tree"]()


class TestSglang(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["sglang"]()


class TestSglangLeastLoaded(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["sglang, least loaded"]()


class TestDynamo(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["dynamo"]()


class TestDynamoWarm(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["dynamo, warm"]()


class TestProductionStackSession(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["production-stack session"]()


class TestProductionStackPrefix(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["production-stack prefix"]()


class TestProductionStackPrefixMinimum(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["production-stack prefix, with a minimum"]()


class TestRay(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["ray"]()


class TestRaySmallReplicas(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["ray, small replicas"]()


class TestBoundedLoad(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["bounded load"]()


class TestBoundedLoadRing(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["bounded load, ring"]()


class TestBoundedLoadMaglev(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["bounded load, maglev"]()


class TestBoundedLoadRendezvous(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["bounded load, rendezvous"]()


class TestEnvoy(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["envoy"]()


class TestEnvoyFullScan(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["envoy, full scan"]()


class TestEnvoyBias(RouterConformance):
    def make_router(self) -> Router:
        return ROUTERS["envoy, bias"]()


@pytest.mark.parametrize("name", ROUTERS)
def test_follows_replicas_that_come_and_go(name: str) -> None:
    router, view = ROUTERS[name](), FleetView(3)
    now, next_id = 0.0, 3
    for step in range(300):
        if step % 25 == 24:  # one goes, and at times two come
            del view.ids[step % len(view.ids)]
            if len(view.ids) < 3:
                view.ids += [next_id, next_id + 1]
                next_id += 2
            view.outstanding, view.tokens = [0] * len(view.ids), [0] * len(view.ids)
            view.version += 1
        now += 0.01
        view.now, view.prompt_tokens = now, 200 + step
        chosen = router.choose(step % 7 - 1, view.prompt_tokens + 50, view)
        assert 0 <= chosen < len(view.ids)
        view.outstanding[chosen] += 1
        view.tokens[chosen] += view.prompt_tokens + 50


SESSION_KEEPERS = ["sglang", "dynamo", "production-stack session", "production-stack prefix", "bounded load", "gateway"]


@pytest.mark.parametrize("name", SESSION_KEEPERS)
def test_turns_of_a_session_stay_together_when_nobody_is_busy(name: str) -> None:
    router, view = ROUTERS[name](), FleetView(8)
    homes: dict[int, set[int]] = {}
    for turn in range(6):
        for session in range(20):
            view.now += 1.0
            view.prompt_tokens = 600 + 600 * turn
            homes.setdefault(session, set()).add(router.choose(session, view.prompt_tokens + 100, view))
    stayed = sum(len(home) == 1 for home in homes.values())
    assert stayed == 20, homes


def test_gateway_asks_engines_only_as_often_as_it_scrapes() -> None:
    asked: list[float] = []
    view = FleetView(1)

    def look(position: int) -> Look:
        asked.append(view.now)
        return Look(0, 0, 0.0)

    view.look = look
    router = Gateway(scrape_interval=1 / 16)
    for step in range(128):
        view.now = step / 128
        router.choose(-1, 100, view)
    assert len(asked) == 16  # in one second


def test_gateway_sends_to_what_it_believes_idle_until_the_next_scrape() -> None:
    view = FleetView(2)
    waiting = [0, 3]
    view.look = lambda i: Look(0, waiting[i], 0.0)
    router = Gateway(scorers={"queue-scorer": 1.0}, scrape_interval=1.0)
    assert router.choose(-1, 100, view) == 0
    waiting[:] = [9, 0]
    view.now = 0.9
    assert router.choose(-1, 100, view) == 0
    view.now = 1.0
    assert router.choose(-1, 100, view) == 1


def test_ray_believes_a_queue_length_for_ten_seconds() -> None:
    view = FleetView(2)
    router = RayPowerOfTwo()
    for _ in range(4):  # both are asked, and told one more for each request
        view.outstanding[router.choose(-1, 100, view)] += 1
    assert sorted(view.outstanding) == [2, 2]
    view.outstanding = [100, 2]  # the cache says 2 and 2
    view.now = 10.0
    seen = {router._cache.get(0, view.now), router._cache.get(1, view.now)}
    assert seen <= {2, 1}
    view.now = 10.1
    assert router.choose(-1, 100, view) == 1  # both are asked again


def test_bounded_load_leaves_a_full_home() -> None:
    view = FleetView(4)
    router = BoundedLoad(hash_balance_factor=125)
    home = router.choose(5, 100, view)
    view.outstanding[home] = 8  # of 8: the bound is ceil(1.25 x 9 / 4) = 3
    assert router.choose(5, 100, view) != home


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Gateway(scorers={"queue": 1.0}), "scorer 'queue' is unknown"),
        (lambda: Gateway(scorers={"queue-scorer": -1.0}), "the weight of queue-scorer"),
        (lambda: Gateway(scorers={}), "scorers must map names to weights"),
        (lambda: Gateway(scrape_interval=-1.0), "scrape_interval must be 0 or more"),
        (lambda: Gateway(kv_cache_util_threshold=1.5), "kv_cache_util_threshold must be over 0 and at most 1"),
        (lambda: SglangCacheAware(cache_threshold=2.0), "cache_threshold must be within 0 to 1"),
        (lambda: DynamoKv(block_size=0), "block_size must be positive"),
        (lambda: ProductionStackSession(0.0), "request_stats_window must be positive"),
        (lambda: RayPowerOfTwo(max_ongoing_requests=0), "max_ongoing_requests must be positive"),
        (lambda: BoundedLoad(99), "hash_balance_factor must be 100"),
        (lambda: BoundedLoad(table="maglev", table_size=250), "table_size must be prime"),
        (lambda: BoundedLoad(table="maglev", probing="ring"), "needs table 'ring_hash'"),
        (lambda: EnvoyLeastRequest(1), "choice_count must be 2 or more"),
    ],
)
def test_a_bad_parameter_is_one_line_that_names_it(make: Callable[[], Router], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


ADAPTERS = [
    Gateway, SglangCacheAware, DynamoKv, ProductionStackSession, ProductionStackPrefix, RayPowerOfTwo, BoundedLoad,
    EnvoyLeastRequest,
]  # fmt: skip


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_parameters_can_be_read_by_who_checks_a_scenario(adapter: type) -> None:
    hints = typing.get_type_hints(adapter.__init__, include_extras=True)
    parameters = inspect.signature(adapter).parameters
    assert parameters.keys() <= hints.keys()
    assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters.values())
