"""What can be known of a query before it touches data: instants, durations, step invariance."""

from __future__ import annotations

import math

import numpy as np

from store.durations import MAX_DURATION_MS
from store.errors import QueryError
from store.model import Int64Array
from store.promql.context import QueryWindow, Run
from store.promql.syntax import (
    At,
    Binary,
    Call,
    Duration,
    DurationCall,
    DurationGroup,
    DurationNumber,
    DurationOp,
    Expr,
    MatrixSelector,
    NumberLiteral,
    StringLiteral,
    Subquery,
    VectorSelector,
    children,
)

# These see the evaluation time itself, so `@` in their argument does not fix their value.
_TIME_BOUND = frozenset(
    [
        "time",
        "timestamp",
        "predict_linear",
        "days_in_month",
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "hour",
        "minute",
        "month",
        "year",
    ]
)


def grid(start_ms: int, end_ms: int, step_ms: int) -> Int64Array:
    """The instants of a range query, both ends included."""
    if step_ms <= 0 or start_ms == end_ms:
        return np.array([start_ms], dtype=np.int64)
    return np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)


def references(
    times_ms: Int64Array, offset: Duration, at: At | None, window: QueryWindow
) -> Int64Array:
    """For each step the instant that a selector looks at, by its `@` and offset."""
    shift_ms = duration_ms(offset, window)
    if at is None:
        return times_ms - shift_ms
    fixed = {"start": window.start_ms, "end": window.end_ms, "at": at.ts_ms}[at.kind]
    return np.full(len(times_ms), fixed - shift_ms, dtype=np.int64)


def positive_ms(duration: Duration, window: QueryWindow) -> int:
    """A range's or a resolution's length.

    Raises:
        QueryError: It is not above zero.
    """
    length = duration_ms(duration, window)
    if length <= 0:
        raise QueryError("parse error: duration must be greater than 0", kind="bad_data")
    return length


def duration_ms(duration: Duration, window: QueryWindow) -> int:
    """Whole milliseconds of a duration expression.

    Raises:
        QueryError: It divides by zero or is out of range.
    """
    seconds = _seconds(duration, window)
    if not abs(seconds) * 1000 <= MAX_DURATION_MS:  # NaN fails too
        raise QueryError("parse error: duration out of range", kind="bad_data")
    return round(seconds * 1000)


def _seconds(duration: Duration, window: QueryWindow) -> float:
    match duration:
        case DurationNumber(seconds=seconds):
            return seconds
        case DurationGroup(expr=inner):
            return _seconds(inner, window)
        case DurationCall(name="step"):
            return window.step_ms / 1000
        case DurationCall(name="range"):
            return (window.end_ms - window.start_ms) / 1000
        case DurationCall(name=name, args=args):
            both = [_seconds(arg, window) for arg in args]
            return min(both) if name == "min_of" else max(both)
        case DurationOp(op=op, lhs=lhs, rhs=rhs):
            return _arithmetic(op, _seconds(lhs, window), _seconds(rhs, window))


def _arithmetic(op: str, left: float, right: float) -> float:
    if op in "/%" and right == 0:
        name = "division" if op == "/" else "modulo"
        raise QueryError(f"parse error: {name} by zero", kind="bad_data")
    try:
        results = {
            "+": lambda: left + right,
            "-": lambda: left - right,
            "*": lambda: left * right,
            "/": lambda: left / right,
            "%": lambda: math.fmod(left, right),
            "^": lambda: math.pow(left, right),
        }
        return results[op]()
    except (OverflowError, ValueError) as exc:
        raise QueryError("parse error: duration out of range", kind="bad_data") from exc


def is_invariant(run: Run, node: Expr) -> bool:
    """Whether a node has the same value at every step, because all it reads is fixed by `@`."""
    known = run.invariant.get(id(node))
    if known is None:
        known = run.invariant[id(node)] = _invariant(run, node)
    return known


def _invariant(run: Run, node: Expr) -> bool:
    match node:
        case NumberLiteral() | StringLiteral():
            return True
        case VectorSelector() | Subquery():
            return node.at is not None
        case MatrixSelector():
            return node.selector.at is not None
        case Call() if node.name in _TIME_BOUND:
            return False
        case Binary():
            return is_invariant(run, node.lhs) and is_invariant(run, node.rhs)
        case _:
            return all(is_invariant(run, child) for child in children(node))
