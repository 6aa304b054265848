"""One node of a query, evaluated over all its steps at once."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from store.model import Int64Array
from store.promql.aggregation import aggregate
from store.promql.binary import evaluate_binary
from store.promql.context import Run
from store.promql.histogram_operators import negated_histograms
from store.promql.planning import is_invariant
from store.promql.rollup_path import evaluate_call, evaluate_selector
from store.promql.selection import select_windows, subquery_windows
from store.promql.syntax import (
    Aggregate,
    Binary,
    Call,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
)
from store.promql.values import Scalars, Text, Value, Vector


def evaluate(run: Run, node: Expr, times_ms: Int64Array) -> Value:
    """The value of a node at these instants; a step-invariant node is evaluated once."""
    if len(times_ms) > 1 and is_invariant(run, node) and _widens(node):
        return _widen(run, _evaluate(run, node, times_ms[:1]), len(times_ms))
    return _evaluate(run, node, times_ms)


def _widens(node: Expr) -> bool:
    return not isinstance(node, MatrixSelector | Subquery | NumberLiteral | StringLiteral | Paren)


def _widen(run: Run, value: Value, steps: int) -> Value:
    match value:
        case Vector():
            run.hold(len(value) * steps)
            return replace(
                value,
                values=np.repeat(value.values, steps, axis=1),
                present=np.repeat(value.present, steps, axis=1),
                histograms=(
                    None if value.histograms is None else np.repeat(value.histograms, steps, axis=1)
                ),
            )
        case Scalars():
            return Scalars(np.repeat(value.values, steps))
        case _:
            return value


def _evaluate(run: Run, node: Expr, times_ms: Int64Array) -> Value:  # noqa: C901, PLR0911 -- one arm a kind of node
    match node:
        case NumberLiteral():
            return Scalars(np.full(len(times_ms), node.value))
        case StringLiteral():
            return Text(node.value)
        case Paren():
            return run.eval(node.expr, times_ms)
        case Unary():
            return _unary(node, run.eval(node.expr, times_ms))
        case VectorSelector():
            return evaluate_selector(run, node, times_ms)
        case MatrixSelector():
            return select_windows(run, node, times_ms)
        case Subquery():
            return subquery_windows(run, node, times_ms)
        case Binary():
            return evaluate_binary(run, node, times_ms)
        case Aggregate():
            return aggregate(run, node, times_ms)
        case Call():
            return evaluate_call(run, node, times_ms)


def _unary(node: Unary, value: Value) -> Value:
    if node.op == "+":
        return value
    if isinstance(value, Scalars):
        return Scalars(-value.values)
    vector = cast(Vector, value)
    negated = vector.with_values(-vector.values)
    return negated if vector.histograms is None else negated_histograms(vector, negated)
