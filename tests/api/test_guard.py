import pytest
from starlette.datastructures import Headers

from api.guard import LOOPBACK_HOSTS, GuardPolicy, Refusal, decide
from api.tokens.repository import Role

ROLES = {"admin-secret": Role.ADMIN, "view-secret": Role.VIEWER, "send-secret": Role.INGEST}
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
