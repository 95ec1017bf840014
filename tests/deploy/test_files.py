"""Manifests have the numbers of the scenario; those with a fault put in fail the checks that the others pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any

import pytest

import sim
import sim.deploy
from sim.deploy.kinds import objects
from sim.deploy.plan import deployable, plans
from sim.errors import TwinferError
from tests.deploy.manifests import InvalidError, by_kind, documents, scenario, validate
from tests.paths import SCENARIOS


def _mutations() -> list[tuple[str, Callable[[dict[str, Any]], None]]]:
    def unknown(document: dict[str, Any]) -> None:
        document["spec"]["replicaCount"] = 3

    def wrong_type(document: dict[str, Any]) -> None:
        spec = document["spec"]
        key = next(
            key
            for key in ("replicas", "minReplicas", "maxUnavailable", "minReplicaCount", "predictor", "ports")
            if key in spec
        )
        spec[key] = {"a": [1]} if key != "predictor" else 3

    def bad_name(document: dict[str, Any]) -> None:
        document["metadata"]["name"] = "Chat_1"

    def number_annotation(document: dict[str, Any]) -> None:
        document["metadata"]["annotations"] = {"twinfer.dev/replications": 6}

    return [(one.__name__, one) for one in (unknown, wrong_type, bad_name, number_annotation)]


@pytest.mark.parametrize(("what", "mutate"), _mutations())
@pytest.mark.parametrize(
    ("name", "option", "flavour"),
    [
        ("autoscaler_shootout.yaml", "hpa-kv", "deployment"),
        ("autoscaler_shootout.yaml", "keda-queue", "kserve"),
        ("chat_capacity.yaml", "4-gpus", "lws"),
    ],
)
def test_a_mutated_manifest_fails(
    name: str, option: str, flavour: str, what: str, mutate: Callable[[dict[str, Any]], None]
) -> None:
    found = documents(
        sim.deploy.files(scenario(name, option), flavour=flavour)[f"{scenario(name).deployments[0].name}.yaml"]
    )
    for document in found:
        changed = copy.deepcopy(document)
        mutate(changed)
        with pytest.raises(InvalidError):
            validate(changed)


@pytest.mark.parametrize("flavour", sim.deploy.FLAVOURS)
def test_a_mutated_pod_fails_wherever_it_is(flavour: str) -> None:
    found = documents(sim.deploy.files(scenario("chat_capacity.yaml"), flavour=flavour)["chat.yaml"])
    runs = next(one for one in found if one["kind"] in ("Deployment", "InferenceService", "LeaderWorkerSet"))

    def pod(document: dict[str, Any]) -> dict[str, Any]:
        spec = document["spec"]
        place = {
            "deployment": lambda: spec["template"]["spec"],
            "kserve": lambda: spec["predictor"],
            "lws": lambda: spec["leaderWorkerTemplate"]["workerTemplate"]["spec"],
        }[flavour]()
        assert place["containers"]
        return place  # type: ignore[no-any-return]

    validate(runs)
    for break_it in (
        lambda spec: spec["containers"][0].update(arguments=["x"]),
        lambda spec: spec["containers"][0].update(args="--x"),
        lambda spec: spec["containers"][0]["readinessProbe"].update(period=3),
        lambda spec: spec.update(terminationGracePeriodSeconds="30s"),
        lambda spec: spec["containers"][0]["resources"]["requests"].update({"nvidia.com/gpu": "one"}),
        lambda spec: spec["containers"][0]["resources"]["limits"].update({"nvidia.com/gpu": "2"}),
    ):
        changed = copy.deepcopy(runs)
        break_it(pod(changed))
        with pytest.raises(InvalidError):
            validate(changed)


def test_a_knative_service_is_checked_as_strictly() -> None:
    (found,) = documents(sim.deploy.files(scenario("zone_loss.yaml", "autoscaled"))["documents.yaml"])
    assert (found["apiVersion"], found["kind"]) == ("serving.knative.dev/v1", "Service")
    validate(found)
    found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 30  # Knative has none
    with pytest.raises(InvalidError):
        validate(found)


def test_the_same_scenario_gives_the_same_bytes_in_the_same_order() -> None:
    one, two = (sim.deploy.files(scenario("black_friday.yaml", "admission-counted")) for _ in range(2))
    assert list(one.items()) == list(two.items())
    for name, text in one.items():
        if name.endswith(".yaml"):
            assert "&id" not in text  # no anchors
            for document in documents(text):
                assert list(document)[:4] in (["apiVersion", "kind", "metadata", "spec"], ["rules"])


def test_replicas_and_gpus_are_those_of_the_scenario() -> None:
    chosen = scenario("chat_capacity.yaml", "6-gpus", deployments__chat__tensor_parallel=1)
    (found,) = by_kind(sim.deploy.files(chosen), "Deployment")
    assert found["spec"]["replicas"] == 6
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert found["spec"]["template"]["spec"]["nodeSelector"] == {"node.kubernetes.io/instance-type": "p5.4xlarge"}
    (budget,) = by_kind(sim.deploy.files(chosen), "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"].items() <= found["spec"]["template"]["metadata"]["labels"].items()


def test_two_gpus_a_replica_ask_for_two_and_get_shared_memory() -> None:
    changes = {"tensor_parallel": 2, "profile": "roofline", "pool": "h100"}
    chosen = sim.load(
        SCENARIOS / "router_choice.yaml",
        {f"deployments.chat.{key}": value for key, value in changes.items()} | {"deployments.chat.replicas": 4},
    )
    (found,) = by_kind(sim.deploy.files(chosen), "Deployment")
    spec = found["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert {"name": "shm", "mountPath": "/dev/shm"} in spec["containers"][0]["volumeMounts"]
    validate(found)


def test_probes_and_grace_follow_the_cold_start_and_the_drain() -> None:
    chosen = scenario(
        "autoscaler_shootout.yaml", "fixed-peak", deployments__documents__cold_start__readiness_period="4s"
    )
    (found,) = by_kind(sim.deploy.files(chosen), "Deployment")
    pod = found["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["terminationGracePeriodSeconds"] == 60  # drain: {grace: 60s}
    assert container["args"][container["args"].index("--shutdown-timeout") + 1] == "60"
    assert container["readinessProbe"]["periodSeconds"] == 4
    from sim.experiment.build import build
    from sim.experiment.machines import starts

    (known,) = starts(chosen, build(chosen).deployments)
    started = container["startupProbe"]
    # the shipped start takes 91 s, with 16 s and 5 s of phases given here
    assert (
        3 * known.start.process
        <= started["periodSeconds"] * started["failureThreshold"]
        <= 3 * known.start.process + 10
    )
    assert known.start.process > 100.0


def test_a_short_start_is_still_allowed_five_minutes() -> None:
    chosen = scenario(
        "chat_capacity.yaml", "2-gpus", deployments__chat__cold_start="{preset: none, phases: {process: 10s}}"
    )
    (found,) = by_kind(sim.deploy.files(chosen), "Deployment")
    probe = found["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 300


def test_zones_and_the_loss_of_a_machine_are_in_the_pod() -> None:
    (found,) = by_kind(sim.deploy.files(scenario("zone_loss.yaml", "noticed-sooner")), "Deployment")
    pod = found["spec"]["template"]["spec"]
    assert [one["topologyKey"] for one in pod["topologySpreadConstraints"]] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    lost = {one["key"]: one.get("tolerationSeconds") for one in pod["tolerations"]}
    assert lost["node.kubernetes.io/unreachable"] == 30
    (one_zone,) = by_kind(sim.deploy.files(scenario("zone_loss.yaml", "one-zone")), "Deployment")
    spread = one_zone["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname"]


def test_a_network_disk_becomes_a_claim_a_quarter_larger_than_the_weights() -> None:
    chosen = scenario("chat_capacity.yaml", "2-gpus", deployments__chat__cold_start__weights_from="network_disk")
    texts = sim.deploy.files(chosen)
    (claim,) = by_kind(texts, "PersistentVolumeClaim")
    # Llama-3.1-8B: 8.03 billion parameters of 2 bytes
    assert claim["spec"]["resources"]["requests"]["storage"] == f"{ceil(1.25 * 8.03e9 * 2 / 2**30)}Gi"
    (found,) = by_kind(texts, "Deployment")
    (volume,) = found["spec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    for flavour in sim.deploy.FLAVOURS:
        for document in documents(sim.deploy.files(chosen, flavour=flavour)["chat.yaml"]):
            validate(document)


def test_a_replica_over_machines_is_a_leader_and_workers() -> None:
    """No scenario may ask for it yet, so the plan is made of one whose machines are cut in half."""
    changes = {
        "deployments.chat.tensor_parallel": 4,
        "deployments.chat.replicas": 2,
        "deployments.chat.profile": "roofline",
    }
    chosen = sim.load(SCENARIOS / "router_choice.yaml", changes)
    plan, whole = (plans(chosen, flavour, "vllm")[0] for flavour in ("lws", "deployment"))
    half = replace(plan.machine, gpus=2)
    (found, service, _) = objects(replace(plan, machine=half), {})
    validate(found)
    group = found["spec"]["leaderWorkerTemplate"]
    assert (found["spec"]["replicas"], group["size"]) == (2, 2)
    leader, worker = (group[f"{role}Template"]["spec"]["containers"][0] for role in ("leader", "worker"))
    for container in (leader, worker):
        assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}  # 4 GPUs over 2 machines
        assert container["args"][container["args"].index("--tensor-parallel-size") + 1] == "4"
    assert worker["args"] == [*leader["args"], "--headless"]
    assert "readinessProbe" in leader
    assert "readinessProbe" not in worker
    assert service["spec"]["selector"]["leaderworkerset.sigs.k8s.io/worker-index"] == "0"
    with pytest.raises(TwinferError, match="--flavour lws"):
        deployable(replace(whole, machine=half))
    eight = plan.deployment.model_copy(update={"tensor_parallel": 8})
    with pytest.raises(TwinferError, match="cannot be shared equally"):
        deployable(replace(plan, deployment=eight, machine=replace(plan.machine, gpus=3)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"flavour": "helm"}, "flavour 'helm' is not known; there are deployment, kserve, lws"),
        ({"flavour": "deploymnt"}, "did you mean 'deployment'"),
        ({"image": " "}, "is not the name of a container image"),
    ],
)
def test_bad_arguments_are_told_in_one_line(options: dict[str, str], said: str) -> None:
    with pytest.raises(TwinferError) as fault:
        sim.deploy.files(scenario("chat_capacity.yaml"), **options)  # type: ignore[arg-type]
    assert said in str(fault.value)
    assert "\n" not in str(fault.value)


def test_gpus_that_are_not_nvidias() -> None:
    pool = "{name: h100, gpu: mi300x, price: 3, nodes: 8}"
    amd = scenario("chat_capacity.yaml", None, cluster__pools__h100=pool, deployments__chat__profile="roofline")
    with pytest.raises(
        TwinferError, match=r"chat_capacity\.yaml:\d+: deployments\.chat\.pool: its GPUs are AMD's.*--image"
    ):
        sim.deploy.files(amd)
    (found,) = by_kind(sim.deploy.files(amd, image="rocm/vllm:v0.33.0"), "Deployment")
    validate(found)
    pod = found["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"amd.com/gpu": "1"}
    assert "nodeSelector" not in pod  # no instance type is known
    changes = {
        "models__llama": "{architecture: llama-40m, dtype: fp32, max_model_len: 2048}",
        "cluster__pools__h100": "{name: h100, gpu: cpu/llama-40m/tp1, price: 3, nodes: 8}",
        "deployments__chat__profile": "cpu/llama-40m/tp1",
    }
    with pytest.raises(TwinferError, match="runs on CPUs"):
        sim.deploy.files(scenario("chat_capacity.yaml", None, **changes))


def test_what_was_simulated_and_is_not_written_is_named() -> None:
    def page(name: str, option: str) -> str:
        return sim.deploy.files(scenario(name, option))["README.md"]

    for name, option, words in (
        ("rate_limits.yaml", "token-bucket", ("admission token-bucket", "rate: 25000", "router least-outstanding")),
        ("retry_storm.yaml", "retry-budget", ("clients were simulated to give up", "max_attempts: 5", "budget: envoy")),
        (
            "spot_savings.yaml",
            "mixed-migrate",
            ("fault reclaim", "is spread over main, base", "on_loss migrate", "gke-spot"),
        ),
        (
            "zone_loss.yaml",
            "noticed-sooner",
            ("node-monitor-grace-period", "10 s", "fault zone-loss", "6 to 12 machines"),
        ),
        ("zone_loss.yaml", "spare-zone-and-ejection", ("outlier detection", "max_ejection_percent: 50")),
        ("black_friday.yaml", "placeholders-and-admission", ("4 of them kept empty", "DaemonSet", "per_replica: 24")),
        ("router_choice.yaml", "power-of-two", ("router power-of-two", "LEAST_REQUEST")),
    ):
        found = page(name, option)
        for word in words:
            assert word in found, (name, option, word)


def test_every_router_has_a_word_on_how_to_have_it() -> None:
    from sim.control import registry
    from sim.deploy.notes import _ROUTERS

    assert set(_ROUTERS) == set(registry.FAMILIES["router"])


def test_names_are_made_fit_for_kubernetes_and_two_that_become_one_are_refused() -> None:
    chosen = scenario("chat_capacity.yaml", None, options="{}", deployments__chat__name="Chat 1 (EU)")
    texts = sim.deploy.files(chosen)
    assert "chat-1-eu.yaml" in texts
    for document in documents(texts["chat-1-eu.yaml"]):
        validate(document)
    own = (
        "{name: prometheus-adapter, model: llama, pool: h100, autoscaler: {kind: hpa, metric: kv, target: 0.8, max: 2}}"
    )
    texts = sim.deploy.files(scenario("chat_capacity.yaml", None, options="{}", deployments__chat=own))
    assert len(texts) == 4  # none has taken another's place
    two = "[{name: chat 1, model: llama, pool: h100}, {name: Chat_1, model: llama, pool: h100}]"
    changes = {"options": "{}", "deployments": two, "workloads__chat__deployment": "chat 1"}
    with pytest.raises(TwinferError, match=r"'chat 1' and 'Chat_1' would both be called 'chat-1'"):
        sim.deploy.files(scenario("chat_capacity.yaml", None, **changes))
