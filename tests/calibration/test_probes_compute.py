"""The parts of a step: what is timed, how much of the model is made for it, and what becomes of the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim import catalog
from sim.catalog import Architecture
from sim.errors import ProfileError

torch = pytest.importorskip("torch")

from calibration.campaign import Campaign  # noqa: E402
from calibration.device import Device, find  # noqa: E402
from calibration.importers.collectives import Collectives, assumed_link  # noqa: E402
from calibration.probes import events, links, room  # noqa: E402
from calibration.probes.assembly import assembled, with_collectives  # noqa: E402
from calibration.probes.busy import Witness, said  # noqa: E402
from calibration.probes.compute import BATCHES, Compute, Found, whole_steps  # noqa: E402
from calibration.probes.decoder import Rank  # noqa: E402
from calibration.probes.design import Survey  # noqa: E402
from calibration.probes.engine import ATTENTION, SEQUENCES, TOKENS, Batch, Engine  # noqa: E402
from calibration.probes.models import Generating, Session  # noqa: E402
from calibration.probes.room import Limits, furnished  # noqa: E402
from calibration.probes.sections import Apart, InPlace  # noqa: E402
from calibration.probes.timing import Patience, WallClock  # noqa: E402

SHAPE = Architecture("toy", layers=6, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=48, vocab=61, max_model_len=64)
MIXTURE = replace(SHAPE, experts=4, experts_per_token=2, moe_ffn=16, dense_layers=2)
LIMITS = Limits(sequences=4, tokens=32, context=64)
QUICK = Patience(least=3, most=3, seconds=1.0)


def device(memory: int = 2**34, free: int | None = None) -> Device:
    """A device of that size; it runs on the CPU."""

    class Sized(Device):
        def free_bytes(self) -> int:
            return memory if free is None else free

    return Sized("cpu", "cpu", "a toy", None, memory)


@pytest.fixture(autouse=True)
def without_autograd() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other take long where others work beside them
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    with Campaign(tmp_path / "p.json", {}) as made:
        yield made


def witness(campaign: Campaign) -> Witness:
    return Witness(campaign, lambda: None, WallClock())


def engine(shape: Architecture = SHAPE, **sizes: int) -> Engine:
    return Engine(shape, 1, "fp32", device(**sizes), LIMITS)


# -- how much is made ---------------------------------------------------------------------------------------------------


def made(shape: Architecture, cache: int, monkeypatch: pytest.MonkeyPatch, **sizes: int) -> room.Room:
    monkeypatch.setattr(room, "cache_bytes", lambda device: cache)
    return furnished(Rank(shape), 4, device(**sizes), LIMITS)


def test_a_model_that_fits_the_processors_cache_is_made_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(SHAPE, 10**9, monkeypatch).dense == SHAPE.layers


def test_enough_layers_are_made_that_their_attention_weights_leave_the_cache_twice_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """32 × (4 + 2 + 2 + 4) heads of 8 in fp32 are 12,288 bytes a layer: two caches of 20,000 bytes hold four."""
    assert made(SHAPE, 20_000, monkeypatch).dense == 4
    assert made(SHAPE, 0, monkeypatch).dense == 1


def test_both_kinds_of_layers_of_a_mixture_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    found = made(MIXTURE, 1, monkeypatch)
    assert (found.dense, found.mixtures) == (1, 1)


def test_with_little_memory_fewer_layers_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the memory is for weights. A layer is 12,288 + 4 × (3 × 32 × 48 + 2 × 32) = 30,976 bytes, embedding, head and norm are
    4 × (2 × 61 + 1) × 32 = 15,744."""
    assert made(SHAPE, 10**9, monkeypatch, free=2 * (15_744 + 2 * 30_976)).dense == 2


def test_too_little_memory_is_said_with_what_is_needed_and_free() -> None:
    with pytest.raises(
        ProfileError, match=r"one layer .* takes 0\.0 GiB on a toy, of which 0\.0 GiB is free"
    ) as caught:
        engine(free=40_000)
    assert "\n" not in str(caught.value)


