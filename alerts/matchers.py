"""Alertmanager's label matchers: `severity=~"page|ticket"`, alone or in braces."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

import re2

from store.model import Labels, Matcher, MatchOp

_MAX_PATTERN = 4096
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}
_NAME = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s{}!=~,\\"\'`]+')
_OPERATOR = re.compile(r"\s*(=~|!~|!=|=)\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BARE = re.compile(r'[^,"{}]*')


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    return re2.compile(pattern, options)


@functools.lru_cache(maxsize=16_384)
def _passes(pattern: str, value: str) -> bool:
    return _compiled(pattern).fullmatch(value) is not None


def check(matcher: Matcher) -> Matcher:
    """The matcher itself, if its regular expression can be compiled.

    Raises:
        ValueError: It cannot.
    """
    if matcher.op in {MatchOp.REGEX, MatchOp.NOT_REGEX}:
        if len(matcher.value) > _MAX_PATTERN:
            raise ValueError(f"the pattern is longer than {_MAX_PATTERN} characters")
        try:
            _compiled(matcher.value)
        except re2.error as exc:
            raise ValueError(
                f"{matcher.value!r} is not a regular expression (RE2): {_said(exc)}"
            ) from exc
    return matcher


def _said(error: re2.error) -> str:
    """The reason; the library gives bytes."""
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def matches(matcher: Matcher, labels: Labels) -> bool:
    """One condition; an absent label counts as empty. Patterns are anchored at both ends."""
    value = labels.get(matcher.name)
    match matcher.op:
        case MatchOp.EQUAL:
            return value == matcher.value
        case MatchOp.NOT_EQUAL:
            return value != matcher.value
        case MatchOp.REGEX:
            return _passes(matcher.value, value)
        case MatchOp.NOT_REGEX:
            return not _passes(matcher.value, value)


def matches_all(matchers: Iterable[Matcher], labels: Labels) -> bool:
    """Every condition holds."""
    return all(matches(matcher, labels) for matcher in matchers)


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """The matchers of one text: `a="b"`, `a=b,c!~"d"` or `{a="b",c="d"}`.

    >>> [str(m.op) for m in parse_matchers('{a="b", c!~"d|e"}')]
    ['=', '!~']

    Raises:
        ValueError: The text is no list of matchers, or holds a bad pattern.
    """
    inner = text.strip()
    if inner.startswith("{") != inner.endswith("}"):
        raise ValueError(f"{text!r}: the braces do not match")
    if inner.startswith("{"):
        inner = inner[1:-1].strip()
    found: list[Matcher] = []
    position = 0
    while position < len(inner):
        matcher, position = _one(inner, position, text)
        found.append(check(matcher))
        rest = inner[position:].lstrip()
        if rest and not rest.startswith(","):
            raise ValueError(f"{text!r}: a comma is expected before {rest!r}")
        position = len(inner) - len(rest[1:].lstrip()) if rest else len(inner)
    return tuple(found)


def _one(inner: str, position: int, text: str) -> tuple[Matcher, int]:
    name = _NAME.match(inner, position)
    operator = _OPERATOR.match(inner, name.end()) if name else None
    if name is None or operator is None:
        raise ValueError(f'{text!r} is no matcher; write it like severity="page"')
    quoted = _QUOTED.match(inner, operator.end())
    if quoted is not None:
        value, end = _unescape(quoted[1]), quoted.end()
    else:
        bare = _BARE.match(inner, operator.end())
        assert bare is not None  # the pattern takes the empty text too
        if bare.end() < len(inner) and inner[bare.end()] != ",":
            raise ValueError(f"{text!r}: the value after {name[0]!r} is not quoted rightly")
        value, end = _unescape(bare[0].strip()), bare.end()
    label = _unescape(name[0][1:-1]) if name[0].startswith('"') else name[0]
    return Matcher(label, MatchOp(operator[1]), value), end


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), text)


def quote(text: str) -> str:
    """The text as Go's `%q` writes it, for group keys."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped.replace(chr(9), chr(92) + "t")}"'


def format_matcher(matcher: Matcher) -> str:
    """`name="value"`, as Alertmanager prints it."""
    return f"{matcher.name}{matcher.op}{quote(matcher.value)}"


def format_matchers(matchers: Iterable[Matcher]) -> str:
    """`{a="b",c!="d"}`, as Alertmanager prints it."""
    return "{" + ",".join(format_matcher(matcher) for matcher in matchers) + "}"
