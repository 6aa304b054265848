"""Functions of the query itself, and of what is or is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from store.errors import QueryError
from store.model import METRIC_NAME, Int64Array, Labels, Matcher, MatchOp
from store.promql.context import Run
from store.promql.functions.elementwise import scalar_at
from store.promql.selection import select_with_times
from store.promql.syntax import Call, Expr, MatrixSelector, VectorSelector, unwrap
from store.promql.values import Scalars, Value, Vector, Windows, bare_vector


def time(_run: Run, _call: Call, times_ms: Int64Array) -> Value:
    """Seconds since 1970 of each step."""
    return Scalars(times_ms / 1000)


def query_constant(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """pi(), start(), end(), step() and range(), all but pi in seconds."""
    window = run.window
    constants = {
        "pi": np.pi,
        "start": window.start_ms / 1000,
        "end": window.end_ms / 1000,
        "step": window.step_ms / 1000,
        "range": (window.end_ms - window.start_ms) / 1000,
    }
    return Scalars(np.full(len(times_ms), constants[call.name]))


def extreme_of_two(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """min_of(a, b) and max_of(a, b)."""
    left, right = (scalar_at(run, call, place, times_ms) for place in (0, 1))
    return Scalars(np.minimum(left, right) if call.name == "min_of" else np.maximum(left, right))


def scalar(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """The value of the only series at each step, else not a number."""
    vector = cast(Vector, run.eval(call.args[0], times_ms))
    floats = vector.floats
    single = floats.sum(axis=0) == 1
    if not len(vector):
        return Scalars(np.full(len(times_ms), np.nan))
    only = vector.values[floats.argmax(axis=0), np.arange(vector.steps)]
    return Scalars(np.where(single, only, np.nan))


def vector_of(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """A scalar as a series without labels."""
    return bare_vector(scalar_at(run, call, 0, times_ms), np.ones(len(times_ms), dtype=np.bool_))


def timestamp(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """When each sample was taken: known for a plain selector, else it is the step's own time."""
    inner = unwrap(call.args[0])
    if isinstance(inner, VectorSelector) and inner.mode != "smoothed":
        vector, stamps = select_with_times(run, inner, times_ms)
        return replace(vector, histograms=None).with_values(stamps / 1000)
    vector = cast(Vector, run.eval(call.args[0], times_ms))
    seconds = np.broadcast_to(times_ms / 1000, vector.values.shape).copy()
    return replace(vector, histograms=None).with_values(seconds)


def start_timestamp(_run: Run, _call: Call, _times_ms: Int64Array) -> Value:
    """Refused: Warroom keeps no start timestamps."""
    raise QueryError(
        "start_timestamp() is not supported: start timestamps of counters are not stored",
        kind="bad_data",
    )


def absent(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """1 at the steps where a vector is empty."""
    vector = cast(Vector, run.eval(call.args[0], times_ms))
    there = np.asarray(vector.present.any(axis=0), dtype=np.bool_)
    return bare_vector(np.ones(len(times_ms)), np.logical_not(there), _absent_labels(call.args[0]))


def absent_over_time(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """1 at the steps where no series has a sample in its window."""
    windows = cast(Windows, run.eval(call.args[0], times_ms))
    stamps = np.sort(windows.ts_ms)
    low = np.searchsorted(stamps, windows.starts_ms, side="right")
    high = np.searchsorted(stamps, windows.ends_ms, side="right")
    return bare_vector(np.ones(len(times_ms)), high <= low, _absent_labels(call.args[0]))


def _absent_labels(node: Expr) -> Labels:
    """The labels that a selector pins down by a single `=`."""
    if isinstance(node, MatrixSelector):
        node = node.selector
    if not isinstance(node, VectorSelector):
        return Labels()
    return pinned_labels(node.matchers)


def pinned_labels(matchers: Sequence[Matcher]) -> Labels:
    """The labels that stand in exactly one matcher, an equality; never the name."""
    pinned: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op is MatchOp.EQUAL and matcher.name not in seen:
            pinned[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            pinned.pop(matcher.name, None)
    return Labels.of(pinned)
