"""A syntax tree as text again, and as the JSON tree of /parse_query."""

from __future__ import annotations

import re
from typing import Any

from store.durations import MAX_DURATION_MS, format_duration
from store.model import Matcher, MatchOp
from store.promql.numbers import format_float, format_g, quoted
from store.promql.syntax import (
    NO_OFFSET,
    Aggregate,
    At,
    Binary,
    Call,
    Duration,
    DurationCall,
    DurationGroup,
    DurationNumber,
    DurationOp,
    Expr,
    Matching,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
)
from store.promql.typecheck import value_type

MAX_LINE = 100
_INDENT = "  "
_PLAIN_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")


def format_expr(node: Expr, level: int = 0) -> str:
    """A query written as Prometheus formats it: one line, split where it is over 100 characters."""
    line = _INDENT * level + to_text(node)
    if len(line) - len(_INDENT * level) <= MAX_LINE:
        return line
    return _split(node, level)


def _split(node: Expr, level: int) -> str:  # noqa: PLR0911 -- one arm a kind of node
    pad = _INDENT * level
    match node:
        case Binary():
            operator = node.op + _modifier(node)
            return (
                f"{format_expr(node.lhs, level + 1)}\n{pad}{operator}\n"
                f"{format_expr(node.rhs, level + 1)}"
            )
        case Aggregate():
            parts = [node.expr] if node.param is None else [node.param, node.expr]
            return f"{pad}{_aggregate_head(node)}{_block(parts, level)}"
        case Call() if node.args:
            return f"{pad}{node.name}{_block(list(node.args), level)}"
        case Paren():
            return f"{pad}(\n{format_expr(node.expr, level + 1)}\n{pad})"
        case Unary():
            return f"{pad}{node.op}{format_expr(node.expr, level).lstrip()}"
        case Subquery():
            return format_expr(node.expr, level) + _subquery_tail(node)
        case _:
            return pad + to_text(node)


def _block(parts: list[Expr], level: int) -> str:
    inner = ",\n".join(format_expr(part, level + 1) for part in parts)
    return f"(\n{inner}\n{_INDENT * level})"


def to_text(node: Expr) -> str:  # noqa: PLR0911 -- one arm a kind of node
    """A query on one line; it parses back to the same tree."""
    match node:
        case NumberLiteral():
            return _number(node)
        case StringLiteral():
            return quoted(node.value)
        case Paren():
            return f"({to_text(node.expr)})"
        case Unary():
            return f"{node.op}{to_text(node.expr)}"
        case Binary():
            return f"{to_text(node.lhs)} {node.op}{_modifier(node)} {to_text(node.rhs)}"
        case Call():
            return f"{node.name}({', '.join(map(to_text, node.args))})"
        case _:
            return _selector_text(node)


def _selector_text(node: Expr) -> str:
    match node:
        case VectorSelector():
            return _name_and_matchers(node) + _modifiers(node)
        case MatrixSelector():
            selector = node.selector
            inner = f"{_name_and_matchers(selector)}[{duration_text(node.range)}]"
            return inner + _modifiers(selector)
        case Subquery():
            return to_text(node.expr) + _subquery_tail(node)
        case Aggregate():
            parts = [node.expr] if node.param is None else [node.param, node.expr]
            return f"{_aggregate_head(node)}({', '.join(map(to_text, parts))})"
        case _:
            raise AssertionError(f"no text for {type(node).__name__}")


def _number(node: NumberLiteral) -> str:
    if node.is_duration:
        return format_duration(round(node.value * 1000))
    magnitude = abs(node.value)
    if magnitude and (magnitude < 1e-6 or magnitude >= 1e21):
        return format_g(node.value)
    return format_float(node.value)


def _aggregate_head(node: Aggregate) -> str:
    if node.without:
        return f"{node.op} without ({_labels(node.grouping)}) "
    return f"{node.op} by ({_labels(node.grouping)}) " if node.grouping else node.op


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(label_text(name) for name in names)


def label_text(name: str) -> str:
    """A label's name, quoted where it must be."""
    return name if _PLAIN_LABEL.fullmatch(name) else quoted(name)


def _modifier(node: Binary) -> str:
    matching = node.matching
    text = " bool" if node.return_bool else ""
    if matching.explicit:
        text += f" {'on' if matching.on else 'ignoring'} ({_labels(matching.labels)})"
    if matching.card in ("many-to-one", "one-to-many"):
        side = "group_left" if matching.card == "many-to-one" else "group_right"
        text += f" {side} ({_labels(matching.include)})"
    return text + _fill(matching)


def _fill(matching: Matching) -> str:
    left, right = matching.fill_left, matching.fill_right
    if left is not None and right is not None and format_g(left) == format_g(right):
        return f" fill ({format_float(left)})"
    text = "" if left is None else f" fill_left ({format_float(left)})"
    return text if right is None else f"{text} fill_right ({format_float(right)})"


def _name_and_matchers(node: VectorSelector) -> str:
    matchers = [matcher_text(matcher) for matcher in node.matchers]
    if node.name and not _PLAIN_METRIC.fullmatch(node.name):
        return "{" + ",".join([quoted(node.name), *matchers]) + "}"
    return node.name + ("{" + ",".join(matchers) + "}" if matchers else "")


