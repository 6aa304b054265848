"""Who may talk to the service: Host and Origin checks on loopback, bearer tokens elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import OWN_PREFIX, error_response
from api.session_cookie import cookie_token
from api.tokens.repository import Role

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN = frozenset({"/-/healthy", "/-/ready"})
_INGEST = ("/v1/", "/v2/change/", "/api/v1/write", "/events", "/rum", "/collect")
# PagerDuty's senders have their key in the body: without a token in a header the route asks for it.
_KEY_IN_BODY = frozenset({"/v2/change/enqueue"})
# Browsers of the shop send these from its own origin.
_BEACONS = ("/rum", "/collect")
# Let in by a signature that the route itself checks.
_SIGNED = "/api/warroom/v1/hooks/"
# Reading by POST: Grafana and promtool send long queries as forms, assistants JSON-RPC.
_READ_POST = (
    "/api/v1/query",
    "/api/v1/series",
    "/api/v1/labels",
    "/api/v1/format_query",
    "/api/v1/parse_query",
    "/mcp",
)
# All that a wall needs; a token that hangs on a wall in everybody's sight opens no more.
_DISPLAYED = (
    "/api/warroom/v1/boards",
    "/api/warroom/v1/live",
    "/api/warroom/v1/replay",
)
# Calendar programs know an address and nothing else: their key stands in it, and opens no more.
_FEEDS = "/api/warroom/v1/on-call/"
_MAX_QUERY = 2_048
# A browser asks here what it may do, before it has a token.
_SESSION = "/api/warroom/v1/session"


class Refusal(StrEnum):
    """Why a request was turned away."""

    HOST = "host_not_allowed"
    ORIGIN = "cross_origin"
    NO_TOKEN = "token_missing"  # noqa: S105  # a reason, not a secret
    ROLE = "role_too_low"


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """What is asked of a request.

    Attributes:
        hosts: Host names that the Host header may carry; empty allows any.
        tokens_required: A bearer token is needed (the listener is not on loopback).
        role_of: The role that a token's secret gives now.
        prepare: Brings what `role_of` knows of a secret up to date, off the event loop.
        beacon_keys: App keys with which browsers may send beacons without a token.
        is_page: Paths of the front end's files: they hold no data, so that one can sign in.
    """

    hosts: frozenset[str]
    tokens_required: bool
    role_of: Callable[[str], Role | None]
    beacon_keys: frozenset[str] = frozenset()
    prepare: Callable[[str], Awaitable[None]] | None = None
    is_page: Callable[[str], bool] = lambda _path: False


def decide(
    policy: GuardPolicy, method: str, path: str, headers: Headers, feed_key: str = ""
) -> Refusal | None:
    """None when the request may pass, else the reason why not. Pure but for the token look-up.

    A page on another site can resolve its own name to 127.0.0.1 (DNS rebinding) or post to us
    blind; Host and Origin betray both.
    """
    if path in _OPEN:
        return None
    if policy.hosts and _host_name(headers.get("host", "")) not in policy.hosts:
        return Refusal.HOST
    origin = headers.get("origin")
    beacon = path.startswith(_BEACONS)
    if origin and method not in _SAFE and not beacon and not _same_origin(origin, headers):
        return Refusal.ORIGIN
    if not policy.tokens_required or _open_to_all(policy, method, path, headers):
        return None
    if feed_key and not bearer(headers):
        # The API's own tokens do not belong into an address, which others may read.
        calendar = policy.role_of(feed_key) is Role.CALENDAR
        return None if calendar else Refusal.NO_TOKEN
    return _by_token(policy, method, path, headers)


async def judge(
    policy: GuardPolicy, method: str, path: str, headers: Headers, feed_key: str = ""
) -> Refusal | None:
    """`decide` by what is known now: a token may have been revoked since it was last asked for."""
    if policy.tokens_required and policy.prepare is not None:
        await policy.prepare(bearer(headers) or feed_key or secret_of(headers))
    return decide(policy, method, path, headers, feed_key)


def _open_to_all(policy: GuardPolicy, method: str, path: str, headers: Headers) -> bool:
    """What needs no token of ours: beacons with their key, and files that hold no data."""
    if path.startswith(_BEACONS):
        return _known_beacon(policy, method, path, headers)
    if path.startswith(_SIGNED):
        return True
    if path in _KEY_IN_BODY and not bearer(headers):
        return True
    return method in {"GET", "HEAD"} and policy.is_page(path)


def _by_token(policy: GuardPolicy, method: str, path: str, headers: Headers) -> Refusal | None:
    secret = secret_of(headers)
    role = policy.role_of(secret) if secret else None
    if path == _SESSION and (role or method in {"GET", "DELETE"}):
        return None
    if role is None:
        return Refusal.NO_TOKEN
    if method not in _SAFE and not bearer(headers) and not headers.get("origin"):
        return Refusal.ORIGIN  # a cookie alone proves no intent
    return None if _allowed(role, method, path) else Refusal.ROLE


def _allowed(role: Role, method: str, path: str) -> bool:
    if role is Role.ADMIN:
        return True
    if path.startswith(_INGEST):
        return role is Role.INGEST
    if role is Role.DISPLAY:
        return method in _SAFE and path.startswith(_DISPLAYED)
    if role is Role.CALENDAR:
        return method in _SAFE and _is_feed(path)
    return role is Role.VIEWER and (method in _SAFE or path.startswith(_READ_POST))


def _known_beacon(policy: GuardPolicy, method: str, path: str, headers: Headers) -> bool:
    """A browser's preflight cannot carry a key in a header: the beacon itself is asked for it."""
    if not policy.beacon_keys:
        return False
    key = path.strip("/").partition("/")[2] or headers.get("x-api-key", "")
    return method == "OPTIONS" or key in policy.beacon_keys


