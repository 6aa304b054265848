"""SQL statements to shapes, whichever driver, ORM or agent wrote the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from detectors.traces.shape import (
    KEY_SEPARATOR,
    LONG_LIST,
    MAX_STATEMENT_CHARS,
    Category,
    Shape,
    identifies,
    is_primary,
)
from detectors.traces.vocabulary import READS, SQL_CONTROL

CONNECT_NAMES = re.compile(
    r"\b(?:connect(?:ion)?|pool|checkout|checkin|acquire|begin|commit|rollback|savepoint|ping)\b",
    re.IGNORECASE,
)

# Possessive quantifiers keep every pattern linear on hostile text; a literal may lack its end.
_TOKEN = re.compile(
    r"""(?=[-/#'"`\[:%?$@0-9])(?:(/\*(?:[^*]|\*(?!/))*+(?:\*/|$)|--[^\n]*+|\#[^\n]*+)
    |('(?:[^'\\]|\\.|'')*+(?:'|\\?$)|\$\$(?:[^$]|\$(?!\$))*+(?:\$\$|$))
    |("(?:[^"\\]|\\.|"")*+(?:"|\\?$))
    |(`[^`]*+(?:`|$)|\[[A-Za-z_][\w ]*+\]|::)
    |(%\(\w++\)s|%s|\?|(?<![\w$])\$\d++|(?<!\w):\w++|(?<![\w@])@\w++)
    |((?<![\w.$])(?:0[xX][0-9a-fA-F]++|\d++(?:\.\d*+)?(?:[eE][-+]?\d++)?)(?!\w)))""",
    re.VERBOSE | re.DOTALL,
)
# SQL Server's drivers send each statement with parameters as an argument of this procedure.
_PREPARED = re.compile(
    r"\s*exec(?:ute)?\s+(?:sys\.)?sp_executesql\s+N?'((?:[^']|'')++)", re.IGNORECASE
)
# A long list of columns that was cut off before it came to its table.
_CUT = re.compile(r"\s*select\b(?!.*\bfrom\b).{240}", re.IGNORECASE | re.DOTALL)
_CUT_MARKS = ("...", "\u2026")
# Lengths at which SDKs, agents and `normalise_statement` cut: what stood behind is not known.
_CUT_LENGTHS = frozenset({
    255, 256, 500, 512, 1_000, 1_023, 1_024, 2_000, 2_047, 2_048, 4_000, 4_095, MAX_STATEMENT_CHARS
})  # fmt: skip
_COMMENT, _QUOTED, _IDENTIFIER, _MARK = 1, 3, 4, 5  # groups of the pattern above
_LIST = re.compile(
    r"(\bIN|\bVALUES|=\s?(?:ANY|ALL|SOME)|\bARRAY|\bUNNEST)\s?([(\[])\s?"
    r"(\?(?:\s?,\s?\?)*+)\s?((?:,\s?)?\.{2,}+|,\s?(?=[)\]])|,?\s?(?:%\()?[^,()]{0,80}$|)\s?(?:[)\]]|$)",
    re.IGNORECASE,
)
# How agents and servers write a list whose values they do not tell.
_ABRIDGED = re.compile(
    r"\bIN\s?\(\s?(?:\.{2,}|\u2026|\?\s?\+|<[^()<>]{0,40}>|__\w{1,40}__|\{\w{1,40}\}|\[?REDACTED\]?)\s?\)",
    re.IGNORECASE,
)
_TUPLE = r"\((?:[^()]|\([^()]*+\))*+\)"
_ROWS = re.compile(rf"\b(VALUES) ?{_TUPLE}(?:\s?,\s?{_TUPLE})++", re.IGNORECASE)
_ROW = re.compile(rf"\bVALUES ?{_TUPLE}", re.IGNORECASE)
_TUPLES = re.compile(
    r"\b(IN) ?\(\s?\([^()]*+\)((?:\s?,\s?\([^()]*+\))*+)\s?(?:\)|,?\s?\([^()]*$)", re.IGNORECASE
)
_CAST = re.compile(
    r"""(?<=\?)(?:\s?::\s?["\w.]++(?:\svarying|\sprecision|\swith(?:out)?\stime\szone)?"""
    r"(?:\s?\([?\s,]*+\))?(?:\s?\[\??\])*+)++",
    re.IGNORECASE,
)
_EITHER = re.compile(r"((?<![\w.])[\w.]++ ?= ?\?)((?: OR \1)++)", re.IGNORECASE)
# One parameter that holds many rows.
_SETS = re.compile(
    r"\b(?:UNNEST|OPENJSON|JSON_TABLE|STRING_SPLIT|FIND_IN_SET"
    r"|jsonb?_(?:array_elements(?:_text)?|each(?:_text)?|to_recordset|populate_recordset))\s?\(\s?\?",
    re.IGNORECASE,
)
_WRITE = re.compile(r"^(?:UPDATE|DELETE)\b", re.IGNORECASE)
# SQL Server's bulk copy: the rows follow the statement.
_COPIES = re.compile(r"^INSERT BULK\b", re.IGNORECASE)
_FETCHED_QUEUE = re.compile(r"\bSKIP LOCKED\b|\bREADPAST\b", re.IGNORECASE)
_WHERE = re.compile(r"\bWHERE\b", re.IGNORECASE)
_AFTER_WHERE = re.compile(
    r"\b(?:ORDER BY|GROUP BY|LIMIT|OFFSET|FETCH (?:FIRST|NEXT)|FOR (?:UPDATE|SHARE)|RETURNING)\b",
    re.IGNORECASE,
)
_COMPARED = re.compile(
    r"(?<![\w.])(?:\w++\.)*+(\w++)\)?\s?"
    r"(?:=|<>|!=|<=|>=|<|>|\b(?:NOT )?(?:IN|I?LIKE|BETWEEN)\b|= ?(?:ANY|ALL|SOME)\b)"
    r"\s?\(?\s?\?(?: AND \?)?",
    re.IGNORECASE,
)
_EQUAL = re.compile(r"(?<![\w.])(?:\w++\.)*+(\w++)\s?=\s?\(?\s?\?", re.IGNORECASE)
_TABLE = re.compile(r"""\b(?:FROM|INTO|UPDATE|JOIN)\s(?:ONLY\s)?([\w`".\[\]$]+)""", re.IGNORECASE)
_PAGE_MARKS = re.compile(
    r"\b(?:LIMIT|OFFSET|FETCH (?:FIRST|NEXT)) \(?\?(?:\s?,\s?\?)?", re.IGNORECASE
)
_OFFSET = re.compile(r"\bOFFSET \(?\?|\bLIMIT \?\s?,\s?\?", re.IGNORECASE)
_KEYSET = re.compile(
    r"\bWHERE\b.*[\w`\")\]] ?[<>] ?\(?\?.*\bORDER BY\b.*\b(?:LIMIT|FETCH (?:FIRST|NEXT)) \(?\?",
    re.IGNORECASE | re.DOTALL,
)
_TOP_KEYSET = re.compile(
    r"^SELECT TOP ?\(?\?.*\bWHERE\b.*[\w`\")\]] ?[<>] ?\(?\?.*\bORDER BY\b",
    re.IGNORECASE | re.DOTALL,
)
_RANGE = re.compile(r"(?<![\w.])(?:\w++\.)*+(\w++)\)?\s?[<>] ?\(?\?", re.IGNORECASE)
_RANGE_OR_EQUAL = re.compile(r"(?<![\w.])(?:\w++\.)*+(\w++)\)?\s?[<>]=? ?\(?\?", re.IGNORECASE)
_BETWEEN = re.compile(r"(?<![\w.])(?:\w++\.)*+(\w++)\)? BETWEEN \? AND \?", re.IGNORECASE)
_LIMITED = re.compile(r"\bLIMIT \?|^\w+ TOP ?\(?\?", re.IGNORECASE)
# Pages of servers without OFFSET: a row number within a range.
_ROW_NUMBER = re.compile(
    r"\bROWNUM\b.*\) ?\w* WHERE|\bROW_NUMBER ?\(\) OVER", re.IGNORECASE | re.DOTALL
)
_ORDERED = re.compile(r"\bORDER BY\b", re.IGNORECASE)
_WAITS = re.compile(
    r"\b(?:pg_sleep\w*|sleep|waitfor|benchmark|get_lock|pg_(?:try_)?advisory\w*lock\w*|listen"
    r"|dbms_lock|dbms_session|sp_getapplock|master_pos_wait|wait_for_executed_gtid_set)\b"
    r"|\block tables?\b|\bdeclare\b.*\bcursor\b|^fetch\b|^copy\b|^lock\b|^unload\b|^receive\b"
    r"|\binto outfile\b|^wait\b|^start_replication\b"
    r"|^(?:vacuum|analyze|reindex|optimize|cluster|refresh|alter|create|drop|truncate|load)\b",
    re.IGNORECASE | re.DOTALL,
)
# Asked by pools and drivers, not by the application.
_HOUSEKEEPING = re.compile(
    r"^select (?:\?|@@[\w.@]+|(?:cast\s?\()?(?:\w+\.)?(?:version|last_insert_id"
    r"|found_rows|row_count|pg_backend_pid"
    r"|current_schemas?|current_database|database|connection_id|lastval|scope_identity"
    r"|current_setting|set_config|serverproperty|now|txid_current)\s?\([^()]*\)(?: as \w+\))?)"
    r"(?: from dual)?$",
    re.IGNORECASE,
)
_QUOTES = {ord(mark): None for mark in '`"[]'}
# Names in quotes are left alone; so are parts of dotted names, and operators of several signs that
# only some servers have (`->`, `@>`, `:=`).
_SPELLING = re.compile(
    r"""("[^"]*+(?:"|$)|`[^`]*+(?:`|$)|\[[^\]]*+(?:\]|$))
    |(?<![\w.@$:\#])((?:select|from|where|and|or|not|in|is|null|like|ilike|between|exists|distinct|as
        |inner|left|right|full|outer|cross|join|on|using|group|order|by|asc|desc|having|limit|offset
        |union|all|insert|into|values|update|set|delete|returning|case|when|then|else|end|for
        |count|sum|min|max|avg|coalesce)(?![\w.$]))
    |\s?(?<![<>=~!@\#%^&|:*/+-])(<=>|<=|>=|<>|!=|=|<(?!-)|>)(?![<>=~!@\#%^&|:*/])\s?
    |\s?(,)\s?|(?<=\()\s|\s(?=\))""",
    re.IGNORECASE | re.VERBOSE,
)
_KEYWORD, _OPERATOR, _COMMA = 2, 3, 4  # groups of the pattern above


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the normalised text alone tells."""

    category: Category
    operation: str
    table: str
    columns: tuple[str, ...]
    compares_more: bool
    paginated: bool
    waits: bool
    chunk: bool
    queue: bool


def sql_shape(system: str, text: str) -> Shape:
    """The shape of a SQL statement."""
    values: list[str] = []
    prepared = _PREPARED.match(text)
    if prepared is not None:
        text = prepared.group(1).replace("''", "'")
    unknown = _is_cut(text)
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

    told = " ".join(_TOKEN.sub(replace, text).split()).strip(" ;")
    flat, abridged, list_size = _shortened(told)
    facts = _facts(flat)
    key, offset = (None, "") if unknown or abridged else _split_key(flat, values)
    return Shape(
        text=flat,
        category=facts.category,
        operation=facts.operation,
        table=facts.table,
        columns=facts.columns,
        compares_more=facts.compares_more,
        key=key,
        offset=offset,
        paginated=facts.paginated,
        list_size=LONG_LIST if abridged or facts.chunk else list_size,
        waits=facts.waits,
        queue=facts.queue,
    )


def _is_cut(text: str) -> bool:
    """Is the end missing, and with it the values that are asked for?"""
    marked = text.rstrip().endswith(_CUT_MARKS)
    return marked or len(text) in _CUT_LENGTHS or _CUT.match(text) is not None


@lru_cache(maxsize=4_096)
def _shortened(flat: str) -> tuple[str, bool, int]:
    """The text without casts and lists, in one spelling; was a list abridged; the longest one."""
    flat, abridged = _ABRIDGED.subn("IN (?)", _CAST.sub("", flat))
    flat, list_size = _without_lists(flat)
    return _SPELLING.sub(_spelt, flat), abridged > 0, list_size


def _spelt(match: re.Match[str]) -> str:
    """Keywords in capitals, and spaces where most people put them."""
    group = match.lastindex
    if group == _KEYWORD:
        return match.group().upper()
    if group == _OPERATOR:
        return f" {match.group(_OPERATOR)} "
    if group == _COMMA:
        return ", "
    return match.group() if group else ""


def _without_lists(flat: str) -> tuple[str, int]:
    """The text with each list as one mark, and the length of the longest list."""
    operation = _operation(flat)
    rows = _ROWS.search(flat)
    if rows is not None:
        return _ROWS.sub(r"\1 (?)", flat), rows.group().count("(")
    if operation in {"INSERT", "REPLACE"} and _ROW.search(flat) is not None:
        return _ROW.sub("VALUES (?)", flat), 0
    sizes = [LONG_LIST if _SETS.search(flat) else 0]
    if " UNION ALL " in flat:
        sizes.append(flat.count(" UNION ALL ") + 1)

    def shorten(match: re.Match[str]) -> str:
        word = match.group(1).upper()
        # The whole list is one parameter, or its end was cut off.
        long = word.startswith("=") or word in {"ARRAY", "UNNEST"} or match.group(4)
        sizes.append(max(match.group(3).count("?"), LONG_LIST if long else 0))
        return f"{word} (?)"

    def shorten_tuples(match: re.Match[str]) -> str:
        sizes.append(match.group(2).count("(") + 1)
        return "IN (?)"

    def shorten_either(match: re.Match[str]) -> str:
        sizes.append(match.group(2).count("?") + 1)
        return match.group(1)

    flat = _LIST.sub(shorten, _TUPLES.sub(shorten_tuples, flat))
    return _EITHER.sub(shorten_either, flat), max(sizes)


def _operation(flat: str) -> str:
    return flat.lstrip("( ")[:24].split(" ", 1)[0].split("(", 1)[0].upper()


@lru_cache(maxsize=4_096)
def _facts(flat: str) -> _Facts:
    """Many texts share one normalised text."""
    operation = _operation(flat)
    table = _TABLE.search(flat)
    columns, compares_more = _compared(flat)
    return _Facts(
        category=Category.CONTROL if _is_control(operation, flat) else Category.QUERY,
        operation=operation,
        table=_bare(table.group(1)) if table else "",
        columns=columns,
        compares_more=compares_more,
        paginated=_is_page(flat),
        waits=_WAITS.search(flat) is not None,
        chunk=_is_chunk(flat),
        queue=_FETCHED_QUEUE.search(flat) is not None,
    )


def _is_chunk(flat: str) -> bool:
    """Does it take a range of keys, or as many rows as a limit says? Then it is a batch already."""
    if _COPIES.search(flat):
        return True
    where = _where(flat)
    equal = [match.group(1).lower() for match in _EQUAL.finditer(where)]
    if any(identifies(column) for column in equal):
        return False
    between = [match.group(1).lower() for match in _BETWEEN.finditer(where)]
    ranges = [match.group(1).lower() for match in _RANGE_OR_EQUAL.finditer(where)]
    if any(is_primary(column) for column in between) or any(
        is_primary(column) and ranges.count(column) > 1 for column in ranges
    ):
        return True
    return _WRITE.search(flat) is not None and _LIMITED.search(flat) is not None


def _where(flat: str) -> str:
    """The condition without quotes around names; empty where there is none."""
    start = _WHERE.search(flat)
    if start is None:
        return ""
    end = _AFTER_WHERE.search(flat, start.end())
    return flat[start.end() : end.start() if end else None].translate(_QUOTES)


def _compared(flat: str) -> tuple[tuple[str, ...], bool]:
    """Columns that are compared with values, and whether other values are compared, too."""
    where = _where(flat)
    found = list(_COMPARED.finditer(where))
    marks = sum(match.group().count("?") for match in found)
    columns = tuple(match.group(1).lower() for match in found[:16])
    return columns, where.count("?") > marks


def _is_page(flat: str) -> bool:
    """One page of a list. A look-up by primary key is none, whatever limit the ORM adds.

    Prisma and SQLAlchemy (on SQLite) write LIMIT and OFFSET behind every look-up: a page has an
    order, or no condition at all.
    """
    where = _where(flat)
    equal = [match.group(1).lower() for match in _EQUAL.finditer(where)]
    if any(is_primary(column) for column in equal):
        return False
    if _KEYSET.search(flat) or _TOP_KEYSET.search(flat):
        # "The latest of each product since then" is a loop over products, not over pages.
        ranges = [match.group(1).lower() for match in _RANGE.finditer(where)]
        seeks = any(is_primary(column) for column in ranges)
        return seeks or not any(identifies(column) for column in equal)
    if _ROW_NUMBER.search(flat) and (_BETWEEN.search(flat) or _RANGE_OR_EQUAL.search(flat)):
        return True
    if not _OFFSET.search(flat):
        return False
    return not where or _ORDERED.search(flat) is not None


def _split_key(flat: str, values: list[str]) -> tuple[str, str]:
    """The values outside LIMIT and OFFSET, and those inside.

    Lists are one mark each, so marks and values are counted from the end: behind a LIMIT, even
    that of a subquery, stands hardly ever a list.
    """
    pages = list(_PAGE_MARKS.finditer(flat))
    if not pages:
        return KEY_SEPARATOR.join(values), ""
    inside: set[int] = set()
    for page in pages:
        last = flat.count("?", page.end())
        inside.update(range(last, last + page.group().count("?")))
    places = range(len(values) - 1, -1, -1)
    keys = [value for value, place in zip(values, places, strict=True) if place not in inside]
    told = [value for value, place in zip(values, places, strict=True) if place in inside]
    return KEY_SEPARATOR.join(keys), KEY_SEPARATOR.join(told)


def _bare(name: str) -> str:
    return name.translate(_QUOTES).lower()


def _is_control(operation: str, flat: str) -> bool:
    if operation in SQL_CONTROL or _HOUSEKEEPING.search(flat):
        return True
    return operation not in READS and " " not in flat and bool(CONNECT_NAMES.search(flat))
