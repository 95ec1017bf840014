"""What a served request takes beyond the iterations it was in: the way there and back, and what lies between iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from calibration.importers.reconstruction import Reconstruction
from calibration.runs import RequestLog
from sim.errors import ProfileError

__all__ = ["Between", "Outside", "outside"]

Floats = npt.NDArray[np.float64]
LEAST_GAPS: Final = 4  # of which a request tells the mean: what is not theirs is divided among them


@dataclass(frozen=True)
class Between:
    """Seconds that no iteration accounts for: ``step`` after each, ``sequence`` more for each request in it, ``request`` once a
    request, None where that is not known."""

    step: float
    sequence: float
    request: float | None


@dataclass(frozen=True, eq=False)
class Outside:
    """Observations in seconds, one a request or an iteration; either may be empty.

    ``request_seconds``: TTFT as the client saw it, less the one iteration that made the token, of requests that found the engine idle.
    ``gap_seconds``: from the end of one iteration to the beginning of the next, with requests left to serve; ``gap_requests`` were in
    the iteration before it (a mean, where one observation is of several gaps).
    """

    request_seconds: Floats
    gap_seconds: Floats
    gap_requests: Floats

    @property
    def request(self) -> float:
        """The median of ``request_seconds``, NaN without any."""
        return float(np.median(self.request_seconds)) if len(self.request_seconds) else float("nan")

    @property
    def gap(self) -> float:
        """The median of ``gap_seconds``, NaN without any."""
        return float(np.median(self.gap_seconds)) if len(self.gap_seconds) else float("nan")

    def between(self) -> Between:
        """The gap as a line over the number of requests, by least absolute deviations with neither part negative: gaps have outliers.

        :raises ProfileError: no gap was seen.
        """
        from scipy.optimize import least_squares

        if not len(self.gap_seconds):
            raise ProfileError("no gap between iterations was seen: what lies outside of iterations is not known")
        rows = np.stack([np.ones_like(self.gap_requests), self.gap_requests], axis=1)
        far = max(self.gap, 1e-6)
        found = least_squares(
            lambda line: (rows @ line - self.gap_seconds) / (0.1 * far),
            x0=[far, 0.0],
            bounds=([0.0, 0.0], [np.inf, np.inf]),
            x_scale=[far, 0.1 * far],
            loss="soft_l1",
        )
        step, sequence = (float(value) for value in found.x)
        # nobody waits for the gap after the iteration that made the last token
        known = len(self.request_seconds) > 0
        return Between(step, sequence, max(self.request - step - sequence, 0.0) if known else None)


def outside(found: Reconstruction, run: RequestLog) -> Outside:
    """What ``run`` and the log of its iterations say of the time outside of them.

    Gaps are told by when lines were logged, where the log has times finer than a second; single ones carry the logger's own delay,
    their median does not. Else by the requests: from first to last token a client waits for iterations and what lies between.
    """
    log = found.log
    finished = np.where(run.ok, run.sent + run.e2e, np.inf)
    before = np.concatenate([[-np.inf], np.maximum.accumulate(finished)[:-1]])
    alone = np.flatnonzero((found.done >= 0) & (run.sent > before))
    request_seconds = []
    for i in alone:
        at = found.done[i]
        sample = found.samples[at]
        if sample is not None and sample.sequences == 1 and sample.prefill_tokens == run.prompt[i]:
            request_seconds.append(float(run.ttft[i] - log.seconds[at]))
    gaps = requests = np.empty(0)
    if log.fine and len(log) > 1 and np.isfinite(log.at).all():
        gaps = (np.diff(log.at) - log.seconds[1:])[found.busy[:-1]]
        requests = (log.prompts + log.decodes)[:-1][found.busy[:-1]].astype(float)
    else:
        gaps, requests = _of_requests(found, run)
    return Outside(np.array(request_seconds), gaps, requests)


def _of_requests(found: Reconstruction, run: RequestLog) -> tuple[Floats, Floats]:
    """The mean gap that each request of several tokens saw, and how many were in the iterations before them."""
    log = found.log
    elapsed = np.concatenate([[0.0], np.cumsum(log.seconds)])
    together = np.concatenate([[0], np.cumsum(log.prompts + log.decodes)])
    many = np.flatnonzero((found.done >= 0) & (found.last >= found.done + LEAST_GAPS))
    first, last = found.done[many], found.last[many]
    gaps = (run.e2e - run.ttft)[many] - (elapsed[last + 1] - elapsed[first + 1])
    return gaps / (last - first), (together[last] - together[first]) / (last - first)
