"""A remote-write body to a batch: snappy, protobuf, labels remembered between requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cramjam
import numpy as np

from collector.remote_write import scanner
from collector.remote_write.label_table import LabelTable, Parse, Resolved
from collector.remote_write.messages import (
    SlicedSymbols,
    bad_reference,
    exemplar_v1,
    exemplar_v2,
    label_pairs,
    labels_of,
    metadata_v1,
    symbol_pairs,
)
from collector.remote_write.metadata_v2 import MetadataMemory
from collector.remote_write.native_histograms import received
from collector.remote_write.scanner import Found
from collector.wire import fields
from collector.wire.hashes import hash_ranges, hash_references
from store.errors import BadInput, LimitExceeded
from store.histograms import HistogramError
from store.model import (
    STALE_NAN_BITS,
    Exemplar,
    HistogramSample,
    Labels,
    MetricMetadata,
    SampleBatch,
    SeriesRefs,
)

# Prometheus sends 2,000 samples at once by default, vmagent 10,000 series.
MAX_DECODED_BYTES = 32 * 1024 * 1024
MAX_SAMPLES = 1_000_000
MAX_SERIES = 100_000
MAX_EXEMPLARS = 50_000
MAX_HISTOGRAMS = 20_000
# Twice 8,192 buckets with their spans stay below it.
MAX_HISTOGRAM_BYTES = 512 * 1024
MAX_METADATA = 50_000
# Three for each series are usual; every one costs its range and its hash.
MAX_SYMBOLS = 200_000
MAX_REFERENCES = 4_000_000
_COMMON_BOUNDS = (
    ("series", MAX_SERIES),
    ("samples", MAX_SAMPLES),
    ("exemplars", MAX_EXEMPLARS),
    ("native histograms", MAX_HISTOGRAMS),
)
# In the order of the scanner's counts.
_BOUNDS = {
    1: (*_COMMON_BOUNDS, ("metadata entries", MAX_METADATA), ("label references", 0)),
    2: (*_COMMON_BOUNDS, ("symbols", MAX_SYMBOLS), ("label references", MAX_REFERENCES)),
}
# Room kept ready for the next request; larger ones are scanned twice.
_MOST_ROOM = 20_000
# More of these are read in Python than an event loop should wait for.
_MOST_AT_ONCE = 200
_EXEMPLARS_A_HISTOGRAM = 10
_V1, _V2 = 1, 2


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a request holds.

    Attributes:
        batch: What may be stored.
        dropped: Samples that may not, by reason.
        exemplars_dropped: Exemplars with labels that cannot be, or of a series that cannot.
        ended: How many of the float samples were sent as histograms that end their series.
    """

    batch: SampleBatch
    dropped: Mapping[str, int] = field(default_factory=dict)
    exemplars_dropped: int = 0
    ended: int = 0


class Memory:
    """What a receiver remembers between requests: label sets, and 2.0's metadata."""

    def __init__(self, table: LabelTable | None = None) -> None:
        self.labels = LabelTable() if table is None else table
        self.metadata = MetadataMemory(self.labels.key)
        # How much room a request of each version has needed so far.
        self.room: dict[int, tuple[int, ...]] = dict.fromkeys((1, 2), (0,) * scanner.COUNTS)


def decompress(body: bytes, limit: int = MAX_DECODED_BYTES) -> bytes:
    """A snappy block; its stated length is checked before a byte of it is made.

    Raises:
        BadInput: It is no snappy block.
        LimitExceeded: It would be longer than `limit`.
    """
    length = decompressed_size(body)
    if length > limit:
        raise LimitExceeded(
            f"the body is {length} bytes when decompressed, {limit} are allowed",
            reason="body_size",
            hint="send smaller batches",
        )
    try:
        return bytes(cramjam.snappy.decompress_raw(body))
    except (cramjam.DecompressionError, ValueError) as error:
        raise _corrupt() from error


def decompressed_size(body: bytes) -> int:
    """The size that a snappy block says it has.

    Raises:
        BadInput: It is no snappy block.
    """
    try:
        return int(cramjam.snappy.decompress_raw_len(body))
    except (cramjam.DecompressionError, ValueError) as error:
        raise _corrupt() from error


