"""A round: what one commit brings, with ids and numbers given; and its bytes in the append log.

The payload of a frame is a JSON head (its length first, 4 bytes, little-endian, padded with blanks
to a multiple of 8) and then raw columns: series ids (int32), times (int64), values (float64 as bit
patterns), spans, events and logs (Arrow IPC streams).
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from store.backends.duckdb.append_log import Part
from store.backends.duckdb.coded import coded
from store.backends.duckdb.head import Columns
from store.model import (
    EVENT_READ_SCHEMA,
    LOG_READ_SCHEMA,
    SPAN_CODED_READ_SCHEMA,
    SPAN_READ_SCHEMA,
    Exemplar,
    Labels,
    MetricMetadata,
    MetricType,
)

_LENGTH = struct.Struct("<I")
_BYTES_A_SAMPLE = 20
_ROOM_BYTES = 2 * 1024 * 1024  # some ten thousand spans
_SEQ: pa.Field[Any] = SPAN_READ_SCHEMA.field("seq")


@dataclass(slots=True)
class Round:
    """What one commit brings.

    Attributes:
        fresh: New series with their ids, ascending.
        columns: Samples in the order they came; None for none.
        metadata: Families whose metadata is new or another.
        exemplars: Exemplars, each with the id of its series.
        histograms: Payloads of the histograms that `columns` marks: series, time, bytes.
        spans: Spans of `SPAN_CODED_READ_SCHEMA`; None for none.
        events: New events of `EVENT_READ_SCHEMA`; None for none.
        logs: Log records of `LOG_READ_SCHEMA`; None for none.
    """

    fresh: dict[Labels, int] = field(default_factory=dict)
    columns: Columns | None = None
    metadata: dict[str, MetricMetadata] = field(default_factory=dict)
    exemplars: list[tuple[int, Exemplar]] = field(default_factory=list)
    histograms: list[tuple[int, int, bytes]] = field(default_factory=list)
    spans: pa.Table | None = None
    events: pa.Table | None = None
    logs: pa.Table | None = None

    def is_empty(self) -> bool:
        return not (
            self.fresh
            or self.metadata
            or self.exemplars
            or self.columns is not None
            or self.spans is not None
            or self.events is not None
            or self.logs is not None
        )


def numbered(table: pa.Table, first_seq: int) -> pa.Table:
    """The rows with their `seq`, ascending from `first_seq`."""
    rows = table.num_rows
    seq = np.arange(first_seq, first_seq + rows, dtype=np.int64)
    # From its buffer: `pa.array` of a numpy array looks for pandas each time.
    column = pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(_raw(seq))])
    return table.append_column(_SEQ, column)


def last_seq(table: pa.Table) -> int:
    """The highest `seq` of rows that ascend in it."""
    return int(table.column("seq")[-1].as_py())


class BadRound(ValueError):
    """A frame with a right checksum whose content makes no sense: another version wrote it."""


class Room:
    """Memory that streams are written into, used again by each round: fresh pages cost more.

    What it gave out stands until `clear`.
    """

    def __init__(self, size: int = _ROOM_BYTES) -> None:
        self._bytes = memoryview(bytearray(size))
        self._used = 0

    def clear(self) -> None:
        self._used = 0

    def stream(self, table: pa.Table) -> memoryview:
        """The rows as an Arrow stream; one that does not fit has memory of its own."""
        rest = self._bytes[self._used :]
        sink = pa.FixedSizeBufferWriter(pa.py_buffer(rest))
        try:
            _write(table, sink)
        except OSError:  # so Arrow says that the end was reached
            larger = pa.BufferOutputStream()
            _write(table, larger)
            return memoryview(larger.getvalue())
        self._used += sink.tell()
        return rest[: sink.tell()]


def encode(done: Round, room: Room) -> list[Part]:
    """The round as the parts of one frame; they stand until the room is cleared."""
    head: dict[str, Any] = {}
    parts: list[Part] = []
    columns = done.columns
    if columns is not None:
        head["samples"] = len(columns)
        parts += [_raw(columns.series), _raw(columns.ts_ms), _raw(columns.bits)]
    for name, table in (("spans", done.spans), ("events", done.events), ("logs", done.logs)):
        if table is not None:
            stream = room.stream(table)
            head[name] = len(stream)
            parts.append(stream)
    if done.histograms:
        head["histograms"] = [[place, at, len(payload)] for place, at, payload in done.histograms]
        parts.append(b"".join(payload for _, _, payload in done.histograms))
    if done.fresh:
        head["series"] = [[place, labels.to_dict()] for labels, place in done.fresh.items()]
    if done.metadata:
        head["metadata"] = [
            [found.family, found.type.value, found.help, found.unit]
            for found in done.metadata.values()
        ]
    if done.exemplars:
        head["exemplars"] = [_exemplar(place, found) for place, found in done.exemplars]
    text = orjson.dumps(head)
    text += b" " * (-(len(text) + _LENGTH.size) % 8)
    return [_LENGTH.pack(len(text)) + text, *parts]


def _raw(array: np.ndarray[Any, Any]) -> memoryview:
    return array.view(np.uint8).data


def _write(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _exemplar(place: int, found: Exemplar) -> list[Any]:
    bits = struct.unpack("<q", struct.pack("<d", found.value))[0]
    return [place, found.series.to_dict(), found.labels.to_dict(), found.ts_ms, bits]


def decode(payload: memoryview) -> Round:
    """The round of a frame.

    Raises:
        BadRound: The content does not fit together.
    """
    try:
        return _decoded(payload)
    except (struct.error, orjson.JSONDecodeError, pa.ArrowException, OSError) as exc:
        raise BadRound(f"a round of the log cannot be read: {exc}") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise BadRound(f"a round of the log has another form: {exc!r}") from exc


def _decoded(payload: memoryview) -> Round:
    (length,) = _LENGTH.unpack_from(payload)
    begin = _LENGTH.size + length
    head = orjson.loads(payload[_LENGTH.size : begin])
    done = Round()
    rows = int(head.get("samples", 0))
    if rows:
        done.columns = _columns(payload, begin, rows)
        begin += rows * _BYTES_A_SAMPLE
    if "spans" in head:
        done.spans = _spans(payload[begin : begin + head["spans"]])
        begin += head["spans"]
    if "events" in head:
        done.events = _table(payload[begin : begin + head["events"]], EVENT_READ_SCHEMA)
        begin += head["events"]
    if "logs" in head:
        done.logs = _table(payload[begin : begin + head["logs"]], LOG_READ_SCHEMA)
        begin += head["logs"]
    for place, at, size in head.get("histograms", ()):
        done.histograms.append((int(place), int(at), bytes(payload[begin : begin + size])))
        begin += size
    done.fresh = {_labels(labels): int(place) for place, labels in head.get("series", ())}
    for family, kind, text, unit in head.get("metadata", ()):
        done.metadata[family] = MetricMetadata(family, MetricType(kind), text, unit)
    done.exemplars = [_exemplar_of(*found) for found in head.get("exemplars", ())]
    return done


def _columns(payload: memoryview, begin: int, rows: int) -> Columns:
    # Copies: views into the file could lie unaligned, which kernels do not expect.
    series = np.frombuffer(payload, np.int32, rows, begin).copy()
    ts_ms = np.frombuffer(payload, np.int64, rows, begin + 4 * rows).copy()
    bits = np.frombuffer(payload, np.int64, rows, begin + 12 * rows).copy()
    if int(series.min()) < 0:
        raise ValueError("a series id is negative")
    return Columns(series, ts_ms, bits)


def _spans(stream: memoryview) -> pa.Table:
    table = _read(stream)
    if table.schema.equals(SPAN_READ_SCHEMA):  # of a version that had the texts in full
        return coded(table, SPAN_CODED_READ_SCHEMA)
    # A number without a text would be read as one all the same.
    _checked(table, SPAN_CODED_READ_SCHEMA).validate(full=True)
    return table


def _table(stream: memoryview, schema: pa.Schema) -> pa.Table:
    return _checked(_read(stream), schema)


def _read(stream: memoryview) -> pa.Table:
    with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
        return reader.read_all()


def _checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if not table.schema.equals(schema):
        raise ValueError("the columns are others")
    return table


def _labels(pairs: dict[str, str]) -> Labels:
    return Labels((sys.intern(name), sys.intern(value)) for name, value in pairs.items())


def _exemplar_of(
    place: int, series: dict[str, str], labels: dict[str, str], ts_ms: int, bits: int
) -> tuple[int, Exemplar]:
    value = struct.unpack("<d", struct.pack("<q", bits))[0]
    return place, Exemplar(_labels(series), Labels(labels.items()), ts_ms, value)
