"""A compiled scanner over protobuf's write requests. Every read is checked against the end.

It finds what lies where and decodes the samples; labels, exemplars, histograms and metadata stay
byte ranges, to be decoded where they are new. Numba checks no bounds, so nothing here reads a byte
that `varint` and `length` have not allowed, and nothing is written beyond the arrays.

Messages: prometheus.WriteRequest (remote write 1.0) and io.prometheus.write.v2.Request (2.0).
"""

# ruff: noqa: C901, PLR0911, PLR0912, PLR0915 -- compiled loops take columns one by one, and
# read best in one piece.
# mypy: disable-error-code="no-any-return, return-value"

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from collector.wire.fields import (
    BAD_WIRE_TYPE,
    FIXED64,
    LEN,
    OK,
    TRUNCATED,
    VARINT,
    Bytes,
    Ints,
    compiled,
    length,
    skip,
    tag,
    varint,
)

# Places in the array of counts that both passes keep.
SERIES, SAMPLES, EXEMPLARS, HISTOGRAMS, METADATA, REFERENCES, COUNTS = 0, 1, 2, 3, 4, 5, 6
# Columns of a row of `Found.series`. FIRST and LAST bound the labels: by bytes in 1.0 (whatever
# else stands among them), by places in `references` in 2.0. BEGIN and END bound 2.0's metadata.
FIRST, LAST, ITEMS, BEGIN, END, COLUMNS = 0, 1, 2, 3, 4, 5

_SHORT_LABEL = 0x0A  # field 1, length-delimited


class Found(NamedTuple):
    """What a scan fills.

    Attributes:
        series: A row a TimeSeries, of `COLUMNS`.
        bits: Values of the samples, as they were sent.
        ts_ms: Times of the samples.
        owner: Rows of the samples' series.
        exemplars: Row of the series, start, end; likewise `histograms`.
        metadata: Start and end: of a MetricMetadata in 1.0; of a symbol in 2.0.
        references: 2.0's label references, series by series.
        counts: How many there are of each.
    """

    series: Ints
    bits: npt.NDArray[np.uint64]
    ts_ms: Ints
    owner: Ints
    exemplars: Ints
    histograms: Ints
    metadata: Ints
    references: Ints
    counts: Ints


@compiled
def _sample(
    data: Bytes, place: int, end: int, bits: npt.NDArray[np.uint64], ts_ms: Ints, row: int
) -> int:
    """Decode one Sample, the same in both versions, into row `row` of the columns."""
    bits[row] = np.uint64(0)
    ts_ms[row] = 0
    while place < end:
        field, wire, place = tag(data, place, end)
        if place < 0:
            return place
        if field == 1 and wire == FIXED64:
            if place + 8 > end:
                return -TRUNCATED
            value = np.uint64(0)
            for byte in range(8):
                value |= np.uint64(data[place + byte]) << np.uint64(8 * byte)
            bits[row] = value
            place += 8
        elif field == 2 and wire == VARINT:
            stamp, place = varint(data, place, end)
            if place < 0:
                return place
            ts_ms[row] = np.int64(stamp)
        elif field in (1, 2):
            return -BAD_WIRE_TYPE
        else:
            place = skip(data, place, end, wire)
            if place < 0:
                return place
    return place


@compiled
def _references(data: Bytes, place: int, end: int, out: Ints, count: int) -> int:
    """A packed run of references; how many there are now, or minus an error code."""
    while place < end:
        if data[place] < 0x80:
            number = np.int64(data[place])
            place += 1
        else:
            value, place = varint(data, place, end)
            if place < 0:
                return place
            number = np.int64(value & np.uint64(0x7FFFFFFFFFFFFFFF))
        if count < len(out):
            out[count] = number
        count += 1
    return count


