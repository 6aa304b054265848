"""Aggregation where native histograms stand among the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from store.histogram_sums import mean, total
from store.histograms import IncompatibleHistogramsError, NativeHistogram
from store.model import Int64Array
from store.promql import histogram_notes as notes
from store.promql.context import Run
from store.promql.syntax import Aggregate
from store.promql.values import Vector, no_histograms


def without_histograms(run: Run, node: Aggregate, vector: Vector) -> Vector:
    """For operators of floats only: says so where it leaves histograms out."""
    if vector.histograms is None:
        return vector
    if vector.is_histogram.any():
        notes.ignored_in_group(run, node.op, node.expr)
    return vector.only_floats()


def combined(
    run: Run, node: Aggregate, vector: Vector, index: Int64Array, floats: Vector
) -> Vector:
    """Sum and avg: `floats` is the result for floats alone, `index[row]` the group of a row.

    A group with floats and histograms at a step has no result there.
    """
    mask = vector.is_histogram
    found: dict[tuple[int, int], list[NativeHistogram]] = {}
    cells = vector.histograms
    for row, step in zip(*(place.tolist() for place in np.nonzero(mask)), strict=True):
        histogram = cast(NativeHistogram, None if cells is None else cells[row, step])
        found.setdefault((int(index[row]), step), []).append(histogram)
    present, results = floats.present.copy(), no_histograms(floats.values.shape)
    for (group, step), members in found.items():
        if floats.present[group, step]:
            notes.mixed_in_group(run, node.expr)
            present[group, step] = False
            continue
        answer = _combined(run, node, members)
        present[group, step] = answer is not None
        results[group, step] = answer
    return replace(floats, present=present, histograms=results)


def _combined(
    run: Run, node: Aggregate, members: Sequence[NativeHistogram]
) -> NativeHistogram | None:
    fold = total if node.op == "sum" else mean
    try:
        answer = fold(members)
    except IncompatibleHistogramsError:
        notes.mixed_schemas(run, "", node.expr)
        return None
    notes.of_combined(run, answer, "aggregation", node.expr)
    return answer.histogram
