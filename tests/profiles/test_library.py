"""Reading profiles: by name, by path, and what is said of those that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim import profiles
from sim.errors import ProfileError
from tests.profiles.shapes import profile

NAME = "h100-sxm/llama-3.1-8b/tp1"


def test_a_saved_profile_reads_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    profiles.save(profile(), path)
    assert profiles.load(path) == profile()
    assert [file.name for file in tmp_path.iterdir()] == ["p.json"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        ProfileError, match=r"'h100-sxm/llama-3.1-8b/tp2' .* \(did you mean 'h100-sxm/llama-3.1-8b/tp1'\?\)"
    ):
        profiles.load("h100-sxm/llama-3.1-8b/tp2")


def test_a_missing_file_is_said_to_be_missing() -> None:
    with pytest.raises(ProfileError, match=r"^nowhere/p\.json: no such profile file$"):
        profiles.load("nowhere/p.json")


def test_find_knows_what_is_shipped() -> None:
    assert profiles.find("llama-3.1-8b", "h100-sxm", 1) == NAME
    assert profiles.find("llama-3.1-8b", "h100-sxm", 1, "fp8") is None
    assert profiles.find("llama-3.1-8b", "h100-sxm", 3) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a profile: not a JSON text: line 1"),
        ("[1, 2]", "is not a profile: a JSON list instead of an object"),
        ("{}", "is not a profile: it has no version"),
        ('{"version": 2}', "version: 2, this twinfer reads 1"),
        ('{"version": 1}', "name: Field required"),
    ],
)
def test_a_malformed_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(ProfileError) as error:
        profiles.load(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("step", "tokens", "parts", "gemm", "us", 0), -1.0, "step.tokens.parts.gemm.us.0: Input should be greater"),
        (("step", "tokens", "parts", "gemm", "at", 1), 1, "at must rise strictly"),
        (("step", "decode", "us"), [[1.0, 2.0]], "us must be 6 rows of 5"),
        (("tensor_parallel",), 0, "tensor_parallel: Input should be greater"),
        (("memory", "surprise"), 1, "memory.surprise: Extra inputs"),
        (("dtype",), None, "dtype: Input should be a valid string"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, where: tuple[object, ...], value: object, message: str) -> None:
    data = profile().dump()
    spot = data
    for key in where[:-1]:
        spot = spot[key]
    spot[where[-1]] = value
    path = tmp_path / "p.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ProfileError) as error:
        profiles.load(path)
    assert message in str(error.value)


@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_raise_nothing_but_profile_errors(tmp_path: Path, data: st.DataObject) -> None:
    text = profiles.dumps(profile())
    start = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 40))
    path = tmp_path / f"{start}-{length}.json"
    path.write_text(text[:start] + data.draw(st.text('0123456789-.,:{}[]"ae', max_size=6)) + text[start + length :])
    try:
        profiles.load(path)
        said = "read"
    except ProfileError as error:
        said = str(error)
    assert said
    assert "\n" not in said
