"""Batches to remote write 1.0's protobuf, cut into pieces that may be joined again.

`prometheus.WriteRequest` has repeated fields only, so the bytes of two requests one after the
other are one request with both. Numbers: https://prometheus.io/docs/specs/prw/remote_write_spec
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from collector.forward.series_lines import SeriesLine, SeriesLines, shard_of
from collector.relabel import RelabelRule, relabelled
from store.model import (
    Exemplar,
    Float64Array,
    Int64Array,
    Labels,
    MetricMetadata,
    MetricType,
    SampleBatch,
)

# A time between 1971 and 2109 takes six bytes, so every sample is as long as the next.
_SAMPLE_BYTES = 18
_SHORT_TS, _LONG_TS = 1 << 35, 1 << 42
_TYPE_NUMBERS = {
    MetricType.UNKNOWN: 0,
    MetricType.COUNTER: 1,
    MetricType.GAUGE: 2,
    MetricType.HISTOGRAM: 3,
    MetricType.SUMMARY: 5,
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a request: bytes of a WriteRequest for one shard of so many.

    `samples` counts what is in `payload`; none of them is later than `newest_ms`.
    """

    shard: int
    shards: int
    samples: int
    newest_ms: int
    payload: bytes


@dataclass(slots=True)
class _Part:
    """A piece that is being filled."""

    samples: int = 0
    chunks: list[bytes] = field(default_factory=list)


