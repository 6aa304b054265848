from dataclasses import replace

import pytest
from starlette.datastructures import Headers

from api.guard import LOOPBACK_HOSTS, GuardPolicy, Refusal, decide, feed_key_of
from api.tokens.repository import Role

ROLES = {
    "wall-secret": Role.DISPLAY,
    "admin-secret": Role.ADMIN,
    "view-secret": Role.VIEWER,
    "send-secret": Role.INGEST,
    "feed-secret": Role.CALENDAR,
}
KEYS = frozenset({"shop-1"})
ON_LOOPBACK = GuardPolicy(LOOPBACK_HOSTS, tokens_required=False, role_of=ROLES.get)
IN_PUBLIC = GuardPolicy(
    frozenset({"warroom.shop.example"}), tokens_required=True, role_of=ROLES.get
)


def on_loopback(method: str, path: str, **headers: str) -> Refusal | None:
    return decide(ON_LOOPBACK, method, path, Headers({"host": "127.0.0.1:8600", **headers}))


def in_public(method: str, path: str, token: str = "") -> Refusal | None:
    headers = {"host": "warroom.shop.example"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    return decide(IN_PUBLIC, method, path, Headers(headers))


def test_loopback_needs_no_token() -> None:
    assert on_loopback("GET", "/api/v1/query") is None
    assert on_loopback("POST", "/api/v1/query") is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8600", "", "127.0.0.1.evil.example"]
)
def test_a_rebound_name_is_refused(host: str) -> None:
    assert on_loopback("GET", "/api/v1/query", host=host) is Refusal.HOST


def test_a_page_of_another_site_may_not_post() -> None:
    refused = on_loopback("POST", "/api/warroom/v1/annotations", origin="https://evil.example")
    assert refused is Refusal.ORIGIN
    assert on_loopback("POST", "/api/warroom/v1/annotations", origin="null") is Refusal.ORIGIN


@pytest.mark.parametrize("path", ["/v1/traces", "/api/v1/write", "/events"])
def test_a_page_of_another_site_may_not_send_telemetry_blind(path: str) -> None:
    assert on_loopback("POST", path, origin="https://evil.example") is Refusal.ORIGIN


def test_our_own_page_may_post() -> None:
    own = "http://127.0.0.1:8600"
    assert on_loopback("POST", "/api/warroom/v1/annotations", origin=own) is None


def test_a_beacon_of_the_shop_may_come_from_its_own_origin() -> None:
    assert on_loopback("POST", "/rum", origin="https://shop.example") is None


@pytest.mark.parametrize(
    ("token", "method", "path", "refusal"),
    [
        ("", "GET", "/api/v1/query", Refusal.NO_TOKEN),
        ("wrong", "GET", "/api/v1/query", Refusal.NO_TOKEN),
        ("view-secret", "GET", "/api/v1/query", None),
        ("view-secret", "POST", "/api/v1/query_range", None),
        ("view-secret", "POST", "/api/v2/silences", Refusal.ROLE),
        ("view-secret", "POST", "/v1/traces", Refusal.ROLE),
        ("send-secret", "POST", "/v1/traces", None),
        ("send-secret", "GET", "/api/v1/query", Refusal.ROLE),
        ("admin-secret", "POST", "/api/v2/silences", None),
        ("admin-secret", "POST", "/api/v1/write", None),
    ],
)
def test_a_role_gives_just_what_it_says(
    token: str, method: str, path: str, refusal: Refusal | None
) -> None:
    assert in_public(method, path, token) is refusal


@pytest.mark.parametrize(
    ("method", "path", "refusal"),
    [
        ("POST", "/rum/shop-1", None),
        ("POST", "/collect/shop-1", None),
        ("OPTIONS", "/collect", None),
        ("POST", "/rum/other", Refusal.NO_TOKEN),
        ("POST", "/rum", Refusal.NO_TOKEN),
        ("POST", "/events/shop-1", Refusal.NO_TOKEN),
        ("GET", "/api/v1/query", Refusal.NO_TOKEN),
    ],
)
def test_an_app_key_opens_beacons_and_nothing_else(
    method: str, path: str, refusal: Refusal | None
) -> None:
    policy = GuardPolicy(frozenset(), tokens_required=True, role_of=ROLES.get, beacon_keys=KEYS)
    assert decide(policy, method, path, Headers({"host": "h"})) is refusal


def test_an_app_key_may_come_as_a_header() -> None:
    policy = GuardPolicy(frozenset(), tokens_required=True, role_of=ROLES.get, beacon_keys=KEYS)
    assert decide(policy, "POST", "/collect", Headers({"x-api-key": "shop-1"})) is None
    assert decide(policy, "POST", "/v1/traces", Headers({"x-api-key": "shop-1"})) is not None


