"""Are these manifests? Core kinds by the schemas of kubernetes-validate, custom resources by those in tests/data/k8s, pods inside of them
by the schema of pods; and what no schema says: names, labels, annotations, quantities, selectors, bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from kubernetes_validate import utils

import sim
from sim.config import Scenario
from tests.paths import DATA, SCENARIOS

VERSION = "1.34"
CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"): "keda-scaledobject.json",
    ("serving.kserve.io/v1beta1", "InferenceService"): "kserve-inferenceservice.json",
    ("serving.knative.dev/v1", "Service"): "knative-service.json",
    ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"): "leaderworkerset.json",
}
# apimachinery/pkg/util/validation: IsDNS1035Label, IsQualifiedName, IsValidLabelValue; pkg/api/resource: Quantity
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
KEY = re.compile(r"(?:[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL = re.compile(r"(?:[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")


utils.schema_contents = cache(utils.schema_contents)  # 10 MB of JSON, which it would read for every document


class InvalidError(Exception):
    """What is wrong with it."""


def documents(text: str) -> list[dict[str, Any]]:
    """The documents of a file."""
    return [
        found
        for found in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if found is not None
    ]


def scenario(name: str, option: str | None = None, **changes: Any) -> Scenario:
    """A shipped scenario with an option and changes by path."""
    if name == "azure_replay.yaml":  # its trace has to be fetched
        changes = {"workloads__chat__arrivals": "{preset: azure-2023-conv}", "run__duration": "1m"} | changes
    found = sim.load(SCENARIOS / name, {key.replace("__", "."): value for key, value in changes.items()})
    return found if option is None else found.with_option(option)


def by_kind(texts: dict[str, str], kind: str) -> list[dict[str, Any]]:
    """The documents of a kind."""
    return [
        one
        for name, text in texts.items()
        if name.endswith(".yaml")
        for one in documents(text)
        if one.get("kind") == kind
    ]


def validate(document: dict[str, Any]) -> None:
    """InvalidError, if the API server would not take it."""
    _validate(json.dumps(document))


@cache  # scenarios have many documents in common
def _validate(text: str) -> None:
    document = json.loads(text)
    known = CUSTOM.get((document["apiVersion"], document["kind"]))
    try:
        if known is None:
            kubernetes_validate.validate(document, VERSION, strict=True)
        else:
            schema = _schema(known)
            jsonschema.validate(document["spec"], schema["spec"])
            if set(document) - {"apiVersion", "kind", "metadata", "spec"}:
                raise InvalidError(f"unknown fields: {sorted(document)}")
            for template in _templates(document, schema):
                kubernetes_validate.validate(_as_deployment(template), VERSION, strict=True)
    except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as fault:
        raise InvalidError(f"{document['kind']} {document['metadata'].get('name')}: {fault.message}") from fault
    _metadata(document["metadata"])
    for path, value in _walk(document):
        if path[-1:] == ("labels",) or path[-1:] == ("matchLabels",):
            _labels(value)
        if path[-1:] == ("annotations",):
            _annotations(value)
        if path[-2:] in (("resources", "requests"), ("resources", "limits")) or path[-1:] == ("target",):
            _quantities(value)
    _sense(document)


@cache
def _schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "k8s" / name).read_text(encoding="utf-8"))
    return found


def _templates(document: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    spec = document["spec"]
    if document["kind"] == "LeaderWorkerSet":
        group = spec["leaderWorkerTemplate"]
        yield from (group[name] for name in ("leaderTemplate", "workerTemplate") if name in group)
    if document["kind"] == "InferenceService":
        predictor = spec["predictor"]
        pod = {name: value for name, value in predictor.items() if name not in schema["not_of_a_pod"]}
        yield {
            "metadata": {name: predictor[name] for name in ("labels", "annotations") if name in predictor},
            "spec": pod,
        }


def _as_deployment(template: dict[str, Any]) -> dict[str, Any]:
    spec = {"selector": {"matchLabels": {}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "pod"}, "spec": spec}


def _walk(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, (*path, key))
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, path)


def _metadata(metadata: dict[str, Any]) -> None:
    if not NAME.fullmatch(metadata.get("name", "")):
        raise InvalidError(f"name {metadata.get('name')!r}")
    _labels(metadata.get("labels", {}))
    _annotations(metadata.get("annotations", {}))


def _labels(labels: dict[str, Any]) -> None:
    for key, value in labels.items():
        if not KEY.fullmatch(key) or not isinstance(value, str) or not LABEL.fullmatch(value):
            raise InvalidError(f"label {key}: {value!r}")


def _annotations(annotations: dict[str, Any]) -> None:
    for key, value in annotations.items():
        if not KEY.fullmatch(key) or not isinstance(value, str):
            raise InvalidError(f"annotation {key}: {value!r}")


def _quantities(found: dict[str, Any]) -> None:
    for key, value in found.items():
        if key not in ("type", "averageUtilization") and not QUANTITY.fullmatch(str(value)):
            raise InvalidError(f"quantity {key}: {value!r}")


def _sense(document: dict[str, Any]) -> None:
    """pkg/apis/*/validation: what the schema cannot say."""
    spec, kind = document["spec"], document["kind"]
    if kind == "Deployment":
        chosen, own = spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]
        if not chosen.items() <= own.items():
            raise InvalidError(f"selector {chosen} does not match the pods {own}")
    if kind == "HorizontalPodAutoscaler" and not 0 <= spec["minReplicas"] <= spec["maxReplicas"]:
        raise InvalidError(f"minReplicas {spec['minReplicas']}, maxReplicas {spec['maxReplicas']}")
    if kind == "ScaledObject" and not 0 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]:
        raise InvalidError(f"minReplicaCount {spec['minReplicaCount']}, maxReplicaCount {spec['maxReplicaCount']}")
    for path, container in _walk(document):
        if path[-1:] == ("containers",) and isinstance(container, dict):
            resources = container["resources"]
            if resources["requests"] != resources["limits"]:  # extended resources cannot be overcommitted
                raise InvalidError(
                    f"GPUs asked for, {resources['requests']}, are not those allowed, {resources['limits']}"
                )
            mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
            if mounted - {
                one["name"] for place, one in _walk(document) if place[-1:] == ("volumes",) and isinstance(one, dict)
            }:
                raise InvalidError(f"mounts {mounted} without a volume")
