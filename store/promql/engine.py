"""The PromQL engine: a query's text and time in, vectors and matrices out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from store.errors import QueryError
from store.model import HistogramArray, InstantVector, Int64Array, Labels, RangeMatrix
from store.ports import RollupReader, SeriesReader
from store.promql.cache import RangeCache, RangeKey
from store.promql.context import Annotations, EngineOptions, QueryWindow, Run, Stats
from store.promql.evaluator import evaluate
from store.promql.histogram_operators import nan_filled
from store.promql.histogram_selection import counted_only
from store.promql.merging import only_present, without_names
from store.promql.parse import parse
from store.promql.planning import grid, reach
from store.promql.syntax import Expr, ValueType
from store.promql.typecheck import value_type
from store.promql.values import Scalars, Text, Value, Vector, Windows

__all__ = ["Engine", "EngineOptions", "QueryResult", "RawSeries"]


@dataclass(frozen=True, slots=True)
class RawSeries:
    """Samples as they are stored: what an instant query of a range selector answers.

    Series `i` owns `ts_ms[offsets[i]:offsets[i + 1]]` and the same slice of `values`.
    """

    series: tuple[Labels, ...]
    offsets: Int64Array
    ts_ms: Int64Array
    values: np.ndarray
    histograms: HistogramArray | None = None


@dataclass(frozen=True, slots=True)
class ScalarResult:
    """One number at one instant."""

    value: float


@dataclass(frozen=True, slots=True)
class StringResult:
    """A string."""

    value: str


Result = InstantVector | RangeMatrix | RawSeries | ScalarResult | StringResult


@dataclass(frozen=True, slots=True)
class QueryResult:
    """A query's answer with all that HTTP tells of it.

    `ts_ms` is the instant of an instant query; warnings and infos are capped at ten each.
    """

    result: Result
    ts_ms: int
    warnings: tuple[str, ...]
    infos: tuple[str, ...]
    stats: Stats
    duration_s: float


class Engine:
    """Evaluates PromQL over a reader of raw samples. Safe to use from several threads.

    Example:
        >>> from store.promql.testing import MemoryReader
        >>> engine = Engine(MemoryReader())
        >>> [value for _, value in engine.instant("vector(1) + 1", 0).items()]
        [2.0]
    """

    def __init__(
        self,
        reader: SeriesReader,
        options: EngineOptions | None = None,
        cache: RangeCache | None = None,
    ) -> None:
        self._reader = reader
        # Asking what a protocol is costs as much as a selector: not at every one of every rule.
        self._rollups = reader if isinstance(reader, RollupReader) else None
        self.options = options or EngineOptions()
        self._cache = cache

    # -- the port `Querier` --------------------------------------------------

    def instant(self, expr: str, ts_ms: int) -> InstantVector:
        """A query at one instant; a scalar is one value without labels.

        Raises:
            QueryError: With Prometheus's error types; `bad_data` for strings and range vectors.
        """
        result = self.query(expr, ts_ms).result
        match result:
            case InstantVector():
                return result
            case ScalarResult(value=value):
                return InstantVector((Labels(),), np.array([value]))
            case _:
                raise QueryError(
                    "the query gives neither an instant vector nor a scalar", kind="bad_data"
                )

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> RangeMatrix:
        """A query over a grid of steps; series that never have a value are left out."""
        return cast(RangeMatrix, self.query_range(expr, start_ms, end_ms, step_ms).result)

    # -- full answers --------------------------------------------------------

    def query(
        self,
        expr: str,
        ts_ms: int,
        *,
        timeout_s: float | None = None,
        lookback_ms: int | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> QueryResult:
        """A query at one instant, with its warnings, infos and cost.

        `stopped` is asked now and then; once it is true the query fails as `canceled`.
        """
        started = time.perf_counter()
        tree = parse(expr)
        run = self._run(expr, QueryWindow(ts_ms, ts_ms, 0), timeout_s, lookback_ms)
        run.counted_only, run.stopped = _counted_only(expr, tree), stopped
        times = np.array([ts_ms], dtype=np.int64)
        result = _instant_result(run.eval(tree, times))
        return _finished(run, result, ts_ms, started)

    def query_range(  # noqa: PLR0913 -- what a request may set
        self,
        expr: str,
        start_ms: int,
        end_ms: int,
        step_ms: int,
        *,
        timeout_s: float | None = None,
        lookback_ms: int | None = None,
        stopped: Callable[[], bool] | None = None,
        remembered: bool = True,
    ) -> QueryResult:
        """A query over a grid of steps, with its warnings, infos and cost; see `query`.

        Without `remembered` every step is evaluated, whatever the cache holds.
        """
        started = time.perf_counter()
        tree = parse(expr)
        self._check_range(tree, start_ms, end_ms, step_ms)
        run = self._run(expr, QueryWindow(start_ms, end_ms, step_ms), timeout_s, lookback_ms)
        run.counted_only, run.stopped = _counted_only(expr, tree), stopped
        matrix = self._matrix(run, expr, tree, self._cache if remembered else None)
        return _finished(run, matrix, end_ms, started)

    def _matrix(self, run: Run, expr: str, tree: Expr, cache: RangeCache | None) -> RangeMatrix:
        """All steps, those from the cache that still hold among them."""
        window = run.window
        times = grid(window.start_ms, window.end_ms, window.step_ms)

        def evaluate(part_ms: Int64Array) -> RangeMatrix:
            return _as_matrix(run.eval(tree, part_ms), part_ms)

        if cache is None:
            return evaluate(times)
        lookback_ms = run.options.lookback_ms
        around = reach(tree, window, lookback_ms)
        if around is None or len(times) < 2:
            cache.bypass()
            return evaluate(times)
        key = RangeKey(expr, window.step_ms, window.start_ms % window.step_ms, lookback_ms)
        return cache.answer(
            key, around, times, evaluate, lambda: run.annotations.lists() == ((), ())
        )

    def _check_range(self, tree: Expr, start_ms: int, end_ms: int, step_ms: int) -> None:
        if value_type(tree) not in (ValueType.SCALAR, ValueType.VECTOR):
            raise QueryError(
                f'invalid expression type "{value_type(tree)}" for range query, must be Scalar '
                "or instant Vector",
                kind="bad_data",
            )
        if step_ms <= 0:
            raise QueryError("the step of a range query must be above zero", kind="bad_data")
        if end_ms < start_ms:
            raise QueryError("end timestamp must not be before start time", kind="bad_data")
        self.check_points(start_ms, end_ms, step_ms)

    def check_points(self, start_ms: int, end_ms: int, step_ms: int) -> None:
        """Refuse a range query of too many steps.

        Raises:
            QueryError: `bad_data`.
        """
        if (end_ms - start_ms) // step_ms > self.options.max_points:
            raise QueryError(
                f"exceeded maximum resolution of {self.options.max_points:,} points per "
                "timeseries. Try decreasing the query resolution (?step=XX)",
                kind="bad_data",
            )

    def _run(
        self, expr: str, window: QueryWindow, timeout_s: float | None, lookback_ms: int | None
    ) -> Run:
        options = self.options
        if lookback_ms:
            options = replace(options, lookback_ms=lookback_ms)
        timeout = min(options.timeout_s, timeout_s or options.timeout_s)
        return Run(
            reader=self._reader,
            evaluate=evaluate,
            options=options,
            window=window,
            annotations=Annotations(expr),
            deadline_s=time.monotonic() + timeout,
            rollups=self._rollups,
        )


def _counted_only(expr: str, tree: Expr) -> frozenset[int]:
    """As `counted_only`; most queries name no such function, and are not walked through."""
    return counted_only(tree) if "histogram_" in expr else frozenset()


def _finished(run: Run, result: Result, ts_ms: int, started: float) -> QueryResult:
    warnings, infos = run.annotations.lists()
    return QueryResult(result, ts_ms, warnings, infos, run.stats, time.perf_counter() - started)


def _as_matrix(value: Value, times_ms: Int64Array) -> RangeMatrix:
    """Names that were to go are gone, absent series too; series stand in the order of labels."""
    kept = only_present(without_names(_as_vector(value)))
    order = sorted(range(len(kept)), key=lambda row: kept.series[row].pairs)
    ordered = kept.take(np.array(order, dtype=np.int64))
    values = nan_filled(ordered.values, ordered.histograms)
    return RangeMatrix(tuple(ordered.series), times_ms, values, ordered.present, _shown(ordered))


def _shown(vector: Vector) -> HistogramArray | None:
    """The histograms that are present; None where there are none at all."""
    if vector.histograms is None or not vector.is_histogram.any():
        return None
    shown: HistogramArray = vector.histograms.copy()
    shown[~vector.present] = None
    return shown


def _as_vector(value: Value) -> Vector:
    if isinstance(value, Scalars):
        steps = len(value.values)
        return Vector(
            (Labels(),),
            value.values.reshape(1, steps),
            np.ones((1, steps), dtype=np.bool_),
            np.zeros(1, dtype=np.bool_),
        )
    return cast(Vector, value)


def _instant_result(value: Value) -> Result:
    match value:
        case Scalars():
            return ScalarResult(float(value.values[0]))
        case Text():
            return StringResult(value.value)
        case Windows():
            return _raw(value)
        case Vector():
            kept = only_present(without_names(value))
            values = nan_filled(kept.values, kept.histograms)[:, 0].copy()
            cells = _shown(kept)
            return InstantVector(
                tuple(kept.series), values, None if cells is None else cells[:, 0].copy()
            )


def _raw(windows: Windows) -> RawSeries:
    """The samples inside the one window of an instant query, series by series."""
    inside = (windows.ts_ms > windows.starts_ms[0]) & (windows.ts_ms <= windows.ends_ms[0])
    before = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(inside, dtype=np.int64)))
    bounds = before[windows.offsets]
    ts, values = windows.ts_ms[inside], windows.values[inside]
    rows = [row for row in range(len(windows.series)) if bounds[row + 1] > bounds[row]]
    rows.sort(key=lambda row: windows.series[row].pairs)
    pieces = [np.arange(bounds[row], bounds[row + 1]) for row in rows]
    order = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)
    sizes = np.array([0, *(len(piece) for piece in pieces)], dtype=np.int64)
    cells = windows.histograms
    return RawSeries(
        tuple(windows.series[row] for row in rows),
        np.cumsum(sizes),
        ts[order],
        values[order],
        None if cells is None else cells[inside][order],
    )
