"""What one replica can serve: a mean-value analysis of continuous batching with chunked prefill, over the measured step times.

**The model.** One replica in steady state; requests come as a Poisson stream of rate λ with P prompt and O output tokens on average.
A step gives every decoding request one token, so a request decodes for O - 1 steps and, by Little's law counted in steps, with *a*
arrivals in a mean step there are ``n = a (O - 1)`` decodes. The rest follows from *a*:

* A request sees ``1 + n`` decodes, itself and the mean number of others (arrival theorem of the M/G/∞ queue, which continuous batching
  is while there are seats), with a mean context of ``P + O (1 + c²) / 2``: a step taken at random finds long requests more
  often (c²: squared coefficient of variation).
* Prompts that arrive during a step are prefilled together in a later one. A decode step d is followed by a mixed one with probability
  ``1 - exp(-λ d)``, a mixed step m with ``1 - exp(-λ m)``: their share f is that of a two-state Markov chain. A mixed step holds a
  compound Poisson number of tokens, given that it is not 0; the step table is averaged over it, as it is not linear. Where that
  is more than the token budget leaves, chunks fill it. A prompt's attention work Σ q (2 p + q) is P², however it is chunked.
* ``T = (1 - f) d + f m`` is the mean step, and the mean TPOT; the rate is ``a / T``.
* TTFT is the rest of the step in progress (renewal theory, E[T²] / 2T), one more step where steps are formed one ahead, the step of its
  own prompt and of those that arrived beside it (a step found by an arrival is longer than most: E[T²] / T), and the wait for token
  budget that earlier prompts took: batches of tokens at a server of S tokens a step, mean backlog ``a E[P²] / 2 (S - a P)``
  (Kingman). Steps are taken as gamma distributed where a third moment is needed, the wait as exponential.
* Variances: of a request's mean step, that of a step over O - 1 of them (over their harmonic mean, as outputs vary), times
  ``(1 + r) / (1 - r)`` since a long step collects more prompts for the next (r: seconds of prefill a second); and that of the batch,
  Poisson widened by ``1 / (1 - n T'/T)`` since a larger batch is slower (linear noise about processor sharing). Their standard
  deviations add, as the same arrivals cause both. Quantiles are those of a lognormal of that mean and variance.

**Sources.** Little's law, PASTA, Kingman's bound (1962), renewal theory; insensitivity of processor sharing (Cohen 1979). The iteration
as the unit of time is that of Orca (OSDI 2022) and Sarathi-Serve (OSDI 2024). **Assumptions**: Poisson arrivals, no prefix cache; what
would have to wait for seats or be preempted is outside (three standard deviations of the batch must fit); replicas share the load
evenly and gain nothing by pooling. How far off it is: tests/control/scaling/test_capacity.py, docs/controllers/predictive.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, expm1, floor, inf, log1p, sqrt
from statistics import NormalDist
from typing import Final

from sim.control.scaling.limits import Limit
from sim.perf.steptable import StepTable
from sim.serving.settings import EngineSettings

__all__ = ["Capacity", "Model", "Operating", "Traffic", "capacity", "operating"]

_DEVIATIONS: Final = 3.0  # of the batch, that seats and blocks must hold
_HALVINGS: Final = 25
_ROUNDS: Final = 3  # of the share of mixed steps and their length
_QUANTILES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the prompts in a mixed step


@dataclass(frozen=True, slots=True)
class Traffic:
    """Mean ``prompt`` and ``output`` tokens of a request (at least 1 each) and the squared coefficients of variation of both."""

    prompt: float
    output: float
    prompt_scv: float = 0.0
    output_scv: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("prompt", 1.0), ("output", 1.0), ("prompt_scv", 0.0), ("output_scv", 0.0)):
            if not least <= getattr(self, name) < inf:
                raise ValueError(f"traffic: {name} is {getattr(self, name):g}; it must be a number from {least:g}")

    @property
    def context(self) -> float:
        """Mean tokens in the KV cache of a decoding request."""
        return self.prompt + self.output * (1.0 + self.output_scv) / 2.0

    @property
    def context_variance(self) -> float:
        """Variance of that: of the prompts, and of a uniform place in the output."""
        return self.prompt**2 * self.prompt_scv + (self.output * (1.0 + self.output_scv)) ** 2 / 12.0


@dataclass(frozen=True, slots=True)
class Operating:
    """One replica at a steady load; times are seconds.

    ``rate`` requests a second; ``batch`` decoding requests (mean), ``batch_variance``; ``decode`` and ``mixed`` a step of each kind,
    ``share`` of the steps that are mixed, ``step`` their mean, ``step_variance``; ``token`` seconds that a token of prompt adds to a
    step, ``slope`` those that a decode adds; ``wait`` for token budget (mean), of which a step has ``budget``; ``formed``: the step
    formed ahead, which an arrival has missed. ``bound_by``: what does not hold the load (max_num_seqs, kv_blocks,
    max_num_batched_tokens), "" where all do.
    """

    traffic: Traffic
    rate: float
    batch: float
    batch_variance: float
    decode: float
    mixed: float
    share: float
    step: float
    step_variance: float
    token: float
    slope: float
    wait: float
    budget: float
    formed: float
    bound_by: str

    @property
    def concurrency(self) -> float:
        """Mean requests in the replica: Little's law over mean end-to-end time."""
        return self.rate * self.latency("e2e", None)

    def latency(self, metric: str, quantile: float | None) -> float:
        """Seconds of ``metric`` (ttft, tpot, itl, e2e, queue) in its ``quantile``, or its mean. inf where the load does not fit."""
        if self.bound_by:
            return inf
        if metric == "itl":
            if quantile is None:
                return self.step
            return self.mixed if self.share > 1.0 - quantile else self.decode
        mean, variance = self._moments(metric)
        return mean if quantile is None else _lognormal(mean, variance / mean**2, quantile)

    def _moments(self, metric: str) -> tuple[float, float]:
        """Mean and variance of a latency."""
        traffic = self.traffic
        if metric == "tpot":
            follow = min(self.rate * traffic.prompt * self.token, 0.95)
            steps = max(traffic.output - 1.0, 1.0) / (1.0 + traffic.output_scv)
            mixed = sqrt(self.step_variance / steps * (1.0 + follow) / (1.0 - follow))
            return self.step, (mixed + self.slope / (1.0 - follow) * sqrt(self.batch_variance)) ** 2
        found = self.step + self.step_variance / self.step  # the step that an arrival finds in progress
        found_variance = self.step_variance * found / self.step
        busy = 1.0 - exp(-self.batch - self.rate * self.mixed)  # nobody decodes, no prompt under way: none to wait for
        mean = busy * (found / 2.0 + self.formed) + self.wait
        second = busy * (found_variance + found**2) / 3.0
        variance = second - (busy * found / 2.0) ** 2 + self.wait**2
        if metric == "queue":
            return mean, variance
        beside = busy * self.rate * found
        chunks = max(1.0, traffic.prompt / self.budget)
        mean += self.decode * chunks + self.token * traffic.prompt * (1.0 + beside)
        tokens = traffic.prompt**2 * (traffic.prompt_scv + beside * (1.0 + traffic.prompt_scv))
        variance += self.token**2 * (tokens + (self.rate * traffic.prompt) ** 2 * found_variance)
        if metric == "ttft":
            return mean, variance
        steps = traffic.output - 1.0
        return mean + steps * self.step, variance + (traffic.output * self.step) ** 2 * traffic.output_scv