@compiled
def scan(data: Bytes, found: Found, version: int) -> int:
    """Walk a request of version 1 or 2. Returns OK or an error code.

    What does not fit into the arrays is counted and not kept: the caller makes larger ones. The
    loops are in one piece: handing all the arrays on for each series would cost more than the
    work.
    """
    v2 = version == 2
    series_field, other_field = (5, 4) if v2 else (1, 3)
    exemplar_field, last_field = (4, 5) if v2 else (3, 4)
    series, samples, exemplars, histograms, others, references = 0, 0, 0, 0, 0, 0
    place, end = 0, len(data)
    while place < end:
        field, wire, place = tag(data, place, end)
        if place < 0:
            return -place
        if field != series_field and field != other_field:
            place = skip(data, place, end, wire)
            if place < 0:
                return -place
            continue
        if wire != LEN:
            return BAD_WIRE_TYPE
        at, place = length(data, place, end)
        if place < 0:
            return -place
        if field == other_field:
            if others < len(found.metadata):
                found.metadata[others, 0], found.metadata[others, 1] = at, place
            others += 1
            continue
        first, last, items, told, told_end = -1, 0, 0, 0, 0
        first_reference = references
        while at < place:
            if not v2 and at + 1 < place and data[at] == _SHORT_LABEL:
                # The most frequent field by far, in one step.
                stop = at + 2 + np.int64(data[at + 1])
                if data[at + 1] < 0x80 and stop <= place:
                    first = at if first < 0 else first
                    last = at = stop
                    continue
            before = at
            field, wire, at = tag(data, at, place)
            if at < 0:
                return -at
            if field < 1 or field > last_field:
                at = skip(data, at, place, wire)
                if at < 0:
                    return -at
                continue
            if v2 and field == 1 and wire == VARINT:
                # Protobuf lets a packed field be sent unpacked.
                start = at
                at = skip(data, at, place, wire)
            elif wire == LEN:
                start, at = length(data, at, place)
            else:
                return BAD_WIRE_TYPE
            if at < 0:
                return -at
            if field == 1:
                if v2:
                    references = _references(data, start, at, found.references, references)
                    if references < 0:
                        return -references
                first = before if first < 0 else first
                last = at
            elif field == 2:
                if samples < len(found.bits):
                    done = _sample(data, start, at, found.bits, found.ts_ms, samples)
                    if done < 0:
                        return -done
                    found.owner[samples] = series
                samples += 1
                items += 1
            elif field == exemplar_field:
                if exemplars < len(found.exemplars):
                    row = found.exemplars[exemplars]
                    row[0], row[1], row[2] = series, start, at
                exemplars += 1
                items += 1
            elif field == 5:
                told, told_end = start, at
            else:
                if histograms < len(found.histograms):
                    row = found.histograms[histograms]
                    row[0], row[1], row[2] = series, start, at
                histograms += 1
                items += 1
        if series < len(found.series):
            found.series[series, FIRST] = first_reference if v2 else max(first, 0)
            found.series[series, LAST] = references if v2 else last
            found.series[series, ITEMS] = items
            found.series[series, BEGIN] = told
            found.series[series, END] = told_end
        series += 1
    counts = found.counts
    counts[SERIES], counts[SAMPLES], counts[EXEMPLARS] = series, samples, exemplars
    counts[HISTOGRAMS], counts[METADATA], counts[REFERENCES] = histograms, others, references
    return OK


def sized(counts: Sequence[int]) -> Found:
    """Arrays with room for so many."""

    def rows(count: int, columns: int) -> Ints:
        return np.empty((count, columns), dtype=np.int64)

    return Found(
        series=rows(counts[SERIES], COLUMNS),
        bits=np.empty(counts[SAMPLES], dtype=np.uint64),
        ts_ms=np.empty(counts[SAMPLES], dtype=np.int64),
        owner=np.empty(counts[SAMPLES], dtype=np.int64),
        exemplars=rows(counts[EXEMPLARS], 3),
        histograms=rows(counts[HISTOGRAMS], 3),
        metadata=rows(counts[METADATA], 2),
        references=np.empty(counts[REFERENCES], dtype=np.int64),
        counts=np.zeros(COUNTS, dtype=np.int64),
    )


def cut(found: Found, counts: Sequence[int]) -> Found:
    """Without the room that was not needed."""
    return Found(
        series=found.series[: counts[SERIES]],
        bits=found.bits[: counts[SAMPLES]],
        ts_ms=found.ts_ms[: counts[SAMPLES]],
        owner=found.owner[: counts[SAMPLES]],
        exemplars=found.exemplars[: counts[EXEMPLARS]],
        histograms=found.histograms[: counts[HISTOGRAMS]],
        metadata=found.metadata[: counts[METADATA]],
        references=found.references[: counts[REFERENCES]],
        counts=found.counts,
    )
