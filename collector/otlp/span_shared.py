"""What spans of a service share: name, status and attributes, decoded once and remembered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from collector.otlp.attributes import MAX_ATTRIBUTES, MAX_KEY_LENGTH, json_object, plain
from collector.otlp.wire import span_fields

MAX_NAME_LENGTH = 1024
MAX_STATUS = 2

_TEXT_COLUMNS = (
    "http_method",
    "http_route",
    "url",
    "server_address",
    "db_system",
    "statement",
    "code_file",
    "code_function",
)
_NUMBER_COLUMNS = ("http_status", "code_line")
PROMOTED = _TEXT_COLUMNS + _NUMBER_COLUMNS
# Columns of `Combinations.codes` and of `Combinations.numbers`.
TEXTS = ("name", "status_message", "attributes", *_TEXT_COLUMNS)
NUMBERS = ("status", *_NUMBER_COLUMNS)
NONE = -1
_NUMBER_BOUND = {"http_status": 2**15 - 1, "code_line": 2**31 - 1}

# Attribute → column, best source first. A loser stays in `attributes`.
_SOURCES: dict[str, tuple[str, ...]] = {
    "http_method": ("http.request.method", "http.method"),
    "http_route": ("http.route",),
    "http_status": ("http.response.status_code", "http.status_code"),
    "url": ("url.full", "http.url", "url.path", "http.target"),
    "server_address": ("server.address", "net.peer.name", "http.host", "net.peer.ip"),
    "db_system": ("db.system.name", "db.system"),
    "statement": ("db.query.text", "db.statement"),
    "code_file": ("code.file.path", "code.filepath"),
    "code_line": ("code.line.number", "code.lineno"),
    "code_function": ("code.function.name", "code.function"),
}
_PLACES: dict[str, tuple[int, int]] = {
    key: (PROMOTED.index(column), rank)
    for column, keys in _SOURCES.items()
    for rank, key in enumerate(keys)
}
_URL = PROMOTED.index("url")
# Its query is an attribute of its own, where that of the others is a part of them.
_BARE_PATH = "url.path"
_QUERY = "url.query"

# One attribute: its key, its value, and its promoted column and rank, if any.
Attribute = tuple[str, Any, tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class Shared:
    """One distinct combination.

    Attributes:
        cells: A cell for each of `PROMOTED`.
        rest: The other attributes, a JSON object.
    """

    name: str
    status: int
    status_message: str | None
    cells: tuple[Any, ...]
    rest: str | None


class Combinations:
    """Combinations that were seen, a row each, and each of their texts once, under a number.

    Only ever added to: who has found a row may read `codes`, `numbers` and `texts` unlocked
    afterwards, whatever others add meanwhile.

    Attributes:
        rows: The row of a 128-bit hash.
        codes: For each of `TEXTS` the number of the text, or `NONE`.
        numbers: Each of `NUMBERS`, or `NONE`.
        characters: Of all texts together.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], int] = {}
        self.codes: npt.NDArray[np.int32] = np.empty((_ROOM, len(TEXTS)), dtype=np.int32)
        self.numbers: npt.NDArray[np.int32] = np.empty((_ROOM, len(NUMBERS)), dtype=np.int32)
        self.texts: list[str] = []
        self.characters = 0
        self._places: dict[str, int] = {}
        self._adding = Lock()

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, key: tuple[int, int], shared: Shared) -> int:
        """The combination's row, a new one where its hash is not known."""
        promoted = len(_TEXT_COLUMNS)
        texts = (shared.name, shared.status_message, shared.rest, *shared.cells[:promoted])
        numbers = (shared.status, *shared.cells[promoted:])
        with self._adding:
            row = self.rows.get(key)
            if row is None:
                row = len(self.rows)
                if row == len(self.codes):
                    self.codes = np.concatenate((self.codes, np.empty_like(self.codes)))
                    self.numbers = np.concatenate((self.numbers, np.empty_like(self.numbers)))
                self.codes[row] = [NONE if text is None else self._code(text) for text in texts]
                self.numbers[row] = [NONE if number is None else number for number in numbers]
                self.rows[key] = row
        return row

    def _code(self, text: str) -> int:
        code = self._places.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
            self.characters += len(text)
        return code


