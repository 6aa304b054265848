"""A remote-write body to a batch: snappy, protobuf, labels remembered between requests."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import cramjam
import numpy as np

from collector.remote_write import scanner
from store.errors import BadInput, LimitExceeded
from store.model import Exemplar, Labels, MetricMetadata, MetricType, SampleBatch

MAX_DECODED_BYTES = 64 * 1024 * 1024
MAX_SAMPLES = 2_000_000
MAX_LABELS = 128
MAX_NAME_BYTES = 1024
MAX_VALUE_BYTES = 16 * 1024
MAX_CACHED_SERIES = 500_000
_TYPES = {
    1: MetricType.COUNTER,
    2: MetricType.GAUGE,
    3: MetricType.HISTOGRAM,
    4: MetricType.HISTOGRAM,
    5: MetricType.SUMMARY,
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch, and how many native histogram samples were left out of it."""

    batch: SampleBatch
    histograms: int


class LabelCache:
    """Labels by the bytes that they were sent as: senders repeat them with each request."""

    def __init__(self, max_series: int = MAX_CACHED_SERIES) -> None:
        self._known: dict[bytes, Labels] = {}
        self._max_series = max_series

    def labels(self, encoded: bytes) -> Labels:
        """The label set of a run of Label fields.

        Raises:
            BadInput: A label that cannot be.
        """
        found = self._known.get(encoded)
        if found is None:
            found = _labels(encoded)
            if len(self._known) >= self._max_series:
                self._known.clear()
            self._known[encoded] = found
        return found


def decompress(body: bytes, limit: int = MAX_DECODED_BYTES) -> bytes:
    """A snappy block; its stated length is checked before a byte of it is made.

    Raises:
        BadInput: It is no snappy block.
        LimitExceeded: It would be longer than `limit`.
    """
    try:
        length = cramjam.snappy.decompress_raw_len(body)
        if length > limit:
            raise LimitExceeded(
                f"the body is {length} bytes when decompressed, {limit} are allowed",
                reason="body_size",
                hint="send smaller batches",
            )
        return bytes(cramjam.snappy.decompress_raw(body))
    except (cramjam.DecompressionError, ValueError) as error:
        raise BadInput(
            "snappy: corrupt input", hint="compress with snappy's block format"
        ) from error


def decode(data: bytes, cache: LabelCache) -> Decoded:
    """A WriteRequest of remote write 1.0.

    Raises:
        BadInput: It is no such message, or holds labels that cannot be.
        LimitExceeded: It holds too many samples.
    """
    view = np.frombuffer(data, dtype=np.uint8)
    counts = np.zeros(scanner.COUNTS, dtype=np.int64)
    none = np.empty(0, dtype=np.int64)
    empty_bits = np.empty(0, dtype=np.uint64)
    _check(scanner.scan(view, none, empty_bits, none, none, none, none, counts, 0))
    sizes = counts.tolist()
    if sizes[scanner.SAMPLES] > MAX_SAMPLES or sizes[scanner.SERIES] > MAX_SAMPLES:
        raise LimitExceeded(
            f"one request may hold {MAX_SAMPLES} samples", reason="samples",
            hint="send smaller batches",
        )  # fmt: skip
    series = np.zeros(3 * sizes[scanner.SERIES], dtype=np.int64)
    bits = np.zeros(sizes[scanner.SAMPLES], dtype=np.uint64)
    ts = np.zeros(sizes[scanner.SAMPLES], dtype=np.int64)
    owner = np.zeros(sizes[scanner.SAMPLES], dtype=np.int64)
    exemplars = np.zeros(3 * sizes[scanner.EXEMPLARS], dtype=np.int64)
    metadata = np.zeros(2 * sizes[scanner.METADATA], dtype=np.int64)
    _check(scanner.scan(view, series, bits, ts, owner, exemplars, metadata, counts, 1))
    distinct, places = _distinct(data, series.reshape(-1, 3).tolist(), cache)
    batch = SampleBatch(
        series=tuple(distinct),
        series_index=places[owner].astype(np.int32),
        ts_ms=ts,
        values=bits.view(np.float64),
        metadata=tuple(_metadata(data[start:end]) for start, end in _pairs(metadata)),
        exemplars=tuple(
            _exemplar(data[start:end], distinct[places[number]])
            for number, start, end in exemplars.reshape(-1, 3).tolist()
        ),
    )
    return Decoded(batch, int(counts[scanner.HISTOGRAMS]))