def matcher_text(matcher: Matcher) -> str:
    """One matcher as it is written."""
    return f"{label_text(matcher.name)}{matcher.op.value}{quoted(matcher.value)}"


def _modifiers(node: VectorSelector) -> str:
    text = f" {node.mode}" if node.mode else ""
    return text + _at_text(node.at) + _offset_text(node.offset)


def _subquery_tail(node: Subquery) -> str:
    step = "" if node.step is None else duration_text(node.step)
    tail = f"[{duration_text(node.range)}:{step}]"
    return tail + _at_text(node.at) + _offset_text(node.offset)


def _at_text(at: At | None) -> str:
    if at is None:
        return ""
    return f" @ {at.ts_ms / 1000:.3f}" if at.kind == "at" else f" @ {at.kind}()"


def _offset_text(offset: Duration) -> str:
    return "" if offset is NO_OFFSET else f" offset {duration_text(offset)}"


def duration_text(duration: Duration) -> str:
    """A duration expression as it is written."""
    match duration:
        case DurationNumber(seconds=seconds):
            milliseconds = seconds * 1000
            whole = abs(milliseconds - round(milliseconds)) < 1e-6
            if whole and abs(milliseconds) <= MAX_DURATION_MS:
                return format_duration(round(milliseconds))
            return format_float(seconds)
        case DurationGroup(expr=inner):
            return f"({duration_text(inner)})"
        case DurationCall(name=name, args=args):
            return f"{name}({', '.join(map(duration_text, args))})"
        case DurationOp(op="-", lhs=DurationNumber(seconds=0.0), rhs=rhs):
            return f"-{duration_text(rhs)}"
        case DurationOp(op=op, lhs=lhs, rhs=rhs):
            return f"{duration_text(lhs)} {op} {duration_text(rhs)}"


def tree(node: Expr) -> dict[str, Any]:  # noqa: PLR0911 -- one arm a kind of node
    """The JSON tree that Prometheus's /parse_query answers (durations in milliseconds)."""
    match node:
        case NumberLiteral():
            return {"type": "numberLiteral", "val": format_float(node.value)}
        case StringLiteral():
            return {"type": "stringLiteral", "val": node.value}
        case Paren():
            return {"type": "parenExpr", "expr": tree(node.expr)}
        case Unary():
            return {"type": "unaryExpr", "op": node.op, "expr": tree(node.expr)}
        case Binary():
            return _binary_tree(node)
        case Call():
            function = {"name": node.name, "returnType": _json_type(node)}
            return {"type": "call", "func": function, "args": [tree(arg) for arg in node.args]}
        case _:
            return _selector_tree(node)


def _json_type(node: Expr) -> str:
    return {"instant vector": "vector", "range vector": "matrix"}.get(
        value_type(node), str(value_type(node))
    )


def _binary_tree(node: Binary) -> dict[str, Any]:
    matching = node.matching
    return {
        "type": "binaryExpr",
        "op": node.op,
        "bool": node.return_bool,
        "lhs": tree(node.lhs),
        "rhs": tree(node.rhs),
        "matching": {
            "card": matching.card,
            "labels": list(matching.labels),
            "on": matching.on,
            "include": list(matching.include),
            "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
        },
    }


def _selector_tree(node: Expr) -> dict[str, Any]:
    match node:
        case VectorSelector():
            return {"type": "vectorSelector", **_selector_fields(node)}
        case MatrixSelector():
            length = duration_text(node.range)
            return {"type": "matrixSelector", **_selector_fields(node.selector), "range": length}
        case Subquery():
            return {
                "type": "subquery",
                "expr": tree(node.expr),
                "range": duration_text(node.range),
                "step": "" if node.step is None else duration_text(node.step),
                "offset": duration_text(node.offset),
                **_at_fields(node.at),
            }
        case Aggregate():
            return {
                "type": "aggregation",
                "op": node.op,
                "expr": tree(node.expr),
                "param": None if node.param is None else tree(node.param),
                "grouping": list(node.grouping),
                "without": node.without,
            }
        case _:
            raise AssertionError(f"no tree for {type(node).__name__}")


def _selector_fields(node: VectorSelector) -> dict[str, Any]:
    matchers = [
        {"name": matcher.name, "type": matcher.op.value, "value": matcher.value}
        for matcher in node.matchers
    ]
    if node.name:
        equal = MatchOp.EQUAL.value
        matchers.append({"name": "__name__", "type": equal, "value": node.name})
    return {
        "name": node.name,
        "matchers": matchers,
        "offset": duration_text(node.offset),
        "anchored": node.mode == "anchored",
        "smoothed": node.mode == "smoothed",
        **_at_fields(node.at),
    }


def _at_fields(at: At | None) -> dict[str, Any]:
    if at is None:
        return {"timestamp": None, "startOrEnd": None}
    if at.kind == "at":
        return {"timestamp": at.ts_ms, "startOrEnd": None}
    return {"timestamp": None, "startOrEnd": at.kind}
