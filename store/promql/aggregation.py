"""Aggregation operators over groups of series."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from store.errors import QueryError
from store.model import METRIC_NAME, BoolArray, Float64Array, Int64Array, Labels
from store.promql import grouping
from store.promql.context import Run
from store.promql.histogram_groups import combined, without_histograms
from store.promql.label_columns import group_keys
from store.promql.numbers import (
    format_float,
    format_g,
    format_histogram,
    quoted,
    valid_label_name,
)
from store.promql.syntax import Aggregate
from store.promql.values import Scalars, Text, Vector, empty_vector, relabelled


@dataclass(frozen=True, slots=True)
class Groups:
    """Which group each row belongs to, and the groups' labels in order of appearance."""

    index: Int64Array
    labels: list[Labels]
    drop_name: BoolArray

    def members(self) -> tuple[Int64Array, Int64Array]:
        """Rows sorted by group, and the bounds of each group among them."""
        rows = np.argsort(self.index, kind="stable").astype(np.int64)
        counts = np.bincount(self.index, minlength=len(self.labels))
        return rows, np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))


def group(vector: Vector, names: Sequence[str], *, without: bool) -> Groups:
    """Group rows by labels, or by all labels but some (and never the name)."""
    names = tuple(dict.fromkeys(names))
    keys = list(group_keys(vector.series, names, without=without))
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    index = np.fromiter(map(places.__getitem__, keys), dtype=np.int64, count=len(keys))
    labels = [
        Labels(cast(Sequence[tuple[str, str]], key if without else zip(names, key, strict=True)))
        for key in places
    ]
    drop = np.zeros(len(labels), dtype=np.bool_)
    if not without and METRIC_NAME in names:
        np.logical_or.at(drop, index, vector.drop_name)
    return Groups(index, labels, drop)


def aggregate(run: Run, node: Aggregate, times_ms: Int64Array) -> Vector:
    """Any aggregation operator."""
    vector = cast(Vector, run.eval(node.expr, times_ms))
    parameter = None if node.param is None else run.eval(node.param, times_ms)
    if isinstance(parameter, Text):
        return _count_values(run, node, parameter.value, vector)
    if isinstance(parameter, Scalars) and node.op != "quantile":
        return _chosen(run, node, parameter.values, vector)
    if not len(vector):
        return empty_vector(len(times_ms))
    groups = group(vector, node.grouping, without=node.without)
    histograms = vector.histograms is not None
    if histograms and node.op in ("sum", "avg"):
        floats = _plain(node, vector.only_floats(), groups)
        return combined(run, node, vector, groups.index, floats)
    if histograms and node.op not in ("count", "group"):
        vector = without_histograms(run, node, vector)
    if isinstance(parameter, Scalars):
        return _quantile(run, node, parameter.values, vector, groups)
    return _plain(node, vector, groups)


def _plain(node: Aggregate, vector: Vector, groups: Groups) -> Vector:
    values, counts = _folded(node.op, vector, groups)
    return Vector(groups.labels, values, counts > 0, groups.drop_name)


def _folded(operator: str, vector: Vector, groups: Groups) -> tuple[Float64Array, Int64Array]:
    shape = (len(groups.labels), vector.steps)
    out, counts = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    data = (np.ascontiguousarray(vector.values), np.ascontiguousarray(vector.present), groups.index)
    if operator == "sum":
        grouping.group_sum(*data, out, np.zeros(shape), counts)
    elif operator == "avg":
        grouping.group_average(*data, out, np.zeros(shape), counts, np.zeros(shape, dtype=np.bool_))
    elif operator in ("min", "max"):
        grouping.group_extreme(*data, 1.0 if operator == "max" else -1.0, out, counts)
    elif operator in ("stddev", "stdvar"):
        grouping.group_variance(*data, out, np.zeros(shape), counts)
        out = np.sqrt(out) if operator == "stddev" else out
    else:
        grouping.group_count(data[1], groups.index, counts)
        out = counts.astype(np.float64) if operator == "count" else np.ones(shape)
    return out, counts


def _quantile(run: Run, node: Aggregate, q: Float64Array, vector: Vector, groups: Groups) -> Vector:
    for bad in dict.fromkeys(q[~((q >= 0) & (q <= 1))].tolist()):
        run.annotations.warn(
            f"quantile value should be between 0 and 1, got {format_g(bad)}",
            node.param or node,
        )
    shape = (len(groups.labels), vector.steps)
    out, present = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
    rows, bounds = groups.members()
    grouping.group_quantile(vector.values, vector.present, rows, bounds, q, out, present)
    return Vector(groups.labels, out, present, groups.drop_name)


