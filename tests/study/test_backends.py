"""loky, Ray and Dask: real ones, started here. The same store, to the byte; a worker that dies ends nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sim
from sim.errors import TwinferError
from sim.experiment.pool import DIED, Pool
from tests.paths import ROOT
from tests.study.small import RATE, REPLICAS, files, write

OVER = {REPLICAS: "1..4", RATE: ["5/s", "10/s", "20/s"]}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store that this process alone writes."""
    folder = tmp_path_factory.mktemp("reference")
    sim.sweep(sim.load(write(folder)), OVER, jobs=1, store=folder / "store")
    return files(folder / "store")


CALL = """\
import sys
import sim
from sim.study.sweep import plan, execute

if __name__ == "__main__":
    scenario, store, backend = sys.argv[1:]
    over = {over!r}
    found = execute(plan(sim.load(scenario), over), 2, backend, store)
    print(len(found.outcomes), sum(outcome.figures is not None for outcome in found.outcomes))
"""


@pytest.mark.parametrize("backend", ["loky", "ray", "dask"])
def test_every_backend_writes_the_same_store(backend: str, tmp_path: Path, reference: dict[str, bytes]) -> None:
    # in a process of its own: a cluster and its threads end with it
    pytest.importorskip({"ray": "ray", "dask": "distributed"}.get(backend, "joblib"))
    script = tmp_path / "call.py"
    script.write_text(CALL.replace("{over!r}", repr(OVER)), encoding="utf-8")
    command = [sys.executable, str(script), str(write(tmp_path)), str(tmp_path / "store"), backend]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_DEDUP_LOGS": "0"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["12", "12"]
    assert files(tmp_path / "store") == reference


def fatal(task: int) -> int:
    if task == 7:
        os._exit(1)
    return task * task


@pytest.fixture
def pool() -> Pool:
    made = Pool(2)
    made.start()
    return made


def test_a_task_that_kills_its_worker_is_told_from_its_neighbours(pool: Pool) -> None:
    found = dict(pool.unordered(fatal, range(30), died=lambda task: -task))
    assert found == {task: -7 if task == 7 else task * task for task in range(30)}


def test_nobody_to_answer_for_it_is_an_error_in_a_line(pool: Pool) -> None:
    with pytest.raises(TwinferError, match=r"^a worker process died twice: out of memory, or killed$"):
        list(pool.run(fatal, range(30)))


def test_a_pool_is_as_good_after_a_death_as_before(pool: Pool) -> None:
    for _ in range(2):
        assert sum(done for _, done in pool.unordered(fatal, range(10), died=lambda _: 0)) == sum(
            task * task for task in range(10) if task != 7
        )


def test_a_fault_in_the_tasks_themselves_is_raised(pool: Pool) -> None:
    def tasks() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(pool.run(fatal, tasks()))


def test_results_come_in_the_order_of_tasks(pool: Pool) -> None:
    assert list(pool.run(fatal, iter([5, 3, 4]))) == [25, 9, 16]


def test_a_pool_left_early_can_be_used_again(pool: Pool) -> None:
    first = pool.run(fatal, range(8, 1_000))
    assert next(first) == 64
    first.close()  # type: ignore[attr-defined]
    assert list(pool.run(fatal, range(3))) == [0, 1, 4]


def test_a_point_that_kills_its_worker_is_recorded_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim.study import study

    monkeypatch.setattr(study, "perform", perform_or_die)
    scenario, over = sim.load(write(tmp_path)), {REPLICAS: [1, 2, 3, 8], RATE: ["5/s", "6/s", "7/s", "8/s"]}
    found = sim.sweep(scenario, over, jobs=2, store=tmp_path / "store")
    died = {outcome.error for outcome in found.outcomes if outcome.point[REPLICAS] == 3}
    assert died == {DIED}
    assert [outcome.point[REPLICAS] for outcome in found.failed] == [3, 3, 3, 3]
    monkeypatch.undo()
    again = sim.sweep(scenario, over, jobs=1, store=tmp_path / "store")
    assert not again.failed
    assert again.found == 12


def perform_or_die(job):  # type: ignore[no-untyped-def]
    from sim.study.task import perform

    if job.scenario.deployments[0].replicas == 3:
        os._exit(137)
    return perform(job)


def test_an_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(
        TwinferError, match=r"^backend: 'dusk' is not one of loky, ray, dask \(did you mean 'dask'\?\)$"
    ):
        Pool(2, "dusk")


def test_a_backend_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TwinferError, match=r"^backend ray needs ray: pip install 'twinfer\[ray\]'"):
        list(Pool(2, "ray").run(fatal, [1]))


def _whose(_: int) -> int:
    return os.getpid()


def test_many_small_calls_are_worth_workers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.experiment.pool._WORTH_S", 0.0)
    monkeypatch.setattr(Pool, "_worth", lambda *_: False)  # of no call by itself
    pool = Pool(2)
    assert list(pool.run(_whose, [1], 1)) == [os.getpid()]
    assert os.getpid() not in pool.run(_whose, [1, 2], 2)
    assert list(Pool(1).run(_whose, [1], 1)) == [os.getpid()]
