"""Rows that have come to have the same labels."""

from __future__ import annotations

import numpy as np

from store.errors import QueryError
from store.model import Labels
from store.promql.values import RESERVED_LABELS, Vector, no_histograms

SAME_LABELSET = "vector cannot contain metrics with the same labelset"


def merge_same(vector: Vector) -> Vector:
    """Rows of equal labels become one, as long as no step has a value in two of them.

    Raises:
        QueryError: Two series of one step have the same labels.
    """
    places: dict[Labels, list[int]] = {}
    for row, labels in enumerate(vector.series):
        places.setdefault(labels, []).append(row)
    if len(places) == len(vector):
        return vector
    values = np.zeros((len(places), vector.steps))
    present = np.zeros((len(places), vector.steps), dtype=np.bool_)
    drop = np.zeros(len(places), dtype=np.bool_)
    cells = None if vector.histograms is None else no_histograms(values.shape)
    for place, rows in enumerate(places.values()):
        for row in rows:
            mask = vector.present[row]
            if (present[place] & mask).any():
                raise QueryError(SAME_LABELSET)
            values[place, mask] = vector.values[row, mask]
            if cells is not None and vector.histograms is not None:
                cells[place, mask] = vector.histograms[row, mask]
            present[place] |= mask
            drop[place] |= vector.drop_name[row]
    return Vector(list(places), values, present, drop, cells)


def without_names(vector: Vector) -> Vector:
    """The final step of a query: names that were to be dropped go, and equal rows merge.

    Raises:
        QueryError: Two series of one step have the same labels then.
    """
    if not vector.drop_name.any():
        return merge_same(vector)
    series = [
        labels.drop(RESERVED_LABELS) if drop else labels
        for labels, drop in zip(vector.series, vector.drop_name.tolist(), strict=True)
    ]
    kept = np.zeros(len(series), dtype=np.bool_)
    return merge_same(Vector(series, vector.values, vector.present, kept, vector.histograms))


def only_present(vector: Vector) -> Vector:
    """Without the rows that have no value at any step."""
    some = vector.present.any(axis=1)
    return vector if some.all() else vector.take(np.nonzero(some)[0])
