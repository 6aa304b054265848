"""Types, arguments and selectors of a syntax tree, judged as Prometheus's parser judges them."""

from __future__ import annotations

from store.promql.lexer import SyntaxFault
from store.promql.selectors import matches_empty
from store.promql.signatures import SIGNATURES, Signature
from store.promql.syntax import (
    COMPARISONS,
    SET_OPERATORS,
    TRIM_OPERATORS,
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
    ValueType,
    VectorSelector,
    children,
)

MAX_DEPTH = 200
_NUMERIC = (ValueType.SCALAR, ValueType.VECTOR)


def value_type(node: Expr) -> ValueType:  # noqa: PLR0911 -- one arm a kind of node
    """The type that an expression evaluates to."""
    match node:
        case NumberLiteral():
            return ValueType.SCALAR
        case StringLiteral():
            return ValueType.STRING
        case MatrixSelector() | Subquery():
            return ValueType.MATRIX
        case Paren() | Unary():
            return value_type(node.expr)
        case Call():
            return SIGNATURES[node.name].returns
        case Binary():
            both = {value_type(node.lhs), value_type(node.rhs)}
            return ValueType.SCALAR if both == {ValueType.SCALAR} else ValueType.VECTOR
        case _:
            return ValueType.VECTOR


def check(node: Expr, depth: int = 0) -> None:
    """Raise a SyntaxFault for the first thing that makes no sense."""
    if depth > MAX_DEPTH:
        raise SyntaxFault(f"expression is deeper than {MAX_DEPTH} levels", node.span.start)
    if isinstance(node, Call) and node.name not in SIGNATURES:
        raise SyntaxFault(f'unknown function with name "{node.name}"', node.span.start)
    for place, child in enumerate(children(node)):
        if isinstance(node, Call) and node.name == "info" and place == 1:
            continue
        check(child, depth + 1)
    _check_node(node)


def _check_node(node: Expr) -> None:
    match node:
        case Call():
            _check_call(node)
        case Aggregate():
            _check_aggregate(node)
        case Binary():
            _check_binary(node)
        case Unary():
            _check_unary(node)
        case Subquery():
            _expect(node.expr, ValueType.VECTOR, "subquery")
        case VectorSelector():
            _check_selector(node)
        case _:
            pass


def _check_unary(node: Unary) -> None:
    found = value_type(node.expr)
    if found not in _NUMERIC:
        raise SyntaxFault(
            "unary expression only allowed on expressions of type scalar or instant vector, "
            f'got "{found}"',
            node.span.start,
        )


def _expect(node: Expr, wanted: ValueType, where: str) -> None:
    found = value_type(node)
    if found is not wanted:
        if where == "subquery":
            message = f"subquery is only allowed on instant vector, got {found} instead"
        else:
            message = f"expected type {wanted} in {where}, got {found}"
        raise SyntaxFault(message, node.span.start)


def _check_selector(node: VectorSelector) -> None:
    if not node.name and all(matches_empty(matcher) for matcher in node.matchers):
        raise SyntaxFault(
            "vector selector must contain at least one non-empty matcher", node.span.start
        )


def _check_call(node: Call) -> None:
    signature = SIGNATURES[node.name]
    _check_count(node, signature)
    for place, arg in enumerate(node.args):
        if node.name == "info" and place == 1:
            _check_info(arg)
            continue
        _expect(arg, signature.type_at(place), f'call to function "{node.name}"')


def _check_count(node: Call, signature: Signature) -> None:
    count = len(node.args)
    least, most = signature.min_args, signature.max_args
    if least <= count and (most is None or count <= most):
        return
    wanted = f"{least}" if least == most else f"at least {least}"
    if most is not None and count > most and least != most:
        wanted = f"at most {most}"
    raise SyntaxFault(
        f'expected {wanted} argument(s) in call to "{node.name}", got {count}', node.span.start
    )


def _check_info(arg: Expr) -> None:
    if not isinstance(arg, VectorSelector):
        raise SyntaxFault(
            f'expected label selectors as the second argument to "info" function, got '
            f"{value_type(arg)}",
            arg.span.start,
        )
    if arg.name:
        raise SyntaxFault(
            "expected label selectors only, got vector selector instead", arg.span.start
        )


def _check_aggregate(node: Aggregate) -> None:
    _expect(node.expr, ValueType.VECTOR, "aggregation expression")
    if node.param is None:
        return
    wanted = ValueType.STRING if node.op == "count_values" else ValueType.SCALAR
    _expect(node.param, wanted, "aggregation parameter")


def _check_binary(node: Binary) -> None:
    left, right = value_type(node.lhs), value_type(node.rhs)
    for side in (node.lhs, node.rhs):
        if value_type(side) not in _NUMERIC:
            raise SyntaxFault(
                "binary expression must contain only scalar and instant vector types",
                side.span.start,
            )
    start = node.span.start
    scalars = (left, right).count(ValueType.SCALAR)
    if node.return_bool and node.op not in COMPARISONS:
        raise SyntaxFault("bool modifier can only be used on comparison operators", start)
    if scalars == 2 and node.op in COMPARISONS and not node.return_bool:
        raise SyntaxFault("comparisons between scalars must use BOOL modifier", start)
    if scalars and node.op in SET_OPERATORS:
        raise SyntaxFault(
            f'set operator "{node.op}" not allowed in binary scalar expression', start
        )
    if scalars and node.matching.explicit and node.matching.labels:
        raise SyntaxFault("vector matching only allowed between instant vectors", start)
    if scalars and (node.matching.fill_left, node.matching.fill_right) != (None, None):
        raise SyntaxFault("filling in missing series only allowed between instant vectors", start)
    if node.op in TRIM_OPERATORS and scalars == 2:
        raise SyntaxFault(f'operator "{node.op}" not allowed in scalar expression', start)
