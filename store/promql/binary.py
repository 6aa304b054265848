"""Binary operators: on scalars, on a vector and a scalar, on two vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np

from store.model import BoolArray, Float64Array, Int64Array
from store.promql.context import Run
from store.promql.histogram_operators import Cells, Side, merged, operate
from store.promql.matching import match_vectors, set_operation
from store.promql.syntax import (
    COMPARISONS,
    SET_OPERATORS,
    TRIM_OPERATORS,
    Binary,
)
from store.promql.values import Scalars, Vector, empty_vector

_ARITHMETIC: dict[str, Callable[[Float64Array, Float64Array], Float64Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
    "atan2": np.arctan2,
}
_COMPARISON: dict[str, Callable[[Float64Array, Float64Array], BoolArray]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def evaluate_binary(run: Run, node: Binary, times_ms: Int64Array) -> Vector | Scalars:
    """`lhs op rhs` at every step."""
    lhs = cast("Vector | Scalars", run.eval(node.lhs, times_ms))
    rhs = cast("Vector | Scalars", run.eval(node.rhs, times_ms))
    with np.errstate(all="ignore"):
        match lhs, rhs:
            case Scalars(), Scalars():
                return Scalars(_numbers(node.op, lhs.values, rhs.values))
            case Vector(), Scalars():
                return _with_scalar(run, node, lhs, rhs.values, swapped=False)
            case Scalars(), Vector():
                return _with_scalar(run, node, rhs, lhs.values, swapped=True)
            case _:
                return _vectors(run, node, cast(Vector, lhs), cast(Vector, rhs))


def _numbers(operator: str, left: Float64Array, right: Float64Array) -> Float64Array:
    if operator in COMPARISONS:
        return _COMPARISON[operator](left, right).astype(np.float64)
    return _ARITHMETIC[operator](left, right)


def _with_scalar(
    run: Run, node: Binary, vector: Vector, scalar: Float64Array, *, swapped: bool
) -> Vector:
    if vector.histograms is not None:
        return _histograms_with_scalar(run, node, vector, scalar, swapped=swapped)
    if node.op in TRIM_OPERATORS:
        _incompatible(run, node, vector, ("float", "float"))
        return empty_vector(vector.steps)
    if node.op not in COMPARISONS:
        sides = (scalar, vector.values) if swapped else (vector.values, scalar)
        return vector.with_values(_ARITHMETIC[node.op](*np.broadcast_arrays(*sides)))
    operator = _MIRRORED[node.op] if swapped else node.op
    passed = _COMPARISON[operator](vector.values, scalar)
    if node.return_bool:
        return vector.with_values(passed.astype(np.float64))
    return replace(vector, present=vector.present & passed)


def _histograms_with_scalar(
    run: Run, node: Binary, vector: Vector, scalar: Float64Array, *, swapped: bool
) -> Vector:
    """The floats as ever, and the histograms sample by sample."""
    floats = _with_scalar(run, node, vector.only_floats(), scalar, swapped=swapped)
    if not len(floats):
        floats = replace(vector, present=np.zeros_like(vector.present), histograms=None)
    numbers = np.broadcast_to(scalar, vector.values.shape)
    sides = (Side(vector.values, vector.histograms), Side(numbers, None))
    left, right = (sides[1], sides[0]) if swapped else sides
    mask = vector.is_histogram
    return merged(floats, operate(run, node, left, right, mask), mask)


def _vectors(run: Run, node: Binary, lhs: Vector, rhs: Vector) -> Vector:
    if node.op in SET_OPERATORS:
        return set_operation(node.op, node.matching, lhs, rhs)
    if lhs.histograms is not None or rhs.histograms is not None:
        return _histogram_vectors(run, node, lhs, rhs)
    if node.op in TRIM_OPERATORS:
        if lhs.present.any() and rhs.present.any():
            _incompatible(run, node, lhs, ("float", "float"))
        return empty_vector(lhs.steps)
    drops = node.op not in COMPARISONS or node.return_bool

    def both_floats(left: Side, right: Side, _wanted: BoolArray) -> Cells:
        values, keep = _floats(node, left.values, right.values)
        return Cells(values, None, keep)

    return match_vectors(run, node.matching, lhs, rhs, both_floats, drops_name=drops)


def _floats(
    node: Binary, left: Float64Array, right: Float64Array
) -> tuple[Float64Array, BoolArray]:
    if node.op not in COMPARISONS:
        return _ARITHMETIC[node.op](left, right), np.ones(left.shape, dtype=np.bool_)
    passed = _COMPARISON[node.op](left, right)
    if node.return_bool:
        return passed.astype(np.float64), np.ones(left.shape, dtype=np.bool_)
    return left, passed


def _histogram_vectors(run: Run, node: Binary, lhs: Vector, rhs: Vector) -> Vector:
    """Two vectors, in one of which histograms stand."""

    def both(left: Side, right: Side, wanted: BoolArray) -> Cells:
        mask = wanted & (left.is_histogram | right.is_histogram)
        cells = operate(run, node, left, right, mask)
        rest = wanted & ~mask
        if node.op in TRIM_OPERATORS:
            if rest.any():
                _incompatible(run, node, lhs, ("float", "float"))
            return cells
        values, keep = _floats(node, left.values, right.values)
        return Cells(
            np.where(mask, cells.values, values), cells.histograms, np.where(mask, cells.keep, keep)
        )

    drops = node.op not in COMPARISONS | TRIM_OPERATORS or node.return_bool
    return match_vectors(run, node.matching, lhs, rhs, both, drops_name=drops)


def _incompatible(run: Run, node: Binary, vector: Vector, kinds: tuple[str, str]) -> None:
    if vector.present.any():
        run.annotations.info(
            f'incompatible sample types encountered for binary operator "{node.op}": '
            f"{kinds[0]} {node.op} {kinds[1]}",
            node,
        )
