"""A browser's token in a cookie, since a page cannot send a header with what it opens.

The cookie is HttpOnly and SameSite=Strict: no script reads it and no other site sends it. What it
may change is still asked for an Origin of our own (`api.guard`).
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

NAME = "warroom_token"
_MAX_CHARS = 8_192


def cookie_token(headers: Headers) -> str:
    """The token in the request's cookie, or nothing.

    Read as browsers write cookies, one by one: the library's own parser gives up at the first odd
    one, and any service on this host may have left one (RFC 6265: all ports share them).
    """
    text = headers.get("cookie", "")
    if NAME not in text or len(text) > _MAX_CHARS:
        return ""
    return cookie_parser(text).get(NAME, "")