def _pairs(flat: scanner.Ints) -> list[list[int]]:
    found: list[list[int]] = flat.reshape(-1, 2).tolist()
    return found


def _check(code: int) -> None:
    if code != scanner.OK:
        raise BadInput(f"proto: {scanner.ERRORS[code]}", hint="send prometheus.WriteRequest")


def _distinct(
    data: bytes, rows: list[list[int]], cache: LabelCache
) -> tuple[list[Labels], scanner.Ints]:
    """The label sets of a request, each once, and for each series its place among them."""
    places: dict[Labels, int] = {}
    index = np.zeros(len(rows), dtype=np.int64)
    for row, (start, end, contiguous) in enumerate(rows):
        if not contiguous:
            raise BadInput(
                "a series' labels are mixed with its samples", hint="write labels before samples"
            )
        labels = cache.labels(data[start:end])
        index[row] = places.setdefault(labels, len(places))
    return list(places), index


# -- small messages, field by field -----------------------------------------


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and raw values of a message: integers, or bytes (8 of them for a double)."""
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        wire = key & 7
        if wire == 0:
            value, place = _read_varint(data, place)
            yield key >> 3, value
            continue
        if wire == 2:
            size, place = _read_varint(data, place)
        else:
            size = {1: 8, 5: 4}.get(wire, -1)
        if size < 0 or place + size > len(data):
            raise BadInput("proto: a field is cut short or of an unknown wire type")
        yield key >> 3, data[place : place + size]
        place += size


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
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


def _label(data: bytes) -> tuple[str, str]:
    name = value = b""
    for field, raw in _fields(data):
        if field == 1 and isinstance(raw, bytes):
            name = raw
        elif field == 2 and isinstance(raw, bytes):
            value = raw
    if not name or len(name) > MAX_NAME_BYTES or len(value) > MAX_VALUE_BYTES:
        raise BadInput(
            "a label's name is empty or a label is too long",
            hint=f"names up to {MAX_NAME_BYTES} bytes, values up to {MAX_VALUE_BYTES}",
        )
    try:
        return name.decode(), value.decode()
    except UnicodeDecodeError as error:
        raise BadInput("a label is no UTF-8") from error


def _labels(data: bytes) -> Labels:
    pairs = [_label(raw) for _, raw in _fields(data) if isinstance(raw, bytes)]
    if len(pairs) > MAX_LABELS:
        raise BadInput(f"a series has {len(pairs)} labels, {MAX_LABELS} are allowed")
    if len({name for name, _ in pairs}) < len(pairs):
        raise BadInput("a label name stands twice in one series")
    labels = Labels(pairs)
    if not len(labels):
        raise BadInput("a series has no labels")
    return labels


def _exemplar(data: bytes, series: Labels) -> Exemplar:
    pairs: list[tuple[str, str]] = []
    value, ts_ms = 0.0, 0
    for field, raw in _fields(data):
        if field == 1 and isinstance(raw, bytes):
            pairs.append(_label(raw))
        elif field == 2 and isinstance(raw, bytes) and len(raw) == 8:
            value = struct.unpack("<d", raw)[0]
        elif field == 3 and isinstance(raw, int):
            ts_ms = raw - (1 << 64) if raw >= 1 << 63 else raw
    return Exemplar(series=series, labels=Labels(pairs[:MAX_LABELS]), ts_ms=ts_ms, value=value)


def _metadata(data: bytes) -> MetricMetadata:
    texts: dict[int, str] = {}
    kind = MetricType.UNKNOWN
    for field, raw in _fields(data):
        if field == 1 and isinstance(raw, int):
            kind = _TYPES.get(raw, MetricType.UNKNOWN)
        elif isinstance(raw, bytes):
            texts[field] = raw[:MAX_VALUE_BYTES].decode("utf-8", "replace")
    return MetricMetadata(
        family=texts.get(2, ""), type=kind, help=texts.get(4, ""), unit=texts.get(5, "")
    )
