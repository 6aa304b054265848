"""Small protobuf messages in Python, field by field: labels, exemplars, metadata.

They are read where they are new; what comes with every request is the scanner's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from store.errors import BadInput
from store.model import Exemplar, Labels, MetricMetadata, MetricType

MAX_LABELS = 128
MAX_NAME_BYTES = 1024
MAX_VALUE_BYTES = 16 * 1024
# The numbers of both versions. Info and state sets have no type of ours.
TYPES = {
    1: MetricType.COUNTER,
    2: MetricType.GAUGE,
    3: MetricType.HISTOGRAM,
    4: MetricType.HISTOGRAM,
    5: MetricType.SUMMARY,
}

Pairs = list[tuple[bytes, bytes]]


class Symbols(Protocol):
    """The strings of a 2.0 request by their numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SlicedSymbols:
    """Symbols cut out of the body only where one is read: most are of series that are known.

    `ranges` has a row for each symbol: its start and end in `data`.
    """

    data: bytes
    ranges: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ranges)

    def __getitem__(self, place: int, /) -> bytes:
        start, end = self.ranges[place].tolist()
        return self.data[start:end]


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and raw values of a message: integers, or bytes (8 of them for a double).

    Raises:
        BadInput: It is no protobuf message.
    """
    place = 0
    while place < len(data):
        key, place = read_varint(data, place)
        wire = key & 7
        if wire == 0:
            value, place = read_varint(data, place)
            yield key >> 3, value
            continue
        if wire == 2:
            size, place = read_varint(data, place)
        else:
            size = {1: 8, 5: 4}.get(wire, -1)
        if size < 0 or place + size > len(data):
            raise BadInput("proto: a field is cut short or of an unknown wire type")
        yield key >> 3, data[place : place + size]
        place += size


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """A varint of 64 bits and the place after it.

    Raises:
        BadInput: It is cut short or too long.
    """
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise BadInput("proto: a varint is cut short or too long")


def signed(value: int) -> int:
    """An int64 as it comes out of a varint."""
    return value - (1 << 64) if value >= 1 << 63 else value


def label_pairs(data: bytes) -> Pairs:
    """The pairs of a message's Label fields (field 1), in 1.0's form.

    Raises:
        BadInput: It is no protobuf message.
    """
    return [_pair(raw) for number, raw in fields(data) if number == 1 and isinstance(raw, bytes)]


def _pair(data: bytes) -> tuple[bytes, bytes]:
    name = value = b""
    for number, raw in fields(data):
        if number == 1 and isinstance(raw, bytes):
            name = raw
        elif number == 2 and isinstance(raw, bytes):
            value = raw
    return name, value


def labels_of(pairs: Sequence[tuple[bytes, bytes]]) -> Labels | str:
    """A label set in whatever order it was sent, or the reason why it cannot be stored.

    A label with an empty value does not exist, in Prometheus as here.
    """
    kept = [pair for pair in pairs if pair[1]]
    if not kept:
        return "no_labels"
    reason = _refusal(kept)
    if reason:
        return reason
    try:
        return Labels([(name.decode(), value.decode()) for name, value in kept])
    except UnicodeDecodeError:
        return "label_not_utf8"


def _refusal(kept: Pairs) -> str:
    names = {name for name, _ in kept}
    wrong = {
        "too_many_labels": len(kept) > MAX_LABELS,
        "label_twice": len(names) < len(kept),
        "label_name_empty": b"" in names,
        "label_name_too_long": max(map(len, names)) > MAX_NAME_BYTES,
        "label_value_too_long": max(len(value) for _, value in kept) > MAX_VALUE_BYTES,
    }
    return next((reason for reason, holds in wrong.items() if holds), "")


def exemplar_v1(data: bytes, series: Labels) -> Exemplar | None:
    """An Exemplar of 1.0, or None when its labels cannot be.

    Raises:
        BadInput: It is no protobuf message.
    """
    value, ts_ms = _value_and_time(data)
    pairs = label_pairs(data)
    return _exemplar(pairs, series, value, ts_ms)


def exemplar_v2(data: bytes, series: Labels, symbols: Symbols) -> Exemplar | None:
    """An Exemplar of 2.0, or None when its labels cannot be.

    Raises:
        BadInput: It is no protobuf message, or refers to a symbol that is not there.
    """
    value, ts_ms = _value_and_time(data)
    places: list[int] = []
    for number, raw in fields(data):
        if number != 1:
            continue
        places += [raw] if isinstance(raw, int) else packed(raw)
    return _exemplar(symbol_pairs(places, symbols), series, value, ts_ms)


def _value_and_time(data: bytes) -> tuple[float, int]:
    """Fields 2 and 3 are the same in both versions."""
    value, ts_ms = 0.0, 0
    for number, raw in fields(data):
        if number == 2 and isinstance(raw, bytes) and len(raw) == 8:
            value = struct.unpack("<d", raw)[0]
        elif number == 3 and isinstance(raw, int):
            ts_ms = signed(raw)
    return value, ts_ms


def _exemplar(pairs: Pairs, series: Labels, value: float, ts_ms: int) -> Exemplar | None:
    labels = labels_of(pairs) if any(value for _, value in pairs) else Labels()
    if isinstance(labels, str):
        return None
    return Exemplar(series=series, labels=labels, ts_ms=ts_ms, value=value)


def packed(data: bytes) -> list[int]:
    """The varints of a packed field.

    Raises:
        BadInput: One is cut short or too long.
    """
    found, place = [], 0
    while place < len(data):
        value, place = read_varint(data, place)
        found.append(value)
    return found


def symbol_pairs(places: Sequence[int], symbols: Symbols) -> Pairs:
    """Names and values behind a run of references.

    Raises:
        BadInput: One points to no symbol, or there is an odd number.
    """
    if len(places) % 2 or any(place >= len(symbols) for place in places):
        raise bad_reference()
    texts = [symbols[place] for place in places]
    return list(zip(texts[::2], texts[1::2], strict=True))


def bad_reference() -> BadInput:
    """A label reference that cannot be followed."""
    return BadInput(
        "proto: a label refers to a symbol that is not there, or lacks its value",
        hint="send io.prometheus.write.v2.Request",
    )


def metadata_v1(data: bytes) -> MetricMetadata:
    """A MetricMetadata of 1.0.

    Raises:
        BadInput: It is no protobuf message.
    """
    texts: dict[int, str] = {}
    kind = MetricType.UNKNOWN
    for number, raw in fields(data):
        if number == 1 and isinstance(raw, int):
            kind = TYPES.get(raw, MetricType.UNKNOWN)
        elif isinstance(raw, bytes):
            texts[number] = text(raw)
    return MetricMetadata(
        family=texts.get(2, ""), type=kind, help=texts.get(4, ""), unit=texts.get(5, "")
    )


def text(raw: bytes) -> str:
    """Text for people: cut to a bound, damage replaced."""
    return raw[:MAX_VALUE_BYTES].decode("utf-8", "replace")
