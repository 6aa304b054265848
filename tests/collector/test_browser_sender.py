"""What a browser's headers tell, and what of a beacon's page is an id."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from collector.browser_sender import sender_of
from collector.receivers.rum import RumReceiver
from collector.web_vitals import page_template

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"
ANDROID = (
    "Mozilla/5.0 (Linux; Android 13; Pixel 7) AppleWebKit/537.36 Chrome/130 Mobile Safari/537.36"
)
GALAXY_TAB = "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 Chrome/130 Safari/537.36"


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (IPHONE, "mobile"),
        (ANDROID, "mobile"),
        (GALAXY_TAB, "tablet"),
        (
            "Mozilla/5.0 (iPad; CPU OS 16_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
            "tablet",
        ),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/130 Safari/537.36", "desktop"),
        ("Mozilla/5.0 (Linux; Android 10; CUBOT X30) Chrome/120 Mobile Safari/537.36", "mobile"),
        ("Mozilla/5.0 (Linux; Android 9; CUBOT_NOTE) Chrome/120 Mobile Safari/537.36", "mobile"),
        ("Mozilla/5.0 (X11; Linux x86_64) Chrome/130 Safari/537.36", "desktop"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14_1) Version/17.1 Safari/605.1.15", "desktop"),
        ("", "unknown"),
        ("okhttp/4.9", "unknown"),
    ],
)
def test_the_class_of_device_comes_from_the_user_agent(agent: str, device: str) -> None:
    sender = sender_of({"user-agent": agent})
    assert (sender.device, sender.is_machine) == (device, False)


def test_a_client_hint_says_mobile_before_the_user_agent_does() -> None:
    frozen = "Mozilla/5.0 (X11; Linux x86_64) Chrome/130 Safari/537.36"
    assert sender_of({"user-agent": frozen, "sec-ch-ua-mobile": "?1"}).device == "mobile"
    assert sender_of({"user-agent": frozen, "sec-ch-ua-mobile": "?0"}).device == "desktop"


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0)",
        "Mozilla/5.0 (Linux; Android 11; moto g power) Chrome/130 Mobile Chrome-Lighthouse",
        "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/130.0.0.0 Safari/537.36",
    ],
)
def test_crawlers_and_tests_of_page_speed_are_machines(agent: str) -> None:
    assert sender_of({"user-agent": agent}).is_machine


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/i/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/i/{id}"),
        ("/reset/eyJhbGciOiJIUzI1NiJ9.e30.abc", "/reset/{id}"),
        ("/invite/aZ3k-9dLqP_xY7mN2q", "/invite/{id}"),
        ("/share/k2v9x7m4q8w1z5t3", "/share/{id}"),
        ("/cart/65f1c2a9e4b0a1b2c3d4e5f6", "/cart/{id}"),
        ("/de/produkte/rote-jacke", "/de/produkte/rote-jacke"),
        ("/category/internationalisation", "/category/internationalisation"),
        ("/pages/black-friday-tips-for-you", "/pages/black-friday-tips-for-you"),
        ("/en-US/checkout/step-2", "/en-US/checkout/step-2"),
        ("/assets/bundle.v2.js", "/assets/bundle.v2.js"),
    ],
)
def test_ids_and_tokens_are_replaced_and_words_stay(path: str, page: str) -> None:
    assert page_template(path) == page


def counted(appender: Any) -> dict[tuple[str, str], float]:
    return {
        (series.get("page"), series.get("device")): rows[-1][1]
        for series, rows in appender.samples().items()
        if series.metric == "browser_web_vital_lcp_seconds_count"
    }


def test_a_beacon_of_the_librarys_own_snippet_is_of_the_page_that_sent_it(
    serve: Any, pipeline: Any, appender: Any, sources: Any, clock: Any
) -> None:
    address = serve(RumReceiver(pipeline, settle_ms=0).routes())
    metric = {"name": "LCP", "value": 1200.5, "delta": 1200.5, "rating": "good", "entries": []}
    headers = {
        "content-type": "text/plain;charset=UTF-8",
        "referer": f"{address}/products/4711?utm_source=mail",
        "user-agent": IPHONE,
    }

    def send(body: dict[str, Any], **more: str) -> int:
        told = {**headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        return httpx.post(f"{address}/rum", content=json.dumps(body), headers=told).status_code

    assert send(metric) == 204
    assert counted(appender) == {("/products/{id}", "mobile"): 1.0}
    assert send({**metric, "page": "/cart", "device": "tablet"}) == 204
    assert counted(appender)[("/cart", "tablet")] == 1.0
    assert send(metric, user_agent="Mozilla/5.0 (compatible; Googlebot/2.1)") == 204
    assert sum(counted(appender).values()) == 2.0
    (source,) = sources.list(clock())
    assert source.dropped == {"bot": 1}
