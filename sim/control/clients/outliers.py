"""Envoy's outlier detection: hosts that fail are taken out of the load balancer for a while.

Source: Envoy source/common/upstream/outlier_detection_impl.cc and its header (commit 00c7146); older behaviour by option.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sim.control.parameters import Seconds

if TYPE_CHECKING:
    import numpy as np

__all__ = ["RESULTS", "OutlierDetection", "ejection_threshold", "in_panic"]

RESULTS = {
    "ext_origin_request_success": 200,
    "ext_origin_request_failed": 500,
    "local_origin_timeout": 504,
    "local_origin_connect_failed": 503,
    "local_origin_connect_success": None,
    "local_origin_connect_success_final": 200,
}
"""Envoy's results that are no HTTP answer, and the code each stands for unless local errors are split off (None: nothing)."""

_GATEWAY = frozenset((502, 503, 504))
_SLACK = 1e-9  # Envoy counts whole milliseconds; sums of float seconds may fall short by a rounding error


def in_panic(healthy: int, hosts: int, healthy_panic_threshold: float = 50.0) -> bool:
    """Whether Envoy's load balancer ignores health: fewer than ``healthy_panic_threshold`` percent of hosts are healthy.

    Exactly the threshold is no panic; a threshold of 0 switches it off; no hosts at all count as 0 percent.
    """
    return (100.0 * healthy / hosts if hosts else 0.0) < min(100.0, healthy_panic_threshold)


def ejection_threshold(success_rates: list[float], stdev_factor: float) -> tuple[float, float]:
    """Mean success rate (percent), and mean - ``stdev_factor`` * population standard deviation: below it a host is an outlier."""
    mean = sum(success_rates) / len(success_rates)
    variance = sum((rate - mean) ** 2 for rate in success_rates) / len(success_rates)
    return mean, mean - stdev_factor * math.sqrt(variance)


class _Rates:
    """Requests of a host by interval: those of the interval under way, and of the one before."""

    __slots__ = ("good", "last_good", "last_total", "total")

    def __init__(self) -> None:
        self.good = self.total = self.last_good = self.last_total = 0

    def turn(self) -> None:
        self.last_good, self.last_total = self.good, self.total
        self.good = self.total = 0


