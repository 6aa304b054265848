"""Statements, cache keys and URLs to shapes: what repeats is kept, what varies is set aside.

A shape drops literals, IN and VALUES lists, placeholders of every driver, comments (sqlcommenter
too), ids in cache keys and ids in URLs. The dropped values are the *key*: they tell a loop over
many keys from one key read again and again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from detectors.traces.vocabulary import (
    BLOCKING_COMMANDS,
    CACHE_CONTROL,
    CACHE_SYSTEMS,
    DOCUMENT_SYSTEMS,
    KEY_MANY_COMMANDS,
    MANY_KEY_COMMANDS,
    PAGE_PARAMETERS,
    READS,
    SQL_CONTROL,
)

MAX_STATEMENT_CHARS = 4_096
KEY_SEPARATOR = "\x1f"


class Category(IntEnum):
    """What a span does, as far as the trace detectors care."""

    OTHER = 0
    QUERY = 1
    CACHE = 2
    CALL = 3
    CONTROL = 4  # connect, BEGIN, COMMIT, SAVEPOINT, SET: never part of a loop


@dataclass(frozen=True, slots=True)
class Shape:
    """One normalised statement, cache command or URL.

    Attributes:
        text: The normalised text; part of the fingerprint.
        key: The values that were dropped, or None where the text does not tell them.
        offset: The LIMIT, OFFSET or page value; empty where there is none or it is unknown.
        paginated: It reads one page of a longer list.
        list_size: Values in its longest IN or VALUES list, or commands in a pipeline.
        column: The first column that the WHERE clause compares, in lower case.
        waits: It waits on purpose (SLEEP, LISTEN, blocking pops) or streams.
    """

    text: str
    category: Category
    operation: str = ""
    table: str = ""
    column: str = ""
    key: str | None = None
    offset: str = ""
    paginated: bool = False
    list_size: int = 0
    waits: bool = False

    @property
    def reads(self) -> bool:
        return self.operation in READS


_CONNECT_NAMES = re.compile(
    r"\b(?:connect(?:ion)?|pool|checkout|checkin|acquire|begin|commit|rollback|savepoint|ping)\b",
    re.IGNORECASE,
)

# Possessive quantifiers keep every pattern linear on hostile text; a literal may lack its end.
_SQL_TOKEN = re.compile(
    r"""(?=[-/#'"`\[:%?$@0-9])(?:(/\*(?:[^*]|\*(?!/))*+(?:\*/|$)|--[^\n]*+|\#[^\n]*+)
    |('(?:[^'\\]|\\.|'')*+(?:'|\\?$))
    |("(?:[^"\\]|\\.|"")*+(?:"|\\?$))
    |(`[^`]*+(?:`|$)|\[[A-Za-z_][\w ]*+\]|::)
    |(%\(\w++\)s|%s|\?|(?<![\w$])\$\d++|(?<!\w):\w++|(?<![\w@])@\w++)
    |((?<![\w.$])(?:0[xX][0-9a-fA-F]++|\d++(?:\.\d*+)?(?:[eE][-+]?\d++)?)(?!\w)))""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT, _QUOTED, _IDENTIFIER, _MARK = 1, 3, 4, 5  # groups of the pattern above
_LIST = re.compile(
    r"(\bIN|\bVALUES|=\s?ANY|\bARRAY)\s?([(\[])\s?(\?(?:\s?,\s?\?)*+)\s?[)\]]", re.IGNORECASE
)
_ROWS = re.compile(r"\b(VALUES) \(\s?[^()]*\)(?:\s?,\s?\([^()]*\))++", re.IGNORECASE)
_ROW = re.compile(r"\bVALUES \([^()]*\)", re.IGNORECASE)
_WHERE = re.compile(
    r"""\bWHERE\s\(*\s?(?:[`"\[]?\w+[`"\]]?\.)*[`"\[]?(\w+)[`"\]]?\s?(=|<|>|\bIN\b|\bANY\b)""",
    re.IGNORECASE,
)
_TABLE = re.compile(r"""\b(?:FROM|INTO|UPDATE|JOIN)\s(?:ONLY\s)?([\w`".\[\]$]+)""", re.IGNORECASE)
_PAGE_TAIL = re.compile(r"\b(?:LIMIT|OFFSET|FETCH (?:FIRST|NEXT))\b", re.IGNORECASE)
_OFFSET = re.compile(r"\bOFFSET \?|\bLIMIT \?\s?,\s?\?", re.IGNORECASE)
_KEYSET = re.compile(
    r"\bWHERE\b.*[\w`\"] ?[<>] ?\?.*\bORDER BY\b.*\bLIMIT \?", re.IGNORECASE | re.DOTALL
)
_WAITS = re.compile(
    r"\b(?:pg_sleep\w*|sleep|waitfor|benchmark|get_lock|pg_(?:try_)?advisory\w*lock\w*|listen)\b"
    r"|\block tables?\b|\bdeclare\b.*\bcursor\b|^fetch\b|^copy\b.*\bto\b|^lock\b|^unload\b",
    re.IGNORECASE | re.DOTALL,
)
_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_ID = re.compile(rf"{_UUID}|(?<![0-9A-Za-z])[0-9a-fA-F]{{16,}}+(?![0-9A-Za-z])|\d++")
_TOKEN = re.compile(r"(?=[\w=-]*\d)(?=[\w=-]*[A-Za-z])[\w=-]{16,}|[A-Za-z0-9_=-]{32,}")
_VERSION = re.compile(r"v\d{1,2}(?:\.\d{1,2})?")
_JSON_VALUE = re.compile(
    r'(?<=[:,\[])\s*+(?:"(?:[^"\\]|\\.)*+"|-?\d++[\d.eE+-]*+|true|false)(?=\s*+[,}\]])'
)
_JSON_LIST = re.compile(r"\[\s?\?(?:\s?,\s?\?)*+\s?\]")