_ROOM = 256


class SharedDecoder:
    """Decodes combinations; remembers them and single attributes between bodies, within bounds."""

    def __init__(self, *, max_known: int = 20_000, max_known_bytes: int = 1_024) -> None:
        self._known: dict[bytes, Attribute] = {}
        self._seen = Combinations()
        self._max_known = max_known
        self._max_known_bytes = max_known_bytes

    def __len__(self) -> int:
        return len(self._seen)

    def seen(self) -> Combinations:
        """Combinations of earlier bodies. A body keeps to what it got here."""
        return self._seen

    def decode(
        self, key: tuple[int, int], body: bytes, places: list[int], into: Combinations
    ) -> int:
        """Decode a combination. Its row, or `NONE` when it is malformed.

        Args:
            key: Its 128-bit hash.
            body: What it lies in.
            places: Start and end there of its name, its status and its attributes.
            into: What it is added to.
        """
        name, status, attributes = (
            body[start:end] for start, end in zip(places[::2], places[1::2], strict=True)
        )
        try:
            row = into.add(key, self._decoded(name, status, attributes))
        except (DecodeError, UnicodeDecodeError):
            return NONE
        self._bound()
        return row

    def _bound(self) -> None:
        """Forget all, where it is too much. Bodies that are being decoded keep what they got."""
        held = self._seen
        if len(held) > self._max_known or held.characters > self._max_known * self._max_known_bytes:
            self._seen = Combinations()

    def _decoded(self, name: bytes, status: bytes, attributes: bytes) -> Shared:
        told = Status.FromString(status)
        code = told.code
        cells, rest = self._attributes(span_fields(attributes).attributes)
        return Shared(
            name.decode()[:MAX_NAME_LENGTH],
            code if 0 <= code <= MAX_STATUS else 0,
            told.message[:MAX_NAME_LENGTH] or None,
            cells,
            rest,
        )

    def _attributes(self, encoded: Iterable[bytes]) -> tuple[tuple[Any, ...], str | None]:
        rest: dict[str, Any] = {}
        row: list[Any] = [None] * len(PROMOTED)
        held: dict[int, tuple[int, str]] = {}
        for part in encoded:
            key, value, promoted = self._known.get(part) or self._parse(part)
            if promoted is None:
                if len(rest) < MAX_ATTRIBUTES:
                    rest[key] = value
                continue
            place, rank = promoted
            holder = held.get(place)
            if holder is not None and holder[0] <= rank:
                rest[key] = value
                continue
            if holder is not None:
                rest[holder[1]] = row[place]
            held[place] = (rank, key)
            row[place] = value
        if _QUERY in rest and held.get(_URL, (0, ""))[1] == _BARE_PATH:
            row[_URL] = _with_query(row[_URL], rest)
        return tuple(row), json_object(rest)

    def _parse(self, part: bytes) -> Attribute:
        message = KeyValue.FromString(part)
        key, value = message.key, plain(message.value)
        promoted = _PLACES.get(key)
        if promoted is not None and not _fits(promoted[0], value):
            promoted = None
        found = (key[:MAX_KEY_LENGTH], value, promoted)
        if len(part) <= self._max_known_bytes:
            # Another thread may be decoding too: replacing the dict is safe, clearing it is not.
            if len(self._known) >= self._max_known:
                self._known = {}
            self._known[part] = found
        return found


def _with_query(path: str, rest: dict[str, Any]) -> str:
    """The path with the query, which is one of the other attributes no longer."""
    query = rest[_QUERY]
    if not isinstance(query, str) or not query or "?" in path:
        return path
    del rest[_QUERY]
    return f"{path}?{query.removeprefix('?')}"


def _fits(place: int, value: object) -> bool:
    if place < len(_TEXT_COLUMNS):
        return isinstance(value, str)
    bound = _NUMBER_BOUND[PROMOTED[place]]
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= bound
