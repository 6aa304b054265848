"""Request bodies: read within a bound, decompressed within a bound, and within a common budget."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    MutableMapping,
)
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import zstandard

from collector.overload import Lane
from store.errors import BadInput, LimitExceeded, Overloaded

MAX_BODY_BYTES = 20 * 1024 * 1024  # the OTLP specification's own recommendation
MAX_IN_FLIGHT_BYTES = 256 * 1024 * 1024
MAX_READ_S = 60.0
MAX_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024  # RFC 8878's recommended bound
THREAD_ABOVE_BYTES = 64 * 1024
# A block of 4 bytes can hold 128 KiB, so one slice adds at most 8 MiB before it is checked.
_ZSTD_SLICE_BYTES = 256
_GZIP = 31
_ZLIB = 15
_RAW_DEFLATE = -15


class UnsupportedMedia(BadInput):
    """The Content-Type or Content-Encoding is none that is understood (415)."""


class DamagedBody(BadInput):
    """The compressed data is damaged or cut short."""


class SlowBody(BadInput):
    """The body did not arrive in time."""


class ClientGone(Exception):
    """Nobody waits for an answer."""


async def chunks(
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
) -> AsyncIterator[bytes]:
    """The body of an ASGI request as it arrives.

    Raises:
        ClientGone: It will never be whole.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        if chunk:
            yield chunk
        more = message.get("more_body", False)


class BodyReader:
    """Reads bodies; the bytes of all bodies being read or decoded together are bounded."""

    def __init__(
        self,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_in_flight_bytes: int = MAX_IN_FLIGHT_BYTES,
        max_read_s: float = MAX_READ_S,
        lane: Lane | None = None,
    ) -> None:
        self.lane = lane or Lane()
        self._max_body_bytes = max_body_bytes
        self._max_in_flight_bytes = max_in_flight_bytes
        self._max_read_s = max_read_s
        self._in_flight_bytes = 0

    @asynccontextmanager
    async def read(
        self, chunks: AsyncIterable[bytes], content_encoding: str = ""
    ) -> AsyncIterator[bytes]:
        """The decompressed body, held against the budget until the block ends.

        While its lane is overloaded it is refused before a byte is read, and once more before it
        is decompressed: many may have arrived together.

        Raises:
            UnsupportedMedia: The encoding is unknown.
            LimitExceeded: The body is too large, compressed or not (reason `body_size`).
            DamagedBody: The compressed data is damaged.
            SlowBody: The body does not arrive in time.
            Overloaded: The lane is overloaded or too many bytes are in flight; try again.
        """
        self.lane.check()
        decoder = _decoder(content_encoding)
        held = 0
        try:
            received: list[bytes] = []
            async with self._deadline():
                async for chunk in chunks:
                    self._hold(len(chunk))
                    held += len(chunk)
                    received.append(chunk)
                    if held > self._max_body_bytes:
                        raise too_large(self._max_body_bytes)
            body = b"".join(received)
            self.lane.check()
            with self.lane.answering():
                if decoder is not None:
                    body = await self._decompress(decoder, body)
                    self._hold(len(body))
                    held += len(body)
                yield body
        finally:
            self._in_flight_bytes -= held

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold further bytes against the budget, such as those that a body unpacks to.

        Raises:
            Overloaded: Too many bytes are in flight; try again.
        """
        self._hold(size)
        try:
            yield
        finally:
            self._in_flight_bytes -= size

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._max_read_s):
                yield
        except TimeoutError as error:
            raise SlowBody(
                f"the body did not arrive within {self._max_read_s:g} s", hint="send it again"
            ) from error

    async def _decompress(self, decoder: Callable[[bytes, int], bytes], body: bytes) -> bytes:
        if len(body) > THREAD_ABOVE_BYTES // 8:
            return await self.lane.run(partial(decoder, body, self._max_body_bytes))
        return decoder(body, self._max_body_bytes)

    def _hold(self, size: int) -> None:
        if self._in_flight_bytes + size > self._max_in_flight_bytes:
            raise Overloaded("too many bytes are being received at once", hint="retry later")
        self._in_flight_bytes += size


def too_large(limit: int) -> LimitExceeded:
    """The error of a body past its bound; receivers answer it with 413."""
    return LimitExceeded(
        f"the body is larger than {limit} bytes",
        reason="body_size",
        hint="send smaller batches",
    )


def decompress(body: bytes, content_encoding: str, limit: int = MAX_BODY_BYTES) -> bytes:
    """A whole body decompressed; it never becomes larger than `limit`.

    Raises:
        UnsupportedMedia, LimitExceeded, BadInput: As `BodyReader.read`.
    """
    decoder = _decoder(content_encoding)
    return body if decoder is None else decoder(body, limit)


def _decoder(content_encoding: str) -> Callable[[bytes, int], bytes] | None:
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return None
    decoders = {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _inflate, "zstd": _unzstd}
    if name not in decoders:
        raise UnsupportedMedia(
            f"the Content-Encoding {name[:40]!r} is not supported",
            hint="use gzip, deflate, zstd or none",
        )
    return decoders[name]


def _gunzip(body: bytes, limit: int) -> bytes:
    out = bytearray()
    rest = body
    while rest:
        rest = _zlib_member(rest, _GZIP, out, limit)
    return bytes(out)


def _inflate(body: bytes, limit: int) -> bytes:
    # "deflate" is zlib by the RFC, and raw deflate from some clients.
    is_zlib = len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    out = bytearray()
    _zlib_member(body, _ZLIB if is_zlib else _RAW_DEFLATE, out, limit)
    return bytes(out)


def _zlib_member(body: bytes, window_bits: int, out: bytearray, limit: int) -> bytes:
    stream = zlib.decompressobj(window_bits)
    try:
        out += stream.decompress(body, limit - len(out) + 1)
    except zlib.error as error:
        raise _damaged() from error
    if len(out) > limit:
        raise too_large(limit)
    if not stream.eof:
        raise _damaged()
    return stream.unused_data


def _unzstd(body: bytes, limit: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
    out = bytearray()
    rest = body
    while rest:
        rest = _zstd_frame(rest, decompressor.decompressobj(), out, limit)
    return bytes(out)


def _zstd_frame(
    body: bytes, stream: zstandard.ZstdDecompressionObj, out: bytearray, limit: int
) -> bytes:
    view = memoryview(body)
    for place in range(0, len(body), _ZSTD_SLICE_BYTES):
        try:
            out += stream.decompress(view[place : place + _ZSTD_SLICE_BYTES])
        except zstandard.ZstdError as error:
            raise _damaged() from error
        if len(out) > limit:
            raise too_large(limit)
        if stream.eof:
            return stream.unused_data + body[place + _ZSTD_SLICE_BYTES :]
    raise _damaged()


def _damaged() -> DamagedBody:
    return DamagedBody("the compressed body is damaged or cut short", hint="send it again")
