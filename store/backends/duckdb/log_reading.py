"""What the segments of an append log still hold after a crash, a torn write or a flipped bit.

A frame counts when its checksum does. After damage the next whole frame is looked for, so a flipped
bit costs its own round and no other. What lies behind the last whole frame of the log is a write
that a crash interrupted; nobody was told that it is durable.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from store.backends.duckdb.append_log import (
    FRAME,
    FRAME_MAGIC,
    SEGMENT,
    SEGMENT_MAGIC,
    checksum,
    segments_of,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame: its number and its payload."""

    number: int
    payload: memoryview


@dataclass(slots=True)
class Segment:
    """A segment file as found.

    Attributes:
        log_id: Which log it belongs to; None when its header is not readable.
        frames: Whole frames, ascending.
        damaged: Bytes between whole frames that hold together with nothing.
        cut: Bytes after the last whole frame.
    """

    path: Path
    log_id: int | None
    frames: list[Frame] = field(default_factory=list)
    damaged: int = 0
    cut: int = 0


def read_segments(directory: Path) -> Iterator[Segment]:
    """Each segment of a log, oldest first."""
    for path in segments_of(directory):
        yield read_segment(path)


def read_segment(path: Path) -> Segment:
    """All that holds together in one file."""
    content = path.read_bytes()
    found = Segment(path, _log_id(content))
    offset = SEGMENT.size
    last = 0
    while True:
        whole = _frame_at(content, offset, last)
        if whole is not None:
            found.frames.append(whole)
            last = whole.number
            offset += FRAME.size + len(whole.payload)
            continue
        following = _next_frame(content, offset + 1, last)
        if following is None:
            found.cut = len(content[offset:].rstrip(b"\0"))
            return found
        found.damaged += following - offset
        offset = following


def _log_id(content: bytes) -> int | None:
    if len(content) < SEGMENT.size:
        return None
    magic, log_id, _, crc = SEGMENT.unpack_from(content)
    sound = magic == SEGMENT_MAGIC and crc == zlib.crc32(content[8:24])
    return int(log_id) if sound else None


def _frame_at(content: bytes, offset: int, after: int) -> Frame | None:
    """The frame that begins here, or None when there is no whole one of a later number."""
    begin = offset + FRAME.size
    if begin > len(content):
        return None
    magic, crc, number, length = FRAME.unpack_from(content, offset)
    if magic != FRAME_MAGIC or number <= after or length > len(content) - begin:
        return None
    payload = memoryview(content)[begin : begin + length]
    return Frame(number, payload) if checksum(number, length, [payload]) == crc else None


def _next_frame(content: bytes, offset: int, after: int) -> int | None:
    place = content.find(FRAME_MAGIC, offset)
    while place >= 0:
        if _frame_at(content, place, after) is not None:
            return place
        place = content.find(FRAME_MAGIC, place + 1)
    return None
