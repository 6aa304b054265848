"""Vector matching: which series of two vectors belong together at each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from store.errors import QueryError
from store.model import METRIC_NAME, BoolArray, Int64Array, Labels
from store.promql.context import Run
from store.promql.histogram_operators import Cells, Side
from store.promql.merging import merge_same
from store.promql.numbers import quoted
from store.promql.syntax import Matching
from store.promql.values import RESERVED_LABELS, Vector, empty_vector, relabelled, stack

# The two sides, and where both are present.
Operate = Callable[[Side, Side, BoolArray], Cells]
_MANY = "multiple matches for labels: "


@dataclass(frozen=True, slots=True)
class _Sides:
    """Both vectors with their match groups numbered alike.

    `many` may have several series a group, `one` has one a group and step.
    """

    many: Vector
    one: Vector
    many_group: Int64Array
    one_group: Int64Array
    group_labels: list[Labels]


def _number(matching: Matching, lhs: Vector, rhs: Vector) -> tuple[list[Int64Array], list[Labels]]:
    places: dict[tuple[tuple[str, str], ...], int] = {}
    wanted = frozenset(matching.labels)
    unwanted = wanted | {METRIC_NAME}
    numbered = []
    for vector in (lhs, rhs):
        index = np.empty(len(vector), dtype=np.int64)
        for row, series in enumerate(vector.series):
            if matching.on:
                key = tuple([pair for pair in series.pairs if pair[0] in wanted])
            else:
                key = tuple([pair for pair in series.pairs if pair[0] not in unwanted])
            index[row] = places.setdefault(key, len(places))
        numbered.append(index)
    return numbered, [Labels(key) for key in places]


def _any_present(vector: Vector, index: Int64Array, groups: int) -> BoolArray:
    """For each group and step, whether some series of it has a value."""
    out = np.zeros((groups, vector.steps), dtype=np.bool_)
    np.logical_or.at(out, index, vector.present)
    return out


def set_operation(operator: str, matching: Matching, lhs: Vector, rhs: Vector) -> Vector:
    """and, or, unless: by the presence of the match group on the other side."""
    if operator == "or" and not (len(lhs) and len(rhs)):
        return merge_same_rows(stack([lhs, rhs], lhs.steps))
    if not len(lhs) or (operator == "unless" and not len(rhs)):
        return lhs
    (left, right), labels = _number(matching, lhs, rhs)
    if operator == "or":
        taken = _any_present(lhs, left, len(labels))
        rest = replace(rhs, present=rhs.present & ~taken[right])
        return merge_same_rows(stack([lhs, rest], lhs.steps))
    there = _any_present(rhs, right, len(labels))[left]
    return replace(lhs, present=lhs.present & (there if operator == "and" else ~there))


def merge_same_rows(vector: Vector) -> Vector:
    """Rows of one label set that take turns become one row; those that overlap stay apart.

    Names that are still to be dropped tell rows apart until the query ends; rows without one are
    equal whether it was to be dropped or never was there.
    """
    places: dict[tuple[Labels, bool], int] = {}
    for labels, drop in zip(vector.series, vector.drop_name.tolist(), strict=True):
        places.setdefault((labels, drop and bool(labels.metric)), len(places))
    return vector if len(places) == len(vector) else merge_same(vector)


def match_vectors(
    run: Run, matching: Matching, lhs: Vector, rhs: Vector, operate: Operate, *, drops_name: bool
) -> Vector:
    """An arithmetic or comparison operator on two vectors.

    Raises:
        QueryError: A match group has more series than the cardinality allows.
    """
    filled = (matching.fill_left, matching.fill_right) != (None, None)
    # Without one side there is nothing, unless it is filled in.
    if not (max if filled else min)(len(lhs), len(rhs)):
        return empty_vector(lhs.steps)
    (left, right), labels = _number(matching, lhs, rhs)
    if matching.card == "one-to-many":
        sides = _Sides(rhs, lhs, right, left, labels)
    else:
        sides = _Sides(lhs, rhs, left, right, labels)
    swapped = matching.card == "one-to-many"

    def in_order(many: Side, one: Side, wanted: BoolArray) -> Cells:
        return operate(one, many, wanted) if swapped else operate(many, one, wanted)

    _refuse_many_on_one_side(matching, sides)
    many_rows, one_rows = _pairs(sides)
    run.hold(len(many_rows) * lhs.steps)
    parts = [_joined(matching, sides, many_rows, one_rows, in_order)]
    # Prometheus swaps the sides of group_right first, so fill_left is the many side's there too.
    if matching.fill_right is not None:
        parts.append(_fill_one(matching, sides, matching.fill_right, in_order))
    if matching.fill_left is not None:
        parts.append(_fill_many(matching, sides, matching.fill_left, in_order))
    result = stack([part for part, _ in parts], lhs.steps)
    groups = np.concatenate([index for _, index in parts])
    _refuse_ambiguous(matching, result, groups, len(labels))
    if drops_name:
        result = _nameless(result)
    return merge_same_rows(result)


def _nameless(vector: Vector) -> Vector:
    series = [labels.drop(RESERVED_LABELS) for labels in vector.series]
    kept = np.zeros(len(series), dtype=np.bool_)
    return Vector(series, vector.values, vector.present, kept, vector.histograms)


def _refuse_many_on_one_side(matching: Matching, sides: _Sides) -> None:
    """Two series of the one side in a group at a step are an error, if there is another side."""
    groups = len(sides.group_labels)
    counts = np.bincount(sides.one_group, minlength=groups)
    if not (counts > 1).any():
        return
    filled = (matching.fill_left, matching.fill_right) != (None, None)
    active = np.ones(sides.one.steps, dtype=np.bool_) if filled else sides.many.present.any(axis=0)
    for place in np.nonzero(counts > 1)[0].tolist():
        rows = np.nonzero(sides.one_group == place)[0]
        crowded = (sides.one.present[rows].sum(axis=0) > 1) & active
        if crowded.any():
            step = int(np.argmax(crowded))
            both = [row for row in rows.tolist() if sides.one.present[row, step]][:2]
            side = "left" if matching.card == "one-to-many" else "right"
            first, second = (label_text(sides.one.series[row]) for row in both)
            raise QueryError(
                f"found duplicate series for the match group "
                f"{label_text(sides.group_labels[place])} on the {side} hand-side of the "
                f"operation: [{first}, {second}];many-to-many matching not allowed: matching "
                f"labels must be unique on one side"
            )


def label_text(labels: Labels) -> str:
    """Prometheus's `{name="value", …}` of a label set, the metric's name as a label."""
    return "{" + ", ".join(f"{_label_name(name)}={quoted(value)}" for name, value in labels) + "}"


def _label_name(name: str) -> str:
    plain = name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit()
    return name if plain else quoted(name)


def _pairs(sides: _Sides) -> tuple[Int64Array, Int64Array]:
    """Every pair of rows of one group."""
    order = np.argsort(sides.one_group, kind="stable")
    sorted_groups = sides.one_group[order]
    low = np.searchsorted(sorted_groups, sides.many_group, side="left")
    high = np.searchsorted(sorted_groups, sides.many_group, side="right")
    counts = high - low
    many = np.repeat(np.arange(len(sides.many), dtype=np.int64), counts)
    ends = np.cumsum(counts)
    within = np.arange(len(many), dtype=np.int64) - np.repeat(ends - counts, counts)
    return many, order[np.repeat(low, counts) + within].astype(np.int64)


def _joined(
    matching: Matching, sides: _Sides, many: Int64Array, one: Int64Array, operate: Operate
) -> tuple[Vector, Int64Array]:
    both = sides.many.present[many] & sides.one.present[one]
    found = operate(_side(sides.many, many), _side(sides.one, one), both)
    present = both & found.keep
    if matching.card == "one-to-one" and not matching.explicit:
        series = [sides.many.series[row] for row in many.tolist()]
    else:
        series = [
            _result_labels(matching, sides.many.series[left], sides.one.series[right])
            for left, right in zip(many.tolist(), one.tolist(), strict=True)
        ]
    drop = sides.many.drop_name[many]
    vector = Vector(series, found.values, present, drop, found.histograms)
    return vector, sides.many_group[many]


def _side(vector: Vector, rows: Int64Array) -> Side:
    cells = vector.histograms
    return Side(vector.values[rows], None if cells is None else cells[rows])


def _result_labels(matching: Matching, many: Labels, one: Labels) -> Labels:
    labels = many
    if matching.card == "one-to-one" and matching.explicit:
        labels = many.keep(matching.labels) if matching.on else many.drop(matching.labels)
    if not matching.include:
        return labels
    return relabelled(labels, {name: one.get(name) for name in matching.include})


def _fill_one(
    matching: Matching, sides: _Sides, fill: float, operate: Operate
) -> tuple[Vector, Int64Array]:
    """Series of the many side whose group is missing on the one side."""
    there = _any_present(sides.one, sides.one_group, len(sides.group_labels))
    alone = sides.many.present & ~there[sides.many_group]
    filled = Side(np.full_like(sides.many.values, fill), None)
    found = operate(Side(sides.many.values, sides.many.histograms), filled, alone)
    present = alone & found.keep
    series = [
        _result_labels(matching, labels, sides.group_labels[place])
        for labels, place in zip(sides.many.series, sides.many_group.tolist(), strict=True)
    ]
    drop = sides.many.drop_name
    return Vector(series, found.values, present, drop, found.histograms), sides.many_group


def _fill_many(
    matching: Matching, sides: _Sides, fill: float, operate: Operate
) -> tuple[Vector, Int64Array]:
    """Series of the one side whose group is missing on the many side."""
    there = _any_present(sides.many, sides.many_group, len(sides.group_labels))
    alone = sides.one.present & ~there[sides.one_group]
    filled = Side(np.full_like(sides.one.values, fill), None)
    found = operate(filled, Side(sides.one.values, sides.one.histograms), alone)
    present = alone & found.keep
    series = [
        _result_labels(matching, sides.group_labels[place], labels)
        for labels, place in zip(sides.one.series, sides.one_group.tolist(), strict=True)
    ]
    drop = np.zeros(len(series), dtype=np.bool_)
    return Vector(series, found.values, present, drop, found.histograms), sides.one_group


def _refuse_ambiguous(matching: Matching, result: Vector, groups: Int64Array, count: int) -> None:
    """One result a group and step, or, with group_left/right, one a label set and group."""
    if matching.card == "one-to-one":
        keys = groups
        problem = "many-to-one matching must be explicit (group_left/group_right)"
    else:
        places: dict[tuple[int, Labels], int] = {}
        numbered = [
            places.setdefault((group, labels), len(places))
            for group, labels in zip(groups.tolist(), result.series, strict=True)
        ]
        keys, count = np.array(numbered, dtype=np.int64), len(places)
        problem = "grouping labels must ensure unique matches"
    rows = np.bincount(keys, minlength=count) if len(keys) else np.zeros(0, dtype=np.int64)
    for place in np.nonzero(rows > 1)[0].tolist():
        if (result.present[keys == place].sum(axis=0) > 1).any():
            raise QueryError(_MANY + problem)