class Normaliser:
    """Turns texts into shapes; what was seen before costs one look-up.

    Args:
        cache_size: Distinct texts remembered; the least recently used is forgotten first.
    """

    def __init__(self, cache_size: int = 16_384) -> None:
        self.statement = lru_cache(maxsize=cache_size)(normalise_statement)
        self.call = lru_cache(maxsize=cache_size)(normalise_call)


def normalise_statement(system: str, text: str) -> Shape:
    """The shape of a database or cache statement.

    Args:
        system: `db.system.name` or `db.system`; empty where unknown.
        text: `db.query.text` or `db.statement`, or the span's name where there is none.

    >>> normalise_statement("mysql", "SELECT * FROM shop WHERE id IN (1, 2) -- a").text
    'SELECT * FROM shop WHERE id IN (?)'
    >>> normalise_statement("redis", "GET product:17").text
    'GET product:*'
    """
    text = text[:MAX_STATEMENT_CHARS]
    system = system.lower()
    if system in CACHE_SYSTEMS:
        return _cache_shape(text)
    if system in DOCUMENT_SYSTEMS or text.lstrip()[:1] == "{":
        return _document_shape(text)
    return _sql_shape(system, text)


def _sql_shape(system: str, text: str) -> Shape:
    values: list[str] = []
    unknown = False
    strings_in_double_quotes = "mysql" in system or "maria" in system

    def replace(match: re.Match[str]) -> str:
        nonlocal unknown
        group = match.lastindex
        if group == _COMMENT:
            return " "
        if group == _IDENTIFIER or (group == _QUOTED and not strings_in_double_quotes):
            return match.group()
        if group == _MARK:
            unknown = True
        else:
            values.append(match.group())
        return "?"

    flat = " ".join(_SQL_TOKEN.sub(replace, text).split()).strip(" ;")
    list_size = 0

    def shorten(match: re.Match[str]) -> str:
        nonlocal list_size
        list_size = max(list_size, match.group(3).count("?"))
        return f"{match.group(1).upper()} (?)"

    operation = flat[:24].split(" ", 1)[0].split("(", 1)[0].upper()
    rows = _ROWS.search(flat)
    if rows is not None:
        list_size = rows.group().count("(")
        flat = _ROWS.sub(r"\1 (?)", flat)
    elif operation in {"INSERT", "REPLACE"}:
        flat = _ROW.sub("VALUES (?)", flat)
    else:
        flat = _LIST.sub(shorten, flat)
    facts = _sql_facts(flat)
    key, offset = _split_key(flat, values, unknown=unknown)
    return Shape(
        text=flat,
        category=facts.category,
        operation=facts.operation,
        table=facts.table,
        column=facts.column,
        key=key,
        offset=offset,
        paginated=facts.paginated,
        list_size=list_size,
        waits=facts.waits,
    )


@lru_cache(maxsize=4_096)
def _sql_facts(flat: str) -> Shape:
    """What the normalised text alone tells; many texts share one."""
    operation = flat[:24].split(" ", 1)[0].split("(", 1)[0].upper()
    table = _TABLE.search(flat)
    where = _WHERE.search(flat)
    return Shape(
        text=flat,
        category=Category.CONTROL if _is_control(operation, flat) else Category.QUERY,
        operation=operation,
        table=_bare(table.group(1)) if table else "",
        column=where.group(1).lower() if where else "",
        paginated=bool(_OFFSET.search(flat) or _KEYSET.search(flat)),
        waits=_WAITS.search(flat) is not None,
    )


def _split_key(flat: str, values: list[str], *, unknown: bool) -> tuple[str | None, str]:
    """The values outside LIMIT and OFFSET, and those inside; keyset pages keep all as offset."""
    if unknown:
        return None, ""
    tail = _PAGE_TAIL.search(flat)
    inside = flat[tail.start() :].count("?") if tail else 0
    cut = len(values) - inside
    return KEY_SEPARATOR.join(values[:cut]), KEY_SEPARATOR.join(values[cut:])


