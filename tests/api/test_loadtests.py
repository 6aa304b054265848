"""Load tests: k6's summary in each of its shapes, kept, listed and on the timeline."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import cramjam
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.loadtests import repository as kept
from api.loadtests.k6_summary import figures_of
from api.loadtests.record import Durations, Figures, LoadTest, Stage, Threshold
from api.loadtests.repository import LoadTestRepository
from api.routers import loadtests
from store.errors import BadInput
from store.testing import open_state
from tests.collector.remote_write_bytes import series_bytes
from tests.warroom.world import NOW_MS, World

OWN = "/api/warroom/v1"

# As `handleSummary(data)` gets it; k6 1.x writes the same with JSON.stringify(data).
HANDLED: dict[str, Any] = {
    "root_group": {"name": "", "path": "", "id": "d41d8", "groups": [], "checks": []},
    "options": {"summaryTrendStats": ["avg", "p(95)"], "summaryTimeUnit": "", "noColor": False},
    "state": {"isStdOutTTY": True, "isStdErrTTY": True, "testRunDurationMs": 30_000.4},
    "metrics": {
        "http_reqs": {
            "type": "counter",
            "contains": "default",
            "values": {"count": 1200, "rate": 39.9},
        },
        "http_req_duration": {
            "type": "trend",
            "contains": "time",
            "values": {"avg": 120.5, "min": 3, "med": 100, "max": 900, "p(95)": 410, "p(99)": 700},
            "thresholds": {"p(95)<400": {"ok": False}, "p(99)<1000": {"ok": True}},
        },
        "http_req_failed": {
            "type": "rate",
            "contains": "default",
            "values": {"rate": 0.01, "passes": 12, "fails": 1188},
            "thresholds": {"rate<0.02": {"ok": True}},
        },
        "checks": {"type": "rate", "values": {"rate": 0.9, "passes": 90, "fails": 10}},
        "vus_max": {"type": "gauge", "values": {"value": 50, "min": 50, "max": 50}},
    },
}
# The same by `--summary-export`: a threshold's value says whether it *failed*.
EXPORTED: dict[str, Any] = {
    "root_group": {"name": "", "groups": {}, "checks": {}},
    "metrics": {
        "http_reqs": {"count": 1200, "rate": 40},
        "http_req_duration": {
            "avg": 120.5, "min": 3, "med": 100, "max": 900, "p(95)": 410, "p(99)": 700,
            "thresholds": {"p(95)<400": True, "p(99)<1000": False},
        },
        "http_req_failed": {
            "value": 0.01, "passes": 12, "fails": 1188, "thresholds": {"rate<0.02": False},
        },
        "checks": {"value": 0.9, "passes": 90, "fails": 10},
        "vus_max": {"value": 50, "min": 50, "max": 50},
    },
}  # fmt: skip
# The same with `--new-machine-readable-summary`.
MACHINE_READABLE: dict[str, Any] = {
    "version": "1.0.0",
    "metadata": {"k6Version": "1.5.0", "generatedAt": "2026-09-21T14:00:00Z"},
    "config": {"duration": 30.0, "execution": "local", "script": "sale.js"},
    "results": {
        "checks": {
            "metrics": [],
            "results": [
                {"name": "is 200", "passes": 60, "fails": 10},
                {"name": "has a cart", "passes": 30, "fails": 0},
            ],
        },
        "metrics": [
            {"name": "http_reqs", "type": "counter", "contains": "default",
             "values": {"count": 1200}},
            {"name": "http_req_duration", "type": "trend", "contains": "time",
             "values": {"avg": 120.5, "max": 900, "med": 100, "min": 3, "p(95)": 410}},
            {"name": "http_req_failed", "type": "rate", "contains": "default",
             "values": {"matches": 12, "rate": 0.01, "total": 1200}},
            {"name": "vus_max", "type": "gauge", "contains": "default",
             "values": {"max": 50, "min": 50, "value": 50}},
        ],
    },
}  # fmt: skip

DURATIONS = Durations(p50=0.1, p95=0.41, p99=0.7, max=0.9, mean=0.1205)
THRESHOLDS = (
    Threshold("http_req_duration: p(95)<400", ok=False),
    Threshold("http_req_duration: p(99)<1000", ok=True),
    Threshold("http_req_failed: rate<0.02", ok=True),
)


def told(document: dict[str, Any]) -> Figures:
    return figures_of(orjson.dumps(document))[0]


def test_what_handle_summary_gets_is_understood() -> None:
    assert told(HANDLED) == Figures(
        run_ms=30_000,
        requests=1200,
        requests_per_second=39.9,
        error_ratio=0.01,
        durations=DURATIONS,
        checks_passed=90,
        checks_failed=10,
        virtual_users=50,
        thresholds=THRESHOLDS,
    )


def test_what_summary_export_writes_means_the_same() -> None:
    found = told(EXPORTED)
    assert (found.run_ms, found.requests_per_second) == (30_000, 40)
    assert found.thresholds == THRESHOLDS
    assert found.ok is False
    assert (found.error_ratio, found.durations) == (0.01, DURATIONS)
    assert (found.checks_passed, found.checks_failed, found.virtual_users) == (90, 10, 50)


def test_the_machine_readable_summary_means_the_same_as_far_as_it_tells() -> None:
    found = told(MACHINE_READABLE)
    assert (found.run_ms, found.ended_ms) == (30_000, NOW_MS - 800_000)
    assert (found.requests, found.requests_per_second, found.error_ratio) == (1200, 40, 0.01)
    assert found.durations == Durations(p50=0.1, p95=0.41, max=0.9, mean=0.1205)
    assert (found.checks_passed, found.checks_failed, found.virtual_users) == (90, 10, 50)
    assert (found.thresholds, found.ok) == ((), None)


def test_figures_that_cannot_be_are_not_told() -> None:
    metrics = {
        "http_reqs": {"count": -5, "rate": 1e300},
        "http_req_failed": {"value": 7},
        "http_req_duration": {"med": "fast", "p(95)": None, "max": True},
        "checks": [],
    }
    assert told({"metrics": metrics}) == Figures()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"metrics": 3}', b'{"a": {"b": 1}}'])
def test_what_is_no_summary_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput, match=r"summary|JSON"):
        figures_of(body)


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**63) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["values", "count", "rate", "thresholds", "ok", "name", "p(95)", "checks"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from([HANDLED, EXPORTED, MACHINE_READABLE]), st.data())
def test_no_summary_breaks_the_decoder(document: dict[str, Any], data: st.DataObject) -> None:
    broken = json.loads(json.dumps(document))
    part = broken
    while isinstance(part, dict) and part:
        key = data.draw(st.sampled_from(sorted(part)))
        if not isinstance(part[key], dict) or data.draw(st.booleans()):
            part[key] = data.draw(values)
            break
        part = part[key]
    with suppress(BadInput, TypeError):  # integers past 64 bits are no JSON of orjson's
        body = orjson.dumps(broken)
        figures, _ = figures_of(body)
        assert figures.requests is None or figures.requests >= 0


@given(st.binary(max_size=100))
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    with suppress(BadInput):
        figures_of(body)


def post(world: World, document: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer = world.ask("POST", f"{OWN}/loadtests{query}", json=document)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_summary_becomes_a_record_that_is_listed_and_shown(world: World) -> None:
    made = post(world, HANDLED, "?name=sale%20rehearsal&target_multiple=3&url=https://ci/7")
    assert made == {
        "id": made["id"],
        "name": "sale rehearsal",
        "source": "k6",
        "started_at": "2026-09-21T14:12:50.000Z",
        "ended_at": "2026-09-21T14:13:20.000Z",
        "target_multiple": 3.0,
        "stages": [],
        "requests": 1200,
        "requests_per_second": 39.9,
        "error_ratio": 0.01,
        "duration_seconds": {"p50": 0.1, "p95": 0.41, "p99": 0.7, "max": 0.9, "mean": 0.1205},
        "checks": {"passes": 90, "fails": 10},
        "thresholds": [{"name": one.name, "ok": one.ok} for one in THRESHOLDS],
        "ok": False,
        "virtual_users": 50,
        "url": "https://ci/7",
    }
    assert world.get("/loadtests") == {"loadtests": [made], "next": None}
    assert world.get(f"/loadtests/{made['id']}") == made
    (event,) = world.get("/timeline")["events"]
    assert event == {
        "at": "2026-09-21T14:12:50.000Z",
        "kind": "loadtest",
        "title": "load test sale rehearsal: 3x, 40 requests/s, p95 0.41 s,"
        " 1 of 3 thresholds failed",
        "ref": "https://ci/7",
    }


def test_a_summary_that_is_sent_again_corrects_its_record(world: World) -> None:
    first = post(world, EXPORTED)
    world.clock.now_ms += 60_000
    again = post(world, EXPORTED, "?name=right&target_multiple=2")
    assert again == {**first, "name": "right", "target_multiple": 2.0}
    assert post(world, EXPORTED) == again
    moved = post(world, EXPORTED, "?started_at=2026-09-20T10:00:00Z")
    assert (moved["started_at"], moved["ended_at"]) == (
        "2026-09-20T10:00:00.000Z",
        "2026-09-20T10:00:30.000Z",
    )
    assert len(world.get("/loadtests")["loadtests"]) == 1


def test_a_script_may_say_more_within_its_summary(world: World) -> None:
    more = {
        "name": "stages",
        "started_at": "2026-09-21T13:00:00Z",
        "stages": [
            {"multiple": 1, "seconds": 600},
            {"multiple": 2.5, "seconds": 300},
            {"multiple": 3, "from": "2026-09-21T13:20:00Z", "to": "2026-09-21T13:30:00Z"},
        ],
    }
    made = post(world, {**HANDLED, "warroom": more}, "?name=over")
    assert made["name"] == "over"
    assert made["stages"] == [
        {"multiple": 1.0, "from": "2026-09-21T13:00:00.000Z", "to": "2026-09-21T13:10:00.000Z"},
        {"multiple": 2.5, "from": "2026-09-21T13:10:00.000Z", "to": "2026-09-21T13:15:00.000Z"},
        {"multiple": 3.0, "from": "2026-09-21T13:20:00.000Z", "to": "2026-09-21T13:30:00.000Z"},
    ]


@pytest.mark.parametrize(
    ("query", "more"),
    [
        ("?started_at=now&ended_at=now-1h", None),
        ("?ended_at=2027-01-01T00:00:00Z", None),
        ("?started_at=soon", None),
        ("?target_multiple=0", None),
        ("?url=javascript:alert(1)", None),
        ("?url=//evil.example/", None),
        ("?url=/%5Cevil.example/", None),
        ("?url=/%09/evil.example/", None),
        ("?name=%00x", None),
        ("?source=k6%00", None),
        ("", []),
        ("", {"stages": [{"multiple": 2}]}),
        ("", {"stages": [{"multiple": 2, "from": "now", "to": "now-5m"}]}),
        ("", {"stages": [{"multiple": 2, "seconds": 1}] * 101}),
        ("", {"stages": [{"multiple": 2, "from": 253402300799, "seconds": 1_000_000}]}),
        ("", {"stages": [{"multiple": 2, "from": "now", "to": "now+2d"}]}),
        ("", {"stages": [{"multiple": 2, "seconds": 31 * 86_400}] * 100}),
        ("", {"colour": "red"}),
    ],
)
def test_what_makes_no_sense_is_refused(still_world: World, query: str, more: Any) -> None:
    document = HANDLED if more is None else {**HANDLED, "warroom": more or [1]}
    answer = still_world.ask("POST", f"{OWN}/loadtests{query}", json=document)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "bad_input"
    assert still_world.get("/loadtests")["loadtests"] == []
    assert still_world.get("/readiness")


def test_a_test_whose_answer_cannot_be_made_is_not_kept(
    still_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept, it would turn every list of load tests into the same error for good."""

    def beyond(_ts_ms: int) -> str:
        raise ValueError("year 10000 is out of range")

    with monkeypatch.context() as patched, suppress(ValueError):
        patched.setattr(loadtests, "rfc3339", beyond)
        still_world.ask("POST", f"{OWN}/loadtests", json=HANDLED)
    assert still_world.get("/loadtests")["loadtests"] == []