class Model:
    """The mean-value analysis of one replica under ``traffic``: :meth:`at` any load, up to ``most`` arrivals a step."""

    def __init__(self, step: StepTable, settings: EngineSettings, traffic: Traffic) -> None:
        self.step = step
        self.settings = settings
        self.traffic = traffic
        block = settings.block_size
        usable = (settings.kv_blocks - 1) * (1.0 - settings.watermark)
        blocks = (traffic.context + (block - 1) / 2.0) / block
        self._limits = {"max_num_seqs": float(settings.max_num_seqs), "kv_blocks": usable / blocks}
        self.most = self._most()

    def _most(self) -> float:
        """Arrivals a step beyond which seats, blocks or budget do not hold the load."""
        low, high = 0.0, float(self.settings.max_num_batched_tokens)
        for _ in range(2 * _HALVINGS):
            middle = (low + high) / 2.0
            if self._bound(middle):
                high = middle
            else:
                low = middle
        return low

    def _bound(self, arrivals: float) -> str:
        """What does not hold ``arrivals`` a step: the batch and the prompts beside it, or their tokens."""
        held = arrivals * (self.traffic.output - 1.0)
        for name, limit in self._limits.items():
            # a lone request always has a place
            if held > 0.0 and held + _DEVIATIONS * sqrt(held) + arrivals > max(limit, 1.0):
                return name
        if self.settings.max_num_batched_tokens - 1.0 - held <= arrivals * self.traffic.prompt:
            return "max_num_batched_tokens"
        return ""

    def at(self, arrivals: float) -> Operating:
        """The load at which ``arrivals`` requests (a number above 0) come in a mean step."""
        traffic = self.traffic
        batch = arrivals * (traffic.output - 1.0)
        budget = max(self.settings.max_num_batched_tokens - 1.0 - batch, 1.0)
        decode = self._decode(1.0 + batch)
        squared = traffic.prompt**2 * (1.0 + traffic.prompt_scv)
        share = -expm1(-arrivals)
        step = mixed = mixed_second = tokens = decode
        for _ in range(_ROUNDS):
            share = max(share, min(arrivals * traffic.prompt / budget, 1.0))
            tokens = arrivals * traffic.prompt / share  # of a mixed step
            scatter = (arrivals * squared + (arrivals * traffic.prompt) ** 2) / share / tokens**2 - 1.0
            mixed, mixed_second = self._mixed(tokens, max(scatter, 0.0), 1.0 + batch)
            mixed = max(mixed, decode)
            step = (1.0 - share) * decode + share * mixed
            rate = arrivals / step
            again = -expm1(-rate * decode)
            share = again / (again + exp(-rate * mixed))
        share = max(share, min(arrivals * traffic.prompt / budget, 1.0))
        step = (1.0 - share) * decode + share * mixed
        slope = self._decode(2.0 + batch) - decode
        pull = min(batch * slope / decode, 0.9)
        left = budget - arrivals * traffic.prompt
        return Operating(
            traffic=traffic,
            rate=arrivals / step,
            batch=batch,
            batch_variance=batch / (1.0 - pull),
            decode=decode,
            mixed=mixed,
            share=share,
            step=step,
            step_variance=max((1.0 - share) * decode**2 + share * max(mixed_second, mixed**2) - step**2, 0.0),
            token=(mixed - decode) / tokens,
            slope=slope,
            wait=arrivals * squared / (2.0 * left) / budget * mixed if left > 0.0 else inf,
            budget=budget,
            formed=step if self.settings.async_scheduling else 0.0,
            bound_by=self._bound(arrivals),
        )

    def _decode(self, batch: float) -> float:
        """Seconds of a decode step of ``batch`` requests, between whole ones in proportion."""
        most = len(self.step.lines) - 1
        batch = min(max(batch, 1.0), float(most))
        low = floor(batch)
        at_low = self._decode_whole(low)
        return at_low if low == most else at_low + (batch - low) * (self._decode_whole(low + 1) - at_low)

    def _decode_whole(self, n: int) -> float:
        variance = self.traffic.context_variance
        return self.step.decode_step(n, round(n * self.traffic.context), round(n * n * variance) if n > 1 else 0)

    def _mixed(self, tokens: float, scatter: float, batch: float) -> tuple[float, float]:
        """Mean seconds, and mean squared, of a step with lognormally many ``tokens`` of prompts (``scatter``: their squared
        coefficient of variation) beside ``batch`` decodes."""
        traffic, step = self.traffic, self.step
        n = min(ceil(batch), len(step.lines) - 1, self.settings.max_num_batched_tokens - 1)
        spread = round(n * n * traffic.context_variance) if n > 1 else 0
        outside = step.outside  # counts the simulation's steps, of which these are none
        points = [_lognormal(1.0, scatter, quantile) for quantile in _QUANTILES] if scatter > 0.0 else [1.0]
        scale = tokens * len(points) / sum(points)
        mean = second = 0.0
        for point in points:
            there = scale * point
            prefill = max(1, min(round(there), self.settings.max_num_batched_tokens - n))
            work = max(1, round(prefill * traffic.prompt * (1.0 + traffic.prompt_scv)))
            sequences = min(n + ceil(there / traffic.prompt), len(step.sample) - 1)
            seconds = step.mixed_step(prefill, work, n, round(n * traffic.context), spread, sequences)
            mean += seconds
            second += seconds * seconds
        step.outside = outside
        return mean / len(points), second / len(points)