def _corrupt() -> BadInput:
    return BadInput("snappy: corrupt input", hint="compress with snappy's block format")


def decode(data: bytes, memory: Memory) -> Decoded:
    """A WriteRequest of remote write 1.0, decompressed.

    Raises:
        BadInput: It is no such message.
        LimitExceeded: It holds too much.
    """
    decoded = _decode_v1(data, memory, learn=True)
    assert decoded is not None
    return decoded


def decode_v2(data: bytes, memory: Memory) -> Decoded:
    """A Request of remote write 2.0; otherwise as `decode`.

    Start timestamps are read over: the specification does not ask for zeros to be made of them.
    """
    decoded = _decode_v2(data, memory, learn=True)
    assert decoded is not None
    return decoded


def decode_known(data: bytes, memory: Memory, version: int) -> Decoded | None:
    """A request of version 1 or 2 that needs little work in Python, else None.

    Then nothing has been learnt, and `decode` belongs into a thread.
    """
    one = _decode_v2 if version == _V2 else _decode_v1
    return one(data, memory, learn=False)


def _decode_v1(data: bytes, memory: Memory, *, learn: bool) -> Decoded | None:
    found, view = _scanned(_V1, data, memory)
    if not learn and _python_work(found) + len(found.metadata) > _MOST_AT_ONCE:
        return None
    hashes = np.empty((len(found.series), 2), dtype=np.uint64)
    hash_ranges(view, found.series, memory.labels.key, hashes)

    def parse(row: int) -> Labels | str:
        first, last = found.series[row, :2].tolist()
        return labels_of(label_pairs(data[first:last]))

    resolved = _resolve(memory, hashes, found, parse if learn else None)
    if resolved is None:
        return None
    exemplars = [
        exemplar_v1(data[start:end], resolved.series[place])
        for place, start, end in _placed(found.exemplars, resolved)
    ]
    metadata = tuple(metadata_v1(data[start:end]) for start, end in found.metadata.tolist())
    return decoded_of(_Parts(data, found, resolved, exemplars, metadata))


def _decode_v2(data: bytes, memory: Memory, *, learn: bool) -> Decoded | None:
    found, view = _scanned(_V2, data, memory)
    few = _python_work(found) <= _MOST_AT_ONCE
    if not learn and (not few or len(found.exemplars)):
        return None
    symbols = SlicedSymbols(data, found.metadata)
    _check_symbols(found)
    key = memory.labels.key
    symbol_hashes = np.empty((len(found.metadata), 2), dtype=np.uint64)
    hash_ranges(view, found.metadata, key, symbol_hashes)
    hashes = np.empty((len(found.series), 2), dtype=np.uint64)
    if hash_references(found.references, found.series, symbol_hashes, key, hashes) >= 0:
        raise bad_reference()

    def parse(row: int) -> Labels | str:
        first, last = found.series[row, :2].tolist()
        return labels_of(symbol_pairs(found.references[first:last].tolist(), symbols))

    resolved = _resolve(memory, hashes, found, parse if learn else None)
    metadata = memory.metadata.fresh(view, found, symbol_hashes, symbols if learn else None)
    if resolved is None or metadata is None:
        return None
    exemplars = [
        exemplar_v2(data[start:end], resolved.series[place], symbols)
        for place, start, end in _placed(found.exemplars, resolved)
    ]
    return decoded_of(_Parts(data, found, resolved, exemplars, metadata))


def _python_work(found: Found) -> int:
    """Exemplars' worth of work that is done in Python."""
    return len(found.exemplars) + _EXEMPLARS_A_HISTOGRAM * len(found.histograms)


