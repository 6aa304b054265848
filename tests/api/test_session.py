"""A browser signs in once, and is known by a cookie from then on."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api import stream
from api.boards import parse_board
from api.guard import Guard, GuardPolicy
from api.panels.view import PanelSources
from api.routers import live
from api.routers.session import router
from api.tokens.repository import Role
from store.promql.engine import Engine
from store.promql.testing import MemoryReader

POLICY = GuardPolicy(frozenset(), tokens_required=True, role_of={"s3cret": Role.DISPLAY}.get)
SESSION = "/api/warroom/v1/session"
BEARER = {"Authorization": "Bearer s3cret"}


def client(policy: GuardPolicy = POLICY) -> TestClient:
    app = FastAPI()
    app.include_router(router(policy))
    app.add_middleware(Guard, policy=policy)
    return TestClient(app, base_url="https://warroom.shop.example")


def test_a_token_becomes_a_cookie_that_no_script_and_no_other_site_can_use() -> None:
    with client() as browser:
        assert browser.get(SESSION).json() == {"role": None, "tokens_required": True}
        answer = browser.post(SESSION, headers=BEARER)
        cookie = answer.headers["set-cookie"].lower()
        assert {"httponly", "secure", "samesite=strict", "path=/"} <= set(cookie.split("; "))
        assert "s3cret" not in answer.text
        assert browser.get(SESSION).json() == {"role": "display", "tokens_required": True}


@pytest.mark.parametrize(
    "other", ['c={"x":1}', "n=J\xf6rg", "flag", "e=a b", "consent=a,b [c]", "x[1]=y", "a=b; ; =c"]
)
@pytest.mark.parametrize("order", ["{0}; {1}", "{1}; {0}"])
def test_cookies_of_other_services_on_the_host_sign_nobody_out(other: str, order: str) -> None:
    cookie = order.format(other, "warroom_token=s3cret").encode("latin-1")
    with client() as browser:
        assert browser.get(SESSION, headers={b"Cookie": cookie}).json()["role"] == "display"


def test_signing_out_forgets_it() -> None:
    with client() as browser:
        browser.post(SESSION, headers=BEARER)
        origin = {"Origin": "https://warroom.shop.example"}
        assert browser.delete(SESSION, headers=origin).status_code == 204
        assert browser.get(SESSION).json()["role"] is None


def test_a_revoked_token_ends_what_it_already_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at the next message, a heartbeat where nothing else comes."""
    monkeypatch.setattr(stream, "_PING_S", 0.05)
    sources = PanelSources(
        querier=Engine(MemoryReader()),
        kpis=tuple,
        slos=list,
        alerts=list,
        findings=list,
        timeline=lambda _start, _end: [],
        sources=lambda _now: [],
    )
    board = parse_board("name: b\ntitle: B\nrows: []\n", "b.yaml")
    boards = stream.LiveBoards(lambda: {"b": board}, sources, interval_ms=5_000)
    asked: list[str] = []

    def role_of(secret: str) -> Role | None:
        asked.append(secret)
        return Role.DISPLAY if len(asked) < 4 else None

    policy = GuardPolicy(frozenset(), tokens_required=True, role_of=role_of)
    app = FastAPI()
    app.include_router(live.router(boards, policy))
    app.add_middleware(Guard, policy=policy)

    async def watched() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://warroom.shop.example"
        ) as wall:
            path = "/api/warroom/v1/live?board=b"
            return await asyncio.wait_for(wall.get(path, headers=BEARER), 30)

    answer = asyncio.run(watched())
    assert answer.status_code == 200
    # Asked at the start and at each heartbeat; the last one was not sent any more.
    assert asked == ["s3cret"] * 4
    assert answer.text.count(": ping") == 2
    assert boards.watchers == 0


def test_where_no_token_is_asked_for_everything_is_allowed() -> None:
    open_policy = GuardPolicy(frozenset(), tokens_required=False, role_of=lambda _: None)
    with client(open_policy) as browser:
        assert browser.get(SESSION).json() == {"role": "admin", "tokens_required": False}


def test_behind_a_proxy_that_ends_tls_the_cookie_is_for_tls_only() -> None:
    app = FastAPI()
    app.include_router(router(POLICY))
    with TestClient(app, base_url="http://warroom.shop.example") as browser:
        plain = browser.post(SESSION, headers=BEARER)
        assert "; secure" not in plain.headers["set-cookie"].lower()
        behind = browser.post(SESSION, headers={**BEARER, "X-Forwarded-Proto": "https"})
        assert "; secure" in behind.headers["set-cookie"].lower()
