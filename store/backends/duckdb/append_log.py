"""The append log: what an acknowledgement promises, before the database has it.

One frame a round: a header (magic, CRC-32, number, length; little-endian) and the payload. Numbers
ascend by one and are never given twice. Frames lie in segment files of a bounded size, each begun
by a header with the log's identity. A frame is acknowledged after `fdatasync`. A segment goes when
the database holds all of its frames.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from store.errors import StoreUnavailable

_log = structlog.get_logger()

FRAME = struct.Struct("<4sIQQ")
FRAME_MAGIC = b"\xabWRf"
SEGMENT = struct.Struct("<8sQQI4x")
SEGMENT_MAGIC = b"WARLOG01"
_NUMBERS = struct.Struct("<QQ")
_NAME = "segment-"
_NO_FALLOCATE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}

Part = bytes | memoryview


class AppendLog(Protocol):
    """Where rounds are made durable. `append` belongs to one thread, `drop` to any.

    Attributes:
        keeps: Whether it reads what it is given.
    """

    keeps: bool

    def append(self, parts: Sequence[Part]) -> int:
        """Write one frame; returns its number once it is durable."""
        ...

    def drop(self, upto: int) -> None:
        """Forget frames up to and with this number: the database has them."""
        ...

    def bytes_used(self) -> int: ...

    def close(self) -> None:
        """Let go of the files. Frames that were not dropped stay for the next start."""
        ...

    def empty(self) -> None:
        """Close and leave nothing behind: the database has everything."""
        ...


class MemoryLog:
    """The log of a store in memory: it only counts."""

    keeps = False

    def __init__(self) -> None:
        self._last = 0

    def append(self, parts: Sequence[Part]) -> int:
        del parts
        self._last += 1
        return self._last

    def drop(self, upto: int) -> None:
        del upto

    def bytes_used(self) -> int:
        return 0

    def close(self) -> None:
        return

    def empty(self) -> None:
        return


@dataclass(slots=True)
class _Segment:
    """One file of the log; `last` is the number of its last frame, or 0."""

    path: Path
    size: int
    last: int = 0


class DiskLog:
    """Frames in segment files of one directory.

    A failed write leaves the log as it was: what it left behind is cut off before the next frame.
    """

    keeps = True

    def __init__(self, directory: Path, log_id: int, last: int, segment_bytes: int) -> None:
        self._directory = directory
        self._log_id = log_id
        self._last = last
        self._segment_bytes = segment_bytes
        self._guard = threading.Lock()
        self._segments = [_Segment(path, _size(path), last) for path in segments_of(directory)]
        self._fd = -1
        self._offset = 0
        self._room = 0
        self._suspect = False

    def append(self, parts: Sequence[Part]) -> int:
        """Write one frame.

        Raises:
            StoreUnavailable: The file system refused; nothing was added.
        """
        try:
            return self._append(parts)
        except OSError as exc:
            self._suspect = True
            raise refused(exc, self._directory) from exc

    def _append(self, parts: Sequence[Part]) -> int:
        number = self._last + 1
        length = sum(map(len, parts))
        size = FRAME.size + length
        if self._suspect:
            self._cut()
        if size > self._room - self._offset:
            self._roll(size)
        header = FRAME.pack(FRAME_MAGIC, checksum(number, length, parts), number, length)
        _write_all(self._fd, [header, *parts], self._offset, size)
        self._sync()
        self._offset += size
        self._last = number
        self._segments[-1].last = number
        return number

    def _sync(self) -> None:
        os.fdatasync(self._fd)

    def _cut(self) -> None:
        """After a failure nobody knows what the file holds behind the last good frame."""
        if self._fd >= 0:
            os.ftruncate(self._fd, self._offset)
            os.fsync(self._fd)
            current = self._segments[-1]
            current.size = self._offset
            if not current.last:
                current.path.unlink()
                with self._guard:
                    self._segments.remove(current)
            self._release()
        self._suspect = False

    def _release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._offset, self._room = -1, 0, 0

    def _roll(self, needed: int) -> None:
        """Go on in a new file; its space is taken at once, so a full disk shows here."""
        self._directory.mkdir(exist_ok=True)
        path = self._directory / f"{_NAME}{self._next_place():010d}"
        room = max(self._segment_bytes, SEGMENT.size + needed)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            _take_space(fd, room)
            os.pwrite(fd, segment_header(self._log_id, self._last + 1), 0)
            os.fsync(fd)
            sync_directory(self._directory)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                path.unlink()
            raise
        self._release()
        self._fd, self._offset, self._room = fd, SEGMENT.size, room
        with self._guard:
            self._segments.append(_Segment(path, room))

    def _next_place(self) -> int:
        return 1 + max((place_of(segment.path) for segment in self._segments), default=0)

    def drop(self, upto: int) -> None:
        with self._guard:
            current = self._segments[-1] if self._fd >= 0 else None
            for segment in list(self._segments):
                if segment is not current and segment.last <= upto and self._unlink(segment):
                    self._segments.remove(segment)

    def _unlink(self, segment: _Segment) -> bool:
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as exc:
            _log.warning("log segment stays", file=str(segment.path), error=str(exc))
            return False
        return True

    def bytes_used(self) -> int:
        with self._guard:
            return sum(segment.size for segment in self._segments)

    def close(self) -> None:
        """Let go of the files. Frames that were not dropped stay for the next start."""
        self._release()

    def empty(self) -> None:
        """Close, and leave no file behind: the database has everything."""
        self._release()
        self.drop(self._last)
        with suppress(OSError):
            self._directory.rmdir()


def segments_of(directory: Path) -> list[Path]:
    """The segment files of a log, oldest first."""
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if path.name[len(_NAME) :].isdecimal()]
    return sorted((path for path in found if path.name.startswith(_NAME)), key=place_of)


def place_of(path: Path) -> int:
    """A segment's place in the row of segments."""
    return int(path.name[len(_NAME) :])


def segment_header(log_id: int, first: int) -> bytes:
    """The first bytes of a segment."""
    crc = zlib.crc32(_NUMBERS.pack(log_id, first))
    return SEGMENT.pack(SEGMENT_MAGIC, log_id, first, crc)


def checksum(number: int, length: int, parts: Sequence[Part]) -> int:
    """CRC-32 over a frame's number, length and payload."""
    crc = zlib.crc32(_NUMBERS.pack(number, length))
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def refused(exc: OSError, path: Path, what: str = "log") -> StoreUnavailable:
    """What an error of the file system means to a caller, with a remedy."""
    if exc.errno in _FULL:
        hint = "free space on this disk; writing goes on by itself afterwards"
    elif exc.errno in _FORBIDDEN:
        hint = "make the data directory writable for this user"
    else:
        hint = "see the log of the system; writing goes on by itself once the disk works again"
    return StoreUnavailable(f"the {what} {path} failed: {exc.strerror or exc}", hint=hint)


def _write_all(fd: int, parts: list[Part], offset: int, size: int) -> None:
    written = os.pwritev(fd, parts, offset)
    if written == size:
        return
    rest = memoryview(b"".join(parts))[written:]
    while rest:
        written = os.pwrite(fd, rest, offset + size - len(rest))
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]


def _take_space(fd: int, size: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as exc:
        if exc.errno not in _NO_FALLOCATE:
            raise


def _size(path: Path) -> int:
    return path.stat().st_size
