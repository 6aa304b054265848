"""Durations in a query: literals, and the arithmetic that Prometheus 3 allows on them."""

from __future__ import annotations

from store.durations import parse_duration_ms
from store.promql.lexer import SyntaxFault, Token
from store.promql.numbers_text import parse_number
from store.promql.syntax import (
    Duration,
    DurationCall,
    DurationGroup,
    DurationNumber,
    DurationOp,
)
from store.promql.tokens import Tokens

MAX_NESTING = 100
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 3}
_MULTIPLICATION = 2
_CALLS = {"step": 0, "range": 0, "min_of": 2, "max_of": 2}


class DurationParser:
    """Reads durations from the tokens of a query."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._depth = 0

    def inside(self) -> Duration:
        """Between brackets: the whole of the arithmetic is allowed."""
        return self._sum(0)

    def after_offset(self) -> Duration:
        """After `offset`: one operand, and no more of the arithmetic, belongs to the duration."""
        return self._operand(folded=False)

    def _sum(self, floor: int) -> Duration:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise SyntaxFault("duration is nested too deep", self._tokens.peek.start)
        lhs = self._operand(folded=True)
        while self._tokens.peek.kind in _PRECEDENCE:
            operator = self._tokens.peek.kind
            power = _PRECEDENCE[operator]
            if power <= floor:
                break
            self._tokens.next()
            lhs = DurationOp(operator, lhs, self._sum(power - 1 if operator == "^" else power))
        self._depth -= 1
        return lhs

    def _operand(self, *, folded: bool) -> Duration:
        token = self._tokens.peek
        if token.kind in ("+", "-"):
            return self._signed(folded=folded)
        if token.kind in ("number", "duration"):
            return DurationNumber(number_value(self._tokens.next()))
        if token.kind == "(":
            self._tokens.next()
            inner = self._sum(0)
            self._tokens.expect(")", "duration")
            return DurationGroup(inner)
        if token.kind == "identifier" and token.text.lower() in _CALLS:
            return self._call()
        raise self._tokens.unexpected("number, duration, step(), or range()")

    def _signed(self, *, folded: bool) -> Duration:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise SyntaxFault("duration is nested too deep", self._tokens.peek.start)
        sign = self._tokens.next()
        inner = self._sum(_MULTIPLICATION) if folded else self._operand(folded=False)
        self._depth -= 1
        return DurationOp("-", DurationNumber(0.0), inner) if sign.kind == "-" else inner

    def _call(self) -> DurationCall:
        token = self._tokens.next()
        name = token.text.lower()
        self._tokens.expect("(", "duration")
        args: list[Duration] = []
        while self._tokens.peek.kind != ")":
            args.append(self._sum(0))
            if self._tokens.peek.kind != ",":
                break
            self._tokens.next()
        self._tokens.expect(")", "duration")
        if len(args) != _CALLS[name]:
            raise SyntaxFault(f"expected {_CALLS[name]} argument(s) in call to {name}", token.start)
        return DurationCall(name, tuple(args))


def number_value(token: Token) -> float:
    """A number token's value; of a duration its seconds.

    Raises:
        SyntaxFault: It is out of range.
    """
    try:
        if token.kind == "duration":
            return parse_duration_ms(token.text) / 1000
        return parse_number(token.text)
    except ValueError as exc:
        raise SyntaxFault(str(exc), token.start) from exc
