"""The profile of an engine whose steps are known, calibrated in simulated time; and moving a wrong one towards whole loads."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.campaign import Campaign, Record
from calibration.endpoint.client import Client
from calibration.endpoint.observations import Observations
from calibration.endpoint.profile import About, profile
from calibration.endpoint.refine import ladder, refined
from calibration.endpoint.run import Wanted, calibrate
from calibration.validate import validate
from sim import catalog
from sim.perf.compile import step_table
from sim.perf.doubt import scaled
from sim.profiles.schema import Hardware, Profile
from tests.calibration.endpoint.engine import App, Engine, Memory, VirtualLoop, seconds

Calibrated = tuple[Observations, dict[str, Record], Profile]
DELAY, HOST = 3e-3, 1e-3


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    app = App(Engine(budget=512, host=HOST), delay=DELAY)
    with (
        Client("http://fake/v1", transport=Memory(app), loop_factory=VirtualLoop) as client,
        Campaign(tmp_path_factory.mktemp("known") / "o", {"endpoint": "fake"}) as campaign,
    ):
        seen = calibrate(client, campaign, Wanted(budget=200.0, concurrency=12, token_budget=512, max_num_seqs=16))
        about = About(catalog.model("llama-40m"), "cpu", "test", hardware=Hardware(title="fake", memory_bytes=2**34))
        return seen, dict(campaign.records), profile(seen, about, campaign.records)


def test_the_step_table_of_the_profile_is_the_engine(known: Calibrated) -> None:
    made = known[2]
    table = step_table(made, 16, 512)
    for n, context in ((1, 100), (4, 300), (8, 1000), (12, 500)):
        exact = seconds([], [context] * n) + HOST
        assert table.decode_step(n, n * context, 0) == pytest.approx(exact, rel=0.03)
    for q, n, context in ((64, 4, 100), (256, 12, 200), (500, 1, 50)):
        exact = seconds([(q, 0)], [context] * n) + HOST
        assert table.mixed_step(q, q * q, n, n * context, 0, n + 1) == pytest.approx(exact, rel=0.05)
    assert made.steps.host.request_us == pytest.approx(1e6 * (DELAY - HOST), abs=1500)


def test_the_load_that_the_fit_has_not_seen_is_predicted_and_that_is_said(known: Calibrated) -> None:
    seen, _, made = known
    assert seen.mix is not None
    errors = validate(made, [seen.mix], engine={}).whole.errors
    assert all(abs(errors[metric]["mean"].value) < 0.05 for metric in ("tpot", "e2e"))
    assert abs(errors["ttft"]["mean"].value) < 0.10
    assert any("that the fit has not seen is predicted with mean TTFT" in note for note in made.provenance.notes)


def test_the_settings_of_the_server_are_in_the_profile(known: Calibrated) -> None:
    served = known[2].served
    assert served is not None
    assert (served.max_num_seqs, served.max_num_batched_tokens, served.async_scheduling) == (16, 512, False)


def rounds(records: dict[str, Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for key, record in records.items():
        if key.startswith("cell/"):
            found.setdefault(int(key.split("/")[1]), []).append(record)
    return found


def test_a_profile_that_is_off_is_moved_to_where_whole_loads_are(known: Calibrated) -> None:
    _, records, made = known
    last = ladder(rounds(records)[max(rounds(records))])
    assert last is not None
    wrong = scaled(made, {"tokens": 1.3, "prefill": 0.8, "decode": 1.2})
    better, said = refined(wrong, rounds(records))
    was, now = (float(np.sqrt(np.mean(last.distances(one) ** 2))) for one in (wrong, better))
    assert was > 0.1
    assert now < was / 2
    assert said.startswith("moved towards whole loads")


def test_a_profile_is_moved_only_where_a_round_kept_aside_gains_by_it(known: Calibrated) -> None:
    _, records, made = known
    last = ladder(rounds(records)[max(rounds(records))])
    assert last is not None
    kept, _ = refined(made, rounds(records))
    assert np.mean(last.distances(kept) ** 2) <= np.mean(last.distances(made) ** 2)


def test_loads_measured_only_once_are_not_enough_to_move_a_profile(known: Calibrated) -> None:
    _, records, made = known
    only = {0: rounds(records)[0]}
    assert refined(made, only) == (made, "whole loads were not simulated: they were measured only once")
