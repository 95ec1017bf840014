"""Copies between host and device, and what devices tell each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed

from calibration.campaign import Campaign
from calibration.device import find
from calibration.probes.links import all_reduce, copied, measure_links


def test_a_cpu_has_no_links(tmp_path: Path) -> None:
    with Campaign(tmp_path / "profile.json", {}) as campaign:
        assert measure_links(campaign, find("cpu")) == {}
    assert campaign.records == {}


@pytest.mark.parametrize("together", [1, 2])
def test_copies_count_all_their_bytes(together: int) -> None:
    record = copied(find("cpu"), 2**20, "pageable", together)
    assert record["bytes"] == together * 2**20
    assert record["seconds"] > 0.0


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch is built without gloo")
def test_an_all_reduce_takes_a_process_a_rank_and_is_as_slow_as_the_slowest() -> None:
    record = all_reduce(2, "gloo", (2**13, 2**16))
    assert record["bytes"] == [2**13, 2**16]
    assert all(seconds > 0.0 for seconds in record["seconds"])
