"""A browser signs in once, and is known by a cookie from then on."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.testclient import TestClient

from api.guard import Guard, GuardPolicy
from api.routers.session import router
from api.tokens.repository import Role

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


def test_signing_out_forgets_it() -> None:
    with client() as browser:
        browser.post(SESSION, headers=BEARER)
        origin = {"Origin": "https://warroom.shop.example"}
        assert browser.delete(SESSION, headers=origin).status_code == 204
        assert browser.get(SESSION).json()["role"] is None


def test_where_no_token_is_asked_for_everything_is_allowed() -> None:
    open_policy = GuardPolicy(frozenset(), tokens_required=False, role_of=lambda _: None)
    with client(open_policy) as browser:
        assert browser.get(SESSION).json() == {"role": "admin", "tokens_required": False}
