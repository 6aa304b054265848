"""The queue of one endpoint on disk: segments that are appended to, read once, and removed.

A record is a header (length, checksum, shard, number of shards, samples, newest time in ms) and a
snappy block. A write that a crash cut short is cut off at the next start. `position` holds how far
the endpoint has taken everything; what lies behind it is sent again after a crash.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog

from collector.forward.write_request import Piece
from store.errors import StoreUnavailable

_HEADER = struct.Struct("<IIHHIq")
_BODY_OF_HEADER = struct.Struct("<HHIq")
_POSITION = struct.Struct("<QQI")
MAX_RECORD_BYTES = 64 * 1024 * 1024
MAX_SEGMENT_BYTES = 16 * 1024 * 1024
# What is done stays a while: after a crash it tells what had reached the queue.
KEPT_MS = 60_000
_SUFFIX = ".segment"

log = structlog.get_logger()


class Position(NamedTuple):
    """A place in the log: a segment's number and an offset in it."""

    segment: int
    offset: int


class Read(NamedTuple):
    """A record and where the next one begins."""

    piece: Piece
    end: Position


@dataclass(slots=True)
class _Segment:
    """What is known of a segment: its bytes, the samples not read yet, its latest time."""

    size: int = 0
    unread: int = 0
    newest_ms: int = 0