def test_a_summary_past_its_bound_is_refused(still_world: World) -> None:
    body = b"x" * (5 * 1024 * 1024 + 1)
    answer = still_world.ask("POST", f"{OWN}/loadtests", content=body)
    assert answer.status_code == 422


def test_an_unknown_load_test_is_a_404(still_world: World) -> None:
    assert still_world.refusal("GET", f"{OWN}/loadtests/none", 404)["code"] == "not_found"


def a_test(number: int, **other: Any) -> LoadTest:
    ended_ms = NOW_MS + 1000 * (number // 2)
    fields = {"id": f"t{number}", "name": "n", "source": "k6", "started_ms": ended_ms - 1000}
    return LoadTest(**{**fields, "ended_ms": ended_ms, **other})


def test_a_record_comes_back_as_it_was_kept() -> None:
    tests = LoadTestRepository(open_state())
    full = a_test(1, target_multiple=2.5, stages=(Stage(2.0, 1, 2),), figures=told(HANDLED))
    tests.put(full)
    assert tests.get("t1") == full
    assert tests.get("t2") is None


def test_pages_hold_each_record_once() -> None:
    tests = LoadTestRepository(open_state())
    for number in range(7):
        tests.put(a_test(number))
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page, after = tests.list(limit=2, after=after)
        seen += [test.id for test in page]
    assert seen == ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]
    with pytest.raises(BadInput):
        tests.list(limit=2, after="soon")