def _is_feed(path: str) -> bool:
    return path.startswith(_FEEDS) and path.endswith(".ics")


def feed_key_of(method: str, path: str, query: bytes) -> str:
    """The key in a calendar's address, or nothing."""
    if method not in _SAFE or not _is_feed(path) or len(query) > _MAX_QUERY:
        return ""
    return parse_qs(query.decode("latin-1")).get("key", [""])[0]


def bearer(headers: Headers) -> str:
    """The token of an `Authorization: Bearer` header, or nothing."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def secret_of(headers: Headers) -> str:
    """The token of a request: of its header, else of the browser's cookie."""
    return bearer(headers) or cookie_token(headers)


def _host_name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


def _same_origin(origin: str, headers: Headers) -> bool:
    return urlsplit(origin).netloc == headers.get("host", "")


_ANSWERS = {
    Refusal.HOST: (403, "this Host is not served here; open the address that the service printed"),
    Refusal.ORIGIN: (403, "a page of another origin may not change anything here"),
    Refusal.NO_TOKEN: (401, "a bearer token is needed; make one with `warroom token create`"),
    Refusal.ROLE: (403, "the token's role does not allow this"),
}


class Guard:
    """ASGI middleware that applies a policy."""

    def __init__(self, app: ASGIApp, policy: GuardPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        method, path = scope["method"], scope["path"]
        key = feed_key_of(method, path, scope.get("query_string", b""))
        refusal = await judge(self._policy, method, path, headers, key)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        await _answer(refusal, scope["path"])(scope, receive, send)


def _answer(refusal: Refusal, path: str) -> Response:
    status, sentence = _ANSWERS[refusal]
    headers = {"WWW-Authenticate": "Bearer"} if refusal is Refusal.NO_TOKEN else None
    if path.startswith(OWN_PREFIX):
        return error_response(status, refusal.value, sentence, headers=headers)
    return PlainTextResponse(f"{sentence}\n", status, headers)
