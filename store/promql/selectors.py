"""What stands between the braces of a selector."""

from __future__ import annotations

import re2

from store.model import METRIC_NAME, Matcher, MatchOp
from store.promql.lexer import SyntaxFault
from store.promql.tokens import Tokens

_OPERATORS = frozenset({"=", "!=", "=~", "!~"})
MAX_REGEX_CHARACTERS = 64 * 1024


def parse_braces(tokens: Tokens, name: str) -> tuple[str, tuple[Matcher, ...]]:
    """Name and matchers of `{…}`; a quoted string alone in the braces is the metric's name.

    Raises:
        SyntaxFault: Not a matcher, a bad regular expression, or two names.
    """
    brace = tokens.expect("{", "label matching")
    matchers: list[Matcher] = []
    while tokens.peek.kind != "}":
        token = tokens.peek
        if token.kind not in ("identifier", "string", "keyword", "aggregation"):
            raise tokens.unexpected('identifier or "}"', "label matching")
        if token.kind == "string" and tokens.after.kind not in _OPERATORS:
            tokens.next()
            if name:
                raise SyntaxFault(
                    f'metric name must not be set twice: "{name}" or "{token.text}"', token.start
                )
            name = token.text
        else:
            matchers.append(_matcher(tokens))
        if tokens.peek.kind != ",":
            break
        tokens.next()
    tokens.expect("}", "label matching")
    for matcher in matchers:
        if name and matcher.name == METRIC_NAME:
            raise SyntaxFault(
                f'metric name must not be set twice: "{name}" or "{matcher.value}"', brace.start
            )
    return name, tuple(matchers)


def _matcher(tokens: Tokens) -> Matcher:
    label = tokens.next()
    operator = tokens.peek
    if operator.kind not in _OPERATORS:
        raise tokens.unexpected("label matching operator", "label matching")
    tokens.next()
    value = tokens.peek
    if value.kind != "string":
        raise tokens.unexpected("string", "label matching")
    tokens.next()
    if operator.kind in ("=~", "!~"):
        compile_regex(value.text, label.start)
    return Matcher(label.text, MatchOp(operator.kind), value.text)


def compile_regex(text: str, start: int) -> object:
    """The anchored RE2 expression.

    Raises:
        SyntaxFault: RE2 does not take it.
    """
    if len(text) > MAX_REGEX_CHARACTERS:
        raise SyntaxFault("error parsing regexp: expression too long", start)
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(f"^(?s:{text})$", options)
    except (re2.error, UnicodeError) as exc:
        raise SyntaxFault(f"error parsing regexp: {_regex_problem(exc, text)}", start) from exc


def _regex_problem(error: Exception, text: str) -> str:
    """RE2's words with the part that they are about, as Go's port of it puts them."""
    told = error.args[0] if error.args else ""
    message = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    problem, _, part = message.partition(": ")
    return f"{problem}: `{part or text}`"


def matcher_passes(matcher: Matcher, value: str) -> bool:
    """Whether a label's value passes."""
    match matcher.op:
        case MatchOp.EQUAL:
            return value == matcher.value
        case MatchOp.NOT_EQUAL:
            return value != matcher.value
        case _:
            found = re2.fullmatch(f"(?s:{matcher.value})", value) is not None
            return found == (matcher.op is MatchOp.REGEX)


def matches_empty(matcher: Matcher) -> bool:
    """Whether a series without the label passes."""
    return matcher_passes(matcher, "")
