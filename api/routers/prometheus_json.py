"""Query answers as Prometheus writes them in JSON, made by columns, not value by value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as compute

from api.routers.histogram_json import mixed_grid, mixed_raw, mixed_vector
from store.errors import QueryError
from store.model import Float64Array, InstantVector, Int32Array, Int64Array, Labels, RangeMatrix
from store.promql.engine import (
    QueryResult,
    RawSeries,
    Result,
    ScalarResult,
    StringResult,
)
from store.promql.numbers import format_float
from store.promql.points_text import Bytes, write_points

# The stubs of Arrow's compute functions do not know what they take.
pc: Any = compute
Column = Any
# An answer is text of some 25 bytes a point, all in memory at once.
MAX_POINTS = 5_000_000
LIMIT_WARNING = "results truncated due to limit"


def encode(value: object) -> bytes:
    """Plain data as JSON; text that is no UTF-8 gets replacement characters."""
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, UnicodeError):
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def success(data: bytes, *, warnings: Sequence[str] = (), infos: Sequence[str] = ()) -> bytes:
    """The envelope of every good answer."""
    notes = b""
    if warnings:
        notes += b',"warnings":' + encode(list(warnings))
    if infos:
        notes += b',"infos":' + encode(list(infos))
    return b'{"status":"success","data":' + data + notes + b"}"


def query_answer(
    answer: QueryResult, *, limit: int = 0, stats: bool = False, waited_s: float = 0.0
) -> bytes:
    """A whole answer of /query or /query_range; `limit` counts series, 0 is none."""
    kind, result, cut = _result(answer.result, answer.ts_ms, limit)
    data = b'{"resultType":"' + kind.encode() + b'","result":' + result
    if stats:
        data += b',"stats":' + encode(_stats(answer, waited_s))
    warnings = (*answer.warnings, LIMIT_WARNING) if cut else answer.warnings
    return success(data + b"}", warnings=warnings, infos=answer.infos)


def _stats(answer: QueryResult, waited_s: float) -> dict[str, object]:
    seconds = answer.duration_s
    return {
        "timings": {
            "evalTotalTime": seconds,
            "resultSortTime": 0,
            "queryPreparationTime": 0,
            "innerEvalTime": seconds,
            "execQueueTime": waited_s,
            "execTotalTime": waited_s + seconds,
        },
        "samples": {
            "totalQueryableSamples": answer.stats.samples_read,
            "peakSamples": answer.stats.peak_samples,
        },
    }


def _result(result: Result, ts_ms: int, limit: int) -> tuple[str, bytes, bool]:
    match result:
        case ScalarResult(value=value):
            return "scalar", f'[{seconds(ts_ms)},"{format_float(value)}"]'.encode(), False
        case StringResult(value=value):
            return "string", b"[" + seconds(ts_ms).encode() + b"," + encode(value) + b"]", False
        case InstantVector():
            count = _kept(len(result), limit)
            return "vector", _vector(result, ts_ms, count), count < len(result)
        case RangeMatrix():
            count = _kept(len(result.series), limit)
            return "matrix", _grid(result, count), count < len(result.series)
        case RawSeries():
            count = _kept(len(result.series), limit)
            return "matrix", _raw(result, count), count < len(result.series)


def _kept(count: int, limit: int) -> int:
    return min(count, limit) if limit else count


def _check_points(points: int) -> None:
    if points > MAX_POINTS:
        raise QueryError(
            f"the answer has {points:,} points, more than {MAX_POINTS:,}",
            hint="ask for fewer series, a shorter range or a larger step; or aggregate",
        )


def seconds(ts_ms: int) -> str:
    """Milliseconds as seconds with three decimals at most."""
    sign, rest = ("-", -ts_ms) if ts_ms < 0 else ("", ts_ms)
    whole, fraction = divmod(rest, 1000)
    return f"{sign}{whole}" if not fraction else f"{sign}{whole}.{fraction:03d}".rstrip("0")


def number_column(values: Float64Array) -> Column:
    """Numbers as Prometheus writes them, a column at once."""
    text: Column = pa.array(values).cast(pa.string())
    odd = ~(np.abs(values) < 1e16)  # NaN too
    if not odd.any():
        return text
    fixed = [_wide(value) for value in values[odd].tolist()]
    return pc.replace_with_mask(text, pa.array(odd), pa.array(fixed, type=pa.string()))


def _wide(value: float) -> str:
    """Go's encoding/json goes over to exponents at 1e21."""
    if abs(value) >= 1e21 and abs(value) != float("inf"):
        return repr(value)
    return format_float(value)


def _vector(result: InstantVector, ts_ms: int, count: int) -> bytes:
    if result.histograms is not None:
        return mixed_vector(result, ts_ms, count)
    numbers = number_column(result.values[:count]).to_pylist()
    at = f',"value":[{seconds(ts_ms)},"'
    parts = [
        b'{"metric":' + _labels(labels) + (at + number + '"]}').encode()
        for labels, number in zip(result.series[:count], numbers, strict=True)
    ]
    return b"[" + b",".join(parts) + b"]"


def _grid(result: RangeMatrix, count: int) -> bytes:
    if result.histograms is not None:
        return mixed_grid(result, count)
    present = result.present[:count]
    _check_points(int(np.count_nonzero(present)))
    values = result.values[:count][present]
    steps = np.nonzero(present)[1]
    stamps = [seconds(ts) for ts in result.steps_ms.tolist()]
    offsets = np.concatenate(
        (np.zeros(1, dtype=np.int64), np.cumsum(present.sum(axis=1, dtype=np.int64)))
    )
    return _matrix(result.series[:count], offsets, (stamps, steps.astype(np.int64)), values)


def _raw(result: RawSeries, count: int) -> bytes:
    if result.histograms is not None:
        return mixed_raw(result, count)
    end = int(result.offsets[count])
    _check_points(end)
    distinct, stamp_of = np.unique(result.ts_ms[:end], return_inverse=True)
    stamps = [seconds(ts) for ts in distinct.tolist()]
    return _matrix(
        result.series[:count],
        result.offsets[: count + 1],
        (stamps, stamp_of.reshape(-1).astype(np.int64)),
        result.values[:end],
    )


def _matrix(
    series: Iterable[Labels],
    offsets: Int64Array,
    times: tuple[list[str], Int64Array],
    values: Float64Array,
) -> bytes:
    """Series with their points; `times` are texts, and for each point which of them is its own."""
    stamps, stamp_of = times
    text, begins = write_points(
        *_texts(pa.array(stamps, type=pa.string())),
        stamp_of,
        *_texts(number_column(values)),
        np.ascontiguousarray(offsets),
    )
    whole, edges = text.tobytes(), begins.tolist()
    parts = [
        b'{"metric":' + _labels(labels) + b',"values":[' + whole[begin:end] + b"]}"
        for labels, (begin, end) in zip(series, pairwise(edges), strict=True)
    ]
    return b"[" + b",".join(parts) + b"]"


def _texts(column: Column) -> tuple[Bytes, Int32Array]:
    """The bytes of a column of strings, and where each begins and the last one ends."""
    _, ends, data = column.buffers()
    text = np.frombuffer(data or b"", dtype=np.uint8)
    places = np.frombuffer(ends, dtype=np.int32)[column.offset :][: len(column) + 1]
    return text, places if len(places) else np.zeros(1, dtype=np.int32)


def _labels(labels: Labels) -> bytes:
    return encode(labels.to_dict())
