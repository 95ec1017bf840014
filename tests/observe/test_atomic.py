"""A file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.atomic import replacing


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    place.write_text("old")
    with replacing(place) as scratch:
        scratch.write_text("new")
        assert place.read_text() == "old"
        assert scratch.parent == tmp_path
        assert scratch.name.startswith(".a.txt.")
        assert scratch.name.endswith(".tmp")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert place.read_text() == "new"


def test_what_was_there_stays_if_it_is_not(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    place.write_text("old")

    def interrupted() -> None:
        with replacing(place, "me") as scratch:
            scratch.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert place.read_text() == "old"


def test_a_place_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"), replacing(tmp_path / "folder") as scratch:
        scratch.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