def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_KEPT", 3)
    tests = LoadTestRepository(open_state())
    for number in range(5):
        tests.put(a_test(number))
    assert [test.id for test in tests.list(limit=10)[0]] == ["t4", "t3", "t2"]


def test_what_k6_writes_while_it_runs_is_read_by_its_own_names(world: World) -> None:
    tags = [("scenario", "sale"), ("name", "/checkout"), ("method", "POST"), ("status", "200")]
    told = {
        "k6_http_reqs_total": 1200.0,
        "k6_http_req_duration_p99": 0.7,
        "k6_http_req_failed_rate": 0.01,
        "k6_vus": 50.0,
    }
    body = b"".join(
        series_bytes([("__name__", name), *tags], [(NOW_MS, value)]) for name, value in told.items()
    )
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
        "User-Agent": "k6-prometheus-rw-output",
    }
    compressed = bytes(cramjam.snappy.compress_raw(body))
    answer = world.ask("POST", "/api/v1/write", content=compressed, headers=headers)
    assert answer.status_code == 204, answer.text
    query = {"query": '{__name__=~"k6_.+"}', "time": str(NOW_MS / 1000)}
    found = world.ask("GET", "/api/v1/query", params=query).json()["data"]["result"]
    assert {one["metric"]["__name__"]: float(one["value"][1]) for one in found} == told
    assert all(one["metric"]["scenario"] == "sale" for one in found)