def operating(step: StepTable, settings: EngineSettings, traffic: Traffic, rate: float) -> Operating:
    """One replica at ``rate`` requests a second. Above what it can serve: at its most, with ``bound_by`` saying what is full."""
    model = Model(step, settings, traffic)
    low, high = 0.0, model.most
    if model.at(high).rate <= rate:
        return model.at(high * (1.0 + 1e-6) + 1e-9)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if model.at(middle).rate > rate:
            high = middle
        else:
            low = middle
    return model.at(high)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most one replica can serve within limits: ``rate`` requests a second, ``concurrency`` in the replica meanwhile.

    ``bound_by`` is what forbids more: a limit's name (``tpot_p99``), or max_num_seqs, kv_blocks, max_num_batched_tokens. ``at`` is
    the load itself; None, with a rate of 0, where even a lone request breaks the limit.
    """

    rate: float
    concurrency: float
    bound_by: str
    at: Operating | None


def capacity(step: StepTable, settings: EngineSettings, traffic: Traffic, limits: Sequence[Limit] = ()) -> Capacity:
    """The largest load at which every one of ``limits`` holds (latencies grow with load, so by halving)."""
    model = Model(step, settings, traffic)

    def broken(arrivals: float) -> str:
        at = model.at(arrivals)
        for limit in limits:
            if at.latency(limit.metric, limit.quantile) > limit.seconds:
                return limit.name
        return ""

    low, high = 0.0, model.most
    bound = broken(high)
    if not bound:
        at = model.at(high)
        return Capacity(at.rate, at.concurrency, model.at(high * (1.0 + 1e-6) + 1e-9).bound_by, at)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        found = broken(middle)
        if found:
            high, bound = middle, found
        else:
            low = middle
    if low == 0.0:
        return Capacity(0.0, 0.0, bound, None)
    at = model.at(low)
    return Capacity(at.rate, at.concurrency, bound, at)


def _lognormal(mean: float, scv: float, quantile: float | None) -> float:
    """The quantile (None: the mean) of a lognormal of that mean and squared coefficient of variation."""
    if quantile is None or scv == 0.0:
        return mean
    sigma = sqrt(log1p(scv))
    return mean * exp(sigma * NormalDist().inv_cdf(quantile) - sigma * sigma / 2.0)
