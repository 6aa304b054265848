"""Labels of info series, such as `target_info`, added to the series that they describe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import re2

from store.errors import QueryError
from store.model import METRIC_NAME, Int64Array, Labels, Matcher, MatchOp
from store.promql.context import Run
from store.promql.merging import merge_same
from store.promql.planning import references
from store.promql.selection import latest_at
from store.promql.selectors import matcher_passes, matches_empty
from store.promql.syntax import (
    Call,
    Expr,
    MatrixSelector,
    Subquery,
    VectorSelector,
    children,
)
from store.promql.values import Value, Vector, empty_vector, relabelled, stack

# Prometheus's own, hard coded there as well.
IDENTIFYING = ("instance", "job")
TARGET_INFO = Matcher(METRIC_NAME, MatchOp.EQUAL, "target_info")
_MAX_ALTERNATIVES = 500
Signature = tuple[str, ...]


def info(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """Each series with the labels of the info series of its instance and job at that time.

    Raises:
        QueryError: Two info series of one name answer at once, or contradict each other.
    """
    base = cast(Vector, run.eval(call.args[0], times_ms))
    matchers = cast(VectorSelector, call.args[1]).matchers if len(call.args) > 1 else ()
    names = [matcher for matcher in matchers if matcher.name == METRIC_NAME]
    data = [matcher for matcher in matchers if matcher.name != METRIC_NAME]
    if not matchers:
        names = [TARGET_INFO]
    is_info = [
        bool(names) and all(matcher_passes(one, labels.get(METRIC_NAME)) for one in names)
        for labels in base.series
    ]
    plain = [row for row, skip in enumerate(is_info) if not skip]
    winners, series = _winners(run, call, times_ms, _select(base, plain, names, data))
    parts = [base.take(np.nonzero(np.array(is_info, dtype=np.bool_))[0])]
    parts += [_enriched(base, row, winners, series, data) for row in plain]
    return merge_same(stack(parts, len(times_ms)))


def _select(
    base: Vector, rows: Iterable[int], names: Sequence[Matcher], data: Sequence[Matcher]
) -> list[Matcher]:
    """The matchers of the info series that can matter; none where no series can be described."""
    found: list[Matcher] = []
    rows = list(rows)
    for label in IDENTIFYING:
        values = sorted({base.series[row].get(label) for row in rows} - {""})
        if len(values) > _MAX_ALTERNATIVES:
            found.append(Matcher(label, MatchOp.NOT_EQUAL, ""))
        elif values:
            found.append(Matcher(label, MatchOp.REGEX, "|".join(map(re2.escape, values))))
    return [*(names or (TARGET_INFO,)), *found, *data] if found else []


def _reference_times(run: Run, node: Expr, times_ms: Int64Array) -> Int64Array | None:
    """When the samples of the first selector of an expression are looked up."""
    if isinstance(node, MatrixSelector):
        node = node.selector
    if isinstance(node, VectorSelector):
        return references(times_ms, node.offset, node.at, run.window)
    if isinstance(node, Subquery):
        times_ms = references(times_ms, node.offset, node.at, run.window)
    for child in children(node):
        found = _reference_times(run, child, times_ms)
        if found is not None:
            return found
    return None


def _winners(
    run: Run, call: Call, times_ms: Int64Array, matchers: Sequence[Matcher]
) -> tuple[dict[Signature, Int64Array], Sequence[Labels]]:
    """For each info name, instance and job the row of the newest info sample a step, or -1."""
    if not matchers:
        return {}, ()
    refs = _reference_times(run, call.args[0], times_ms)
    vector, stamps = latest_at(run, matchers, times_ms if refs is None else refs)
    if vector.is_histogram.any():
        row = int(np.argmax(vector.is_histogram.any(axis=1)))
        raise QueryError(f"this should be an info metric, with float samples: {vector.series[row]}")
    winners: dict[Signature, Int64Array] = {}
    newest: dict[Signature, Int64Array] = {}
    for row, labels in enumerate(vector.series):
        key = tuple(labels.get(name) for name in (METRIC_NAME, *IDENTIFYING))
        best = newest.setdefault(key, np.full(len(times_ms), -(2**62), dtype=np.int64))
        rows = winners.setdefault(key, np.full(len(times_ms), -1, dtype=np.int64))
        there = vector.present[row]
        clash = there & (rows >= 0) & (stamps[row] == best)
        if clash.any():
            step = int(np.argmax(clash))
            raise QueryError(
                f"found duplicate series for info metric: existing {vector.series[rows[step]]} @ "
                f"{best[step]}, new {labels} @ {best[step]}"
            )
        newer = there & (stamps[row] > best)
        rows[newer] = row
        best[newer] = stamps[row, newer]
    return winners, vector.series


def _enriched(
    base: Vector,
    row: int,
    winners: dict[Signature, Int64Array],
    series: Sequence[Labels],
    data: Sequence[Matcher],
) -> Vector:
    """One base series as one row for each set of labels that it gets over the steps."""
    labels = base.series[row]
    identity = tuple(labels.get(name) for name in IDENTIFYING)
    mine = [rows for key, rows in winners.items() if key[1:] == identity]
    if not mine:
        mine = [np.full(base.steps, -1, dtype=np.int64)]
    combinations, places = np.unique(np.stack(mine), axis=1, return_inverse=True)
    parts = []
    for place, combination in enumerate(combinations.T.tolist()):
        found = [series[winner] for winner in combination if winner >= 0]
        if not found and not all(map(matches_empty, data)):
            continue
        changed = relabelled(labels, _added(labels, found, data))
        present = base.present[row] & (places.reshape(-1) == place)
        parts.append(
            Vector(
                (changed,), base.values[row : row + 1], present.reshape(1, -1),
                base.drop_name[row : row + 1],
                None if base.histograms is None else base.histograms[row : row + 1],
            )
        )  # fmt: skip
    return stack(parts, base.steps) if parts else empty_vector(base.steps)


def _added(labels: Labels, found: Sequence[Labels], data: Sequence[Matcher]) -> dict[str, str]:
    wanted = {matcher.name for matcher in data}
    own = dict(labels.pairs)
    added: dict[str, str] = {}
    for info_labels in found:
        for name, value in info_labels:
            if name == METRIC_NAME or (wanted and name not in wanted):
                continue
            if added.get(name, value) != value:
                raise QueryError(f"conflicting label: {name}")
            if name not in own:
                added[name] = value
    return added
