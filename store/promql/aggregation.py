"""Aggregation operators over groups of series."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from store.errors import QueryError
from store.model import METRIC_NAME, BoolArray, Float64Array, Int64Array, Labels
from store.promql import grouping
from store.promql.context import Run
from store.promql.numbers import format_float, format_g, quoted, valid_label_name
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
    places: dict[tuple[str, ...] | tuple[tuple[str, str], ...], int] = {}
    index = np.empty(len(vector), dtype=np.int64)
    labels: list[Labels] = []
    unwanted = frozenset((*names, METRIC_NAME))
    for row, series in enumerate(vector.series):
        key: tuple[str, ...] | tuple[tuple[str, str], ...]
        if without:
            key = tuple(pair for pair in series.pairs if pair[0] not in unwanted)
        else:
            key = tuple([series.get(name) for name in names])
        place = places.setdefault(key, len(places))
        if place == len(labels):
            pairs = key if without else zip(names, key, strict=True)
            labels.append(Labels(cast(Sequence[tuple[str, str]], pairs)))
        index[row] = place
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
    if isinstance(parameter, Scalars):
        return _quantile(run, node, parameter.values, vector, groups)
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
    groups = group(vector, node.grouping, without=node.without)
    rows, steps = np.nonzero(vector.present)
    distinct, inverse = np.unique(vector.values[rows, steps], return_inverse=True)
    codes = groups.index[rows] * len(distinct) + inverse.reshape(-1)
    keys, places = np.unique(codes, return_inverse=True)
    run.hold(len(keys) * vector.steps)
    counts = np.zeros((len(keys), vector.steps))
    np.add.at(counts, (places.reshape(-1), steps), 1.0)
    series = [
        relabelled(
            groups.labels[key // len(distinct)],
            {label: format_float(float(distinct[key % len(distinct)]))},
        )
        for key in keys.tolist()
    ]
    drop = groups.drop_name[keys // len(distinct)]
    return Vector(series, counts, counts > 0, drop)


# -- operators that keep some of the series as they are ---------------------


def _chosen(run: Run, node: Aggregate, parameter: Float64Array, vector: Vector) -> Vector:
    if node.op == "limit_ratio":
        _check_ratio(run, node, parameter)
    else:
        _check_count(parameter)
    if not len(vector):
        return vector
    groups = group(vector, node.grouping, without=node.without)
    chosen = np.zeros_like(vector.present)
    if node.op == "limit_ratio":
        chosen = vector.present & _sampled(vector, np.clip(parameter, -1.0, 1.0))
    else:
        k = np.clip(parameter, 0, len(vector)).astype(np.int64)
        _choose(node.op, vector, groups, k, chosen)
    picked = Vector(vector.series, vector.values, chosen, vector.drop_name)
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