def _scanned(version: int, data: bytes, memory: Memory) -> tuple[Found, fields.Bytes]:
    """A scan; a second one where the first had too little room."""
    view = np.frombuffer(data, dtype=np.uint8)
    room = memory.room[version]
    found = scanner.sized(room)
    _check(scanner.scan(view, found, version))
    counts: list[int] = found.counts.tolist()
    for count, (name, bound) in zip(counts, _BOUNDS[version], strict=True):
        if count > bound:
            raise LimitExceeded(
                f"the request holds {count} {name}, {bound} are allowed",
                reason="request_too_large",
                hint="send smaller batches",
            )
    if any(count > many for count, many in zip(counts, room, strict=True)):
        memory.room[version] = tuple(
            min(_MOST_ROOM, max(pair)) for pair in zip(counts, room, strict=True)
        )
        found = scanner.sized(counts)
        _check(scanner.scan(view, found, version))
    return scanner.cut(found, counts), view


def _check(code: int) -> None:
    if code != fields.OK:
        raise BadInput(
            f"proto: {fields.ERRORS[code]}",
            hint="send the message that the Content-Type names",
        )


def _check_symbols(found: Found) -> None:
    """The specification asks for an empty string at the first place."""
    symbols = found.metadata
    if not len(symbols):
        if len(found.series):
            raise bad_reference()
        return
    if symbols[0, 0] != symbols[0, 1]:
        raise BadInput(
            "proto: the first symbol is not the empty string",
            hint="send io.prometheus.write.v2.Request",
        )


def _resolve(memory: Memory, hashes: Any, found: Found, parse: Parse | None) -> Resolved | None:
    items = np.ascontiguousarray(found.series[:, scanner.ITEMS])
    return memory.labels.resolve(hashes, items, parse)


def _placed(rows: fields.Ints, resolved: Resolved) -> list[tuple[int, int, int]]:
    """Place of the series, start and end of those rows whose series may be stored."""
    return [
        (int(resolved.places[row]), start, end)
        for row, start, end in rows.tolist()
        if resolved.places[row] >= 0
    ]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a version made of a request."""

    data: bytes
    found: Found
    resolved: Resolved
    exemplars: list[Exemplar | None]
    metadata: tuple[MetricMetadata, ...]


def decoded_of(parts: _Parts) -> Decoded:
    """The batch of a request, without the series that may not be stored."""
    found, resolved = parts.found, parts.resolved
    index, ts_ms, bits = resolved.places[found.owner], found.ts_ms, found.bits
    dropped: Counter[str] = Counter()
    if resolved.refused:
        owners = np.concatenate([found.owner, found.histograms[:, 0]])
        of_series = np.bincount(owners, minlength=len(found.series)).tolist()
        for row, reason in resolved.refused.items():
            dropped[reason] += of_series[row]
        kept = index >= 0
        index, ts_ms, bits = index[kept], ts_ms[kept], bits[kept]
    histograms, ended = _histograms(parts, dropped)
    if ended:
        ended_at = np.array(ended, dtype=np.int64)
        index = np.append(index, ended_at[:, 0].astype(np.int32))
        ts_ms = np.append(ts_ms, ended_at[:, 1])
        bits = np.append(bits, np.full(len(ended), STALE_NAN_BITS, dtype=np.uint64))
    good = tuple(exemplar for exemplar in parts.exemplars if exemplar is not None)
    batch = SampleBatch(
        series=resolved.series,
        series_index=index,
        ts_ms=ts_ms,
        values=bits.view(np.float64),
        metadata=parts.metadata,
        exemplars=good,
        series_refs=SeriesRefs(resolved.space, resolved.refs, resolved.bound, resolved.series),
        histograms=histograms,
    )
    return Decoded(batch, +dropped, len(found.exemplars) - len(good), len(ended))


def _histograms(
    parts: _Parts, dropped: Counter[str]
) -> tuple[tuple[HistogramSample, ...], list[tuple[int, int]]]:
    """Histograms, and place and time of those that say that their series ended."""
    found: list[HistogramSample] = []
    ended: list[tuple[int, int]] = []
    for place, start, end in _placed(parts.found.histograms, parts.resolved):
        if end - start > MAX_HISTOGRAM_BYTES:
            dropped["histogram_too_large"] += 1
            continue
        try:
            sent = received(parts.data[start:end])
        except HistogramError:
            dropped["histogram_invalid"] += 1
            continue
        if sent.histogram is None:
            ended.append((place, sent.ts_ms))
        else:
            found.append(HistogramSample(place, sent.ts_ms, sent.histogram))
    return tuple(found), ended
