"""JSON over HTTP for pollers: one host, no redirects, bounded answers, errors without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from collector.http_answer import ACCEPTED_ENCODING, bounded_body
from collector.never_asked import check_answering, is_never_asked
from collector.polling.contract import PollFailed
from collector.polling.fields import Fields
from store.errors import BadInput, LimitExceeded

MAX_BODY = 16 * 1024 * 1024
MAX_RETRY_AFTER_S = 600.0
_SHOWN = 160
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def base_url(fields: Fields, key: str, default: str | None = None) -> str:
    """A field that holds the address of an HTTP service, without a slash at its end.

    Redirects are never followed, so what is asked is what was written.

    Raises:
        ConfigError: Not http or https, credentials in it, or an address of a cloud's metadata.
    """
    given = fields.text(key, default).rstrip("/")
    try:
        parts = urlsplit(given)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise fields.error(key, "this is no address", hint="write it like https://host:9200")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise fields.error(key, "credentials, a query or a fragment may not be in it")
    if is_never_asked(host):
        raise fields.error(
            key,
            "link-local addresses and those of a cloud's metadata are never asked",
            hint="name another host",
        )
    return given


class JsonClient:
    """Asks one service. The connection is kept between polls.

    `patience_s` is how long a service is left alone that answers 429 and does not say how long.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        basic_auth: tuple[str, str] | None = None,
        max_body: int = MAX_BODY,
        verify_tls: bool = True,
        patience_s: float | None = None,
    ) -> None:
        self._url = url
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": ACCEPTED_ENCODING,
            "User-Agent": "Warroom",
            **(headers or {}),
        }
        self._auth = basic_auth
        self._max_body = max_body
        self._verify = verify_tls
        self._patience_s = patience_s
        self._client: httpx.AsyncClient | None = None

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return await self._ask("GET", path, params=params)

    async def post(self, path: str, body: Any) -> Any:
        return await self._ask("POST", path, body=body)

    async def post_form(self, path: str, form: Mapping[str, str]) -> Any:
        return await self._ask("POST", path, form=form)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        form: Mapping[str, str] | None = None,
    ) -> Any:
        content = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with self._open().stream(
                method,
                self._url + path,
                params=params,
                content=content,
                data=form,
                headers=headers,
            ) as response:
                check_answering(response)
                received = await self._body(response)
                _check(response, received, path, self._patience_s)
        except BadInput as error:
            raise PollFailed(error.message, hint=error.hint) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PollFailed(
                f"{path} did not answer: {type(error).__name__}: {error}",
                hint="check the address and that the service runs",
            ) from error
        try:
            return orjson.loads(received)
        except orjson.JSONDecodeError as error:
            raise PollFailed(
                f"{path} answered something that is no JSON", hint="check the address"
            ) from error

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                headers=self._headers,
                auth=self._auth,
                verify=self._verify,
                follow_redirects=False,
                timeout=httpx.Timeout(None),  # the runner bounds the whole poll
                trust_env=False,
            )
        return self._client

    async def _body(self, response: httpx.Response) -> bytes:
        try:
            return await bounded_body(response, self._max_body)
        except (BadInput, LimitExceeded) as error:
            raise PollFailed(error.message, hint=error.hint) from error


def _check(response: httpx.Response, body: bytes, path: str, patience_s: float | None) -> None:
    status = response.status_code
    if status == httpx.codes.OK:
        return
    said = body[:_SHOWN].decode(errors="replace").strip()
    if status in (401, 403):
        hint = "check the key and what it may read"
    elif 300 <= status < 400:
        hint = "redirects are not followed: configure the address it points to"
    else:
        hint = ""
    wait_s = _retry_after_s(response.headers)
    if wait_s is None and status == httpx.codes.TOO_MANY_REQUESTS:
        wait_s = patience_s
    raise PollFailed(
        f"{path} answered HTTP status {status}: {said}", hint=hint, retry_after_s=wait_s
    )


def _retry_after_s(headers: httpx.Headers) -> float | None:
    for name in ("retry-after", "x-ratelimit-reset"):
        text = headers.get(name, "")
        if _SECONDS.fullmatch(text):
            return min(MAX_RETRY_AFTER_S, float(text))
    return None
