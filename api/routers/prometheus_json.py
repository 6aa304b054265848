"""Query answers as Prometheus writes them in JSON, made by columns, not value by value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as compute

from store.model import Float64Array, InstantVector, Int64Array, Labels, RangeMatrix
from store.promql.engine import (
    QueryResult,
    RawSeries,
    Result,
    ScalarResult,
    StringResult,
)
from store.promql.numbers import format_float

# The stubs of Arrow's compute functions do not know what they take.
pc: Any = compute
Column = Any
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


def query_answer(answer: QueryResult, *, limit: int = 0, stats: bool = False) -> bytes:
    """A whole answer of /query or /query_range; `limit` counts series, 0 is none."""
    kind, result, cut = _result(answer.result, answer.ts_ms, limit)
    data = b'{"resultType":"' + kind.encode() + b'","result":' + result
    if stats:
        data += b',"stats":' + encode(_stats(answer))
    warnings = (*answer.warnings, LIMIT_WARNING) if cut else answer.warnings
    return success(data + b"}", warnings=warnings, infos=answer.infos)


def _stats(answer: QueryResult) -> dict[str, object]:
    seconds = answer.duration_s
    return {
        "timings": {
            "evalTotalTime": seconds,
            "resultSortTime": 0,
            "queryPreparationTime": 0,
            "innerEvalTime": seconds,
            "execQueueTime": 0,
            "execTotalTime": seconds,
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
    numbers = number_column(result.values[:count]).to_pylist()
    at = f',"value":[{seconds(ts_ms)},"'
    parts = [
        b'{"metric":' + _labels(labels) + (at + number + '"]}').encode()
        for labels, number in zip(result.series[:count], numbers, strict=True)
    ]
    return b"[" + b",".join(parts) + b"]"


def _grid(result: RangeMatrix, count: int) -> bytes:
    present = result.present[:count]
    values = result.values[:count][present]
    steps = np.nonzero(present)[1]
    stamps: Column = pa.array([seconds(ts) for ts in result.steps_ms.tolist()], type=pa.string())
    offsets = np.concatenate(
        (np.zeros(1, dtype=np.int64), np.cumsum(present.sum(axis=1, dtype=np.int64)))
    )
    return _matrix(result.series[:count], offsets, stamps.take(pa.array(steps)), values)


def _raw(result: RawSeries, count: int) -> bytes:
    end = int(result.offsets[count])
    stamps: Column = pa.array([seconds(ts) for ts in result.ts_ms[:end].tolist()], type=pa.string())
    return _matrix(result.series[:count], result.offsets[: count + 1], stamps, result.values[:end])


def _matrix(
    series: Iterable[Labels], offsets: Int64Array, stamps: Column, values: Float64Array
) -> bytes:
    points = pc.binary_join_element_wise("[", stamps, ',"', number_column(values), '"]', "")
    lists = pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), points)
    joined: list[str] = pc.binary_join(lists, ",").to_pylist()
    parts = [
        b'{"metric":' + _labels(labels) + b',"values":[' + text.encode() + b"]}"
        for labels, text in zip(series, joined, strict=True)
    ]
    return b"[" + b",".join(parts) + b"]"


def _labels(labels: Labels) -> bytes:
    return encode(labels.to_dict())