class Encoder:
    """Relabels and encodes. Series keep their shard across restarts. For one thread."""

    def __init__(
        self,
        rules: Sequence[RelabelRule],
        *,
        shards: int,
        max_samples: int,
        send_exemplars: bool = False,
    ) -> None:
        self._rules = tuple(rules)
        self._shards = shards
        self._max_samples = max_samples
        self._send_exemplars = send_exemplars
        self._lines = SeriesLines(self._made)

    def pieces(self, batch: SampleBatch) -> list[Piece]:
        """The batch in time order by series, at most `max_samples` samples a piece.

        A series that relabelling drops, or leaves without labels, is left out.
        """
        if not len(batch.ts_ms):
            return []
        lines = self._lines.of(batch)
        newest_ms = int(batch.ts_ms.max())
        exemplars = self._exemplars(batch)
        if not exemplars and _one_each(batch) and _of_one_length(batch.ts_ms):
            cut = self._cut_singles(lines, batch)
        else:
            cut = self._cut(lines, batch, exemplars)
        return [
            Piece(shard, self._shards, part.samples, newest_ms, b"".join(part.chunks))
            for shard, part in cut
        ]

    def _cut_singles(
        self, lines: Sequence[SeriesLine | None], batch: SampleBatch
    ) -> Iterator[tuple[int, _Part]]:
        """The ordinary case, as of a scrape: one sample a series."""
        rows = _rows(batch.ts_ms, batch.values)
        # The last byte of a row is never zero, so that no byte is taken off its end.
        samples: list[bytes] = rows.view(f"S{_SAMPLE_BYTES}").ravel().tolist()
        chunks: list[list[bytes]] = [[] for _ in range(self._shards)]
        for line, sample in zip(lines, samples, strict=True):
            if line is not None:
                chunks[line.shard] += (line.single, sample)
        step = 2 * self._max_samples
        for shard, found in enumerate(chunks):
            for first in range(0, len(found), step):
                part = found[first : first + step]
                yield shard, _Part(len(part) // 2, part)

    def _cut(
        self,
        lines: Sequence[SeriesLine | None],
        batch: SampleBatch,
        exemplars: dict[Labels, bytes],
    ) -> Iterator[tuple[int, _Part]]:
        order = np.lexsort((batch.ts_ms, batch.series_index))
        blob, ends = _samples(batch.ts_ms[order], batch.values[order])
        index = batch.series_index[order]
        starts = np.searchsorted(index, np.arange(len(batch.series) + 1)).tolist()
        open_parts = [_Part() for _ in range(self._shards)]
        for place, line in enumerate(lines):
            if line is None:
                continue
            first, last = starts[place], starts[place + 1]
            attached = exemplars.pop(batch.series[place], b"") if exemplars else b""
            while first < last:
                part = open_parts[line.shard]
                end = min(last, first + self._max_samples - part.samples)
                part.chunks += _series(line, blob[ends[first] : ends[end]], attached)
                part.samples += end - first
                first, attached = end, b""
                if part.samples >= self._max_samples:
                    yield line.shard, part
                    open_parts[line.shard] = _Part()
        yield from ((shard, part) for shard, part in enumerate(open_parts) if part.samples)

    def final_labels(self, labels: Labels) -> Labels | None:
        """A series as the endpoint knows it; None where it is not sent."""
        final = relabelled(labels.to_dict(), self._rules) if self._rules else labels.to_dict()
        return Labels(final.items()) if final else None

    def _made(self, labels: Labels) -> SeriesLine | None:
        final = self.final_labels(labels)
        if final is None:
            return None
        encoded = _labels(final)
        before = b"\x0a" + _varint(len(encoded) + _SAMPLE_BYTES)
        shard = shard_of(encoded, self._shards)
        return SeriesLine(shard, before + encoded, len(before))

    def _exemplars(self, batch: SampleBatch) -> dict[Labels, bytes]:
        found: dict[Labels, bytes] = {}
        if self._send_exemplars:
            for exemplar in sorted(batch.exemplars, key=lambda item: item.ts_ms):
                known = found.get(exemplar.series, b"")
                found[exemplar.series] = known + _exemplar(exemplar)
        return found


def metadata_request(metadata: Sequence[MetricMetadata]) -> bytes:
    """A WriteRequest with nothing but metadata."""
    return b"".join(
        _field(
            3,
            b"\x08"
            + _varint(_TYPE_NUMBERS[entry.type])
            + _field(2, entry.family.encode())
            + _field(4, entry.help.encode())
            + _field(5, entry.unit.encode()),
        )
        for entry in metadata
    )


def _series(line: SeriesLine, samples: bytes, exemplars: bytes) -> tuple[bytes, ...]:
    labels = line.labels
    length = len(labels) + len(samples) + len(exemplars)
    return b"\x0a" + _varint(length), labels, samples, exemplars


def _one_each(batch: SampleBatch) -> bool:
    count = len(batch.series)
    return len(batch.ts_ms) == count and bool(
        np.array_equal(batch.series_index, np.arange(count, dtype=np.int32))
    )


def _of_one_length(ts_ms: Int64Array) -> bool:
    return int(ts_ms.min()) >= _SHORT_TS and int(ts_ms.max()) < _LONG_TS


def _rows(ts_ms: Int64Array, values: Float64Array) -> npt.NDArray[np.uint8]:
    """Each sample as field 2 of a TimeSeries; all are as long as the first."""
    rows: npt.NDArray[np.uint8] = np.empty((len(ts_ms), _SAMPLE_BYTES), dtype=np.uint8)
    rows[:, :3] = (0x12, _SAMPLE_BYTES - 2, 0x09)
    # Bytes, not floats: a staleness marker is a NaN with a payload.
    rows[:, 3:11] = np.ascontiguousarray(values, dtype="<f8").view(np.uint8).reshape(-1, 8)
    rows[:, 11] = 0x10
    shifted = ts_ms[:, None] >> np.arange(0, 42, 7)
    rows[:, 12:] = (shifted & 0x7F) | np.array([0x80] * 5 + [0])
    return rows


def _samples(ts_ms: Int64Array, values: Float64Array) -> tuple[bytes, Sequence[int]]:
    """Every sample, and where each begins (and the last ends)."""
    if _of_one_length(ts_ms):
        return _rows(ts_ms, values).tobytes(), range(
            0, (len(ts_ms) + 1) * _SAMPLE_BYTES, _SAMPLE_BYTES
        )
    chunks = [
        _field(2, b"\x09" + raw.tobytes() + b"\x10" + _varint(at))
        for raw, at in zip(np.asarray(values, dtype="<f8"), ts_ms.tolist(), strict=True)
    ]
    ends = [0]
    for chunk in chunks:
        ends.append(ends[-1] + len(chunk))
    return b"".join(chunks), ends


def _exemplar(exemplar: Exemplar) -> bytes:
    value = b"\x11" + struct.pack("<d", exemplar.value)
    return _field(3, _labels(exemplar.labels) + value + b"\x18" + _varint(exemplar.ts_ms))


def _labels(labels: Labels) -> bytes:
    return b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in labels
    )


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
