"""What can be known of a query before it touches data: instants, durations, step invariance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

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


# -- what a step depends on ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reach:
    """A step at `t` depends on samples with `t - back_ms < ts <= t + ahead_ms` and on no others."""

    back_ms: int
    ahead_ms: int


# These see the query's own ends, or (info) choose series by all that the query sees.
_OF_THE_WHOLE = frozenset(["start", "end", "range", "info"])


class _NotLocal(Exception):
    """A step depends on more than the samples around it."""


def reach(node: Expr, window: QueryWindow, lookback_ms: int) -> Reach | None:
    """How far around each step a query reads.

    None where a step depends on anything else (`@`, the query's own ends), or on no sample at all.
    """
    try:
        found = list(_reaches(node, window, lookback_ms))
    except _NotLocal:
        return None
    if not found:
        return None
    return Reach(max(one.back_ms for one in found), max(one.ahead_ms for one in found))


def _reaches(node: Expr, window: QueryWindow, lookback_ms: int) -> Iterator[Reach]:
    match node:
        case VectorSelector():
            yield _of_selector(node, window, lookback_ms, lookback_ms)
        case MatrixSelector(selector=selector):
            before = lookback_ms if selector.mode else 0
            range_ms = positive_ms(_local(node.range), window)
            yield _of_selector(selector, window, lookback_ms, range_ms + before)
        case Subquery():
            shift_ms = _shift_ms(node.offset, node.at, window)
            range_ms = positive_ms(_local(node.range), window)
            if node.step is not None:
                _local(node.step)
            for inner in _reaches(node.expr, window, lookback_ms):
                yield Reach(inner.back_ms + range_ms + shift_ms, inner.ahead_ms - shift_ms)
        case Call() if node.name in _OF_THE_WHOLE:
            raise _NotLocal
        case _:
            for child in children(node):
                yield from _reaches(child, window, lookback_ms)


def _of_selector(
    node: VectorSelector, window: QueryWindow, lookback_ms: int, back_ms: int
) -> Reach:
    shift_ms = _shift_ms(node.offset, node.at, window)
    after_ms = lookback_ms if node.mode == "smoothed" else 0
    return Reach(back_ms + shift_ms, after_ms - shift_ms)


def _shift_ms(offset: Duration, at: At | None, window: QueryWindow) -> int:
    if at is not None:
        raise _NotLocal
    return duration_ms(_local(offset), window)


def _local(duration: Duration) -> Duration:
    """The same duration, unless it is calculated from the query's own length."""
    match duration:
        case DurationCall(name="range"):
            raise _NotLocal
        case DurationCall(args=parts):
            for part in parts:
                _local(part)
        case DurationGroup(expr=inner):
            _local(inner)
        case DurationOp(lhs=lhs, rhs=rhs):
            _local(lhs)
            _local(rhs)
        case DurationNumber():
            pass
    return duration