def _bare(name: str) -> str:
    return name.translate({ord(mark): None for mark in '`"[]'}).lower()


def _is_control(operation: str, flat: str) -> bool:
    if operation in SQL_CONTROL:
        return True
    return operation not in READS and " " not in flat and bool(_CONNECT_NAMES.search(flat))


def _cache_shape(text: str) -> Shape:
    lines = [line for line in text.strip().split("\n") if line.strip()]
    if not lines:
        return Shape("", Category.CONTROL)
    words = lines[0].split()
    command = words[0].upper()
    if len(lines) > 1:
        return Shape(f"{command} (pipeline)", Category.CACHE, command, list_size=len(lines))
    arguments = words[1:]
    control = command in CACHE_CONTROL and command != "GET"
    first = arguments[0] if arguments else "?"
    size = 0
    if command in MANY_KEY_COMMANDS:
        size = max(0, len(arguments) - (1 if command in KEY_MANY_COMMANDS else 0))
    elif first.upper() == command:  # some instrumentations write a pipeline as "GET GET GET"
        size = len(words)
    pattern = key_pattern(first)
    return Shape(
        text=f"{command} {pattern}",
        category=Category.CONTROL if control else Category.CACHE,
        operation="GET" if command == "GETS" else command,
        table=pattern,
        column="key",
        key=None if first == "?" else first,
        list_size=size,
        waits=command in BLOCKING_COMMANDS
        or (command.startswith("XREAD") and "BLOCK" in text.upper()),
    )


def key_pattern(key: str) -> str:
    """A cache key with its ids starred.

    >>> key_pattern("shop:1:product:42:de")
    'shop:*:product:*:de'
    """
    return _ID.sub("*", _TOKEN.sub("*", key)) if key != "?" else "?"


def _document_shape(text: str) -> Shape:
    values: list[str] = []

    def replace(match: re.Match[str]) -> str:
        values.append(match.group().strip())
        return "?"

    flat = " ".join(_JSON_VALUE.sub(replace, text).split())
    sizes = [match.group().count("?") for match in _JSON_LIST.finditer(flat)]
    flat = _JSON_LIST.sub("[?]", flat)
    word = re.match(r"[A-Za-z]+", flat)
    operation = word.group().upper() if word else ("SEARCH" if "query" in flat else "FIND")
    control = operation in {"ISMASTER", "HELLO", "PING", "CONNECT"}
    unknown = not values and "?" in text
    return Shape(
        text=flat,
        category=Category.CONTROL if control else Category.QUERY,
        operation=operation,
        key=None if unknown else KEY_SEPARATOR.join(values),
        list_size=max(sizes, default=0),
    )


def normalise_call(method: str, url: str, name: str, host: str) -> Shape:
    """The shape of an outgoing call.

    Args:
        method: HTTP method; empty for other protocols.
        url: Full URL or path.
        name: The span's name, which is the shape where there is no URL (gRPC).
        host: The server, for a URL that is only a path.

    >>> normalise_call("GET", "http://stock/items/17.json?page=2", "GET", "").text
    'GET stock/items/*.json?page'
    """
    url = url[:MAX_STATEMENT_CHARS]
    method = method.upper()
    if not url:
        return Shape(f"{method} {key_pattern(name)}".strip(), Category.CALL, method or "CALL")
    rest = url.split("://", 1)[-1] if "://" in url else host + url
    rest, _, _ = rest.partition("#")
    path, _, query = rest.partition("?")
    authority, slash, path = path.partition("/")
    authority = authority.rpartition("@")[2]
    values: list[str] = []
    segments = [_segment(part, values) for part in path.split("/")]
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    pages = [value for key, _, value in pairs if key.lower() in PAGE_PARAMETERS]
    values.extend(value for key, _, value in pairs if key.lower() not in PAGE_PARAMETERS)
    names = sorted({key for key, _, _ in pairs})
    text = f"{method} {authority}{slash}{'/'.join(segments)}"
    return Shape(
        text=f"{text}?{'&'.join(names)}" if names else text,
        category=Category.CALL,
        operation=method,
        table=authority,
        key=KEY_SEPARATOR.join(values),
        offset=KEY_SEPARATOR.join(pages),
        paginated=bool(pages),
        list_size=max((value.count(",") + 1 for _, _, value in pairs if "," in value), default=0),
    )


def _segment(part: str, values: list[str]) -> str:
    if not part or _VERSION.fullmatch(part) or part[0] in "<{:":
        return part
    stem, dot, extension = part.rpartition(".")
    if not dot or not extension.isalpha():
        stem, dot, extension = part, "", ""
    starred = key_pattern(stem)
    if starred != stem:
        values.append(part)
    return f"{starred}{dot}{extension}"
