"""Routes that begin to fail, and harmless twins of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from detectors.detector import SignalContext
from detectors.finding import Finding, Priority
from detectors.registry import DetectorSettings
from detectors.repository import FindingRepository
from detectors.runner import DetectorRunner
from detectors.signals.error_regression import ErrorRegression, ErrorRegressionSettings
from store.errors import ConfigError
from store.model import SPAN_SCHEMA, Labels, SampleBatch, SpanBatch
from store.promql.engine import Engine
from store.testing import open_state, open_store
from tests.detectors.corpus import table
from tests.detectors.counters import Counters
from tests.detectors.stored_spans import StoredSpans

T0 = 1_700_000_000_000
STABLE = ("http_server_request_duration_seconds_count", "http_route", "http_response_status_code")
OLD = ("http_server_duration_milliseconds_count", "http_target", "http_status_code")
PURCHASE = "checkout/purchase/"


class Site:
    """A route whose requests are counted by status, exported every second, judged every 5 s."""

    def __init__(self, per_s: float, names: tuple[str, str, str] = STABLE, seed: int = 1) -> None:
        self.random = np.random.default_rng(seed)
        self.per_s = per_s
        self.names = names
        self.counters = Counters()
        self.spans: StoredSpans | None = None
        self.sums: dict[str, int] = {}
        self.now_ms = T0
        self.active: dict[str, Finding] = {}
        self.episodes: dict[str, tuple[tuple[int, int], ...]] = {}
        self.detector = ErrorRegression()

    def count(self, status: str, requests: int) -> None:
        if requests or status in self.sums:
            self.sums[status] = self.sums.get(status, 0) + requests

    def export(self) -> None:
        metric, route, label = self.names
        for status, value in self.sums.items():
            labels = {"job": "shop", "instance": "a", route: PURCHASE, label: status}
            self.counters.add(metric, labels, self.now_ms, value)

    def evaluate(self) -> tuple[Finding, ...]:
        context = SignalContext(self.now_ms, self.active, self.episodes, self.spans)
        found = self.detector.evaluate(self.counters, context)
        keys = {item.fingerprint for item in found}
        for key, finding in self.active.items():
            if key not in keys:
                ended = (finding.first_seen_ms, self.now_ms)
                self.episodes[key] = (*self.episodes.get(key, ()), ended)
        self.active = {item.fingerprint: item for item in found}
        return found

    def run(
        self, seconds: int, failing: float | Callable[[int], float], status: str = "502"
    ) -> list[tuple[int, tuple[Finding, ...]]]:
        """Requests come at random; `failing` of them answer `status`, the others 200."""
        answers = []
        for _ in range(seconds):
            self.now_ms += 1_000
            second = (self.now_ms - T0) // 1_000
            share = failing(second) if callable(failing) else failing
            requests = int(self.random.poisson(self.per_s))
            failed = int(self.random.binomial(requests, share))
            self.count(status, failed)
            self.count("200", requests - failed)
            self.export()
            if second % 5 == 0:
                answers.append((self.now_ms, self.evaluate()))
        return answers


def of_methods(
    names: tuple[str, str, str], method: str, failing: dict[str, float], until_s: int
) -> Iterator[tuple[int, tuple[Finding, ...]]]:
    """GETs and, at one a second, POSTs of one route, which fail from second 200 to 300."""
    metric, route, label = names
    site, sums = Site(0.0, names), dict.fromkeys([(m, s) for m in RATES for s in ("200", "502")], 0)
    for second in range(1, until_s):
        site.now_ms += 1_000
        for name, rate in RATES.items():
            share = failing.get(name, 0.0) if 200 < second <= 300 else 0.0
            failed = int(site.random.binomial(rate, share))
            sums[name, "502"] += failed
            sums[name, "200"] += rate - failed
        for (name, status), value in sums.items():
            labels = {"job": "shop", route: "cart/", method: name, label: status}
            site.counters.add(metric, labels, site.now_ms, value)
        if second % 5 == 0:
            yield second, site.evaluate()


RATES = {"GET": 20, "POST": 1}


@pytest.mark.parametrize(
    ("names", "method"), [(STABLE, "http_request_method"), (OLD, "http_method")]
)
def test_one_method_that_fails_is_found_on_a_route_that_answers_most_requests(
    names: tuple[str, str, str], method: str
) -> None:
    told = dict(of_methods(names, method, {"POST": 1.0}, 360))
    assert next(second for second, found in told.items() if found) <= 210
    (finding,) = told[210]
    assert finding.title == "POST cart/ fails: 100% of requests answer 502"
    assert (finding.route, finding.evidence.detail["method"]) == ("cart/", "POST")
    assert f'{method}="POST"' in finding.evidence.series
    assert {item.fingerprint for found in told.values() for item in found} == {finding.fingerprint}
    assert told[300]
    assert told[355] == ()


def test_a_route_whose_methods_all_fail_is_told_as_a_whole() -> None:
    told = dict(of_methods(STABLE, "http_request_method", {"GET": 0.9, "POST": 0.9}, 240))
    (finding,) = told[210]
    assert finding.title.startswith("cart/ fails: ")
    assert "method" not in finding.evidence.detail


def silent(answers: list[tuple[int, tuple[Finding, ...]]]) -> bool:
    return bool(answers) and all(not found for _, found in answers)


@pytest.mark.parametrize("names", [STABLE, OLD], ids=["stable", "old"])
@pytest.mark.parametrize("offset_s", range(5))
def test_a_total_failure_at_one_request_a_second_is_found_within_two_ticks(
    names: tuple[str, str, str], offset_s: int
) -> None:
    site = Site(0.0, names)
    found: list[tuple[int, tuple[Finding, ...]]] = []
    fault_s = 120 + offset_s
    for second in range(fault_s + 10):
        site.count("200" if second < fault_s else "502", 1)
        found += site.run(1, 0.0)
    first = next((at, findings) for at, findings in found if findings)
    assert 0 < first[0] - (T0 + fault_s * 1_000) <= 10_000
    (finding,) = first[1]
    assert finding.title.startswith(PURCHASE)
    assert finding.title.endswith("of requests answer 502")
    assert (finding.service, finding.route) == ("shop", PURCHASE)
    assert abs(finding.first_seen_ms - (T0 + fault_s * 1_000)) <= 5_000


@pytest.mark.parametrize("per_s", [3.0, 20.0, 300.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_busy_route_is_found_within_two_ticks_listed_and_does_not_page(
    per_s: float, seed: int
) -> None:
    site = Site(per_s, seed=seed)
    assert silent(site.run(120, 0.005))
    fault_ms = site.now_ms
    first = next((at, found) for at, found in site.run(15, 0.9) if found)
    assert first[0] - fault_ms <= 10_000
    assert first[1][0].priority is Priority.P2


CONVENTIONS = [
    ("http_server_duration_milliseconds_count", "http_route", "http_status_code"),
    ("http_server_requests_seconds_count", "uri", "status"),
    ("http_request_duration_seconds_count", "handler", "code"),
    ("http_request_duration_seconds_count", "path", "status_code"),
    ("flask_http_request_duration_seconds_count", "url_rule", "status"),
    ("django_http_responses_total_by_status_view_method_total", "view", "status"),
    ("http_requests_total", "endpoint", "status"),
]


@pytest.mark.parametrize("names", CONVENTIONS, ids=lambda names: "-".join(names[:2]))
def test_it_is_found_by_the_names_of_each_client_library(names: tuple[str, str, str]) -> None:
    site = Site(5.0, names)
    assert silent(site.run(90, 0.0))
    site.run(10, 1.0)
    (finding,) = site.active.values()
    assert finding.title == f"{PURCHASE} fails: 100% of requests answer 502"
    assert finding.evidence.series.startswith(f'{names[0]}{{job="shop",{names[1]}="{PURCHASE}"')


def test_a_count_by_status_is_read_where_the_histogram_has_none() -> None:
    site = Site(5.0, ("http_requests_total", "handler", "code"))

    def both(seconds: int, failing: float) -> None:
        for _ in range(seconds):
            site.run(1, failing)
            total = sum(site.sums.values())
            labels = {"job": "shop", "instance": "a", "handler": PURCHASE}
            site.counters.add("http_request_duration_seconds_count", labels, site.now_ms, total)

    both(90, 0.0)
    both(10, 1.0)
    (finding,) = site.active.values()
    assert finding.evidence.series.startswith("http_requests_total{")


@pytest.mark.parametrize("seed", range(3))
def test_a_third_of_failures_that_come_all_the_time_is_found_within_three_ticks(seed: int) -> None:
    site = Site(5.0, seed=seed)
    assert silent(site.run(120, 0.001))
    fault_ms = site.now_ms
    found = [at_ms - fault_ms for at_ms, found in site.run(30, 0.33) if found]
    assert found[0] <= 15_000


def test_a_smaller_rise_is_found_by_a_longer_window() -> None:
    site = Site(3.0)
    assert silent(site.run(600, 0.01))
    fault_ms = site.now_ms
    first = next((at, found) for at, found in site.run(180, 0.12) if found)
    assert first[0] - fault_ms <= 180_000
    assert float(first[1][0].evidence.detail["window_seconds"]) > 10


def test_it_stays_one_finding_until_the_route_is_well_again_and_then_ends() -> None:
    site = Site(3.0)
    site.run(120, 0.0)
    during = [found for _, found in site.run(900, 0.7) if found]
    assert {finding.fingerprint for found in during for finding in found} == set(site.active)
    assert len({found[0].first_seen_ms for found in during}) == 1
    recovery = site.run(60, 0.0)
    ended = [at for at, found in recovery if not found]
    assert ended[0] - recovery[0][0] <= 40_000
    assert not recovery[-1][1]
    site.run(20, 0.7)
    (again,) = site.active.values()
    assert float(again.evidence.detail["baseline_error_ratio"]) < 0.1


def test_the_share_it_tells_is_that_since_it_began() -> None:
    site = Site(10.0)
    site.run(120, 0.0)
    shares = [
        float(found[0].evidence.detail["error_ratio"]) for _, found in site.run(60, 1.0) if found
    ]
    assert len(shares) >= 11
    assert min(shares) > 0.8


def test_one_of_ten_failing_at_night_is_silent() -> None:
    site = Site(0.1, seed=4)
    assert silent(site.run(7_200, lambda second: 0.1 if second % 600 < 100 else 0.0))


@pytest.mark.parametrize(("per_s", "share"), [(1.0, 0.02), (0.3, 0.05), (10.0, 0.02)])
def test_two_hours_of_a_constant_error_share_are_silent(per_s: float, share: float) -> None:
    assert silent(Site(per_s, seed=11).run(7_200, share))


def test_a_burst_of_404s_is_silent() -> None:
    site = Site(2.0)
    site.run(300, 0.0)
    assert silent(site.run(120, 0.9, status="404"))


def test_a_deploy_restart_with_three_errors_is_silent() -> None:
    site = Site(2.0)
    site.run(300, 0.0)
    site.sums = {}
    for _ in range(3):
        site.count("503", 1)
    assert silent(site.run(120, 0.0))


def test_a_route_that_always_failed_is_no_regression() -> None:
    assert silent(Site(2.0).run(600, 1.0))


def test_no_requests_prove_nothing_until_the_route_is_forgotten() -> None:
    site = Site(3.0)
    site.run(120, 0.0)
    site.run(30, 0.9)
    held = site.active
    assert held
    site.per_s = 0.0
    site.run(600, 0.0)
    assert site.active.keys() == held.keys()
    site.counters.forget()
    site.sums = {}
    site.run(5, 0.0)
    assert site.active.keys() == held.keys()
    site.run(900, 0.0)
    assert not site.active


def failing_request(trace_id: bytes, at_ms: int) -> list[dict[str, Any]]:
    """A purchase that answers 502 because its payment provider answered 503."""
    exception = {
        "name": "exception",
        "time_ns": at_ms * 1_000_000,
        "attributes": {
            "exception.type": "shop.payment.PaymentFailed",
            "exception.message": "payment provider answered 503",
        },
    }
    start_ns = at_ms * 1_000_000
    server = {
        "trace_id": trace_id,
        "span_id": b"server00",
        "parent_span_id": None,
        "start_ns": start_ns,
        "end_ns": start_ns + 40_000_000,
        "service": "shop",
        "name": "POST checkout/purchase/",
        "kind": 2,
        "status": 2,
        "http_route": PURCHASE,
        "http_status": 502,
        "code_file": "shop/checkout.py",
        "code_line": 64,
        "code_function": "purchase",
        "received_ms": at_ms,
    }
    client = {
        **server,
        "span_id": b"client00",
        "parent_span_id": b"server00",
        "name": "POST /authorisations",
        "kind": 3,
        "http_route": None,
        "http_status": 503,
        "server_address": "pay.example",
        "code_function": None,
        "events": orjson.dumps([exception]).decode(),
    }
    well = {**client, "span_id": b"client01", "status": 1, "http_status": 200, "events": None}
    return [server, client, {**well, "start_ns": start_ns + 1}]


def test_the_proof_is_a_failing_request_in_its_own_words_and_stays_the_same() -> None:
    site = Site(2.0)
    site.spans = StoredSpans()
    site.run(120, 0.0)
    site.spans.append(failing_request(b"a" * 16, site.now_ms), site.now_ms)
    site.run(15, 1.0)
    (finding,) = site.active.values()
    assert finding.evidence.trace_id == (b"a" * 16).hex()
    assert finding.evidence.detail["error"] == "PaymentFailed: payment provider answered 503"
    assert finding.evidence.detail["dependency"] == "pay.example"
    assert "pay.example" in finding.fix
    assert finding.evidence.code is not None
    assert (finding.evidence.code.function, finding.evidence.code.inferred) == ("purchase", True)
    site.spans.append(failing_request(b"0" * 16, site.now_ms), site.now_ms)
    site.run(15, 1.0)
    (later,) = site.active.values()
    assert later.evidence.trace_id == finding.evidence.trace_id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"events": None, "status_message": "connection refused"}, "connection refused"),
        ({"events": None, "status_message": "503"}, "pay.example answered 503"),
        ({"events": "[{", "http_status": None}, "pay.example failed"),
        ({"events": '[1, {"name": "exception"}]'}, "pay.example answered 503"),
        ({"events": '{"a": 1}', "server_address": None}, ""),
    ],
)
def test_the_message_is_the_best_that_the_innermost_failing_span_has(
    changes: dict[str, Any], message: str
) -> None:
    site = Site(2.0)
    site.spans = StoredSpans()
    site.run(120, 0.0)
    rows = failing_request(b"a" * 16, site.now_ms)
    site.spans.append([rows[0], {**rows[1], **changes}, rows[2]], site.now_ms)
    site.run(15, 1.0)
    (finding,) = site.active.values()
    assert finding.evidence.trace_id
    assert finding.evidence.detail.get("error", "") == message
    assert finding.fix


def test_it_is_found_and_held_by_the_runner_over_the_real_store_and_a_restart() -> None:
    metric, route, label = STABLE
    rows, sums = [], {"200": 0, "502": 0}
    for second in range(240):
        sums["200" if second < 120 else "502"] += 1
        for status, value in sums.items():
            if value:
                series = {"__name__": metric, "job": "shop", "instance": "a", label: status}
                at_ms = T0 + second * 1_000
                rows.append((Labels.of({**series, route: PURCHASE}), at_ms, value))
    with open_store() as store:
        store.append(SampleBatch.of_rows(rows)).result(10)
        spans = table(
            [{**row, "seq": 0} for row in failing_request(b"a" * 16, T0 + 121_000)]
        ).select(SPAN_SCHEMA.names)
        store.append(SpanBatch(spans)).result(10)
        repository = FindingRepository(open_state())
        firsts = []
        for restart in (False, True):
            runner = DetectorRunner(store, Engine(store), repository)
            for tick in range(16 if restart else 8):
                now_ms = T0 + (160_000 if restart else 120_000) + tick * 5_000
                result = runner.tick(now_ms)
                assert all(unit.ok for unit in result.health)
                firsts += [item for item in result.findings if item.kind == "error_regression"]
    assert firsts[0].last_seen_ms <= T0 + 130_000
    assert len({(item.fingerprint, item.first_seen_ms) for item in firsts}) == 1
    assert firsts[-1].last_seen_ms == T0 + 235_000
    assert {item.evidence.trace_id for item in firsts} == {(b"a" * 16).hex()}
    assert firsts[0].evidence.detail["error"] == "PaymentFailed: payment provider answered 503"


def test_it_pages_only_where_that_is_asked_for() -> None:
    site = Site(3.0)
    site.detector = ErrorRegression(ErrorRegressionSettings(page=True))
    site.run(120, 0.0)
    site.run(15, 0.9)
    assert {item.priority for item in site.active.values()} == {Priority.P1}


@pytest.mark.parametrize(
    "section", [{"z": 0}, {"min_rise": 1.0}, {"recover_s": 900}, {"page": "yes"}, {"min_errors": 0}]
)
def test_settings_out_of_bounds_are_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"detectors\.error_regression"):
        DetectorSettings.from_mapping({"error_regression": section})


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_failure_that_is_over_is_not_found_again_in_its_own_leftovers(share: float) -> None:
    site = Site(5.0)
    site.run(300, 0.0)
    site.run(60, share)
    site.run(600, 0.0)
    (episodes,) = site.episodes.values()
    assert len(episodes) == 1
    assert silent(site.run(5, 0.0))
    # A new failure after it is one all the same.
    assert any(found for _, found in site.run(30, share))
