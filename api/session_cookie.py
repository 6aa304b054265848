"""A browser's token in a cookie, since a page cannot send a header with what it opens.

The cookie is HttpOnly and SameSite=Strict: no script reads it and no other site sends it. What it
may change is still asked for an Origin of our own (`api.guard`).
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers

NAME = "warroom_token"
_MAX_CHARS = 8_192


def cookie_token(headers: Headers) -> str:
    """The token in the request's cookie, or nothing."""
    text = headers.get("cookie", "")
    if NAME not in text or len(text) > _MAX_CHARS:
        return ""
    try:
        morsel = SimpleCookie(text).get(NAME)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