def test_health_is_open_to_load_balancers() -> None:
    assert in_public("GET", "/-/healthy") is None


WITH_PAGES = replace(IN_PUBLIC, is_page=lambda path: path == "/")


def with_cookie(method: str, path: str, token: str, **headers: str) -> Refusal | None:
    cookie = {"host": "warroom.shop.example", "cookie": f"other=1; warroom_token={token}"}
    return decide(WITH_PAGES, method, path, Headers({**cookie, **headers}))


@pytest.mark.parametrize(
    ("method", "path", "refusal"),
    [
        ("GET", "/api/warroom/v1/live", None),
        ("GET", "/api/warroom/v1/boards/war-room/snapshot", None),
        ("GET", "/api/warroom/v1/replay", None),
        ("PUT", "/api/warroom/v1/boards/war-room", Refusal.ROLE),
        ("GET", "/api/warroom/v1/findings", Refusal.ROLE),
        ("GET", "/api/v1/query", Refusal.ROLE),
        ("POST", "/api/v1/query", Refusal.ROLE),
        ("GET", "/jaeger/api/services", Refusal.ROLE),
        ("GET", "/metrics", Refusal.ROLE),
        ("POST", "/events", Refusal.ROLE),
    ],
)
def test_a_display_shows_boards_and_nothing_else(
    method: str, path: str, refusal: Refusal | None
) -> None:
    assert in_public(method, path, "wall-secret") is refusal
    own = "https://warroom.shop.example"
    assert with_cookie(method, path, "wall-secret", origin=own) is refusal


def test_the_pages_hold_no_data_and_need_no_token() -> None:
    assert decide(WITH_PAGES, "GET", "/", Headers({"host": "warroom.shop.example"})) is None
    assert decide(WITH_PAGES, "GET", "/", Headers({"host": "evil.example"})) is Refusal.HOST
    assert in_public("GET", "/") is Refusal.NO_TOKEN


def test_a_cookie_alone_changes_nothing_without_our_own_origin() -> None:
    path = "/api/warroom/v1/annotations"
    own, evil = "https://warroom.shop.example", "https://evil.example"
    assert with_cookie("POST", path, "admin-secret", origin=own) is None
    assert with_cookie("POST", path, "admin-secret", origin=evil) is Refusal.ORIGIN
    assert with_cookie("POST", path, "admin-secret") is Refusal.ORIGIN
    assert with_cookie("GET", "/api/warroom/v1/findings", "admin-secret") is None
    assert with_cookie("GET", "/api/warroom/v1/findings", "unknown") is Refusal.NO_TOKEN


def test_signing_in_needs_a_token_that_is_known() -> None:
    path = "/api/warroom/v1/session"
    assert in_public("GET", path) is None
    assert in_public("POST", path) is Refusal.NO_TOKEN
    assert in_public("POST", path, "nonsense") is Refusal.NO_TOKEN
    for secret in ("wall-secret", "view-secret", "admin-secret"):
        assert in_public("POST", path, secret) is None
    assert in_public("DELETE", path) is None


FEED = "/api/warroom/v1/on-call/shop.ics"


def by_address(method: str, path: str, key: str, token: str = "") -> Refusal | None:
    headers = {"host": "warroom.shop.example"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    feed_key = feed_key_of(method, path, f"key={key}&x=1".encode())
    return decide(IN_PUBLIC, method, path, Headers(headers), feed_key)


def test_a_calendar_program_reads_a_schedule_with_the_key_in_its_address() -> None:
    assert by_address("GET", FEED, "feed-secret") is None
    assert by_address("GET", FEED, "unknown") is Refusal.NO_TOKEN
    assert by_address("GET", FEED, "") is Refusal.NO_TOKEN


@pytest.mark.parametrize("token", ["admin-secret", "view-secret", "wall-secret"])
def test_the_api_s_own_tokens_open_nothing_from_an_address(token: str) -> None:
    assert by_address("GET", FEED, token) is Refusal.NO_TOKEN


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/warroom/v1/on-call"),
        ("GET", "/api/warroom/v1/incidents"),
        ("GET", "/api/v1/query"),
        ("DELETE", "/api/warroom/v1/on-call/shop/overrides/x.ics"),
    ],
)
def test_a_calendar_key_opens_nothing_else(method: str, path: str) -> None:
    assert by_address(method, path, "feed-secret") is Refusal.NO_TOKEN
    assert in_public(method, path, "feed-secret") in {Refusal.ROLE, Refusal.ORIGIN}


def test_a_header_comes_before_the_key_in_an_address() -> None:
    assert by_address("GET", FEED, "unknown", token="view-secret") is None
    assert feed_key_of("GET", FEED, b"key=" + b"x" * 3_000) == ""
