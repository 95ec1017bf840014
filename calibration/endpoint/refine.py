"""Fitted step times held against the loads they come from, whole: the ladder simulated, and the profile moved towards what it gave.

A fit of single steps does not see what only whole requests show: which steps wait for which, and what a busy server adds to a
request. So the measured loads are simulated, and factors on the parts of the profile are sought that bring TTFT and TPOT of each
load near to what was measured, as far as the profile's own doubt allows (a maximum a posteriori estimate). The last round of the
loads is kept aside: factors that do not help there are not taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.campaign import Record
from calibration.endpoint.cells import undisturbed
from calibration.endpoint.observe import streams
from calibration.replay import replay
from calibration.runs import RequestLog
from sim.perf.doubt import scaled
from sim.perf.monotone import Array
from sim.profiles.doubt import Doubt
from sim.profiles.schema import Profile

__all__ = ["Ladder", "ladder", "refined"]

_APART: Final = 1.0  # seconds of rest between two loads
_LEAST_DOUBT: Final = 0.05  # of each part: what whole loads show may lie outside of what single steps could tell
_LEAST_SPREAD: Final = 0.02  # of a load's mean from one round to the next
_GAIN: Final = 0.95  # of the error of the round kept aside, which factors must at least bring it down to
_STEP: Final = 0.02  # of the logarithm of a factor, for derivatives: simulated times are not smooth in the small


@dataclass(frozen=True, eq=False)
class Ladder:
    """Loads of a calibration as one run, one after another; ``load[i]`` numbers the load that request i was part of."""

    run: RequestLog
    load: Array

    def distances(self, profile: Profile) -> Array:
        """log(simulated / measured) of mean TTFT of each load, then of mean TPOT where outputs have more than one token."""
        guess = replay(profile, self.run, engine={})
        numbers = np.unique(self.load)
        found = []
        for theirs, ours in ((self.run.ttft, guess.ttft), (self.run.tpot, guess.tpot)):
            known = np.isfinite(theirs) & np.isfinite(ours)
            for number in numbers:
                rows = known & (self.load == number)
                if rows.any():
                    found.append(np.log(ours[rows].mean() / theirs[rows].mean()))
        return np.array(found)


def ladder(records: Sequence[Record]) -> Ladder | None:
    """The usable loads among ``records`` of cells, in their order; None if there are none."""
    sent: list[float] = []
    times: list[Array] = []
    prompt: list[int] = []
    load: list[int] = []
    base = 0.0
    for number, record in enumerate(records):
        if not undisturbed(record):
            continue
        end = base
        for replies in (record["replies"], *record["injected"]):
            for one in streams(replies):
                sent.append(base + one.sent)
                times.append(base + one.times)
                prompt.append(one.prompt)
                load.append(number)
                end = max(end, float(times[-1][-1]))
        base = end + _APART
    if not sent:
        return None
    order = np.argsort(sent, kind="stable")
    began = np.array(sent)[order]
    rows = [times[i] for i in order]
    log = RequestLog(
        sent=began,
        prompt=np.array(prompt, np.int64)[order],
        output=np.array([len(row) for row in rows], np.int64),
        ttft=np.array([row[0] for row in rows]) - began,
        e2e=np.array([row[-1] for row in rows]) - began,
        source="the loads of the calibration",
    )
    return Ladder(log, np.array(load, float)[order])


def refined(made: Profile, rounds: Mapping[int, Sequence[Record]]) -> tuple[Profile, str]:
    """``made`` with its parts scaled so that its simulated loads are nearer to those measured, or as it is; and what was done, in words.

    ``rounds`` are the cells of each repetition of the loads; the last one is only looked at to decide.
    """
    from scipy.optimize import least_squares

    known = {number: found for number, records in sorted(rounds.items()) if (found := ladder(records)) is not None}
    if made.doubt is None or len(known) < 2:
        return made, "whole loads were not simulated: they were measured only once"
    *fitted, last = known.values()
    parts = made.doubt.parts
    prior = np.linalg.inv(np.linalg.cholesky(_prior(made.doubt)))
    before = np.concatenate([one.distances(made) for one in fitted])
    spread = max(float(np.median(np.abs(before - np.median(before)))), _LEAST_SPREAD)

    def misses(logarithms: Array) -> Array:
        moved = scaled(made, dict(zip(parts, np.exp(logarithms).tolist(), strict=True)))
        return np.concatenate([*(one.distances(moved) / spread for one in fitted), prior @ logarithms])

    found = least_squares(misses, np.zeros(len(parts)), diff_step=_STEP, x_scale=0.05, max_nfev=8)
    factors = dict(zip(parts, np.exp(found.x).tolist(), strict=True))
    moved = scaled(made, factors)
    was, now = (_size(last.distances(one)) for one in (made, moved))
    if now > _GAIN * was:
        return (
            made,
            f"whole loads, simulated, are off by {was:.1%} in TTFT and TPOT (root mean square); moving the parts did not help",
        )
    said = ", ".join(f"{name} × {factor:.3f}" for name, factor in factors.items())
    return moved, f"moved towards whole loads ({said}): off by {now:.1%} instead of {was:.1%} on a round kept aside"


def _prior(doubt: Doubt) -> Array:
    covariance = np.asarray(doubt.covariance, float)
    return np.asarray(covariance + np.eye(len(covariance)) * _LEAST_DOUBT**2)


def _size(distances: Array) -> float:
    return float(np.sqrt(np.mean(distances**2)))
