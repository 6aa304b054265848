"""The syntax tree of PromQL. Every node remembers where it was written.

Times and durations are milliseconds. A duration that depends on the query (`step()`, `range()`)
stays a `Duration` tree until the plan resolves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from store.model import Matcher


class Span(NamedTuple):
    """Where a node was written: character offsets, the end exclusive."""

    start: int
    end: int


class ValueType(StrEnum):
    """The four types of a PromQL expression, in Prometheus's own words."""

    SCALAR = "scalar"
    STRING = "string"
    VECTOR = "instant vector"
    MATRIX = "range vector"


@dataclass(frozen=True, slots=True)
class DurationNumber:
    """A literal, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DurationCall:
    """`step()`, `range()`, `min_of(a, b)` or `max_of(a, b)`."""

    name: str
    args: tuple[Duration, ...]


@dataclass(frozen=True, slots=True)
class DurationOp:
    """Arithmetic on durations; a unary minus has 0 on its left."""

    op: str
    lhs: Duration
    rhs: Duration


@dataclass(frozen=True, slots=True)
class DurationGroup:
    """A duration in parentheses."""

    expr: Duration


Duration = DurationNumber | DurationCall | DurationOp | DurationGroup
NO_OFFSET = DurationNumber(0.0)


@dataclass(frozen=True, slots=True)
class At:
    """The `@` modifier: `kind` is `at` (then `ts_ms` counts), `start` or `end`."""

    kind: str
    ts_ms: int = 0


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    """A number; a duration written as a number is its seconds."""

    value: float
    span: Span
    is_duration: bool = False


@dataclass(frozen=True, slots=True)
class StringLiteral:
    """A string, unquoted. Bytes that are no UTF-8 are surrogate escapes."""

    value: str
    span: Span


@dataclass(frozen=True, slots=True)
class Paren:
    """An expression in parentheses."""

    expr: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` or `+x`."""

    op: str
    expr: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Matching:
    """How the vectors of a binary operation find each other.

    `card` is one-to-one, many-to-one (group_left), one-to-many (group_right) or many-to-many.
    """

    card: str = "one-to-one"
    on: bool = False
    explicit: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """`lhs op rhs`."""

    op: str
    lhs: Expr
    rhs: Expr
    matching: Matching
    return_bool: bool
    span: Span


@dataclass(frozen=True, slots=True)
class VectorSelector:
    """`name{matchers} offset d @ t`; `mode` is empty, `anchored` or `smoothed`."""

    name: str
    matchers: tuple[Matcher, ...]
    span: Span
    offset: Duration = NO_OFFSET
    at: At | None = None
    mode: str = ""


@dataclass(frozen=True, slots=True)
class MatrixSelector:
    """`selector[range]`."""

    selector: VectorSelector
    range: Duration
    span: Span


@dataclass(frozen=True, slots=True)
class Subquery:
    """`expr[range:step] offset d @ t`; without a step the default resolution counts."""

    expr: Expr
    range: Duration
    step: Duration | None
    span: Span
    offset: Duration = NO_OFFSET
    at: At | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A function call."""

    name: str
    args: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`op by|without (grouping) (param, expr)`."""

    op: str
    expr: Expr
    param: Expr | None
    grouping: tuple[str, ...]
    without: bool
    span: Span


Expr = (
    NumberLiteral
    | StringLiteral
    | Paren
    | Unary
    | Binary
    | VectorSelector
    | MatrixSelector
    | Subquery
    | Call
    | Aggregate
)

ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "^", "atan2"})
COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
SET_OPERATORS = frozenset({"and", "or", "unless"})
TRIM_OPERATORS = frozenset({"</", ">/"})
AGGREGATIONS = frozenset(
    [
        "sum",
        "avg",
        "count",
        "min",
        "max",
        "group",
        "stddev",
        "stdvar",
        "topk",
        "bottomk",
        "count_values",
        "quantile",
        "limitk",
        "limit_ratio",
    ]
)
PARAMETRIC = frozenset({"topk", "bottomk", "count_values", "quantile", "limitk", "limit_ratio"})


def unwrap(node: Expr) -> Expr:
    """The expression inside any parentheses."""
    while isinstance(node, Paren):
        node = node.expr
    return node


def children(node: Expr) -> tuple[Expr, ...]:
    """The direct sub-expressions of a node, in the order they were written."""
    match node:
        case Paren(expr=expr) | Unary(expr=expr) | Subquery(expr=expr):
            return (expr,)
        case Binary():
            return (node.lhs, node.rhs)
        case MatrixSelector():
            return (node.selector,)
        case Call():
            return node.args
        case Aggregate():
            return (node.expr,) if node.param is None else (node.param, node.expr)
        case _:
            return ()
