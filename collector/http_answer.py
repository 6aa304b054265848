"""Answers of servers that are asked: bounded before they are unpacked, redirects one by one.

httpx unpacks each chunk whole and follows any chain of encodings, so a few hundred bytes can become
gigabytes before anybody counts them. Here a body is plain or gzip once, and unpacked up to a bound.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from collector.never_asked import check_answering, check_written
from store.errors import BadInput, LimitExceeded

MAX_REDIRECTS = 10
ACCEPTED_ENCODING = "gzip"
_GZIP_WINDOW = 31
# How much longer than its content a gzip body may be.
_GZIP_EXCESS_BYTES = 64 * 1024


@asynccontextmanager
async def answer_of(
    client: httpx.AsyncClient,
    url: str,
    *,
    headers: Mapping[str, str],
    extensions: Mapping[str, str],
    follow_redirects: bool,
) -> AsyncIterator[httpx.Response]:
    """The last answer to a GET, its body unread; bodies of redirects are never read.

    The Authorization header stays with its origin, as httpx makes the next request.

    Raises:
        httpx.HTTPError: No answer, or more than ten redirects.
        BadInput: It leads to an address that is never asked.
    """
    request = client.build_request("GET", url, headers=headers, extensions=dict(extensions))
    for _ in range(MAX_REDIRECTS + 1):
        check_written(request.url.host)
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            check_answering(response)
            if response.next_request is None or not follow_redirects:
                yield response
                return
            request = response.next_request
        finally:
            await response.aclose()
    raise httpx.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects", request=request)


async def bounded_body(
    response: httpx.Response, limit: int, *, what: str = "the answer", hint: str = ""
) -> bytes:
    """The body, unpacked to no more than `limit` bytes.

    Raises:
        LimitExceeded: It is larger (reason `body_size`).
        BadInput: It is packed otherwise than asked for, damaged or cut short.
        httpx.HTTPError: The connection broke.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise BadInput(f"{what} has the Content-Encoding {encoding[:40]!r}, not gzip or none")
    unpack = _Gunzip(limit) if encoding.endswith("gzip") else None
    received, raw_bytes = bytearray(), 0
    async for chunk in response.aiter_raw():
        raw_bytes += len(chunk)
        try:
            received += chunk if unpack is None else unpack.feed(chunk)
        except zlib.error as error:
            raise BadInput(f"{what} is damaged: it is no gzip") from error
        if len(received) > limit or raw_bytes > limit + _GZIP_EXCESS_BYTES:
            raise LimitExceeded(
                f"{what} is larger than {limit} bytes", reason="body_size", hint=hint
            )
    if unpack is not None and not unpack.whole:
        raise BadInput(f"{what} is cut short")
    return bytes(received)


class _Gunzip:
    """Members of a gzip stream, one after the other; never more than one byte past the limit."""

    def __init__(self, limit: int) -> None:
        self._room = limit + 1
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._begun = False

    @property
    def whole(self) -> bool:
        """Whether the stream may end here; one without a byte may."""
        return self._member.eof or not self._begun

    def feed(self, chunk: bytes) -> bytes:
        out = bytearray()
        while chunk and self._room:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP_WINDOW)
            self._begun = True
            piece = self._member.decompress(chunk, self._room)
            out += piece
            self._room -= len(piece)
            chunk = self._member.unused_data
        return bytes(out)
