"""Many watchers of one live board, in one thread: bytes and arrival times now, meaning later."""

from __future__ import annotations

import re
import selectors
import socket
import time
import zlib
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

import orjson

from bench.server import ANSWER_S, BenchFailed

_RECEIVE = 262_144
_POLL_S = 0.05
_GZIP = 31
_DELTA = re.compile(rb"^event: delta\ndata: (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One delta at one watcher. Seconds of the wall clock, which the server shares.

    Attributes:
        tick_s: The instant that the delta is about.
        sent_s: When the server had computed it and handed it out.
        came_s: When its last byte was read.
    """

    tick_s: float
    sent_s: float
    came_s: float


@dataclass(slots=True)
class Watcher:
    """One stream: what came, and when (wall clock, as the server's ticks are)."""

    socket: socket.socket
    came: list[tuple[float, bytes]] = field(default_factory=list)
    ended: bool = False


def connect(port: int, board: str) -> Watcher:
    """Ask for a board's stream, gzipped as browsers do."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S)
    request = (
        f"GET /api/warroom/v1/live?board={board} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Accept: text/event-stream\r\nAccept-Encoding: gzip\r\n\r\n"
    )
    sock.sendall(request.encode())
    sock.settimeout(0)
    return Watcher(sock)


def watch(watchers: list[Watcher], seconds: float) -> None:
    """Read all streams for a while."""
    selector = selectors.DefaultSelector()
    for watcher in watchers:
        if not watcher.ended:
            selector.register(watcher.socket, selectors.EVENT_READ, watcher)
    end = time.monotonic() + seconds
    try:
        while (left_s := end - time.monotonic()) > 0:
            for key, _ in selector.select(min(left_s, _POLL_S)):
                _read(selector, key.data)
    finally:
        selector.close()


def _read(selector: selectors.BaseSelector, watcher: Watcher) -> None:
    try:
        data = watcher.socket.recv(_RECEIVE)
    except BlockingIOError:
        return
    except ConnectionError:
        data = b""
    if data:
        watcher.came.append((time.time(), data))
    else:
        watcher.ended = True
        selector.unregister(watcher.socket)


def arrivals(watcher: Watcher) -> list[Arrival]:
    """The deltas that came whole.

    Raises:
        BenchFailed: The server answered something else than a stream.
    """
    data = b"".join(part for _, part in watcher.came)
    head, found, _ = data.partition(b"\r\n\r\n")
    if not found or b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise BenchFailed(f"the live stream answered {data[:300]!r}")
    unzip = zlib.decompressobj(_GZIP)
    came: list[Arrival] = []
    ends = list(accumulate(len(part) for _, part in watcher.came))
    for chunk, end in _chunks(data, len(head) + 4):
        at_s = watcher.came[bisect_left(ends, end)][0]
        for told in _DELTA.findall(unzip.decompress(chunk)):
            delta = orjson.loads(told)
            came.append(Arrival(delta["now_ms"] / 1000, delta["sent_ms"] / 1000, at_s))
    return came


def _chunks(data: bytes, start: int) -> list[tuple[bytes, int]]:
    """The chunks of a chunked answer that came whole, and where each ends."""
    chunks: list[tuple[bytes, int]] = []
    at = start
    while (line_end := data.find(b"\r\n", at)) > 0:
        size = int(data[at:line_end], 16)
        end = line_end + 2 + size + 2
        if size == 0 or end > len(data):
            break
        chunks.append((data[line_end + 2 : end - 2], end))
        at = end
    return chunks
