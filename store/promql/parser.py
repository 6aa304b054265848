"""Tokens to a syntax tree: PromQL's own grammar, positions kept.

It is Warroom's own because annotations and errors must name a line and column, which
promql-parser does not keep, and because that parser rejects or misreads parts of Prometheus 3's
language (see docs/promql.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from store.model import Matcher
from store.promql.duration_parser import MAX_NESTING, DurationParser, number_value
from store.promql.lexer import SyntaxFault, tokenize
from store.promql.selectors import parse_braces
from store.promql.syntax import (
    COMPARISONS,
    NO_OFFSET,
    PARAMETRIC,
    SET_OPERATORS,
    TRIM_OPERATORS,
    Aggregate,
    At,
    Binary,
    Call,
    Expr,
    Matching,
    MatrixSelector,
    NumberLiteral,
    Paren,
    Span,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
)
from store.promql.tokens import Tokens

_MULTIPLICATION = 5
_POWER = 6
PRECEDENCE = {
    "or": 1,
    "and": 2, "unless": 2,
    **dict.fromkeys(COMPARISONS | TRIM_OPERATORS, 3),
    "+": 4, "-": 4,
    "*": _MULTIPLICATION, "/": _MULTIPLICATION, "%": _MULTIPLICATION, "atan2": _MULTIPLICATION,
    "^": _POWER,
}  # fmt: skip
_NOT_METRICS = frozenset({"bool", "on", "ignoring", "group_left", "group_right"})
_MAX_AT_MS = 2**63 - 1


def parse_syntax(text: str) -> Expr:
    """The tree of a whole query; types are not checked yet.

    Raises:
        SyntaxFault: With the offset of the mistake.
    """
    parser = _Parser(Tokens(tokenize(text), len(text)))
    if parser.tokens.peek.kind == "eof":
        raise SyntaxFault("no expression found in input", 0)
    expr = parser.expression(0)
    rest = parser.tokens.peek
    if rest.kind != "eof":
        raise parser.tokens.unexpected()
    return expr


def parse_selector_syntax(text: str) -> VectorSelector:
    """A series selector and nothing else, as `match[]` takes it."""
    parser = _Parser(Tokens(tokenize(text), len(text)))
    expr = parser.primary()
    if not isinstance(expr, VectorSelector) or parser.tokens.peek.kind != "eof":
        raise parser.tokens.unexpected("metric selector")
    return expr


class _Parser:
    """Recursive descent; binary operators by precedence climbing."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.durations = DurationParser(tokens)
        self.depth = 0

    # -- expressions -------------------------------------------------------

    def expression(self, floor: int) -> Expr:
        """An expression of operators that bind tighter than `floor`."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise SyntaxFault(
                f"expression is nested deeper than {MAX_NESTING} levels", self.tokens.peek.start
            )
        lhs = self._operand()
        while True:
            operator = self.tokens.peek.text
            power = self._power()
            if power <= floor:
                break
            self.tokens.next()
            return_bool, matching = self._modifier(operator)
            rhs = self.expression(power - 1 if operator == "^" else power)
            lhs = Binary(
                operator, lhs, rhs, matching, return_bool, Span(lhs.span.start, rhs.span.end)
            )
        self.depth -= 1
        return lhs

    def _power(self) -> int:
        token = self.tokens.peek
        if token.kind in ("string", "number", "identifier", "metric"):
            return 0
        return PRECEDENCE.get(token.text, 0)

    def _operand(self) -> Expr:
        token = self.tokens.peek
        if token.kind not in ("+", "-"):
            return self._postfix(self.primary())
        self.tokens.next()
        inner = self.expression(_MULTIPLICATION)
        span = Span(token.start, inner.span.end)
        if isinstance(inner, NumberLiteral):
            value = -inner.value if token.kind == "-" else inner.value
            return NumberLiteral(value, span, inner.is_duration)
        return Unary(token.kind, inner, span)

    def primary(self) -> Expr:
        token = self.tokens.peek
        plain: dict[str, Callable[[], Expr]] = {
            "number": self._number,
            "duration": self._number,
            "string": self._string,
            "(": self._paren,
            "{": self._selector,
            "metric": self._selector,
            "identifier": self._call_or_selector,
            "aggregation": self._aggregate_or_selector,
        }
        if token.kind in plain:
            return plain[token.kind]()
        if token.kind == "keyword" and token.text not in _NOT_METRICS:
            return self._selector()
        raise self.tokens.unexpected()

    def _number(self) -> NumberLiteral:
        token = self.tokens.next()
        span = Span(token.start, token.end)
        return NumberLiteral(number_value(token), span, token.kind == "duration")

    def _string(self) -> StringLiteral:
        token = self.tokens.next()
        return StringLiteral(token.text, Span(token.start, token.end))

    def _paren(self) -> Paren:
        start = self.tokens.next().start
        inner = self.expression(0)
        end = self.tokens.expect(")", "paren expression").end
        return Paren(inner, Span(start, end))

    def _call_or_selector(self) -> Expr:
        if self.tokens.after.kind != "(":
            return self._selector()
        name = self.tokens.next()
        args = self._arguments()
        return Call(name.text.lower(), args, Span(name.start, self.tokens.last_end))

    def _arguments(self) -> tuple[Expr, ...]:
        self.tokens.expect("(", "function call")
        args: list[Expr] = []
        while self.tokens.peek.kind != ")":
            args.append(self.expression(0))
            if self.tokens.peek.kind != ",":
                break
            comma = self.tokens.next()
            if self.tokens.peek.kind == ")":
                raise SyntaxFault("trailing commas not allowed in function call args", comma.start)
        self.tokens.expect(")", "function call")
        return tuple(args)

    def _selector(self) -> VectorSelector:
        token = self.tokens.peek
        name = self.tokens.next().text if token.kind != "{" else ""
        matchers: tuple[Matcher, ...] = ()
        if self.tokens.peek.kind == "{":
            name, matchers = parse_braces(self.tokens, name)
        return VectorSelector(name, matchers, Span(token.start, self.tokens.last_end))

    # -- aggregations and binary modifiers ---------------------------------

    def _aggregate_or_selector(self) -> Expr:
        if self.tokens.after.kind != "(" and self.tokens.after.text not in ("by", "without"):
            return self._selector()
        name = self.tokens.next()
        operator = name.text.lower()
        grouping = self._grouping()
        args = self._arguments()
        grouping = grouping or self._grouping() or ((), False)
        wanted = 2 if operator in PARAMETRIC else 1
        if len(args) != wanted:
            raise SyntaxFault(
                f"wrong number of arguments for aggregate expression provided, "
                f"expected {wanted}, got {len(args)}",
                name.start,
            )
        param = args[0] if wanted == 2 else None
        span = Span(name.start, self.tokens.last_end)
        return Aggregate(operator, args[-1], param, grouping[0], grouping[1], span)

    def _grouping(self) -> tuple[tuple[str, ...], bool] | None:
        if self.tokens.peek.text not in ("by", "without"):
            return None
        without = self.tokens.next().text == "without"
        return self.tokens.label_list(), without

    def _modifier(self, operator: str) -> tuple[bool, Matching]:
        matching = Matching(card="many-to-many" if operator in SET_OPERATORS else "one-to-one")
        return_bool = self._accept("bool")
        if self.tokens.peek.text in ("on", "ignoring") and self.tokens.peek.kind == "keyword":
            is_on = self.tokens.next().text == "on"
            labels = self.tokens.label_list()
            matching = replace(matching, on=is_on, labels=labels, explicit=True)
        if self.tokens.peek.text in ("group_left", "group_right") and matching.explicit:
            matching = self._group(operator, matching)
        while self.tokens.peek.kind == "keyword" and self.tokens.peek.text.startswith("fill"):
            if self.tokens.after.kind != "(":
                break
            matching = self._fill(operator, matching)
        return return_bool, matching

    def _accept(self, keyword: str) -> bool:
        if self.tokens.peek.kind != "keyword" or self.tokens.peek.text != keyword:
            return False
        self.tokens.next()
        return True

    def _group(self, operator: str, matching: Matching) -> Matching:
        token = self.tokens.next()
        if operator in SET_OPERATORS:
            raise SyntaxFault(f'no grouping allowed for "{operator}" operation', token.start)
        include = self.tokens.label_list() if self.tokens.peek.kind == "(" else ()
        for label in include:
            if matching.on and label in matching.labels:
                raise SyntaxFault(
                    f'label "{label}" must not occur in ON and GROUP clause at once', token.start
                )
        card = "many-to-one" if token.text == "group_left" else "one-to-many"
        return replace(matching, card=card, include=include)

    def _fill(self, operator: str, matching: Matching) -> Matching:
        token = self.tokens.next()
        if operator in SET_OPERATORS:
            raise SyntaxFault(
                "filling in missing series not allowed for set operators", token.start
            )
        self.tokens.expect("(", "fill modifier")
        value = self._signed()
        self.tokens.expect(")", "fill modifier")
        if token.text == "fill":
            return replace(matching, fill_left=value, fill_right=value)
        if token.text == "fill_left":
            return replace(matching, fill_left=value)
        return replace(matching, fill_right=value)

    def _signed(self) -> float:
        sign = 1.0
        if self.tokens.peek.kind in ("+", "-"):
            sign = -1.0 if self.tokens.next().kind == "-" else 1.0
        token = self.tokens.peek
        if token.kind not in ("number", "duration"):
            raise self.tokens.unexpected("number")
        return sign * number_value(self.tokens.next())

    # -- what may follow an operand ----------------------------------------

    def _postfix(self, expr: Expr) -> Expr:
        while True:
            token = self.tokens.peek
            if token.kind == "[":
                expr = self._range(expr)
            elif token.kind == "@":
                expr = self._at(expr)
            elif token.kind == "keyword" and token.text == "offset":
                expr = self._offset(expr)
            elif token.kind == "keyword" and token.text in ("anchored", "smoothed"):
                expr = self._mode(expr)
            else:
                return expr

    def _range(self, expr: Expr) -> Expr:
        start = self.tokens.next().start
        range_ = self.durations.inside()
        if self.tokens.peek.kind == ":":
            self.tokens.next()
            step = None if self.tokens.peek.kind == "]" else self.durations.inside()
            end = self.tokens.expect("]", "subquery selector").end
            return Subquery(expr, range_, step, Span(expr.span.start, end))
        end = self.tokens.expect("]", "subquery or range").end
        if not isinstance(expr, VectorSelector):
            raise SyntaxFault("ranges only allowed for vector selectors", start)
        if expr.offset is not NO_OFFSET:
            raise SyntaxFault("no offset modifiers allowed before range", start)
        if expr.at is not None:
            raise SyntaxFault("no @ modifiers allowed before range", start)
        return MatrixSelector(expr, range_, Span(expr.span.start, end))

    def _offset(self, expr: Expr) -> Expr:
        keyword = self.tokens.next()
        offset = self.durations.after_offset()
        span = Span(expr.span.start, self.tokens.last_end)
        target = expr.selector if isinstance(expr, MatrixSelector) else expr
        if not isinstance(target, VectorSelector | Subquery):
            raise SyntaxFault(
                "offset modifier must be preceded by an instant vector selector or range "
                "vector selector or a subquery",
                keyword.start,
            )
        if target.offset is not NO_OFFSET:
            raise SyntaxFault("offset may not be set multiple times", keyword.start)
        if isinstance(expr, MatrixSelector):
            return replace(expr, selector=replace(expr.selector, offset=offset), span=span)
        return replace(target, offset=offset, span=span)

    def _at(self, expr: Expr) -> Expr:
        sign = self.tokens.next()
        at = self._at_value()
        span = Span(expr.span.start, self.tokens.last_end)
        target = expr.selector if isinstance(expr, MatrixSelector) else expr
        if not isinstance(target, VectorSelector | Subquery):
            raise SyntaxFault(
                "@ modifier must be preceded by an instant vector selector or range vector "
                "selector or a subquery",
                sign.start,
            )
        if target.at is not None:
            raise SyntaxFault("@ <timestamp> may not be set multiple times", sign.start)
        if isinstance(expr, MatrixSelector):
            return replace(expr, selector=replace(expr.selector, at=at), span=span)
        return replace(target, at=at, span=span)

    def _at_value(self) -> At:
        token = self.tokens.peek
        if token.text.lower() in ("start", "end") and self.tokens.after.kind == "(":
            self.tokens.next()
            self.tokens.next()
            self.tokens.expect(")", "@")
            return At(token.text.lower())
        seconds = self._signed()
        if not abs(seconds) * 1000 < _MAX_AT_MS:  # NaN fails too
            raise SyntaxFault(f"timestamp out of bounds for @ modifier: {seconds}", token.start)
        return At("at", round(seconds * 1000))

    def _mode(self, expr: Expr) -> Expr:
        token = self.tokens.next()
        span = Span(expr.span.start, token.end)
        target = expr.selector if isinstance(expr, MatrixSelector) else expr
        if not isinstance(target, VectorSelector):
            raise SyntaxFault(
                f"{token.text} modifier not implemented for this expression", token.start
            )
        if target.mode:
            raise SyntaxFault(
                "anchored and smoothed modifiers cannot be used together or twice", token.start
            )
        if isinstance(expr, MatrixSelector):
            return replace(expr, selector=replace(target, mode=token.text), span=span)
        return replace(target, mode=token.text, span=span)
