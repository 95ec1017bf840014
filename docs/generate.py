"""Writes the pages under docs/reference from the code: the commands from the application, the scenario from its schema, the
profiles from their files, the table of them in docs/validation.md; and twinfer.schema.json, which the shipped scenarios name for editors.

python docs/generate.py            write them
python docs/generate.py --check    exit 1 if those on disk are not what would be written
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sim.catalog import DTYPE_BYTES
from sim.config import units
from sim.control import registry

REFERENCE = Path(__file__).resolve().parent / "reference"


def pages() -> dict[str, str]:
    """File name to content."""
    return {
        "cli.md": commands_page(),
        "policies.md": policies_page(),
        "profiles.md": profiles_page(),
        "roofline.md": roofline_page(),
        "scenario.md": scenario_page(),
        "../validation.md": validation_page(),
        "../../twinfer.schema.json": schema(),
    }


def schema() -> str:
    """What ``twinfer schema`` prints."""
    from sim.config import json_schema

    return json.dumps(json_schema(), indent=2) + "\n"


# the commands


def commands_page() -> str:
    """Every command with its arguments and options."""
    from typer.main import get_command

    from sim.cli.app import app

    lines = ["# Commands", "", "Written by docs/generate.py from the application; do not edit.", ""]
    lines += _command(get_command(app), ["twinfer"], None)
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Any, path: list[str], parent: Any) -> Iterator[str]:
    context = command.make_context(path[-1], [], parent=parent, resilient_parsing=True)
    parameters = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    options = [parameter for parameter in parameters if parameter.param_type_name == "option"]
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    usage = [*path, *map(_operand, arguments)]
    yield f"{'#' * min(len(path) + 1, 4)} `{' '.join([*usage, *(['COMMAND'] if names else [])])}`"
    yield ""
    if command.help:
        yield command.help.strip().replace("\n    ", "\n")
        yield ""
    if arguments or options:
        yield "| | | default |"
        yield "|---|---|---|"
        for parameter in (*arguments, *options):
            yield f"| {_spelled(parameter)} | {_cell(parameter.help or '')} | {_default(parameter)} |"
        yield ""
    for name in names:
        _, below, _ = command.resolve_command(context, [name])
        yield from _command(below, [*path, name], context)


def _operand(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    return f"[{name}]" if parameter.param_type_name == "argument" and not parameter.required else name


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_operand(parameter)}`"
    spelled = ", ".join(f"`{flag}`" for flag in sorted((*parameter.opts, *parameter.secondary_opts), key=len))
    return spelled if parameter.is_flag else f"{spelled} `{_operand(parameter)}`"


def _default(parameter: Any) -> str:
    shown = getattr(parameter, "show_default", None)
    if isinstance(shown, str):
        return shown
    if parameter.required or parameter.default is None or isinstance(parameter.default, bool):
        return "required" if parameter.required else ""
    return f"`{parameter.default}`" if shown is not False and parameter.default != "" else ""


# the policies

_FAMILIES = {
    "router": ("Routers", "`deployments.NAME.router`: which replica gets a request"),
    "autoscaler": ("Autoscalers", "`deployments.NAME.autoscaler`: how many replicas there are"),
    "admission": ("Admission", "`deployments.NAME.admission`, a list: who is let in"),
    "pools": ("Choice among deployments", "`workloads.NAME.choice`: which of several deployments gets a request"),
    "client": ("Clients", "`workloads.NAME.client`: what clients do when an answer is late or an error"),
    "outlier": ("Outlier detection", "`deployments.NAME.outlier`: which replicas are avoided"),
}


def policies_page() -> str:
    """Every policy that a scenario can name, with its parameters, from the classes."""
    import inspect
    from importlib import import_module

    lines = [
        "# Policies",
        "",
        "Written by docs/generate.py from the classes; do not edit. A scenario names a policy by `kind` and gives its parameters",
        "beside it: `autoscaler: {kind: hpa, target: 8, max: 12}`. Seconds may be written as durations (`30s`), per second as rates",
        "(`10/s`).",
        "How each of them can be called without a simulation is in [controllers](../controllers.md).",
        "",
    ]
    for family, (title, where) in _FAMILIES.items():
        lines += [f"## {title}", "", f"{where}.", ""]
        for kind, home in registry.FAMILIES[family].items():
            module, _, name = home.partition(":")
            about = inspect.getdoc(getattr(import_module(module), name)) or ""
            lines += [f"### `{kind}`", "", _prose(about), ""]
            parameters = registry.parameters(family, kind)
            if parameters:
                lines += ["| parameter | type | default |", "|---|---|---|"]
                lines += [_parameter(parameter) for parameter in parameters.values()]
                lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def _prose(docstring: str) -> str:
    """A docstring as Markdown: double back-quotes and roles become single ones."""
    return re.sub(r":\w+:`[~!]?([^`]*)`", r"`\1`", docstring).replace("``", "`")


def _parameter(parameter: Any) -> str:
    kind = str(parameter.annotation)
    kind = (
        kind.replace("PerSecond", "per second").replace("Seconds", "seconds").replace("|", "or").replace(" or None", "")
    )
    needed = parameter.default is parameter.empty
    default = "needed" if needed else "" if parameter.default is None else f"`{parameter.default!r}`"
    return f"| `{parameter.name}` | {kind} | {default} |"


# the scenario

_UNITS = {units.DURATION: "duration", units.RATE: "rate", units.SIZE: "size", units.FRACTION: "fraction"}
_NAMED = {
    "models": "name (`twinfer catalog models`) or path",
    "gpus": "name (`twinfer catalog gpus`)",
    "instances": "name (`twinfer catalog instances`)",
    "profiles": "name (`twinfer catalog profiles`) or path",
    "traces": "name (`twinfer catalog traces`) or path",
    "presets": "name (`twinfer catalog presets`) or path",
    "carbon": "name (`twinfer catalog carbon`)",
    "failures": "name (`twinfer catalog failures`)",
    "coldstarts": "name (`twinfer catalog coldstarts`) or path",
    **dict.fromkeys(registry.FAMILIES, "name (`twinfer catalog policies`)"),
    "dtypes": ", ".join(f"`{name}`" for name in DTYPE_BYTES),
    "kv_dtypes": ", ".join(f"`{name}`" for name in ("auto", *DTYPE_BYTES)),
}


def scenario_page() -> str:
    """Every part of a scenario with its fields."""
    from pydantic.json_schema import models_json_schema

    from sim.config import Scenario

    _, schema = models_json_schema([(Scenario, "validation")])
    parts: dict[str, Any] = schema["$defs"]
    lines = [
        "# Scenario",
        "",
        "Written by docs/generate.py from the schema; do not edit. `twinfer schema` prints it for editors, `twinfer init`",
        "writes a scenario to begin with.",
        "",
        "A *duration* is a number of seconds or has units: `250ms`, `90s`, `1h30m`, `2h`. A *rate* is a number a second or has a",
        "period: `12/s`, `300/min`, `1000/h`. A *fraction* is `0.05` or `5%`. Paths of files are relative to the scenario's file.",
        "A file with `extends: OTHER.yaml` only gives what differs from that one: mappings are merged by key, lists by `name`.",
        "",
    ]
    for name in _by_first_use({"$ref": "#/$defs/Scenario"}, parts):
        lines += _part(name, parts[name])
    return "\n".join(lines).rstrip() + "\n"


def _by_first_use(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> list[str]:
    """The names of the parts, in the order a reader going down from the top meets them."""
    order: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, Mapping):
            name = str(node.get("$ref", "")).rpartition("/")[2]
            if name in parts and name not in order:
                order.append(name)
            for key, value in node.items():
                if key != "$defs":
                    visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(schema)
    for name in order:  # grows while it is read: breadth first
        visit(parts[name])
    return order


def _part(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    if part.get("description"):
        yield str(part["description"]).strip().replace("``", "`")
        yield ""
    fields = part.get("properties", {})
    if not fields:
        yield _type(part)
        yield ""
        return
    yield "| field | type | default | |"
    yield "|---|---|---|---|"
    for field, about in fields.items():
        default = "required" if field in part.get("required", []) else _value(about.get("default"))
        yield f"| `{field}` | {_cell(_type(about))} | {_cell(default)} | {_cell(about.get('description', ''))} |"
    yield ""


def _value(value: Any) -> str:
    if value is None or value in ({}, [], ""):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def _type(about: Mapping[str, Any]) -> str:
    """The type of a field in words; references are links to their part."""
    if "$ref" in about:
        name = str(about["$ref"]).rpartition("/")[2]
        return "duration" if name == "Seconds" else f"[{name}](#{name.lower()})"
    if "x-names" in about:
        return _NAMED[about["x-names"]]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in about:
            united = [_UNITS[kind["pattern"]] for kind in about[key] if kind.get("pattern") in _UNITS]
            kinds = united or [_type(kind) for kind in about[key] if kind.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "const" in about:
        return _value(about["const"])
    if "enum" in about:
        return ", ".join(_value(value) for value in about["enum"])
    kind = about.get("type")
    if kind == "array":
        if "prefixItems" in about:
            return f"[{', '.join(_type(item) for item in about['prefixItems'])}]"
        return f"list of {_type(about['items'])}" if about.get("items") else "list"
    if kind == "object" and isinstance(about.get("additionalProperties"), Mapping):
        return f"mapping of name to {_type(about['additionalProperties'])}"
    if kind == "object":
        return "mapping"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {_plain(about[key])}" for key, sign in bounds.items() if key in about]
    names = kind if isinstance(kind, list) else [kind] if kind else []
    said = {"integer": "integer", "number": "number", "string": "text", "boolean": "true, false", "object": "mapping"}
    words = " or ".join(said.get(name, name) for name in names if name != "null") or "anything"
    return f"{words} {', '.join(limits)}".strip()


def _plain(number: float) -> str:
    return f"{number:,.15g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# the profiles


def profiles_page() -> str:
    """The shipped profiles: where each comes from, and how well points left out of it are predicted by the rest."""
    shipped = _shipped()
    methods: dict[str, list[str]] = {}
    for profile in shipped:
        for part, held in _held_out(profile).items():
            if held["method"] not in methods.setdefault(part, []):
                methods[part].append(held["method"])
    lines = [
        "# Shipped profiles",
        "",
        "Written by docs/generate.py from the profiles; do not edit. `twinfer calibrate show NAME` shows one whole, `-o FILE.png`",
        "draws it.",
        "",
        "How far measured points are off when they are left out and predicted from the rest: median / p90 of the relative",
        "error. It is the error of reading between measured points, not that of a whole step or a serving run: see",
        "[validation](../validation.md). *Not measured*: [what stands in for it](../engine.md#its-time).",
        "",
        *_held_out_table(shipped),
        "",
        "What was left out:",
        "",
        *(f"- {_parts()[part]}: {'; or '.join(said)}." for part, said in methods.items()),
        "",
        "Where they come from:",
        "",
        *dict.fromkeys(_origin(profile) for profile in shipped),
    ]
    return "\n".join(lines).rstrip() + "\n"


def validation_page() -> str:
    """docs/validation.md as it is, with the table of the shipped profiles between its markers written anew."""
    text = (REFERENCE.parent / "validation.md").read_text(encoding="utf-8")
    begin, end = "<!-- profiles -->", "<!-- /profiles -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"docs/validation.md: {begin} and {end} must stand around the table of profiles")
    return "\n".join([head + begin, "", *_held_out_table(_shipped()), "", end + tail])


def _shipped() -> list[Any]:
    from sim import profiles

    return [profiles.load(name) for name in profiles.names()]


def _parts() -> dict[str, str]:
    from calibration.digest import PARTS

    return PARTS


def _held_out(profile: Any) -> dict[str, Any]:
    """Part to held-out error, of those parts that have one."""
    from calibration.digest import digest

    return {part["part"]: part["held_out"] for part in digest(profile)["parts"] if part["held_out"]}


def _held_out_table(shipped: list[Any]) -> list[str]:
    """A row a profile; a column a part that any of them has an error of."""
    found = {profile.name: _held_out(profile) for profile in shipped}
    parts = [part for part in _parts() if any(part in held for held in found.values())]
    lines = [
        f"| profile | points | {' | '.join(_parts()[part] for part in parts)} |",
        f"|---|---|{'---|' * len(parts)}",
    ]
    for profile in shipped:
        cells = []
        for part in parts:
            other = part == "batch" if profile.step is not None else part != "batch"
            held = found[profile.name].get(part)
            cells.append(_errors(held) if held else "" if other else "not measured")
        lines.append(f"| `{profile.name}` | {profile.provenance.points:,} | {' | '.join(cells)} |")
    return lines


def _errors(held: Mapping[str, Any]) -> str:
    """Median and p90, and the rest where the profile has it."""
    more = "" if held["p95"] is None else f", p95 {held['p95']:.1%}"
    if held["bias"] is not None:
        more += f", bias {held['bias']:+.1%}".replace("-", "−")
    return f"{held['median']:.1%} / {held['p90']:.1%}{more}"


def _origin(profile: Any) -> str:
    about = profile.provenance
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    return f"- `{profile.gpu}`: {about.source} ({about.licence}), {versions or 'version not said'}."


# the roofline


def roofline_page() -> str:
    """What predicted profiles are off by where they can be checked, and the numbers they follow from."""
    from sim.perf.roofline import fitted

    fit = fitted()
    lines = [
        "# Predicted profiles",
        "",
        "Written by docs/generate.py from sim/profiles/roofline.json; do not edit. `python -m calibration.roofline DATA` fits it anew,",
        "`python -m benchmarks.roofline` has the same errors by profile. [What they mean](../validation.md#predicted-profiles).",
        "",
        "Every row is of a fit that has not seen what stands at its left: median / p90 of the relative error; its mean, predicted",
        "less measured. Steps and parts are held against the shipped profiles, kernels against the tables these are composed of.",
        "",
    ]
    groups: dict[str, list[Any]] = {"steps": [], "parts of a step": [], "kernels": []}
    for error in fit.errors:
        kind = {"step": "steps", "kernels": "kernels"}.get(error.part.rpartition(" ")[2], "parts of a step")
        groups[kind].append(error)
    for title, errors in groups.items():
        columns = list(dict.fromkeys(error.part for error in errors))
        heads = (column.removesuffix(" kernels") for column in columns)
        lines += [f"| {title} | {' | '.join(heads)} |", f"|---|{'---|' * len(columns)}"]
        for what in dict.fromkeys(error.what for error in errors):
            found = {error.part: error for error in errors if error.what == what}
            cells = [_left_out(found[column]) if column in found else "" for column in columns]
            lines.append(f"| {what} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["| fitted to all of them | |", "|---|---|"]
    lines += [f"| `{name}` | {value:g} |" for name, value in fit.efficiency.items()]
    return "\n".join(lines) + "\n"


def _left_out(error: Any) -> str:
    return f"{error.median:.1%} / {error.p90:.1%}; {error.bias:+.1%}".replace("-", "−")


def main() -> int:
    """Write the pages, or with ``--check`` compare them."""
    stale = []
    for name, content in pages().items():
        path = REFERENCE / name
        if path.is_file() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(name)
        if "--check" not in sys.argv[1:]:
            REFERENCE.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    if stale:
        sys.stdout.write(f"docs/reference: {', '.join(stale)}\n")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
