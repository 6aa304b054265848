"""Where five-minute roll-ups answer instead of raw samples.

Two cases, decided step by step:

- *The same answer.* The query is long, and window and step lie on five minutes: a window is then
  made of whole buckets. Minimum, maximum, count, presence, first, last and delta are the same to
  the bit; sums, means, rate and increase but for the rounding of the last digit (the additions
  are grouped by bucket).
- *Raw samples are gone.* The window is widened to whole buckets and the query is told so. Other
  functions see the last sample of each bucket, which the store gives there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from store.model import BoolArray, Int64Array, Labels
from store.ports import ROLLUP_MS, RollupReader, RollupSet, RollupSpan
from store.promql import rollup_kernels as kernels
from store.promql.context import Run
from store.promql.functions.ranges import note_non_counters
from store.promql.functions.table import FUNCTIONS
from store.promql.parse import selector_matchers
from store.promql.planning import positive_ms, references
from store.promql.selection import select_vector
from store.promql.syntax import Call, Expr, MatrixSelector, VectorSelector
from store.promql.values import Value, Vector, no_histograms

# Below this the raw samples are quick enough, and the newest of them lie in memory.
_LONG_MS = 6 * 3_600_000
COARSE = "samples this old are kept as five-minute roll-ups only; windows are of whole five minutes"

_FOLDS = {
    "min_over_time": (kernels.MIN, ("low", "low")),
    "max_over_time": (kernels.MAX, ("high", "high")),
    "count_over_time": (kernels.COUNT, ("count", "count")),
    "present_over_time": (kernels.PRESENT, ("count", "count")),
    "sum_over_time": (kernels.SUM, ("total", "rest")),
    "avg_over_time": (kernels.AVG, ("total", "rest")),
}
_EDGES = {"first_over_time": "first", "last_over_time": "last"}
_CHANGES = {"rate": (True, True), "increase": (True, False), "delta": (False, False)}
_KEEP_NAME = frozenset(_EDGES)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which steps roll-ups answer, and with which windows.

    Attributes:
        reader: Where the roll-ups are.
        chosen: One a step of the query.
        starts_ms: Of the chosen steps, multiples of five minutes; likewise `ends_ms`.
        certain: Raw samples are there too, should roll-ups not do.
    """

    reader: RollupReader
    chosen: BoolArray
    starts_ms: Int64Array
    ends_ms: Int64Array
    certain: bool


def evaluate_selector(run: Run, node: VectorSelector, times_ms: Int64Array) -> Vector:
    """An instant selector: of five minutes the last sample is what the lookback finds."""
    refs = references(times_ms, node.offset, node.at, run.window)
    span = _span(run, refs - run.options.lookback_ms, refs)
    if span is None:
        return select_vector(run, node, times_ms)
    plan = None
    if not node.mode and run.options.lookback_ms == ROLLUP_MS:
        plan = _plan(run, span, refs - ROLLUP_MS, refs, aligned_only=True)
    if plan is None:
        _note(run, node, span, int(refs.min()) - run.options.lookback_ms)
        return select_vector(run, node, times_ms)
    found = _read(run, node, plan, ("last", "count", "stale_at"))
    if not found.complete:
        return select_vector(run, node, times_ms)
    vector = _room(run, found, plan, keep_name=True)
    _fill_edge(vector, found, plan, "last", stale_ends=True)
    if plan.chosen.all():
        return vector
    rest = evaluate_selector(run, node, times_ms[~plan.chosen])
    return _woven(vector, rest, plan.chosen)


def evaluate_call(run: Run, node: Call, times_ms: Int64Array) -> Value:
    """A function; of a plain range selector perhaps by roll-ups."""
    function = FUNCTIONS[node.name]
    ranged = next((arg for arg in node.args if isinstance(arg, MatrixSelector)), None)
    if ranged is None:
        return function(run, node, times_ms)
    length_ms = positive_ms(ranged.range, run.window)
    ends = references(times_ms, ranged.selector.offset, ranged.selector.at, run.window)
    span = _span(run, ends - length_ms, ends)
    if span is None:
        return function(run, node, times_ms)
    plan = None
    if not ranged.selector.mode and node.name in (_FOLDS.keys() | _EDGES.keys() | _CHANGES.keys()):
        plan = _plan(run, span, ends - length_ms, ends, aligned_only=False)
    vector = None if plan is None else _called(run, node, ranged, plan, length_ms)
    if plan is None or vector is None:
        _note(run, ranged, span, int(ends.min()) - length_ms)
        return function(run, node, times_ms)
    if (plan.ends_ms != ends[plan.chosen]).any() or length_ms % ROLLUP_MS:
        run.annotations.info(COARSE, ranged)
    if plan.chosen.all():
        return vector
    return _woven(vector, cast(Vector, function(run, node, times_ms[~plan.chosen])), plan.chosen)


def _span(run: Run, starts: Int64Array, ends: Int64Array) -> RollupSpan | None:
    """Where roll-ups are, if this query is long or reaches past the raw samples."""
    if not len(ends) or run.rollups is None:
        return None
    low = int(starts.min())
    if low >= run.rollups.raw_after_ms() and int(ends.max()) - low < _LONG_MS:
        return None
    span = run.rollups.rollup_span()
    return span if span.rolled_until_ms else None


