"""The scenario object: frozen, picklable, a digest of what decides; the shipped scenarios, starters and JSON Schema."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sim import config
from sim.errors import ConfigError
from tests.paths import ROOT, SCENARIOS

NAMES = (
    "autoscaler_shootout",
    "azure_replay",
    "batch_vs_realtime",
    "black_friday",
    "chat_capacity",
    "rate_limits",
    "retry_storm",
    "router_choice",
    "scale_to_zero",
    "spot_savings",
    "zone_loss",
)


@pytest.fixture
def fetched(trace_cache: Path) -> None:
    trace_cache.mkdir(parents=True)
    rows = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
    (trace_cache / "azure-2023-conv.csv").write_text(rows, encoding="utf-8")


def test_a_scenario_is_frozen(base: str) -> None:
    scenario = config.load_text(base)
    with pytest.raises(ValidationError, match="frozen"):
        scenario.run.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        scenario.question = "x"


def test_a_pickled_scenario_is_the_same_options_included(base: str) -> None:
    scenario = config.load_text(base, {"run.seed": 4})
    copy = pickle.loads(pickle.dumps(scenario))
    assert copy == scenario
    assert copy.digest() == scenario.digest()
    assert copy.path == scenario.path
    assert copy.with_option("more") == scenario.with_option("more")


def test_the_digest_is_of_what_decides_the_outcome(base: str) -> None:
    digest = config.load_text(base).digest()
    assert len(digest) == 64
    assert config.load_text(base.replace("Does it hold?", "Else?"), file="other/name.yaml").digest() == digest
    assert config.load_text(base.replace("10m", "600").replace("2/s", "120/min")).digest() == digest
    assert config.load_text(base).with_option("same").digest() == digest
    assert config.load_text(base).with_option("more").digest() != digest
    assert config.load_text(base, {"run.seed": 1}).digest() != digest
    assert config.load_text(base, {"deployments.second.engine.kv_blocks": 99}).digest() != digest


@pytest.mark.parametrize("part", ["arrivals", "lengths"])
def test_the_digest_follows_the_content_of_files_not_their_place(base: str, tmp_path: Path, part: str) -> None:
    header = "arrival_s,prompt_tokens,output_tokens\n"
    digests = []
    for folder, row in (("a", "0,1,1\n"), ("b", "0,1,1\n"), ("c", "0,1,2\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_text(header + row, encoding="utf-8")
        path = str(tmp_path / folder / "t.csv")
        digests.append(config.load_text(base, {f"workloads.chat.{part}.trace": path}).digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_scenario_made_in_python_has_options_too() -> None:
    scenario = config.Scenario.model_validate(
        {
            "run": {"duration": "1m"},
            "models": {"m": {"architecture": "llama-3.1-8b"}},
            "cluster": {"pools": [{"name": "p", "instance": "aws/p5.48xlarge"}]},
            "workloads": [{"name": "w", "model": "m", "arrivals": {"rate": 1}, "lengths": {"prompt": 10, "output": 5}}],
            "deployments": [{"name": "d", "model": "m", "pool": "p"}],
            "options": {"two": {"deployments.d.replicas": 2}},
        }
    )
    assert scenario.with_option("two").deployments[0].replicas == 2
    assert scenario.path is None


def test_a_pool_knows_its_machines(base: str) -> None:
    scenario = config.load_text(base)
    h100, own = scenario.cluster.pools
    assert (h100.machine().gpu, h100.machine().gpus, h100.gpus) == ("h100-sxm", 8, 8)
    assert (own.machine(), own.gpus) == (config.Machine("h100-sxm", 2, 5.5), 6)
    assert config.load_text(base, {"cluster.pools.h100.price": 20}).cluster.pools[0].machine().usd_per_hour == 20.0


def test_a_routers_other_keys_are_its_parameters() -> None:
    assert config.Router.model_validate({"kind": "random"}).parameters == {}
    with pytest.raises(ValidationError, match="'tries' is not a parameter"):
        config.Router.model_validate({"kind": "power-of-two", "tries": 3})


@pytest.mark.usefixtures("fetched")
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_loads_with_every_option_and_fits_a_page(name: str) -> None:
    path = SCENARIOS / f"{name}.yaml"
    scenario = config.load(path)
    assert scenario.question
    assert scenario.question.endswith("?")
    assert len(scenario.option_names()) >= 4
    digests = {scenario.with_option(option).digest() for option in scenario.option_names()}
    assert len(digests) == len(scenario.option_names())
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 84
    assert max(map(len, lines)) <= 120
    assert all(line.startswith(("#", "question:")) for line in lines[:7] if line and not line.startswith(("run", " ")))


def test_all_shipped_scenarios_are_tested() -> None:
    assert tuple(sorted(path.stem for path in SCENARIOS.glob("*.yaml"))) == NAMES


def test_an_unfetched_trace_is_refused_with_the_command_that_fetches_it() -> None:
    with pytest.raises(ConfigError, match="twinfer traces fetch azure-2023-conv"):
        config.load(SCENARIOS / "azure_replay.yaml")


@pytest.mark.usefixtures("fetched")
@pytest.mark.parametrize("kind", config.KINDS)
def test_a_starter_scenario_is_valid_as_it_stands(kind: str) -> None:
    scenario = config.load_text(config.template(kind))
    assert scenario.option_names()
    assert config.template(kind).count("#") > 3


def test_there_is_a_default_starter_and_no_other_than_listed() -> None:
    assert config.template() == config.template(config.KINDS[0])
    with pytest.raises(ConfigError, match=r"'chta' is not a kind of starter scenario \(did you mean 'chat'\?\)"):
        config.template("chta")


def refs(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*(refs(item) for item in value.values()))
    return set().union(*(refs(item) for item in value)) if isinstance(value, list) else set()


def test_the_json_schema_offers_names_units_and_descriptions() -> None:
    schema = config.json_schema()
    json.dumps(schema)
    definitions = schema["$defs"]
    assert refs(schema) <= {f"#/$defs/{name}" for name in definitions}
    assert "x-names" not in json.dumps(schema)
    assert "aws/p5.48xlarge" in definitions["Pool"]["properties"]["instance"]["anyOf"][0]["anyOf"][0]["enum"]
    assert "llama-3.1-8b" in definitions["Model"]["properties"]["architecture"]["anyOf"][0]["enum"]
    assert "least-outstanding" in definitions["Router"]["properties"]["kind"]["anyOf"][0]["enum"]
    assert "1h30m" in json.dumps(definitions["Run"]["properties"]["duration"])
    assert "extends" in schema["properties"]
    for name, definition in definitions.items():
        for field, about in definition.get("properties", {}).items():
            assert about.get("description"), (name, field)


@pytest.mark.parametrize("name", NAMES)
def test_the_json_schema_accepts_the_shipped_scenarios(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    content = yaml.safe_load((SCENARIOS / f"{name}.yaml").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(config.json_schema()).validate(content)


def test_loading_pulls_in_no_tables() -> None:
    code = (
        "import sys\nfrom sim import config\nassert 'pydantic' not in sys.modules\nconfig.load('scenarios/chat_capacity.yaml')\n"
        "print([m for m in ('pandas', 'scipy', 'pyarrow', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