class SegmentLog:
    """Append, read in order, settle. Safe to use from any thread.

    Args:
        directory: Its own; it is made.
        max_bytes: More on disk drops the oldest segment.
        dropped: Told of samples that are lost unread, with the reason: `queue_full` or `damaged`.

    Raises:
        StoreUnavailable: The directory cannot be made or read.
    """

    def __init__(
        self, directory: Path, *, max_bytes: int, dropped: Callable[[str, int], None]
    ) -> None:
        self._directory = directory
        self._dropped = dropped
        self._max_bytes = max_bytes
        self._segment_bytes = min(MAX_SEGMENT_BYTES, max_bytes // 4)
        self._lock = threading.Lock()
        self._segments: dict[int, _Segment] = {}
        self._writer: int | None = None
        self._reader: tuple[int, int] | None = None  # segment, descriptor
        self._done = self._next = Position(1, 0)
        self._position_file = -1
        self.newest_ms = 0
        self.written_ms = 0  # when the process before this one last wrote, by the file system
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise StoreUnavailable(
                f"the queue in {directory} cannot be opened: {error.strerror}",
                hint="check the rights of the data directory and its free space",
            ) from error

    @property
    def bytes_on_disk(self) -> int:
        """Never waits for the disk, and so takes no lock."""
        return sum(segment.size for segment in list(self._segments.values()))

    @property
    def unread(self) -> int:
        """Samples that no reader has taken yet; likewise."""
        return sum(segment.unread for segment in list(self._segments.values()))

    def append(self, pieces: list[Piece], compressed: list[bytes]) -> None:
        """Write records at the end; they survive the end of the process from then on.

        Raises:
            OSError: The disk is full or broken; nothing of these was written.
        """
        records = b"".join(
            _record(piece, block) for piece, block in zip(pieces, compressed, strict=True)
        )
        with self._lock:
            segment = self._roll()
            fd = self._writer
            assert fd is not None
            try:
                _write(fd, records, segment.size)
            except OSError:
                os.ftruncate(fd, segment.size)
                raise
            segment.size += len(records)
            segment.unread += sum(piece.samples for piece in pieces)
            self._saw(segment, max(piece.newest_ms for piece in pieces))
            self._drop_oldest()

    def read(self) -> Read | None:
        """The next record, or None at the end. Damaged ones are skipped and counted."""
        with self._lock:
            while True:
                at = self._next
                segment = self._segments.get(at.segment)
                if segment is not None and at.offset < segment.size:
                    found = self._read_at(at, segment)
                    if found is not None:
                        self._next = found.end
                        return found
                    continue
                later = [number for number in self._segments if number > at.segment]
                if not later:
                    return None
                self._next = Position(min(later), 0)

    def recent(self, since_ms: int) -> Iterator[bytes]:
        """Payloads of the kept records with a time from then on, settled or not; for the start."""
        with self._lock:
            kept = [(n, s.size) for n, s in self._segments.items() if s.newest_ms >= since_ms]
        for number, size in kept:
            with self._path(number).open("rb") as file:
                while file.tell() < size and (header := _header(file.read(_HEADER.size))):
                    body = file.read(header.length)
                    if header.newest_ms >= since_ms and header.holds(body):
                        yield body

    def settle(self, position: Position) -> None:
        """Everything before this place is done with. Whole segments before it are removed.

        Raises:
            OSError: The position cannot be written.
        """
        with self._lock:
            self._done = position
            checked = struct.pack("<QQ", *position)
            os.pwrite(self._position_file, checked + struct.pack("<I", zlib.crc32(checked)), 0)
            for number, segment in list(self._segments.items()):
                old = segment.newest_ms < self.newest_ms - KEPT_MS
                if number < position.segment and old:
                    self._remove(number)

    def sync(self) -> None:
        """Bring what was written past a loss of power."""
        with self._lock:
            fd = -1 if self._writer is None else os.dup(self._writer)
        if fd >= 0:
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def close(self) -> None:
        with self._lock:
            for fd in (self._writer, self._reader and self._reader[1], self._position_file):
                if fd is not None and fd >= 0:
                    os.close(fd)
            self._writer = self._reader = None
            self._position_file = -1

    # -- under the lock ------------------------------------------------------

    def _open(self) -> None:
        self._position_file = os.open(self._directory / "position", os.O_RDWR | os.O_CREAT, 0o600)
        numbers = sorted(
            int(path.stem) for path in self._directory.glob(f"*{_SUFFIX}") if path.stem.isdecimal()
        )
        self._done = self._next = self._stored_position(numbers)
        for number in numbers:
            after = self._done.offset if number == self._done.segment else 0
            after = MAX_RECORD_BYTES * 1024 if number < self._done.segment else after
            self._segments[number] = self._scanned(number, after, last=number == numbers[-1])

    def _stored_position(self, numbers: list[int]) -> Position:
        raw = os.pread(self._position_file, _POSITION.size, 0)
        if len(raw) == _POSITION.size:
            segment, offset, checksum = _POSITION.unpack(raw)
            if zlib.crc32(raw[:16]) == checksum:
                return Position(segment, offset)
        return Position(numbers[0] if numbers else 1, 0)

    def _scanned(self, number: int, after: int, *, last: bool) -> _Segment:
        """A segment found at the start; the last one loses a torn end."""
        path = self._path(number)
        size = path.stat().st_size
        self.written_ms = max(self.written_ms, path.stat().st_mtime_ns // 1_000_000)
        segment = _Segment()
        with path.open("rb") as file:
            at = unread = 0
            while header := _header(file.read(_HEADER.size)):
                end = at + _HEADER.size + header.length
                if end > size:
                    break
                unread += header.samples if at >= after else 0
                # Only the end of the last segment can be torn by a crash. What is damaged before
                # a whole record stays: the reader skips and counts it.
                if not last or header.holds(file.read(header.length)):
                    self._saw(segment, header.newest_ms)
                    segment.size, segment.unread = end, unread
                file.seek(end)
                at = end
        if segment.size < size:
            log.warning("forward queue cut", file=str(path), bytes=size - segment.size)
            os.truncate(path, segment.size)
        return segment

    def _roll(self) -> _Segment:
        """The segment that is written to: a new one at the start and when the last is full."""
        number = max(self._segments, default=self._done.segment)
        if self._writer is not None and self._segments[number].size < self._segment_bytes:
            return self._segments[number]
        number += 1
        fd = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        if self._writer is not None:
            os.close(self._writer)
        self._writer = fd
        segment = self._segments[number] = _Segment()
        return segment

    def _drop_oldest(self) -> None:
        while len(self._segments) > 1:
            total = sum(segment.size for segment in self._segments.values())
            if total <= self._max_bytes:
                return
            oldest = min(self._segments)
            if self._segments[oldest].unread:
                self._dropped("queue_full", self._segments[oldest].unread)
            self._remove(oldest)

    def _saw(self, segment: _Segment, newest_ms: int) -> None:
        segment.newest_ms = max(segment.newest_ms, newest_ms)
        self.newest_ms = max(self.newest_ms, newest_ms)

    def _remove(self, number: int) -> None:
        del self._segments[number]
        self._path(number).unlink(missing_ok=True)

    def _read_at(self, at: Position, segment: _Segment) -> Read | None:
        fd = self._descriptor(at.segment)
        header = _header(os.pread(fd, _HEADER.size, at.offset))
        body = b""
        if header is not None:
            body = os.pread(fd, header.length, at.offset + _HEADER.size)
        end = at.offset + _HEADER.size + (header.length if header else 0)
        if header is None or not header.holds(body):
            # Without a length that can be, nothing says where the next record begins.
            goes_on = header is not None and end < segment.size
            lost = segment.unread
            if header is not None and goes_on:
                lost = min(lost, header.samples)
            log.error("forward queue damaged", segment=at.segment, offset=at.offset, samples=lost)
            self._dropped("damaged", lost)
            segment.unread -= lost
            self._next = Position(at.segment, end if goes_on else segment.size)
            return None
        segment.unread = max(0, segment.unread - header.samples)
        piece = Piece(header.shard, header.shards, header.samples, header.newest_ms, body)
        return Read(piece, Position(at.segment, end))

    def _descriptor(self, number: int) -> int:
        if self._reader is not None:
            if self._reader[0] == number:
                return self._reader[1]
            os.close(self._reader[1])
            self._reader = None
        fd = os.open(self._path(number), os.O_RDONLY)
        self._reader = (number, fd)
        return fd

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:010}{_SUFFIX}"


class _Header(NamedTuple):
    length: int
    checksum: int
    shard: int
    shards: int
    samples: int
    newest_ms: int

    def holds(self, body: bytes) -> bool:
        """Whether a body is the one that was written."""
        return len(body) == self.length and _checksum(*self[2:], body) == self.checksum


def _header(raw: bytes) -> _Header | None:
    if len(raw) < _HEADER.size:
        return None
    header = _Header(*_HEADER.unpack(raw))
    return header if 0 < header.length <= MAX_RECORD_BYTES and header.shards else None


def _record(piece: Piece, block: bytes) -> bytes:
    fields = (piece.shard, piece.shards, piece.samples, piece.newest_ms)
    return _HEADER.pack(len(block), _checksum(*fields, block), *fields) + block


def _checksum(shard: int, shards: int, samples: int, newest_ms: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(_BODY_OF_HEADER.pack(shard, shards, samples, newest_ms)))


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