class _Host:
    __slots__ = (
        "backoff",
        "ejected",
        "external",
        "gateway",
        "jitter",
        "last_ejection",
        "last_unejection",
        "local",
        "local_failures",
        "number",
        "server_errors",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.server_errors = self.gateway = self.local_failures = 0
        self.external = _Rates()
        self.local = _Rates()
        self.ejected = False
        self.backoff = 0
        self.jitter = 0.0
        self.last_ejection = 0.0
        self.last_unejection: float | None = None


class OutlierDetection:
    """Envoy's detector of one cluster. Report results as they come; call :meth:`tick` every ``interval``.

    Consecutive errors eject at once; success rate and failure percentage are judged at ticks, over the interval that ended. Hosts
    come back at ticks only, once min(base_ejection_time * n, max_ejection_time) + jitter has passed, n the ejections so far;
    each tick that finds a host healthy for a whole ``interval`` takes one off n.
    ``max_ejection_percent``: an ejection that would exceed it does not happen. With the default of 10 a cluster of fewer than 10 hosts
    never ejects any, unless ``always_eject_one_host``. ``check_mep_on_first_eject`` False (Envoy's runtime flag, new in 1.28) is the
    rule before: one host can always be ejected, and a further one while *less* than the percentage is out.
    ``enforcing_*`` are percent chances that a detected outlier is ejected. ``healthy_panic_threshold`` belongs to the load balancer
    (:meth:`avoided`). ``max_ejection_time`` None: 300 s, or base_ejection_time if that is longer.
    ``generator`` is drawn from only for a chance that is neither 0 nor 100 and for jitter.
    """

    def __init__(
        self,
        *,
        consecutive_5xx: int = 5,
        consecutive_gateway_failure: int = 5,
        consecutive_local_origin_failure: int = 5,
        interval: Seconds = 10.0,
        base_ejection_time: Seconds = 30.0,
        max_ejection_time: Seconds | None = None,
        max_ejection_time_jitter: Seconds = 0.0,
        max_ejection_percent: float = 10.0,
        always_eject_one_host: bool = False,
        check_mep_on_first_eject: bool = True,
        enforcing_consecutive_5xx: float = 100.0,
        enforcing_consecutive_gateway_failure: float = 0.0,
        enforcing_consecutive_local_origin_failure: float = 100.0,
        enforcing_success_rate: float = 100.0,
        enforcing_local_origin_success_rate: float = 100.0,
        enforcing_failure_percentage: float = 0.0,
        enforcing_failure_percentage_local_origin: float = 0.0,
        success_rate_minimum_hosts: int = 5,
        success_rate_request_volume: int = 100,
        success_rate_stdev_factor: float = 1900.0,
        failure_percentage_threshold: float = 85.0,
        failure_percentage_minimum_hosts: int = 5,
        failure_percentage_request_volume: int = 50,
        split_external_local_origin_errors: bool = False,
        healthy_panic_threshold: float = 50.0,
        generator: np.random.Generator | None = None,
    ) -> None:
        """``success_rate_stdev_factor`` in thousandths, as Envoy's: 1900 is 1.9 standard deviations."""
        if not 0.0 < interval < math.inf or not 0.0 < base_ejection_time < math.inf:
            raise ValueError("interval, base_ejection_time: longer than 0 seconds")
        if max_ejection_time is None:
            max_ejection_time = max(300.0, base_ejection_time)
        if max_ejection_time < base_ejection_time:
            raise ValueError(
                f"max_ejection_time: {max_ejection_time}; cannot be smaller than base_ejection_time, {base_ejection_time}"
            )
        if max_ejection_time_jitter < 0.0:
            raise ValueError(f"max_ejection_time_jitter: {max_ejection_time_jitter}; at least 0 seconds")
        self._enforcing = {
            "consecutive_5xx": enforcing_consecutive_5xx,
            "consecutive_gateway_failure": enforcing_consecutive_gateway_failure,
            "consecutive_local_origin_failure": enforcing_consecutive_local_origin_failure,
            "success_rate": enforcing_success_rate,
            "local_origin_success_rate": enforcing_local_origin_success_rate,
            "failure_percentage": enforcing_failure_percentage,
            "failure_percentage_local_origin": enforcing_failure_percentage_local_origin,
        }
        percents = {f"enforcing_{kind}": chance for kind, chance in self._enforcing.items()}
        percents |= {"max_ejection_percent": max_ejection_percent, "healthy_panic_threshold": healthy_panic_threshold}
        percents |= {"failure_percentage_threshold": failure_percentage_threshold}
        for name, percent in percents.items():
            if not 0.0 <= percent <= 100.0:
                raise ValueError(f"{name}: {percent}; 0 to 100 percent")
        drawn = [name for name, percent in percents.items() if name[:3] == "enf" and 0.0 < percent < 100.0]
        if generator is None and (drawn or max_ejection_time_jitter > 0.0):
            raise ValueError(f"{(drawn or ['max_ejection_time_jitter'])[0]}: chance needs a generator")
        self.interval = interval
        self._consecutive = (consecutive_5xx, consecutive_gateway_failure, consecutive_local_origin_failure)
        self._base = base_ejection_time
        self._longest = max_ejection_time
        self._jitter = max_ejection_time_jitter
        self._percent = max_ejection_percent
        self._always_one = always_eject_one_host
        self._check_first = check_mep_on_first_eject
        self._success_rate = (success_rate_minimum_hosts, success_rate_request_volume)
        self._stdev_factor = success_rate_stdev_factor / 1000.0
        self._failure_percentage = (failure_percentage_minimum_hosts, failure_percentage_request_volume)
        self._failure_threshold = failure_percentage_threshold
        self._split = split_external_local_origin_errors
        self._panic = healthy_panic_threshold
        self._generator = generator
        self._hosts: dict[int, _Host] = {}
        self._out: frozenset[int] = frozenset()
        self.detected: dict[str, int] = dict.fromkeys(self._enforcing, 0)
        """Outliers found, by kind, whether ejected or not (``ejections_detected_*``)."""
        self.enforced: dict[str, int] = dict.fromkeys(self._enforcing, 0)
        """Hosts ejected, by kind (``ejections_enforced_*``)."""
        self.overflows = 0
        """Ejections that ``max_ejection_percent`` forbade (``ejections_overflow``)."""
        self.success_rates: dict[int, float] = {}
        """Percent of answers without error by host, of the last interval, of hosts with enough requests."""
        self.thresholds: tuple[float, float] | None = None
        """Mean success rate and the threshold below which hosts were ejected at the last tick; None: too few hosts."""

    def add(self, host: int) -> None:
        """A host joined the cluster. ValueError when it is there already."""
        if host in self._hosts:
            raise ValueError(f"host {host} is in the cluster already")
        self._hosts[host] = _Host(host)

    def remove(self, host: int) -> None:
        """A host left; whether it was ejected is forgotten. ValueError when it is unknown."""
        if self._hosts.pop(host, None) is None:
            raise ValueError(f"host {host} is not in the cluster")
        self._out -= {host}

    def ejected(self, now: Seconds) -> frozenset[int]:
        """The hosts that are out at ``now`` (they come back at ticks, so ``now`` decides nothing between two)."""
        return self._out

    def avoided(self, now: Seconds) -> frozenset[int]:
        """The hosts that the load balancer leaves out: the ejected, or none in a panic (:func:`in_panic`)."""
        hosts = len(self._hosts)
        return frozenset() if in_panic(hosts - len(self._out), hosts, self._panic) else self._out

    def ejections(self, host: int) -> int:
        """The multiplier of the host's next or running ejection."""
        return self._hosts[host].backoff

    def jitter(self, host: int) -> float:
        """Seconds of jitter on the host's last ejection."""
        return self._hosts[host].jitter

    def report(self, host: int, now: Seconds, ok: bool, code: int | None = None) -> None:
        """An answer of ``host``; ``code`` its HTTP status (without: 200 or 500). A late answer of a host that left is ignored, as there.

        A proxy's own errors are 503 (no connection) and 504 (timeout); with ``split_external_local_origin_errors`` they go to
        :meth:`put_result`.
        """
        if code is None:
            code = 200 if ok else 500
        self.put_http_response_code(host, now, code)

    def put_result(self, host: int, now: Seconds, result: str, code: int | None = None) -> None:
        """One of :data:`RESULTS`; ``code`` replaces the code it stands for (not when split)."""
        if result not in RESULTS:
            raise ValueError(f"result {result!r} is unknown; there are {', '.join(RESULTS)}")
        if not self._split:
            mapped = code if code is not None else RESULTS[result]
            if mapped is not None:
                self.put_http_response_code(host, now, mapped)
        elif result == "ext_origin_request_failed":
            self.put_http_response_code(host, now, 503)
        else:
            if result == "ext_origin_request_success":
                self.put_http_response_code(host, now, 200)
            self._put_local(host, now, result in ("local_origin_timeout", "local_origin_connect_failed"))

    def put_http_response_code(self, host: int, now: Seconds, code: int) -> None:
        """An HTTP answer (or what stands for one)."""
        seen = self._hosts.get(host)
        if seen is None:
            return
        seen.external.total += 1
        if not 500 <= code < 600:
            seen.external.good += 1
            seen.server_errors = seen.gateway = 0
            return
        if code in _GATEWAY:
            seen.gateway += 1
            if seen.gateway == self._consecutive[1] and not seen.ejected:
                self._detected(seen, "consecutive_gateway_failure", now)
                seen.gateway = 0
        else:
            seen.gateway = 0
        seen.server_errors += 1
        # Counters of a host that is out run on: only an ejection, a success or its return resets them.
        if seen.server_errors == self._consecutive[0] and not seen.ejected:
            self._detected(seen, "consecutive_5xx", now)
            seen.server_errors = 0

    def _put_local(self, host: int, now: float, failed: bool) -> None:
        seen = self._hosts.get(host)
        if seen is None:
            return
        seen.local.total += 1
        if not failed:
            seen.local.good += 1
            seen.local_failures = 0
            return
        seen.local_failures += 1
        if seen.local_failures == self._consecutive[2] and not seen.ejected:
            self._detected(seen, "consecutive_local_origin_failure", now)
            seen.local_failures = 0

    def tick(self, now: Seconds) -> None:
        """The end of an interval: hosts come back, rates are judged, multipliers shrink."""
        for host in self._hosts.values():
            hold = min(self._base * host.backoff, self._longest) + host.jitter
            if host.ejected and now - host.last_ejection >= hold - _SLACK:
                self.uneject(host.number, now)
            host.external.turn()
            host.local.turn()
        self.success_rates = {}
        self.thresholds = None
        self._judge(now, {host.number: host.external for host in self._hosts.values()}, local=False)
        self._judge(now, {host.number: host.local for host in self._hosts.values()}, local=True)
        for host in self._hosts.values():
            back = host.last_unejection
            if not host.ejected and back is not None and now - back >= self.interval - _SLACK and host.backoff > 0:
                host.backoff -= 1

    def uneject(self, host: int, now: Seconds) -> None:
        """Bring an ejected host back, as a passed active health check does (``successful_active_health_check_uneject_host``)."""
        seen = self._hosts[host]
        if not seen.ejected:
            return
        seen.ejected = False
        seen.server_errors = seen.gateway = seen.local_failures = 0
        seen.last_unejection = now
        self._out -= {host}

    def _judge(self, now: float, rates: dict[int, _Rates], local: bool) -> None:
        (fewest, volume), (fewest_failing, volume_failing) = self._success_rate, self._failure_percentage
        if len(rates) < fewest and len(rates) < fewest_failing:
            return
        judged: dict[int, float] = {}
        failing: dict[int, float] = {}
        for number, rate in rates.items():
            if self._hosts[number].ejected or rate.last_total == 0:
                continue
            percent = 100.0 * rate.last_good / rate.last_total
            if not local and rate.last_total >= min(volume, volume_failing):
                self.success_rates[number] = percent
            if rate.last_total >= volume:
                judged[number] = percent
            if rate.last_total >= volume_failing:
                failing[number] = percent
        if judged and len(judged) >= fewest:
            found = ejection_threshold(list(judged.values()), self._stdev_factor)
            if not local:
                self.thresholds = found
            for number, percent in judged.items():
                if percent < found[1]:
                    self._detected(self._hosts[number], "local_origin_success_rate" if local else "success_rate", now)
        if failing and len(failing) >= fewest_failing:
            for number, percent in failing.items():
                if 100.0 - percent >= self._failure_threshold:
                    kind = "failure_percentage_local_origin" if local else "failure_percentage"
                    self._detected(self._hosts[number], kind, now)

    def _detected(self, host: _Host, kind: str, now: float) -> None:
        self.detected[kind] += 1
        if host.ejected:  # by its success rate, in this very tick
            return
        out, hosts = len(self._out), len(self._hosts)
        if self._check_first:
            allowed = 100.0 * (out + 1) / hosts <= self._percent or (self._always_one and out == 0)
        else:
            allowed = 100.0 * out / hosts < self._percent
        if not allowed:
            self.overflows += 1
        elif self._happens(self._enforcing[kind]):
            self.enforced[kind] += 1
            host.ejected = True
            host.last_ejection = now
            host.jitter = self._draw() * self._jitter if self._jitter > 0.0 else 0.0
            if host.backoff * self._base < self._longest + self._base:
                host.backoff += 1
            self._out |= {host.number}

    def _happens(self, percent: float) -> bool:
        if percent >= 100.0:
            return True
        return percent > 0.0 and 100.0 * self._draw() < percent

    def _draw(self) -> float:
        assert self._generator is not None
        return float(self._generator.random())
