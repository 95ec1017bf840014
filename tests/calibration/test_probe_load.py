"""Loading and starting, phase by phase, on a real disk; what was written for it is gone afterwards."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from calibration.campaign import Campaign
from calibration.device import Device, find
from calibration.probes import load, starting, storage, weights
from calibration.probes.child import fresh
from calibration.probes.load import measure_load
from sim.errors import ProfileError
from sim.profiles.startup import Load
from tests.calibration import subjects

MIB = 2**20
MATRICES = {"a": (1024, 512), "b": (300, 512), "c": (7,)}


def droppable(folder: Path) -> bool:
    """Whether this filesystem's pages can be dropped, and the kernel tells: not so in memory, or for others' files."""
    path = folder / "page"
    path.write_bytes(os.urandom(MIB))
    weights.evict(path)
    return weights.resident(path) == 0.0


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    if not droppable(folder):
        pytest.skip(f"what memory holds of files in {folder} cannot be dropped, or the kernel does not tell")
    return folder


def measured(folder: Path, **changes: Any) -> tuple[Load, Campaign]:
    settings: dict[str, Any] = {
        "device": find("cpu"),
        "build": subjects.linears,
        "make": subjects.plain,
        "itemsize": 2,
        "folder": folder,
        "repeats": 2,
        "tokens": 8,
    }
    with Campaign(folder / "profile.json", {"model": "linears"}) as campaign:
        return measure_load(campaign, **settings | changes), campaign


@pytest.fixture(scope="module")
def loaded(disk: Path) -> tuple[Load, Campaign]:
    """64 MiB, everything measured for real."""
    return measured(disk)


# -- what is measured ---------------------------------------------------------------------------------------------


def test_every_phase_of_a_start_on_a_cpu_is_there(loaded: tuple[Load, Campaign]) -> None:
    found, _ = loaded
    assert (found.bytes, found.files) == (64 * MIB, 1)
    assert set(found.phases) >= {"process", "build", "weights", "deserialise", "warm_up"}
    assert "context" not in found.phases
    assert "graph_capture" not in found.phases
    assert all(len(found.phases[phase].values) == 2 for phase in ("process", "build", "weights", "deserialise"))
    assert found.phases["process"].values[0] > 0.0


def test_layers_are_compiled_or_it_is_said_why_not(loaded: tuple[Load, Campaign]) -> None:
    found, _ = loaded
    said = any(note.startswith("torch.compile was not measured: ") for note in found.notes)
    assert ("compile" in found.phases) != said


def test_rates_are_the_bytes_over_the_seconds_that_were_recorded(loaded: tuple[Load, Campaign]) -> None:
    found, campaign = loaded
    cold = [record for key, record in campaign.records.items() if key.startswith("load/read/cold/1/")]
    assert all(record["bytes"] == 64 * MIB for record in cold)
    rates = sorted(64 * MIB / record["seconds"] for record in cold)
    assert found.read["local_disk"].bytes_per_second.values == pytest.approx(rates)
    assert rates[0] > 0.0


def test_cold_reads_were_cold_and_warm_ones_warm(loaded: tuple[Load, Campaign]) -> None:
    _, campaign = loaded
    reads = {key: record["resident"] for key, record in campaign.records.items() if key.startswith("load/read/")}
    assert all(share == 0.0 for key, share in reads.items() if "/cold/" in key)
    assert all(share == 1.0 for key, share in reads.items() if "/warm/" in key)
    assert len(reads) == 8


def test_loads_at_once_are_measured_on_the_disk_and_on_the_way_to_the_device(loaded: tuple[Load, Campaign]) -> None:
    found, _ = loaded
    assert set(found.read["local_disk"].together) == {"1", "2", "4"}
    assert set(found.read["host_memory"].together) == {"1", "2"}
    assert found.read["page_cache"].together == {}
    assert found.to_device == {}
    assert found.device_to_device == {}


def test_nothing_is_left_of_the_files(loaded: tuple[Load, Campaign]) -> None:
    _, campaign = loaded
    assert {path.name for path in campaign.path.parent.iterdir()} == {"page", campaign.path.name}


def test_what_is_in_the_journal_is_not_measured_again(
    loaded: tuple[Load, Campaign], disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "written", lambda *_: pytest.fail("files were written"))
    monkeypatch.setattr(starting, "fresh", lambda *_: pytest.fail("a process was started"))
    home = disk / ".profile.json.points.jsonl.weights"
    home.mkdir()  # left by a process that was killed
    again, _ = measured(disk)
    assert again == loaded[0]
    assert not home.exists()


# -- what is said where something cannot be measured ----------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the processes of a start, which have their own tests."""
    record = {"seconds": 1.0, "process": 1.0, "context": None, "build": 1.0, "warm_up": 1.0}
    record |= {"graph_capture": None, "compile": None, "why": None}
    for name in ("process", "started", "compiled"):
        monkeypatch.setattr(starting, name, lambda *_: record)