def _count_values(run: Run, node: Aggregate, label: str, vector: Vector) -> Vector:
    if not valid_label_name(label):
        raise QueryError(f"invalid label name {quoted(label)}")
    if not vector.present.any():
        return empty_vector(vector.steps)
    # The label is set before series are grouped, so what it held before tells none apart.
    names = [name for name in node.grouping if name != label]
    groups = group(vector, [*names, label] if node.without else names, without=node.without)
    rows, steps = np.nonzero(vector.present)
    distinct, inverse, texts = _distinct(vector, rows, steps)
    if node.without and label in node.grouping:
        distinct, inverse = distinct[:1], np.zeros_like(inverse)
    codes = groups.index[rows] * len(distinct) + inverse.reshape(-1)
    keys, places = np.unique(codes, return_inverse=True)
    run.hold(len(keys) * vector.steps)
    counts = np.zeros((len(keys), vector.steps))
    np.add.at(counts, (places.reshape(-1), steps), 1.0)
    if node.without and label in node.grouping:
        texts = [""]
    series = [
        relabelled(groups.labels[key // len(distinct)], {label: texts[key % len(distinct)]})
        for key in keys.tolist()
    ]
    drop = groups.drop_name[keys // len(distinct)]
    return Vector(series, counts, counts > 0, drop)


def _distinct(
    vector: Vector, rows: Int64Array, steps: Int64Array
) -> tuple[npt.NDArray[Any], Int64Array, list[str]]:
    """The distinct samples, which of them each sample is, and how each is written."""
    if vector.histograms is None:
        # By bits, as -0 is written apart from 0; but NaN is one.
        values = vector.values[rows, steps]
        bits = np.where(np.isnan(values), np.nan, values).view(np.int64)
        distinct, inverse = np.unique(bits, return_inverse=True)
        texts = [format_float(value) for value in distinct.view(np.float64).tolist()]
        return distinct, inverse, texts
    samples = zip(vector.values[rows, steps].tolist(), vector.histograms[rows, steps], strict=True)
    written = [
        format_float(value) if histogram is None else format_histogram(histogram)
        for value, histogram in samples
    ]
    names, inverse = np.unique(np.array(written), return_inverse=True)
    return names, inverse, names.tolist()


# -- operators that keep some of the series as they are ---------------------


def _chosen(run: Run, node: Aggregate, parameter: Float64Array, vector: Vector) -> Vector:
    if node.op == "limit_ratio":
        _check_ratio(run, node, parameter)
    else:
        _check_count(parameter)
    if not len(vector):
        return vector
    if node.op in ("topk", "bottomk"):
        vector = without_histograms(run, node, vector)
    groups = group(vector, node.grouping, without=node.without)
    chosen = np.zeros_like(vector.present)
    if node.op == "limit_ratio":
        chosen = vector.present & _sampled(vector, np.clip(parameter, -1.0, 1.0))
    else:
        k = np.clip(parameter, 0, len(vector)).astype(np.int64)
        _choose(node.op, vector, groups, k, chosen)
    picked = replace(vector, present=chosen)
    if vector.steps == 1 and node.op in ("topk", "bottomk"):
        return picked.take(_ranked(picked, groups, node.op))
    return picked.take(np.nonzero(chosen.any(axis=1))[0])


def _choose(
    operator: str, vector: Vector, groups: Groups, k: Int64Array, chosen: BoolArray
) -> None:
    if operator == "limitk":
        counts = np.zeros((len(groups.labels), vector.steps), dtype=np.int64)
        grouping.group_first(vector.present, groups.index, k, counts, chosen)
        return
    rows, bounds = groups.members()
    sign = 1.0 if operator == "topk" else -1.0
    grouping.group_top(vector.values, vector.present, rows, bounds, k, sign, chosen)


def _ranked(vector: Vector, groups: Groups, operator: str) -> Int64Array:
    """An instant answer goes group by group, best first, NaN last."""
    rows = np.nonzero(vector.present[:, 0])[0]
    values = vector.values[rows, 0]
    order = np.lexsort(
        (-values if operator == "topk" else values, np.isnan(values), groups.index[rows])
    )
    return rows[order]


def _check_count(parameter: Float64Array) -> None:
    for value in parameter.tolist():
        if math.isnan(value):
            raise QueryError("Parameter value is NaN")
        if value >= 2**63:
            raise QueryError(f"Scalar value {format_g(value)} overflows int64")
        if value <= -(2**63):
            raise QueryError(f"Scalar value {format_g(value)} underflows int64")


def _check_ratio(run: Run, node: Aggregate, parameter: Float64Array) -> None:
    for value in dict.fromkeys(parameter.tolist()):
        if math.isnan(value):
            raise QueryError("Ratio value is NaN")
        if abs(value) > 1:
            run.annotations.warn(
                f"ratio value should be between -1 and 1, got {format_g(value)}, "
                f"capping to {format_g(math.copysign(1, value))}",
                node.param or node,
            )


def _sampled(vector: Vector, ratio: Float64Array) -> BoolArray:
    """A series is in `r` when its hash is below r, in `r - 1` when it is not: complements."""
    place = np.array([_fraction(labels) for labels in vector.series]).reshape(-1, 1)
    return np.where(ratio >= 0, place < ratio, place >= 1.0 + ratio)


def _fraction(labels: Labels) -> float:
    text = "\xff".join(part for pair in labels.pairs for part in pair)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
