"""The pages and their files as Starlette routes.

The page answers only on the paths it knows. Any other path is a plain 404: other tools tell
products apart by probing paths, and a page with status 200 there would mislead them.
"""

from __future__ import annotations

import mimetypes
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

PAGE_PATHS = (
    "/",
    "/boards",
    "/boards/{id}",
    "/slos",
    "/incidents",
    "/incidents/{id}",
    "/alerts",
    "/alerts/{fingerprint}",
    "/findings",
    "/findings/{id}",
    "/business",
    "/traces",
    "/traces/{id}",
    "/service-map",
    "/explore",
    "/sources",
    "/readiness",
)
_FILES = ("/assets/", "/favicon.svg")
_PAGES = tuple(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in PAGE_PATHS)
_NONCE_MARK = "__CSP_NONCE__"
_NOT_BUILT = (
    "The dashboards are not built. Run `make install` (it needs the npm registry once), "
    "then restart. The API works without them.\n"
)
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self'; "
    "font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types svelte-trusted-html"
)
SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True, slots=True)
class _Asset:
    """One built file, held in memory: there are a few dozen, half a megabyte together."""

    body: bytes
    gzipped: bytes | None
    media_type: str
    cache_control: str


def routes(static_dir: Path | None = None) -> list[BaseRoute]:
    """Routes of the page and its files.

    Args:
        static_dir: Where the built front end lies; by default `static/` beside this module.
            A folder without `index.html` gives pages that say 503 and what to run.
    """
    folder = static_dir or Path(__file__).parent / "static"
    page = folder / "index.html"
    site = _Site(page.read_text("utf-8") if page.is_file() else None, _load(folder))
    pages: list[BaseRoute] = [Route(path, site.page, methods=["GET"]) for path in PAGE_PATHS]
    return [
        *pages,
        Route("/assets/{name}", site.asset, methods=["GET"]),
        Route("/favicon.svg", site.asset, methods=["GET"]),
    ]


def is_page(path: str) -> bool:
    """Whether a path is one of the front end's files, which hold no data of the shop."""
    return path.startswith(_FILES) or any(one.fullmatch(path) for one in _PAGES)


def _load(folder: Path) -> dict[str, _Asset]:
    assets = {}
    for file in sorted([*folder.glob("*.svg"), *folder.glob("assets/*")]):
        if file.suffix == ".gz" or not file.is_file():
            continue
        hashed = file.parent != folder
        packed = file.with_name(file.name + ".gz")
        assets["/" + file.relative_to(folder).as_posix()] = _Asset(
            body=file.read_bytes(),
            gzipped=packed.read_bytes() if packed.is_file() else None,
            media_type=mimetypes.guess_type(file.name)[0] or "application/octet-stream",
            cache_control=(
                "public, max-age=31536000, immutable" if hashed else "public, max-age=3600"
            ),
        )
    return assets


class _Site:
    """Endpoints over one read of the built files."""

    def __init__(self, html: str | None, assets: Mapping[str, _Asset]) -> None:
        self._html = html
        self._assets = assets

    async def page(self, _request: Request) -> Response:
        if self._html is None:
            return PlainTextResponse(_NOT_BUILT, 503, headers={"Retry-After": "60"})
        nonce = secrets.token_urlsafe(16)
        return Response(
            self._html.replace(_NONCE_MARK, nonce),
            media_type="text/html",
            headers={
                **SECURITY_HEADERS,
                "Content-Security-Policy": _CSP.format(nonce=nonce),
                "Cache-Control": "no-cache",
            },
        )

    async def asset(self, request: Request) -> Response:
        asset = self._assets.get(request.url.path)
        if asset is None:
            return PlainTextResponse("404 page not found\n", 404)
        headers = {
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": asset.cache_control,
            "Vary": "Accept-Encoding",
        }
        body = asset.body
        if asset.gzipped is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
            body = asset.gzipped
            headers["Content-Encoding"] = "gzip"
        return Response(body, media_type=asset.media_type, headers=headers)


def _takes_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