@pytest.mark.usefixtures("quick")
def test_files_that_stay_in_memory_are_not_called_cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "evict", lambda path: None)
    found, _ = measured(tmp_path)
    assert "local_disk" not in found.read
    assert any("kept 100% of the files in memory" in note and "no cold read" in note for note in found.notes)


@pytest.mark.usefixtures("quick")
def test_a_folder_in_memory_has_no_cold_reads() -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or weights.tier(shared) is not None:
        pytest.skip("there is no filesystem in memory at /dev/shm")
    folder = shared / f"twinfer-test-{os.getpid()}"
    folder.mkdir()
    try:
        found, _ = measured(folder)
    finally:
        shutil.rmtree(folder)
    assert set(found.read) == {"page_cache", "host_memory"}
    assert "the files lie in memory: there is no medium to read them from" in found.notes


@pytest.mark.usefixtures("quick")
def test_of_a_model_above_the_limit_a_part_is_loaded_and_that_is_said(tmp_path: Path) -> None:
    found, _ = measured(tmp_path, limit=10 * MIB + 5000)
    # Whole rows of 4,096 values of two bytes: 8,192 bytes a row.
    assert found.bytes == 10 * MIB // 8192 * 8192
    assert any("of 0.1 GB of weights 0.0 GB were loaded" in note for note in found.notes)


@pytest.mark.usefixtures("quick")
def test_given_weights_are_read_and_left_where_they_are(tmp_path: Path) -> None:
    files = [tmp_path / "model-00001.safetensors", tmp_path / "model-00002.safetensors"]
    for path in files:
        weights._write(path, MATRICES, 2)
    before = [path.read_bytes() for path in files]
    found, _ = measured(tmp_path, given=tmp_path)
    assert (found.bytes, found.files) == (sum(map(len, before)), 2)
    assert [path.read_bytes() for path in files] == before


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(ProfileError) as caught:
        measured(folder, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    assert "is neither a safetensors file nor a folder with any" in refusal(tmp_path, given=tmp_path / "none")


def test_a_disk_with_too_little_room_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, used=10**9, free=10**6))
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}: weights of 0.1 GB do not fit on this disk, which has 0.0 GB free")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_too_little_memory_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "free_bytes", lambda self: 50_000_000)
    assert "loading 0.1 GB of weights needs more than the 0.1 GB of memory that are free" in refusal(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="nowhere: is not a folder to write weights in"):
        load._Files(SimpleNamespace(path=tmp_path / "x"), subjects.linears, 2, tmp_path / "nowhere", None, MIB)  # type: ignore[arg-type]


# -- files ----------------------------------------------------------------------------------------------------------


def test_written_files_are_what_safetensors_reads(tmp_path: Path) -> None:
    with weights.written([MATRICES], 2, tmp_path / "w") as (path,), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    assert {name: tuple(value.shape) for name, value in tensors.items()} == MATRICES
    assert {value.dtype for value in tensors.values()} == {torch.bfloat16}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_files_are_gone_after_an_exception(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), weights.written([MATRICES], 2, tmp_path / "w"):  # noqa: PT012 - the body must raise
        assert len(list((tmp_path / "w").iterdir())) == 1
        raise error
    assert list(tmp_path.iterdir()) == []


def test_files_are_gone_when_writing_them_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = weights._write
    calls: Iterator[Any] = iter([whole])

    def once(*arguments: Any) -> Path:
        try:
            return next(calls)(*arguments)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(weights, "_write", once)
    with pytest.raises(KeyboardInterrupt), weights.written([MATRICES, MATRICES], 2, tmp_path / "w"):
        pytest.fail("the second file was not written")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / "w"
    stale.mkdir()
    (stale / "model-00009.safetensors").write_bytes(b"half")
    with weights.written([MATRICES], 2, stale) as paths:
        assert list(stale.iterdir()) == paths