def test_decodes_beyond_what_a_real_engine_could_hold_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole model is 6 × 30,976 + 15,744 bytes, a token of all layers 6 × 128: 0.9 of 300,000 bytes leave room for 88 tokens."""
    found = made(SHAPE, 1, monkeypatch, memory=300_000, free=2**30)
    assert found.decodes == (0.9 * 300_000 - 6 * 30_976 - 15_744) // (6 * 128)


# -- sections -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SHAPE, MIXTURE], ids=["dense", "mixture"])
@pytest.mark.parametrize("batch", [Batch(8, 0), Batch(8, 16), Batch(0, 0, 3, 20), Batch(8, 16, 3, 20)], ids=str)
def test_sections_are_the_same_in_place_and_apart(shape: Architecture, batch: Batch, campaign: Campaign) -> None:
    whole = engine(shape)
    sections = (*whole.token_sections, *ATTENTION, *SEQUENCES)
    assert set(sections) == set(TOKENS) - ({"experts"} if shape is SHAPE else set()) | {*ATTENTION, *SEQUENCES}
    for stopwatch in (
        InPlace(whole, campaign, witness(campaign), QUICK),
        Apart(whole, WallClock(), campaign, witness(campaign), QUICK),
    ):
        found = stopwatch.measured(batch, sections)
        assert set(found) == set(sections)
        assert all(len(one["us"]) == 3 and one["median"] > 0.0 for one in found.values())


def test_what_is_timed_of_some_layers_counts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "cache_bytes", lambda device: 1)
    whole = engine(MIXTURE)
    assert [len(whole.layers(name)) for name in (None, "feed_forward", "experts")] == [2, 1, 1]
    factors = {name: whole.factor(name) for name in (*TOKENS, *ATTENTION, *SEQUENCES)}
    assert factors == {
        "embedding": 1.0, "projections": 3.0, "feed_forward": 2.0, "experts": 4.0, "attention": 3.0, "lm_head": 1.0,
        "sampler": 1.0,
    }  # fmt: skip


def test_a_whole_step_runs_every_layer_and_brings_a_token_of_each_sequence_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "cache_bytes", lambda device: 1)
    whole = engine(MIXTURE)
    counted = []
    for layer in whole.layers():
        layer.register_forward_pre_hook(lambda *_: None)
        monkeypatch.setattr(
            layer, "feed", lambda x, feed=layer.feed, kind=layer.mixture: counted.append(kind) or feed(x)
        )
    tokens = whole.step(Batch(8, 16, 3, 20), graphs=False)()
    assert len(tokens) == 4
    assert all(0 <= token < MIXTURE.vocab for token in tokens)
    assert counted == [False] * 2 + [True] * 4


def test_whole_steps_are_of_decodes_that_a_real_engine_could_hold() -> None:
    limits = Limits(sequences=256, tokens=8192, context=16384)
    for batches in whole_steps(limits, 400_000).values():
        assert all(batch.decodes * (batch.context + 1) <= 400_000 for batch in batches)
        assert all(batch.chunk == 0 or batch.tokens % 16 == 0 for batch in batches)
    small = [batch for batches in whole_steps(Limits(1, 1, 1), 2).values() for batch in batches]
    assert all(batch.tokens > 0 and batch.context >= 0 for batch in small)


def test_steps_and_their_caches_fit_or_are_left_out() -> None:
    whole = engine()
    assert whole.fits(Batch(decodes=4, context=64))
    assert not whole.fits(Batch(decodes=400, context=64))


# -- everything together ------------------------------------------------------------------------------------------------


def compute(campaign: Campaign, **changes: Any) -> Compute:
    whole = engine()
    settings: dict[str, Any] = {"target": 9.0, "patience": QUICK, "left": lambda: 60.0} | changes
    return Compute(whole, InPlace(whole, campaign, witness(campaign), QUICK), campaign, witness(campaign), **settings)


def test_points_and_whole_steps_that_are_kept_aside_have_no_part_in_the_profile(campaign: Campaign) -> None:
    found = compute(campaign).run()
    step, _ = assembled(found, LIMITS, graphs=False, target=0.5)
    for part, survey in found.surveys.items():
        assert survey.checks, part
        assert not set(survey.points) & set(survey.checks)
        held = getattr(step, part).held_out
        assert held is not None
        assert held.points == len(survey.checks)
    assert not {size for curve in step.tokens.parts.values() for size in curve.at} & {
        p[0] for p in found.surveys["tokens"].checks
    }
    assert not set(found.whole) & set(found.held)
    assert step.held_out is not None
    assert step.held_out.points == len(found.held) == len(set(whole_steps(LIMITS, 4 * 65)["held"]))
    assert step.host.us >= 0.0
    assert step.host.source == "measured"


def test_a_budget_that_is_too_short_says_what_is_kept(campaign: Campaign) -> None:
    left = iter(
        [60.0] * 3
    )  # one look at the start, then one before each point; the reference is measured beside the first
    with pytest.raises(
        ProfileError, match=r"too short: tokens was not measured; 3 measurements are kept in \S+p\.json"
    ):
        compute(campaign, left=lambda: next(left, 0.0)).run()


def test_what_there_was_no_time_for_is_said_and_not_guessed(campaign: Campaign) -> None:
    made = compute(campaign)
    made.left = lambda: 60.0 if len(made.found.surveys) < 4 else 0.0
    found = made.run()
    step, notes = assembled(found, LIMITS, graphs=False, target=0.5)
    assert step.mixed is None
    assert step.host.source == "assumed"
    assert step.held_out is None
    assert any(note.startswith("whole steps: 5 of 5 were not measured") for note in made.notes)
    assert any("what the host adds" in note for note in notes)


# -- from measurements to a step, on numbers that are known --------------------------------------------------------------


def linear(batch: Batch) -> dict[str, float]:
    """Microseconds of a device whose sections are all linear in their work."""
    q, p, n, c = batch.chunk, batch.past, batch.decodes, batch.context
    return {
        "embedding": 1.0,
        "projections": 20.0 + 0.5 * batch.tokens,
        "feed_forward": 30.0 + 1.0 * batch.tokens,
        "attention": (4.0 + 0.01 * q * (2 * p + q) if q else 0.0) + (2.0 + 0.03 * n * c if n else 0.0),
        "lm_head": 10.0 + 0.2 * batch.sequences,
        "sampler": 3.0,
    }


def known(host: float, together: Callable[[Batch], float]) -> Found:
    """What would be found of that device; ``together`` is attention of chunk and decodes in one step, of whole steps too."""
    found = Found()
    points = {
        "tokens": [(1,), (8,), (32,)],
        "sequences": [(1,), (4,)],
        "decode": [(n, c) for n in (1, 4) for c in (4, 16, 64)],
        "prefill": [(q, p) for q in (2, 16, 32) for p in (0, 32, 64)],
    }
    checks = {"tokens": [(20,)], "sequences": [(2,)], "decode": [(2, 40)], "prefill": [(24, 48)]}
    sections = {"tokens": TOKENS, "sequences": SEQUENCES, "decode": ATTENTION, "prefill": ATTENTION}
    for part, names in sections.items():

        def total(point: tuple[int, ...], part: str = part, names: tuple[str, ...] = names) -> float:
            batch = BATCHES[part](point)
            own = {name: us for name, us in linear(batch).items() if name in names}
            found.sections.setdefault(batch, {}).update(own)
            return sum(own.values())

        found.surveys[part] = Survey({p: total(p) for p in points[part]}, {p: total(p) for p in checks[part]})
    for chunk in (4, 28):
        for past in (0, 32):
            for n in (1, 4):
                for context in (4, 32):
                    batch = Batch(chunk, past, n, context)
                    found.mixed[batch] = together(batch)

    def whole(batch: Batch) -> float:
        parts = linear(batch)
        attention = together(batch) if batch.chunk and batch.decodes else parts["attention"]
        return host + sum(parts.values()) - parts["attention"] + attention

    for kind, batches in whole_steps(LIMITS, 4 * 65).items():
        getattr(found, kind).update({batch: whole(batch) for batch in batches})
    return found


def test_a_linear_device_is_predicted_to_the_last_point() -> None:
    step, notes = assembled(known(50.0, lambda batch: linear(batch)["attention"]), LIMITS, graphs=False, target=0.05)
    for part in (step.tokens, step.sequences, step.decode):
        assert part.held_out is not None
        assert part.held_out.p90 < 1e-3
    assert step.prefill.held_out is not None
    assert step.prefill.held_out.p90 < 0.03  # a parabola in pieces, see sim.perf.attention.chunk_grid
    assert step.host.us == pytest.approx(50.0, abs=1.0)
    assert step.held_out is not None
    assert step.held_out.p90 < 0.02
    assert step.mixed is None
    assert any("and is used" in note for note in notes)


def test_chunk_and_decodes_that_are_dearer_together_are_taken_as_measured() -> None:
    step, notes = assembled(
        known(0.0, lambda batch: 2.0 * linear(batch)["attention"]), LIMITS, graphs=False, target=0.05
    )
    assert step.mixed is not None
    assert step.mixed.blocks[0].sequences == (1, 4)
    assert any("what was measured of both together is used" in note for note in notes)
    assert step.held_out is not None
    assert step.held_out.median < 0.1


def test_a_grid_of_both_together_that_was_cut_short_is_not_used() -> None:
    found = known(0.0, lambda batch: 2.0 * linear(batch)["attention"])
    for batch in list(found.mixed)[-3:]:
        del found.mixed[batch]
    step, notes = assembled(found, LIMITS, graphs=False, target=0.05)
    assert step.mixed is None
    assert any("and is used" in note for note in notes)
    assert step.held_out is not None
    assert np.isfinite(step.held_out.p90)


def test_a_host_that_would_be_negative_is_none() -> None:
    found = known(-20.0, lambda batch: linear(batch)["attention"])
    step, _ = assembled(found, LIMITS, graphs=False, target=0.05)
    assert step.host.us == 0.0
    assert step.held_out is not None
    assert step.held_out.bias is not None
    assert step.held_out.bias > 0.02


def test_points_that_came_last_and_are_alone_in_their_row_are_left_out() -> None:
    found = known(0.0, lambda batch: linear(batch)["attention"])
    found.surveys["decode"].points[3, 64] = 9.0
    found.surveys["prefill"].points[20, 32] = 9.0
    step, _ = assembled(found, LIMITS, graphs=False, target=0.05)
    assert step.decode.sequences == (1, 4)
    assert step.prefill.chunks == (2, 16, 32)


def test_collectives_are_added_once_for_each_that_a_step_makes() -> None:
    """Two a layer and one after the embedding; logits are gathered once. 10 µs and 1 ns a byte."""
    step, _ = assembled(known(0.0, lambda batch: linear(batch)["attention"]), LIMITS, graphs=False, target=0.05)
    link = Collectives(lambda size: 1e-5 + 1e-9 * size, lambda size: 2e-5 + 0.0 * size, "assumed", "")
    found = with_collectives(step, link, SHAPE, 2)
    reduce = found.tokens.parts["all_reduce"]
    assert reduce.source == "assumed"
    assert reduce.us[reduce.at.index(8)] == pytest.approx(13 * (10.0 + 8 * 32 * 2 * 1e-3), rel=1e-4)
    assert found.sequences.parts["all_gather"].us == pytest.approx([20.0] * 2)
    assert set(found.tokens.parts) - {"all_reduce"} == set(step.tokens.parts)


# -- a busy machine ------------------------------------------------------------------------------------------------------


def reference(median: float, others: float | None = 0.0, steal: float | None = 0.0) -> dict[str, Any]:
    return {
        "us": [median],
        "median": median,
        "cv": 0.0,
        "outliers": 0,
        "disturbed": 0,
        "others": others,
        "steal": steal,
    }


def test_a_quiet_machine_has_nothing_said_of_it() -> None:
    assert (
        said(
            [reference(100.0), reference(104.0), {"us": [1.0], "median": 1.0, "cv": 0.0, "outliers": 0, "disturbed": 0}]
        )
        == []
    )


def test_a_machine_whose_speed_or_share_changes_is_said_to_be_busy() -> None:
    notes = said(
        [reference(100.0), reference(150.0, others=0.4), reference(101.0, steal=0.1), reference(99.0, None, None)]
    )
    assert any("up to 52% longer" in note for note in notes)
    assert any("other processes took up to 40%" in note for note in notes)
    assert any("the hypervisor took up to 10%" in note for note in notes)


def test_samples_of_sections_that_were_left_out_are_counted_too() -> None:
    one = {"us": [1.0, 1.0, 9.0], "median": 1.0, "cv": 0.0, "outliers": 1, "disturbed": 2}
    assert said([{"a": one, "b": one}]) == [
        "4 of 10 samples had to wait for a processor and were left out",
        "2 of 10 samples were far above their median and were left out",
    ]


def test_the_reference_is_timed_now_and_then_and_its_spread_is_the_noise_of_every_point(tmp_path: Path) -> None:
    now = [0.0]

    def reading() -> float:
        return now[0]

    with Campaign(tmp_path / "p.json", {}) as campaign:
        seconds = iter([1e-3] * 200 + [2e-3] * 200 + [3e-3] * 200)

        def run() -> None:
            now[0] += next(seconds)

        seen = Witness(campaign, run, WallClock(reading), reading)
        for count, at in enumerate((0.0, 1.0, 20.0, 40.0), start=1):
            now[0] = max(at, now[0])
            seen.glance()
            assert len(campaign.records) == min(count, max(1, count - 1))
        assert len(campaign.records) == 3
        assert seen.unsteadiness() >= 0.0


# -- a GPU, as far as a machine without one can pretend ------------------------------------------------------------------


class Event:
    """A CUDA event; recording one takes 2 ms."""

    now = 0.0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.at = 0.0

    def record(self) -> None:
        Event.now += 2e-3
        self.at = Event.now

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        return (end.at - self.at) * 1e3


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Device:
    """A Device that says it is a GPU and runs on the CPU: graphs are their runs, pinned memory is memory."""
    from contextlib import nullcontext

    class Card(Device):
        def free_bytes(self) -> int:
            return 2**30

    monkeypatch.setattr(room, "cache_bytes", lambda device: 2**20)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(events, "captured", lambda run, device: run)
    return Card("cuda", "cpu", "a toy GPU", "h100-sxm", 2**30)


def test_on_a_gpu_sections_are_timed_apart_by_events_and_whole_steps_with_and_without_graphs(
    cuda: Device, campaign: Campaign
) -> None:
    whole = Engine(SHAPE, 1, "fp32", cuda, LIMITS)
    apart = Apart(whole, events.EventClock("cpu"), campaign, witness(campaign), QUICK)
    made = Compute(whole, apart, campaign, witness(campaign), target=9.0, patience=QUICK, left=lambda: 60.0)
    found = made.run()
    step, _ = assembled(found, LIMITS, graphs=made.graphs, target=0.5)
    assert step.host.cuda_graphs
    assert "without CUDA graphs" in step.host.note
    assert {key.partition("/")[0] for key in campaign.records} >= {
        "projections",
        "attention",
        "lm_head",
        "step",
        "eager",
    }
    assert all(size <= 16 or size % 16 == 0 for size in step.tokens.parts["projections"].at)


def session(campaign: Campaign, device: Device) -> Session:
    return Session(campaign, witness(campaign), device, "fp32", LIMITS, QUICK, 9.0)


def test_one_rank_is_measured_and_what_the_gpus_tell_each_other_is_assumed(
    cuda: Device, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    step = Generating(SHAPE, 2).measure(session(campaign, cuda)).step
    assert step is not None
    reduce = step.tokens.parts["all_reduce"]
    assert reduce.source == "assumed"
    link = assumed_link(catalog.gpu("h100-sxm"), 2)
    expected = 13 * float(link.all_reduce(np.asarray([32.0 * 32 * 4]))[0]) * 1e6
    assert reduce.us[reduce.at.index(32)] == pytest.approx(expected, rel=1e-4)


def test_all_reduce_is_measured_where_the_gpus_are_there(
    cuda: Device, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(links, "all_reduce", lambda ranks: {"bytes": [2**10, 2**20], "seconds": [5e-6, 5e-6]})
    measured = Generating(SHAPE, 2).measure(session(campaign, cuda))
    assert measured.step is not None
    reduce = measured.step.tokens.parts["all_reduce"]
    assert reduce.source == "measured"
    assert reduce.us == pytest.approx([13 * 5.0] * len(reduce.us))
    assert any("all-reduce measured between 2 GPUs" in note for note in measured.notes)


@pytest.mark.parametrize(
    ("kind", "gpu", "message"), [("cpu", None, "a CPU has no link"), ("cuda", None, "not in the catalog")]
)
def test_a_group_whose_links_are_not_known_is_refused(
    kind: Any, gpu: str | None, message: str, campaign: Campaign
) -> None:
    with pytest.raises(ProfileError, match=message):
        Generating(SHAPE, 2).measure(session(campaign, Device(kind, "cpu", "a toy", gpu, 2**30)))


def test_an_event_clock_gives_the_mean_of_runs_between_two_events(cuda: Device) -> None:
    clock = events.EventClock("cpu")

    def run() -> None:
        Event.now += 2e-3

    assert clock.sample(run, 5) == pytest.approx((5 * 2e-3 + 2e-3) / 5)


def test_what_cannot_be_captured_is_timed_as_launched_and_said_once(
    cuda: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(run: Callable[[], Any], device: Any) -> Callable[[], Any]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(events, "captured", refuses)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    clock = events.EventClock("cpu")

    def run() -> None:
        pass

    assert clock.prepared(run) is run
    assert clock.prepared(run) is run
    assert len(clock.notes) == 1
    assert clock.notes[0].endswith("operation not permitted when stream is capturing")


def test_this_machines_processor_cache_is_read() -> None:
    assert room.cache_bytes(find("cpu")) >= 0
