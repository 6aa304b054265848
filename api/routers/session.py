"""Signing a browser in: a token is given once, and lives in a cookie from then on."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.guard import GuardPolicy, bearer, secret_of
from api.session_cookie import NAME
from api.shapes import Json
from api.tokens.repository import Role

_YEAR_S = 365 * 86_400


def router(policy: GuardPolicy) -> APIRouter:
    """`/session`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["session"])

    @routes.get("/session")
    async def who(request: Request) -> Json:
        """What this browser may do. Where no token is asked for, everything."""
        if not policy.tokens_required:
            return {"role": Role.ADMIN.value, "tokens_required": False}
        role = policy.role_of(secret_of(request.headers))
        return {"role": role.value if role else None, "tokens_required": True}

    @routes.post("/session")
    async def sign_in(request: Request, response: Response) -> Json:
        """Keep the bearer token of this request as a cookie."""
        secret = bearer(request.headers)
        if secret:
            response.set_cookie(
                NAME,
                secret,
                max_age=_YEAR_S,
                path="/",
                secure=_over_tls(request),
                httponly=True,
                samesite="strict",
            )
        return await who(request)

    @routes.delete("/session", status_code=204)
    async def sign_out(request: Request) -> Response:
        answer = Response(status_code=204)
        answer.delete_cookie(
            NAME, path="/", secure=_over_tls(request), httponly=True, samesite="strict"
        )
        return answer

    return routes


def _over_tls(request: Request) -> bool:
    """The browser's connection is encrypted, as seen here or by a proxy on any host.

    The header needs no trust: whoever makes it up only keeps a cookie of theirs from plain HTTP.
    """
    forwarded = request.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
    return request.url.scheme == "https" or forwarded == "https"