def test_residency_is_the_share_of_pages_that_were_touched(disk: Path) -> None:
    path = disk / "half"
    path.write_bytes(os.urandom(8 * MIB))
    weights.evict(path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
        os.pread(descriptor, 4 * MIB, 0)
    finally:
        os.close(descriptor)
    share = weights.resident(path)
    path.unlink()
    assert share == pytest.approx(0.5, abs=0.01)


tables = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple),
    min_size=1,
    max_size=8,
)


@given(tables, st.integers(1, 4), st.integers(100, 4000))
def test_files_hold_all_tensors_and_none_is_too_large(
    tensors: dict[str, tuple[int, ...]], itemsize: int, shard: int
) -> None:
    files = weights.plan(tensors, itemsize, shard=shard)
    assert {name: shape for file in files for name, shape in file.items()} == tensors
    assert all(weights.total(file, itemsize) <= shard or len(file) == 1 for file in files)


@given(tables, st.integers(1, 4), st.data())
def test_a_limit_is_filled_to_the_last_row_that_fits(
    tensors: dict[str, tuple[int, ...]], itemsize: int, data: st.DataObject
) -> None:
    rows = {name: weights.total({name: shape}, itemsize) // shape[0] for name, shape in tensors.items()}
    first = next(iter(tensors))
    limit = data.draw(st.integers(rows[first], weights.total(tensors, itemsize)))
    taken = {name: shape for file in weights.plan(tensors, itemsize, limit) for name, shape in file.items()}
    size = weights.total(taken, itemsize)
    following = next((name for name in tensors if taken.get(name) != tensors[name]), None)
    assert size <= limit
    assert following is None or size + rows[following] > limit


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=5), st.integers(1, 5), st.integers(1, 12_000))
def test_readers_share_the_bytes_between_them(lengths: list[int], readers: int, size: int) -> None:
    paths = [SimpleNamespace(name=i, stat=lambda n=n: SimpleNamespace(st_size=n)) for i, n in enumerate(lengths)]
    parts = storage.shares(paths, size, readers)  # type: ignore[arg-type]
    wanted = min(size, sum(lengths))
    whole = [(i, byte) for i, n in enumerate(lengths) for byte in range(n)][:wanted]
    read = [
        (span.path.name, byte)
        for spans in parts
        for span in spans
        for byte in range(span.start, span.start + span.length)
    ]
    assert read == whole
    shares = [sum(span.length for span in spans) for spans in parts]
    assert max(shares) - min(shares) <= 1


def test_jobs_at_once_do_run_at_once() -> None:
    meeting = threading.Barrier(3)
    assert storage.at_once([lambda: meeting.wait(10.0)] * 3) >= 0.0  # would be broken by any that came alone


def test_the_error_of_a_job_is_raised() -> None:
    def fail() -> None:
        raise OSError("no such disk")

    with pytest.raises(OSError, match="no such disk"):
        storage.at_once([fail, lambda: None])


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    with pytest.raises(OSError, match="became shorter"):
        storage._read([storage.Span(path, 0, 200)])


# -- processes of their own -----------------------------------------------------------------------------------------


def test_without_a_compiler_there_is_a_reason_and_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    record = starting.compiled(subjects.plain, 8)
    assert record["compile"] is None
    assert "compiler" in record["why"]


def test_a_process_of_its_own_has_the_environment_it_is_given() -> None:
    assert fresh(subjects.environment, "TWINFER_TEST", environment={"TWINFER_TEST": "yes"}) == "yes"
    assert os.environ.get("TWINFER_TEST") is None


def test_an_error_in_a_process_of_its_own_is_raised_here() -> None:
    with pytest.raises(RuntimeError, match="ValueError in a process of its own: no such weights"):
        fresh(subjects.fails)


def test_a_process_that_is_killed_is_one_line_with_its_last_words() -> None:
    with pytest.raises(ProfileError, match=r"^a process that measured ended by signal SIGKILL, .*: last words$"):
        fresh(subjects.dies)
