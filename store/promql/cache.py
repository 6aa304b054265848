"""Answers of range queries that are asked again and again, as by a dashboard that refreshes.

Only the steps that are new, and those whose samples have changed since, are evaluated again. What
has changed is known from the store, whatever the age of a late sample. Exact by these rules:

- An expression is kept only if each of its steps depends on samples around that step alone:
  `planning.reach` says how far around, or that it is not so (`@`, `start()`, `info()`, ...).
- Steps within reach of a change are dropped.
- Answers that came with warnings or infos are not kept: nobody knows which step caused them.
- Answers with native histograms are not kept: their size is not known.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from store.model import BoolArray, Int64Array, Labels, RangeMatrix
from store.promql.planning import Reach
from store.promql.values import no_histograms

_BYTES_A_SERIES = 400
_BYTES_A_CELL = 9
# One answer may fill this part of the cache.
_SHARE = 8
Evaluate = Callable[[Int64Array], RangeMatrix]


class ChangeReader(Protocol):
    """What the store tells of changes; see `store.changes`."""

    def version(self) -> int: ...

    def changed_since(self, version: int) -> list[tuple[int, int]] | None: ...


@dataclass(frozen=True, slots=True)
class RangeKey:
    """What makes two range queries one but for their ends. `phase_ms` is the start modulo step."""

    expr: str
    step_ms: int
    phase_ms: int
    lookback_ms: int


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts since the start, and what is held now.

    Attributes:
        hits: Queries that reused steps.
        misses: Queries that could have, but found none.
        bypassed: Queries that depend on more than the samples around each step.
        steps_reused: Steps that were taken from the cache.
        steps_evaluated: Steps that were evaluated, of queries that could reuse some.
    """

    hits: int
    misses: int
    bypassed: int
    steps_reused: int
    steps_evaluated: int
    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    matrix: RangeMatrix
    version: int
    size: int


class RangeCache:
    """Keeps answers within a number of bytes, the least recently used go first. Thread-safe."""

    def __init__(self, changes: ChangeReader, max_bytes: int) -> None:
        self._changes = changes
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[RangeKey, _Entry] = OrderedDict()
        self._bytes = 0
        self._counts = dict.fromkeys(
            ("hits", "misses", "bypassed", "steps_reused", "steps_evaluated"), 0
        )

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(**self._counts, entries=len(self._entries), bytes=self._bytes)

    def bypass(self) -> None:
        """Count a query that cannot be kept."""
        self._count(bypassed=1)

    def answer(
        self,
        key: RangeKey,
        reach: Reach,
        times_ms: Int64Array,
        evaluate: Evaluate,
        may_keep: Callable[[], bool],
    ) -> RangeMatrix:
        """The matrix of these steps; `evaluate` is asked for those that are not known."""
        version = self._changes.version()
        known = self._known(key, reach, times_ms)
        reused = 0 if known is None else int(np.isin(times_ms, known.steps_ms).sum())
        self._count(
            hits=int(reused > 0),
            misses=int(reused == 0),
            steps_reused=reused,
            steps_evaluated=len(times_ms) - reused,
        )
        if known is None:
            whole = evaluate(times_ms)
        else:
            before = times_ms[times_ms < known.steps_ms[0]]
            after = times_ms[times_ms > known.steps_ms[-1]]
            first, last = (evaluate(part) if len(part) else None for part in (before, after))
            whole = joined([part for part in (first, known, last) if part is not None])
        if whole.histograms is None and may_keep():
            self._keep(key, _newest(whole, 2 * len(times_ms)), version)
        return whole if known is None else within(whole, int(times_ms[0]), int(times_ms[-1]))

    def _known(self, key: RangeKey, reach: Reach, times_ms: Int64Array) -> RangeMatrix | None:
        """Steps in one piece that still hold, and that leave no hole beside the wanted ones."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
        if entry is None:
            return None
        changed = self._changes.changed_since(entry.version)
        if changed is None:
            return None
        steps = entry.matrix.steps_ms
        run = _longest(_untouched(steps, changed, reach), steps, times_ms)
        return None if run is None else within(entry.matrix, *run)

    def _keep(self, key: RangeKey, matrix: RangeMatrix, version: int) -> None:
        cells = matrix.values.shape[0] * matrix.values.shape[1]
        size = cells * _BYTES_A_CELL + len(matrix.series) * _BYTES_A_SERIES + len(key.expr)
        with self._lock:
            old = self._entries.pop(key, None)
            self._bytes -= old.size if old else 0
            if size * _SHARE > self._max_bytes:
                return
            self._entries[key] = _Entry(matrix, version, size)
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._bytes -= self._entries.popitem(last=False)[1].size

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, count in more.items():
                self._counts[name] += count


def _untouched(steps: Int64Array, changed: Sequence[tuple[int, int]], reach: Reach) -> BoolArray:
    """Which steps read no sample that has changed."""
    holds = np.ones(len(steps), dtype=np.bool_)
    for low, high in changed:
        first = np.searchsorted(steps, low - reach.ahead_ms, side="left")
        past = np.searchsorted(steps, high + reach.back_ms, side="left")
        holds[first:past] = False
    return holds


def _longest(holds: BoolArray, steps: Int64Array, times_ms: Int64Array) -> tuple[int, int] | None:
    """First and last of the run that has most of the wanted steps, and meets them."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], holds, [False])).astype(np.int8)))
    best: tuple[int, int] | None = None
    most = 0
    for begin, past in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        low, high = int(steps[begin]), int(steps[past - 1])
        shared = int(((times_ms >= low) & (times_ms <= high)).sum())
        if shared > most:
            best, most = (low, high), shared
    return best


def within(matrix: RangeMatrix, start_ms: int, end_ms: int) -> RangeMatrix:
    """The steps from start to end, and the series that have a value there."""
    first = int(np.searchsorted(matrix.steps_ms, start_ms, side="left"))
    past = int(np.searchsorted(matrix.steps_ms, end_ms, side="right"))
    present = matrix.present[:, first:past]
    rows = np.flatnonzero(present.any(axis=1))
    cells = matrix.histograms
    return RangeMatrix(
        tuple(matrix.series[row] for row in rows.tolist()),
        matrix.steps_ms[first:past],
        matrix.values[rows, first:past],
        present[rows],
        None if cells is None else cells[rows, first:past],
    )


def _newest(matrix: RangeMatrix, steps: int) -> RangeMatrix:
    if len(matrix.steps_ms) <= steps:
        return matrix
    return within(matrix, int(matrix.steps_ms[-steps]), int(matrix.steps_ms[-1]))


def joined(parts: Sequence[RangeMatrix]) -> RangeMatrix:
    """Matrices of steps that follow one another, side by side; series in the order of labels."""
    if len(parts) == 1:
        return parts[0]
    steps = np.concatenate([part.steps_ms for part in parts])
    labels: dict[Labels, int] = {}
    for part in parts:
        for series in part.series:
            labels.setdefault(series, 0)
    ordered = sorted(labels)
    labels = {series: row for row, series in enumerate(ordered)}
    values = np.zeros((len(ordered), len(steps)))
    present = np.zeros(values.shape, dtype=np.bool_)
    some = any(part.histograms is not None for part in parts)
    cells = no_histograms(values.shape) if some else None
    first = 0
    for part in parts:
        past = first + len(part.steps_ms)
        rows = np.array([labels[series] for series in part.series], dtype=np.int64)
        values[rows, first:past] = part.values
        present[rows, first:past] = part.present
        if cells is not None and part.histograms is not None:
            cells[rows, first:past] = part.histograms
        first = past
    return RangeMatrix(tuple(ordered), steps, values, present, cells)
