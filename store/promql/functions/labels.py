"""Functions of labels: replace, join, sort."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cmp_to_key, lru_cache
from typing import Any, cast

import numpy as np
import re2

from store.errors import QueryError
from store.model import METRIC_NAME, Int64Array, Labels
from store.promql.context import Run
from store.promql.merging import merge_same, only_present
from store.promql.numbers import valid_label_name
from store.promql.syntax import Call
from store.promql.values import Text, Value, Vector, relabelled

_REFERENCE = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


def _text(run: Run, call: Call, place: int, times_ms: Int64Array) -> str:
    return cast(Text, run.eval(call.args[place], times_ms)).value


def label_replace(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """Set a label to a template of what a regular expression finds in another.

    Raises:
        QueryError: A bad expression or label name, or two series come to be the same.
    """
    target, template, source, pattern = (_text(run, call, place, times_ms) for place in range(1, 5))
    if not valid_label_name(target):
        raise QueryError(f"invalid destination label name in label_replace(): {target}")
    expression = _compile(pattern)
    vector = cast(Vector, run.eval(call.args[0], times_ms))
    expand = _template(template, expression)

    def change(labels: Labels) -> Labels | None:
        found = expression.match(labels.get(source))
        return None if found is None else relabelled(labels, {target: expand(found)})

    return _relabel(vector, target, change)


# Rules ask for the same at every tick.
@lru_cache(maxsize=256)
def _compile(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(f"^(?s:{pattern})$", options)
    except (re2.error, UnicodeError) as exc:
        raise QueryError(f"invalid regular expression in label_replace(): {pattern}") from exc


def _template(template: str, expression: Any) -> Callable[[Any], str]:
    """Go's `$1`, `${name}` and `$$`; a group that does not exist is empty."""
    parts: list[str | int] = []
    place = 0
    for found in _REFERENCE.finditer(template):
        parts.append(template[place : found.start()])
        place = found.end()
        literal, braced, bare = found.groups()
        name = braced or bare
        if literal:
            parts.append("$")
        elif name.isdigit():
            if int(name) <= expression.groups:
                parts.append(int(name))
        elif name in expression.groupindex:
            parts.append(expression.groupindex[name])
    parts.append(template[place:])

    def expand(found: Any) -> str:
        return "".join(
            part if isinstance(part, str) else (found.group(part) or "") for part in parts
        )

    return expand


def label_join(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """Set a label to the values of others, joined.

    Raises:
        QueryError: A label name that cannot be, or two series come to be the same.
    """
    target, separator, *sources = (
        _text(run, call, place, times_ms) for place in range(1, len(call.args))
    )
    for source in sources:
        if not valid_label_name(source):
            raise QueryError(f"invalid source label name in label_join(): {source}")
    if not valid_label_name(target):
        raise QueryError(f"invalid destination label name in label_join(): {target}")
    vector = cast(Vector, run.eval(call.args[0], times_ms))

    def change(labels: Labels) -> Labels:
        return relabelled(labels, {target: separator.join(labels.get(name) for name in sources)})

    return _relabel(vector, target, change)


def _relabel(vector: Vector, target: str, change: Callable[[Labels], Labels | None]) -> Vector:
    series: list[Labels] = []
    drop = vector.drop_name.copy()
    for row, labels in enumerate(vector.series):
        changed = change(labels)
        series.append(labels if changed is None else changed)
        if changed is not None and target == METRIC_NAME:
            drop[row] = False
    return merge_same(replace(vector, series=series, drop_name=drop))


# -- order ------------------------------------------------------------------


def sort_by_value(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """Sort and sort_desc: an instant answer's order; NaN comes last either way."""
    vector = cast(Vector, run.eval(call.args[0], times_ms))
    vector = only_present(vector if run.window.step_ms else vector.only_floats())
    if _ineffective(run, call):
        return vector
    values = vector.values[:, 0]
    order = np.lexsort((-values if call.name == "sort_desc" else values, np.isnan(values)))
    return vector.take(order.astype(np.int64))


def sort_by_label(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """sort_by_label and its descending twin, digits compared as numbers."""
    vector = only_present(cast(Vector, run.eval(call.args[0], times_ms)))
    if _ineffective(run, call):
        return vector
    names = [_text(run, call, place, times_ms) for place in range(1, len(call.args))]

    def key(row: int) -> tuple[Any, ...]:
        labels = vector.series[row]
        return (*(natural(labels.get(name)) for name in names), labels.pairs)

    rows = sorted(range(len(vector)), key=key, reverse=call.name.endswith("_desc"))
    return vector.take(np.array(rows, dtype=np.int64))


def _ineffective(run: Run, call: Call) -> bool:
    ranged = run.window.step_ms > 0
    if ranged:
        run.annotations.warn(
            "sort is ineffective for range queries since results are always ordered by labels",
            call,
        )
    return ranged


def natural(text: str) -> Any:
    """A sort key that reads runs of digits as numbers: `node9` before `node10`."""
    return cmp_to_key(_natural_compare)(text)


def _natural_compare(left: str, right: str) -> int:
    a, b = re.findall(r"\d+|\D+", left), re.findall(r"\d+|\D+", right)
    for one, other in zip(a, b, strict=False):
        if one == other:
            continue
        if one[0].isdigit() and other[0].isdigit() and int(one) != int(other):
            return -1 if int(one) < int(other) else 1
        return -1 if one < other else 1
    return len(a) - len(b)
