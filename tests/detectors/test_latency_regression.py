"""Routes that become slow, and harmless twins of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from detectors.detector import SignalContext
from detectors.finding import Finding, Priority
from detectors.registry import DetectorSettings
from detectors.signals.latency_regression import (
    LatencyRegression,
    LatencyRegressionSettings,
    quantile,
)
from store.errors import ConfigError
from tests.detectors.counters import Counters
from tests.detectors.stored_spans import StoredSpans

T0 = 1_700_000_000_000
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
STABLE = ("http_server_request_duration_seconds_bucket", "http_route", 1.0)
OLD = ("http_server_duration_milliseconds_bucket", "http_target", 1_000.0)


class Site:
    """A route with lognormal durations around a median, exported every 5 s and judged then."""

    def __init__(self, per_s: float, names: tuple[str, str, float] = STABLE, seed: int = 1) -> None:
        self.random = np.random.default_rng(seed)
        self.per_s = per_s
        self.names = names
        self.counters = Counters()
        self.spans: StoredSpans | None = None
        self.counts = np.zeros(len(BOUNDS_S) + 1)
        self.now_ms = T0
        self.active: dict[str, Finding] = {}
        self.detector = LatencyRegression()

    def run(self, seconds: int, median_s: float | Callable[[int], float]) -> list[Finding | None]:
        metric, route, units = self.names
        answers: list[Finding | None] = []
        for _ in range(seconds // 5):
            self.now_ms += 5_000
            second = (self.now_ms - T0) // 1_000
            median = median_s(second) if callable(median_s) else median_s
            requests = int(self.random.poisson(self.per_s * 5))
            took = self.random.lognormal(np.log(median), 0.4, requests)
            for place, bound in enumerate((*BOUNDS_S, np.inf)):
                self.counts[place] += np.count_nonzero(took <= bound)
                le = "+Inf" if np.isinf(bound) else f"{bound * units:g}"
                labels = {"job": "eu/shop", "instance": "a", route: "products/", "le": le}
                self.counters.add(metric, labels, self.now_ms, float(self.counts[place]))
            context = SignalContext(self.now_ms, self.active, {}, self.spans)
            found = self.detector.evaluate(self.counters, context)
            self.active = {item.fingerprint: item for item in found}
            answers.append(found[0] if found else None)
        return answers


@pytest.mark.parametrize("names", [STABLE, OLD], ids=["stable", "old"])
@pytest.mark.parametrize("per_s", [2.0, 50.0])
def test_a_route_that_becomes_slow_is_found_held_and_ends(
    names: tuple[str, str, float], per_s: float
) -> None:
    site = Site(per_s, names)
    assert not any(site.run(300, 0.04))
    fault_ms = site.now_ms
    answers = site.run(300, 0.4)
    first = next(place for place, found in enumerate(answers) if found)
    assert (first + 1) * 5 <= 30
    held = [found for found in answers[first:] if found]
    assert len(held) == len(answers) - first
    assert {abs(found.first_seen_ms - fault_ms) <= 10_000 for found in held} == {True}
    assert len({found.fingerprint for found in held}) == 1
    last = held[-1]
    assert last.priority is Priority.P2
    assert (last.service, last.route) == ("shop", "products/")
    assert float(last.evidence.detail["p95_seconds"]) == pytest.approx(0.77, rel=0.3)
    assert float(last.evidence.detail["baseline_p95_seconds"]) < 0.1
    assert site.run(180, 0.04)[-1] is None


def test_above_the_absolute_bound_a_smaller_factor_is_enough() -> None:
    site = Site(5.0)
    site.detector = LatencyRegression(LatencyRegressionSettings(min_factor=20))
    assert not any(site.run(600, 0.5))
    assert any(site.run(120, 2.0))
    quiet = Site(5.0)
    quiet.detector = LatencyRegression(LatencyRegressionSettings(min_factor=20, slow_s=20.0))
    assert not any(quiet.run(600, 0.5) + quiet.run(120, 2.0))


@pytest.mark.parametrize(("per_s", "median_s"), [(0.2, 0.1), (2.0, 0.04), (20.0, 0.9)])
def test_an_hour_of_noise_is_silent(per_s: float, median_s: float) -> None:
    wobble = np.random.default_rng(3).normal(1.0, 0.1, 10_000)
    site = Site(per_s, seed=5)
    assert not any(site.run(3_600, lambda second: median_s * float(wobble[second])))


def test_a_single_stall_of_five_seconds_is_silent() -> None:
    site = Site(10.0)
    site.run(300, 0.05)
    assert not any(site.run(5, 3.0) + site.run(300, 0.05))


def test_twice_as_slow_but_still_fast_is_silent() -> None:
    site = Site(20.0)
    assert not any(site.run(300, 0.01) + site.run(300, 0.03))


def test_a_route_that_was_always_slow_is_no_regression() -> None:
    assert not any(Site(5.0).run(900, 3.0))


def test_its_proof_is_a_slow_request_and_names_the_longest_part() -> None:
    site = Site(10.0)
    site.spans = StoredSpans()
    site.run(300, 0.05)
    start_ns = site.now_ms * 1_000_000
    root: dict[str, Any] = {
        "trace_id": b"b" * 16,
        "span_id": b"server00",
        "parent_span_id": None,
        "start_ns": start_ns,
        "end_ns": start_ns + 900_000_000,
        "service": "shop",
        "name": "GET products/",
        "kind": 2,
        "status": 0,
        "received_ms": site.now_ms,
    }
    parts = [
        {**root, "span_id": name, "parent_span_id": b"server00", "name": title, "kind": 3,
         "end_ns": start_ns + ms * 1_000_000}
        for name, title, ms in ((b"client00", "GET stock/", 20), (b"client01", "SELECT shop", 700))
    ]  # fmt: skip
    site.spans.append([root, *parts], site.now_ms)
    found = [item for item in site.run(60, 0.9) if item]
    assert {item.evidence.trace_id for item in found} == {(b"b" * 16).hex()}
    assert {"SELECT shop took 700 ms" in item.fix for item in found} == {True}


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    bounds_s = np.array([1.0, 2.0, np.inf])
    assert quantile(bounds_s, np.array([0.0, 1.0, 100.0]), 0.95) == 2.0
    assert quantile(bounds_s, np.array([100.0, 100.0, 100.0]), 0.5) == 0.5


@pytest.mark.parametrize("section", [{"z": 0}, {"min_factor": 1}, {"slow_s": 0}, {"page": 1}])
def test_settings_out_of_bounds_are_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"detectors\.latency_regression"):
        DetectorSettings.from_mapping({"latency_regression": section})
