"""What a checkpoint of DuckDB writes over in place, kept aside until the checkpoint is whole.

DuckDB writes a checkpoint beside the old one and then switches to it by one page, but for its
metadata: a block of it that has room is written over where it lies, and the old checkpoint needs
it too. A process killed within that write, or a power cut, leaves a block of old and new bytes,
and with it a file that no longer opens. So its bytes go to a journal first, durably, as SQLite's
rollback journal has it (https://www.sqlite.org/lockingv3.html#rollback); a start puts them back
when the switch was not made.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np

from store.backends.duckdb.append_log import refused, sync_directory

_MAGIC = b"WRJRNL01"
# Magic, bytes behind this header, CRC-32 of them.
_HEADER = struct.Struct("<8sQI")
# Offset and length of one piece, before its bytes.
_PIECE = struct.Struct("<QQ")

# DuckDB's file: a page that says what it is, two that say in turn which checkpoint holds, blocks.
_PAGE_BYTES = 4096
_SWITCHES = (_PAGE_BYTES, 2 * _PAGE_BYTES)
_FIRST_BLOCK = 3 * _PAGE_BYTES

Piece = tuple[int, bytes]


class RollbackJournal:
    """The journal of one database file. One thread at a time may use it.

    The file stays open: closing any descriptor of it would drop DuckDB's lock on it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._path = journal_of(file)
        self._database_fd = -1
        self._fd = -1

    @contextmanager
    def around(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Put this around whatever may make a checkpoint.

        Raises:
            StoreUnavailable: The journal cannot be written; nothing was begun.
        """
        try:
            self._keep(connection)
        except OSError as exc:
            raise refused(exc, self._path, "journal") from exc
        yield
        # Not after a failure: DuckDB may have left a block half written.
        os.pwrite(self._fd, bytes(_HEADER.size), 0)

    def _keep(self, connection: duckdb.DuckDBPyConnection) -> None:
        if self._fd < 0:
            self._open()
        pieces = [(at, os.pread(self._database_fd, _PAGE_BYTES, at)) for at in _SWITCHES]
        size, blocks = _metadata_blocks(connection)
        for block in blocks:
            at = _FIRST_BLOCK + block * size
            content = os.pread(self._database_fd, size, at)
            if len(content) == size:  # else it was never written
                pieces.append((at, content))
        _write(self._fd, pieces)

    def _open(self) -> None:
        self._database_fd = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        sync_directory(self._path.parent)

    def close(self) -> None:
        """Let go of the files, when DuckDB has."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._database_fd >= 0:
            os.close(self._database_fd)
            self._database_fd = -1


def journal_of(file: Path) -> Path:
    """The journal of a database file."""
    return file.with_name(f"{file.name}.journal")


def take_back(file: Path) -> bool:
    """Undo what an unfinished checkpoint wrote over; True when there was one.

    Raises:
        StoreUnavailable: A file cannot be read or written; the next call tries again.
    """
    journal = journal_of(file)
    try:
        fd = os.open(journal, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise refused(exc, journal, "journal") from exc
    try:
        pieces = _read(fd)
        undone = bool(pieces) and file.exists() and _put_back(file, pieces)
        os.pwrite(fd, bytes(_HEADER.size), 0)
        os.fdatasync(fd)
    except OSError as exc:
        raise refused(exc, journal, "journal") from exc
    finally:
        os.close(fd)
    return undone


def _put_back(file: Path, pieces: Sequence[Piece]) -> bool:
    fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        if _is_finished(fd, pieces[: len(_SWITCHES)]):
            return False
        for at, content in pieces:
            _write_at(fd, content, at)
        os.fsync(fd)
    finally:
        os.close(fd)
    return True


def _is_finished(fd: int, switches: Sequence[Piece]) -> bool:
    """Whether one of the two pages was written anew, and whole: a torn one holds nothing."""
    changed = [page for at, before in switches if (page := os.pread(fd, _PAGE_BYTES, at)) != before]
    # Should DuckDB ever count otherwise, no page is whole, and a changed one is taken at its word.
    counts_alike = any(_is_whole(before) for _, before in switches)
    return any(_is_whole(page) or not counts_alike for page in changed)


def _is_whole(page: bytes) -> bool:
    """Whether the checksum before a page of DuckDB's file is that of its content.

    The formula is that of `Checksum` in its `src/common/checksum.cpp`, for whole words.
    """
    if len(page) != _PAGE_BYTES:
        return False
    words = np.frombuffer(page, dtype="<u8")
    mixed = words[1:] * np.uint64(0xBF58476D1CE4E5B9)
    return bool((np.bitwise_xor.reduce(mixed) ^ np.uint64(5381)) == words[0])


def _metadata_blocks(connection: duckdb.DuckDBPyConnection) -> tuple[int, list[int]]:
    """The size of a block, and the places of those with metadata and room for more."""
    query = "SELECT block_size FROM pragma_database_size() WHERE database_name = current_database()"
    sizes: list[tuple[int]] = connection.execute(query).fetchall()
    query = "SELECT block_id FROM pragma_metadata_info() WHERE free_blocks > 0"
    blocks: list[tuple[int]] = connection.execute(query).fetchall()
    return sizes[0][0], [block for (block,) in blocks]


def _write(fd: int, pieces: Sequence[Piece]) -> None:
    parts = [part for at, content in pieces for part in (_PIECE.pack(at, len(content)), content)]
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    length = sum(map(len, parts))
    at = _HEADER.size
    for part in parts:
        at += _write_at(fd, part, at)
    _write_at(fd, _HEADER.pack(_MAGIC, length, crc), 0)
    os.fdatasync(fd)


def _write_at(fd: int, part: bytes, at: int) -> int:
    """All of it, however many writes the system makes of it."""
    view = memoryview(part)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written
    return len(part)


def _read(fd: int) -> list[Piece]:
    """The pieces of a whole journal; none of one that is empty, over or torn."""
    header = os.pread(fd, _HEADER.size, 0)
    if len(header) < _HEADER.size:
        return []
    magic, length, crc = _HEADER.unpack(header)
    if magic != _MAGIC or length > os.fstat(fd).st_size:
        return []
    body = os.pread(fd, length, _HEADER.size)
    if len(body) != length or zlib.crc32(body) != crc:
        return []
    pieces: list[Piece] = []
    at = 0
    while at < length:
        offset, size = _PIECE.unpack_from(body, at)
        at += _PIECE.size
        pieces.append((offset, body[at : at + size]))
        at += size
    return pieces
