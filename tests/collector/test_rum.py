"""Browser beacons over a real server: counting, privacy, bounds."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from collector.receivers.rum import Bucket, RumReceiver, RumSettings
from collector.vital_kinds import VITALS
from collector.web_vitals import WebVitals, decode_beacon, page_template
from store.errors import BadInput, WarroomError
from store.model import Labels

NOW_MS = 1_790_000_000_000


@pytest.fixture
def url(pipeline: Any, serve: Any) -> str:
    settings = RumSettings(allowed_origins=frozenset({"https://shop.example"}))
    return str(serve(RumReceiver(pipeline, settle_ms=20, settings=settings).routes()))


def vital(value: float = 2400, report: str = "v1", **more: Any) -> dict[str, Any]:
    return {
        "name": "LCP",
        "value": value,
        "id": report,
        "page": "/products/7?q=1",
        "device": "mobile",
        **more,
    }


def lcp(appender: Any, le: str, page: str = "/products/{id}", device: str = "mobile") -> float:
    series = Labels.of(
        __name__="browser_web_vital_lcp_seconds_bucket", le=le, page=page, device=device
    )
    rows = appender.samples().get(series, [])
    return rows[-1][1] if rows else -1.0


def wait_for(appender: Any, clock: Any, count: int = 1) -> None:
    import time

    deadline = time.monotonic() + 10
    while len(appender.batches) < count and time.monotonic() < deadline:
        clock.now_ms += 1000
        time.sleep(0.005)
    assert len(appender.batches) >= count


@pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "application/json"])
def test_a_beacon_becomes_histograms_by_page_and_device(
    url: str, appender: Any, clock: Any, content_type: str
) -> None:
    body = json.dumps([vital(), {**vital(0.31, "c"), "name": "CLS"}])
    response = httpx.post(f"{url}/rum", content=body, headers={"Content-Type": content_type})
    assert response.status_code == 204
    wait_for(appender, clock)
    assert [lcp(appender, le) for le in ("2", "2.5", "+Inf")] == [0, 1, 1]
    cls = Labels.of(__name__="browser_web_vital_cls_sum", page="/products/{id}", device="mobile")
    assert [v for _, v in appender.samples()[cls]] == [0, 0.31]


def test_a_stop_stores_what_waits_for_further_reports(pipeline: Any, appender: Any) -> None:
    receiver = RumReceiver(pipeline, settle_ms=3_600_000)

    async def run() -> int:
        app = Starlette(routes=receiver.routes())
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            answer = await client.post("/rum", content=json.dumps(vital()))
        assert appender.batches == []
        await receiver.aclose()
        await receiver.aclose()
        return answer.status_code

    assert asyncio.run(run()) == 204
    assert lcp(appender, "2.5") == 1
    assert len(appender.batches) == 1


def test_the_last_value_of_a_report_counts_once() -> None:
    vitals = WebVitals()
    for value in (1000, 2400, 4500):
        found, _ = decode_beacon(json.dumps(vital(value)).encode())
        vitals.add(found, NOW_MS)
    assert len(vitals.due(NOW_MS + 4999)) == 0
    batch = vitals.due(NOW_MS + 5000)
    found, _ = decode_beacon(json.dumps(vital(9000)).encode())
    vitals.add(found, NOW_MS + 6000)
    assert len(vitals.due(NOW_MS + 60_000)) == 0
    last = {s: batch.values[batch.series_index == i][-1] for i, s in enumerate(batch.series)}
    counts = {s.get("le"): v for s, v in last.items() if s.metric.endswith("_bucket")}
    assert (counts["4"], counts["6"], counts["+Inf"]) == (0, 1, 1)


def test_pages_are_bounded() -> None:
    vitals = WebVitals(max_pages=2)
    for page in ("/a", "/b", "/c", "/d"):
        found, _ = decode_beacon(json.dumps(vital(1, "", page=page)).encode())
        vitals.add(found, NOW_MS)
    assert {s.get("page") for s in vitals.due(NOW_MS).series} == {"/a", "/b", "(other)"}


@pytest.mark.parametrize("header", ["Sec-GPC", "DNT"])
def test_who_objects_is_not_counted(url: str, appender: Any, clock: Any, header: str) -> None:
    body = json.dumps(vital(report=""))
    assert httpx.post(f"{url}/rum", content=body, headers={header: "1"}).status_code == 204
    assert httpx.post(f"{url}/rum", content=body).status_code == 204
    wait_for(appender, clock)
    assert lcp(appender, "+Inf") == 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[" + b"1," * 200 + b"1]", {}, 400),
        (b" " * 70_000, {}, 413),
        (b"{}", {"Content-Type": "image/png"}, 415),
    ],
)
def test_a_bad_beacon_is_refused(
    url: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    response = httpx.post(f"{url}/rum", content=body, headers=headers)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_measurements_that_no_browser_makes_are_dropped_and_counted(url: str, sources: Any) -> None:
    bad = [
        vital(-1),
        vital(1e12),
        vital(report="x", name="FID"),
        {"name": "LCP"},
        7,
        vital(value=True),
    ]
    assert httpx.post(f"{url}/rum", json=bad).status_code == 204
    assert sources.list(NOW_MS)[0].dropped == {"not_a_web_vital": 6}


def test_parts_of_a_page_load_are_counted_each_for_itself(
    url: str, appender: Any, clock: Any
) -> None:
    parts = {"DNS": 20, "CONNECT": 60, "TLS": 40, "REQUEST": 300, "DOWNLOAD": 80, "LOAD": 1700}
    beacon = [vital(value, f"n-{name}", name=name) for name, value in parts.items()]
    assert httpx.post(f"{url}/rum", json=beacon).status_code == 204
    wait_for(appender, clock)
    sums = {
        series.metric: rows[-1][1]
        for series, rows in appender.samples().items()
        if series.metric.endswith("_sum")
    }
    assert sums.pop("browser_page_load_seconds_sum") == pytest.approx(1.7)
    assert {name.split("_")[3]: value for name, value in sums.items()} == pytest.approx(
        {"dns": 0.02, "connect": 0.06, "tls": 0.04, "request": 0.3, "download": 0.08}
    )


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/rum/shop-1", {}, 204),
        ("/collect/shop-1", {}, 202),
        ("/collect", {"x-api-key": "shop-1"}, 202),
        ("/rum", {}, 403),
        ("/collect/other", {}, 403),
    ],
)
def test_with_app_keys_only_those_report(
    pipeline: Any, serve: Any, sources: Any, path: str, headers: dict[str, str], status: int
) -> None:
    settings = RumSettings(app_keys=frozenset({"shop-1"}))
    base = serve(RumReceiver(pipeline, settings=settings).routes())
    assert httpx.post(f"{base}{path}", json={}, headers=headers).status_code == status
    dropped = [source.dropped.get("unknown_app_key", 0) for source in sources.list(NOW_MS)]
    assert sum(dropped) == (1 if status == 403 else 0)


def test_beacons_beyond_the_rate_are_shed_and_counted(
    pipeline: Any, serve: Any, sources: Any
) -> None:
    base = serve(RumReceiver(pipeline, settings=RumSettings(max_per_second=0.2)).routes())
    answers = [httpx.post(f"{base}/rum", json=vital(report="")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [204, 204, 429]
    assert answers[-1].headers["retry-after"] == "10"
    assert sum(source.dropped.get("rate_limited", 0) for source in sources.list(NOW_MS)) == 1


@given(st.lists(st.floats(0, 5), max_size=200))
def test_a_bucket_never_passes_more_than_its_rate_and_burst(gaps: list[float]) -> None:
    bucket, now_s, passed = Bucket(2.0, 5.0), 1_000.0, 0
    for gap in gaps:
        now_s += gap
        passed += bucket.take(now_s)
    assert passed <= 5 + 2 * (now_s - 1_000) + 1e-6


def test_only_listed_origins_may_call_from_elsewhere(url: str) -> None:
    ask = {"Access-Control-Request-Method": "POST"}
    allowed = httpx.options(f"{url}/collect", headers={**ask, "Origin": "https://shop.example"})
    other = httpx.options(f"{url}/collect", headers={**ask, "Origin": "https://evil.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
    assert "idempotency-key" in allowed.headers["access-control-allow-headers"]
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("url", "template"),
    [
        ("/products/1234/", "/products/{id}/"),
        ("https://h/a/550e8400-e29b-41d4-a716-446655440000#x", "/a/{id}"),
        ("/order/ORD-20261127-77?token=s", "/order/{id}"),
        ("cart", "/cart"),
        ("https://h", "/"),
    ],
)
def test_page_templates_hold_no_ids(url: str, template: str) -> None:
    assert page_template(url) == template


def test_the_thresholds_of_good_and_poor_are_bounds() -> None:
    thresholds = {
        "LCP": (2.5, 4),
        "INP": (0.2, 0.5),
        "CLS": (0.1, 0.25),
        "FCP": (1.8, 3),
        "TTFB": (0.8, 1.8),
    }
    for name, pair in thresholds.items():
        assert set(pair) <= set(VITALS[name].bounds)
    assert set(thresholds) == set(VITALS)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.integers(-(2**60), 2**60)
    | st.sampled_from(["LCP", "cls", "/a"])
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "value", "id", "page", "device"]), inner, max_size=5
        )
    ),
    max_leaves=15,
)


@given(values)
def test_no_beacon_breaks_the_decoder(value: Any) -> None:
    with suppress(WarroomError):
        found, _ = decode_beacon(json.dumps(value).encode())
        vitals = WebVitals()
        vitals.add(found, NOW_MS)
        assert len(vitals.due(NOW_MS + 10_000)) >= len(found)


@given(st.binary(max_size=100))
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    with suppress(BadInput):
        decode_beacon(body)
