"""PromQL text to a checked syntax tree, with Prometheus's error shape."""

from __future__ import annotations

from functools import lru_cache

from store.errors import QueryError
from store.model import METRIC_NAME, Matcher, MatchOp
from store.promql.lexer import MAX_QUERY_CHARACTERS, SyntaxFault
from store.promql.parser import parse_selector_syntax, parse_syntax
from store.promql.selectors import matches_empty
from store.promql.syntax import Expr, VectorSelector
from store.promql.typecheck import check

_CACHED_CHARACTERS = 10_000
_SHORT_CHARACTERS = 1_000


def parse(text: str) -> Expr:
    """A query's tree, types checked; trees of ordinary queries are kept and given again.

    Raises:
        QueryError: `bad_data`, with line and column as Prometheus writes them.
    """
    if len(text) <= _SHORT_CHARACTERS:
        return _remembered_short(text)
    return _remembered(text) if len(text) <= _CACHED_CHARACTERS else _parse(text)


# Every rule is asked again at every tick: as many trees as there may be rules.
@lru_cache(maxsize=20_000)
def _remembered_short(text: str) -> Expr:
    return _parse(text)


@lru_cache(maxsize=2048)
def _remembered(text: str) -> Expr:
    return _parse(text)


def _parse(text: str) -> Expr:
    if len(text) > MAX_QUERY_CHARACTERS:
        raise QueryError(f"query is longer than {MAX_QUERY_CHARACTERS} characters", kind="bad_data")
    try:
        expr = parse_syntax(text)
        check(expr)
    except SyntaxFault as fault:
        raise QueryError(
            f"{position(text, fault.start)}: parse error: {fault.message}", kind="bad_data"
        ) from fault
    return expr


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """The matchers of a series selector, its name among them.

    Raises:
        QueryError: `bad_data`: no selector, or none of its matchers rejects the empty string.
    """
    try:
        selector = parse_selector_syntax(text)
    except SyntaxFault as fault:
        raise QueryError(
            f"{position(text, fault.start)}: parse error: {fault.message}", kind="bad_data"
        ) from fault
    matchers = selector_matchers(selector)
    if all(matches_empty(matcher) for matcher in matchers):
        raise QueryError("match[] must contain at least one non-empty matcher", kind="bad_data")
    return matchers


def selector_matchers(selector: VectorSelector) -> tuple[Matcher, ...]:
    """A selector's matchers with its name as one of them."""
    if not selector.name:
        return selector.matchers
    return (*selector.matchers, Matcher(METRIC_NAME, MatchOp.EQUAL, selector.name))


def position(text: str, offset: int) -> str:
    """`line:column` of a character offset, both from 1."""
    line = text.count("\n", 0, offset) + 1
    return f"{line}:{offset - (text.rfind(chr(10), 0, offset) + 1) + 1}"