def _plan(
    run: Run, span: RollupSpan, starts: Int64Array, ends: Int64Array, *, aligned_only: bool
) -> _Plan | None:
    aligned = (starts % ROLLUP_MS == 0) & (ends % ROLLUP_MS == 0)
    gone = starts < span.raw_after_ms
    whole_ends = ends // ROLLUP_MS * ROLLUP_MS
    chosen = aligned if aligned_only else aligned | gone
    chosen = chosen & (ends <= span.rolled_until_ms)
    if not chosen.any():
        return None
    length = -(-(ends - starts) // ROLLUP_MS) * ROLLUP_MS
    return _Plan(
        cast(RollupReader, run.reader),
        chosen,
        (whole_ends - length)[chosen],
        whole_ends[chosen],
        certain=not gone[chosen].any(),
    )


def _read(run: Run, selector: VectorSelector, plan: _Plan, columns: tuple[str, ...]) -> RollupSet:
    matchers = selector_matchers(selector)
    low, high = int(plan.starts_ms.min()), int(plan.ends_ms.max())
    key = ("rollups", tuple(matchers), low, high, columns)
    found = run.selected.get(key)
    if found is None:
        run.check_time()
        found = plan.reader.rollups(
            matchers, low, high, columns=columns, max_samples=run.options.max_samples
        )
        run.selected[key] = found
        run.stats.selects += 1
        run.stats.series_read += len(found.series)
        run.stats.samples_read += len(found.bucket_ms)
        run.hold(len(found.bucket_ms))
    return cast(RollupSet, found)


def _room(run: Run, found: RollupSet, plan: _Plan, *, keep_name: bool) -> Vector:
    shape = (len(found.series), len(plan.ends_ms))
    run.hold(shape[0] * shape[1])
    drop = np.full(shape[0], not keep_name)
    return Vector(found.series, np.zeros(shape), np.zeros(shape, dtype=np.bool_), drop)


def _called(
    run: Run, node: Call, ranged: MatrixSelector, plan: _Plan, length_ms: int
) -> Vector | None:
    """The chosen steps of a function, or None when only the raw samples can tell."""
    names = _columns_of(node.name)
    found = _read(run, ranged.selector, plan, names)
    if not found.complete:
        return None
    vector = _room(run, found, plan, keep_name=node.name in _KEEP_NAME)
    if not len(vector):
        return vector
    if node.name in _EDGES:
        _fill_edge(vector, found, plan, _EDGES[node.name], stale_ends=False)
    elif node.name in _FOLDS:
        if not _fill_fold(vector, found, plan, node.name) and plan.certain:
            return None
    else:
        is_counter, per_second = _CHANGES[node.name]
        # A change over a widened window is brought back to the length that was asked for.
        widened_ms = -(-length_ms // ROLLUP_MS) * ROLLUP_MS
        share = widened_ms / 1000 if per_second else widened_ms / length_ms
        _fill_change(vector, found, plan, (is_counter, share))
        if is_counter:
            note_non_counters(run, node, vector)
    return vector


def _columns_of(name: str) -> tuple[str, ...]:
    if name in _FOLDS:
        return tuple(dict.fromkeys(("count", *_FOLDS[name][1])))
    if name in _EDGES:
        return ("count", "stale_at", _EDGES[name])
    return ("count", "first_at", "last_at", "first", "last", "resets")


def _whole(found: RollupSet, name: str) -> Int64Array:
    return found.columns[name].astype(np.int64)


def _fill_edge(
    vector: Vector, found: RollupSet, plan: _Plan, name: str, *, stale_ends: bool
) -> None:
    if not len(vector):
        return
    kernels.edge(
        name == "last", stale_ends, found.bucket_ms, found.offsets, plan.starts_ms, plan.ends_ms,
        _whole(found, "count"), _whole(found, "stale_at"), found.columns[name],
        vector.values, vector.present,
    )  # fmt: skip


def _fill_fold(vector: Vector, found: RollupSet, plan: _Plan, name: str) -> bool:
    operation, (one, other) = _FOLDS[name]
    first = found.columns[one].astype(np.float64)
    second = found.columns[other].astype(np.float64)
    return bool(
        kernels.fold(
            operation, found.bucket_ms, found.offsets, plan.starts_ms, plan.ends_ms,
            _whole(found, "count"), first, second, vector.values, vector.present,
        )
    )  # fmt: skip


def _fill_change(vector: Vector, found: RollupSet, plan: _Plan, kind: tuple[bool, float]) -> None:
    columns = found.columns
    kernels.extrapolated(
        *kind, found.bucket_ms, found.offsets, plan.starts_ms, plan.ends_ms,
        _whole(found, "count"),
        (_whole(found, "first_at"), _whole(found, "last_at")),
        (columns["first"], columns["last"], columns["resets"]),
        vector.values, vector.present,
    )  # fmt: skip


def _woven(chosen: Vector, rest: Vector, steps: BoolArray) -> Vector:
    """Two vectors of different steps of one query as one."""
    places: dict[Labels, int] = {}
    for labels in (*chosen.series, *rest.series):
        places.setdefault(labels, len(places))
    values = np.zeros((len(places), len(steps)))
    present = np.zeros(values.shape, dtype=np.bool_)
    drop = np.zeros(len(places), dtype=np.bool_)
    histograms = None if rest.histograms is None else no_histograms(values.shape)
    for part, where in ((chosen, np.flatnonzero(steps)), (rest, np.flatnonzero(~steps))):
        rows = np.array([places[labels] for labels in part.series], dtype=np.int64)
        if len(rows):
            values[np.ix_(rows, where)] = part.values
            present[np.ix_(rows, where)] = part.present
            drop[rows] = part.drop_name
            if histograms is not None and part.histograms is not None:
                histograms[np.ix_(rows, where)] = part.histograms
    return Vector(tuple(places), values, present, drop, histograms)


def _note(run: Run, node: Expr, span: RollupSpan, low_ms: int) -> None:
    if low_ms < span.raw_after_ms:
        run.annotations.info(COARSE, node)
