"""PromQL text to tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from store.promql.syntax import AGGREGATIONS

MAX_QUERY_CHARACTERS = 1_000_000

KEYWORDS = frozenset(
    [
        "and",
        "or",
        "unless",
        "atan2",
        "offset",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "anchored",
        "smoothed",
        "fill",
        "fill_left",
        "fill_right",
    ]
)


class SyntaxFault(Exception):
    """A mistake in a query, at a character offset."""

    def __init__(self, message: str, start: int) -> None:
        super().__init__(message)
        self.message = message
        self.start = start


@dataclass(frozen=True, slots=True)
class Token:
    """A lexeme. `kind` is number, duration, string, identifier, metric, keyword, or the operator.

    `text` is as written, but for a keyword in lower case and for a string unquoted.
    """

    kind: str
    text: str
    start: int
    end: int


@cache
def _pattern() -> re.Pattern[str]:
    parts = {
        "space": r"[ \t\r\n]+|#[^\r\n]*",
        "duration": r"\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*(?![\w.])",
        "number": r"0[xX][0-9a-fA-F_]+(?!\w)|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)"
        r"(?:[eE][+-]?\d+)?(?!\w)",
        "string": r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`]*`",
        "word": r"[A-Za-z_][A-Za-z0-9_]*",
        "operator": r"=~|!~|==|!=|<=|>=|</|>/|[-+*/%^=<>(){}\[\],@:]",
    }
    return re.compile("|".join(f"(?P<{name}>{part})" for name, part in parts.items()))


_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.|$))",
    re.DOTALL,
)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"',
}  # fmt: skip


def tokenize(text: str) -> list[Token]:
    """Every token of a query, comments and spaces left out.

    Raises:
        SyntaxFault: A character that no token begins with, or an unterminated string.
    """
    tokens: list[Token] = []
    pattern = _pattern()
    place = 0
    braces = brackets = 0
    while place < len(text):
        token = _metric(text, place) if not braces and not brackets else None
        if token is None:
            found = pattern.match(text, place)
            if found is None:
                raise SyntaxFault(_no_token(text, place), place)
            token = _token(found)
        place = token.end
        braces += (token.kind == "{") - (token.kind == "}")
        brackets += (token.kind == "[") - (token.kind == "]")
        if braces < 0 or braces > 1 or brackets < 0 or brackets > 1:
            raise SyntaxFault(f"unexpected bracket {token.text!r}", token.start)
        if token.kind != "space":
            tokens.append(token)
    return tokens


def _metric(text: str, place: int) -> Token | None:
    found = _METRIC.match(text, place)
    if found is None:
        return None
    word = found.group()
    lower = word.lower()
    if lower in KEYWORDS:
        return Token("keyword", lower, place, found.end())
    if lower in AGGREGATIONS:
        return Token("aggregation", word, place, found.end())
    if lower in ("inf", "nan"):
        return Token("number", word, place, found.end())
    return Token("metric" if ":" in word else "identifier", word, place, found.end())


def _token(found: re.Match[str]) -> Token:
    kind, word = str(found.lastgroup), found.group()
    if kind == "operator":
        return Token(word, word, found.start(), found.end())
    if kind == "string":
        return Token(kind, unquote(word, found.start()), found.start(), found.end())
    if kind == "word":
        return Token("identifier", word, found.start(), found.end())
    return Token(kind, word, found.start(), found.end())


def _no_token(text: str, place: int) -> str:
    char = text[place]
    if char in "\"'":
        return "unterminated quoted string"
    if char == "`":
        return "unterminated raw string"
    if char.isdigit():
        bad = re.match(r"[\w.]+", text[place:])
        return f'bad number or duration syntax: "{bad.group()[:50] if bad else char}"'
    return f"unexpected character: {char!r}"


def unquote(quoted: str, start: int) -> str:
    r"""The value of a quoted string; `\xc5` is a byte, and bytes that are no UTF-8 are kept.

    Raises:
        SyntaxFault: An escape that PromQL does not know.
    """
    body = quoted[1:-1]
    if quoted[0] == "`" or "\\" not in body:
        return body
    out = bytearray()
    place = 0
    for found in _ESCAPE.finditer(body):
        out += body[place : found.start()].encode("utf-8", "surrogatepass")
        out += _escape(found, start)
        place = found.end()
    out += body[place:].encode("utf-8", "surrogatepass")
    return out.decode("utf-8", "surrogateescape")


def _escape(found: re.Match[str], start: int) -> bytes:
    simple, octal, hexadecimal, short, long, unknown = found.groups()
    if unknown is not None:
        raise SyntaxFault(f"unknown escape sequence {found.group()!r}", start)
    if simple:
        return _SIMPLE[simple].encode()
    if octal or hexadecimal:
        code = int(octal, 8) if octal else int(hexadecimal, 16)
        if code > 0xFF:
            raise SyntaxFault(f"octal escape value {octal} > 255", start)
        return bytes([code])
    code = int(short or long, 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise SyntaxFault("escape sequence is an invalid Unicode code point", start)
    return chr(code).encode()
