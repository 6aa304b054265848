"""Commands of caches and document stores to shapes."""

from __future__ import annotations

import re
from functools import lru_cache

from detectors.traces.shape import KEY_SEPARATOR, LONG_LIST, Category, Shape, key_pattern
from detectors.traces.vocabulary import (
    BLOCKING_COMMANDS,
    CACHE_CONTROL,
    CURSOR_COMMANDS,
    FIELD_COMMANDS,
    KEY_MANY_COMMANDS,
    MANY_BY_NAME,
    MANY_KEY_COMMANDS,
    PIPELINES,
)

_KEY_PART = re.compile(r"[^:/.|]++")
_JSON_VALUE = re.compile(
    r'(?<=[:,\[])\s*+(?:"(?:[^"\\]|\\.)*+"|-?\d++[\d.eE+-]*+|true|false)(?=\s*+[,}\]])'
)
# What these name is part of the statement, not of its key.
_JSON_NAMED = re.compile(
    r'"(?:find|aggregate|count|distinct|insert|update|delete|findAndModify|collection|TableName'
    r'|IndexName|index|\$db)"\s*+:\s*+"(?:[^"\\]|\\.)*+"'
)
_JSON_LIST = re.compile(r"\[\s?\?(?:\s?,\s?\?)*+\s?\]")
_JSON_PAGE = re.compile(
    r'"(?:skip|from|search_after|scroll_id|offset|NextToken)"\s?:\s?[^,}]++'
    r'|"(?:ExclusiveStartKey|LastEvaluatedKey)"\s?:\s?\{(?:[^{}]|\{[^{}]*+\})*+\}'
)
_OBJECTS = re.compile(r'"(?:documents|updates|deletes|docs|pipeline_ops)"\s?:\s?\[')
_BRACE = re.compile(r"[{}\]]")
_BULK = re.compile(
    r"\b(?:_?bulk(?:write)?|_?msearch|_?mget|insertmany|batchgetitem|batchwriteitem|getmore"
    r"|read_?many(?:_?items)?)\b",
    re.IGNORECASE,
)
_WAITS = re.compile(r"\$changestream|\btailable\b|awaitdata|\bscroll\b|\bgetmore\b", re.IGNORECASE)
_DOCUMENT_CONTROL = frozenset({
    "ISMASTER", "HELLO", "PING", "CONNECT", "STARTTRANSACTION", "COMMITTRANSACTION",
    "ABORTTRANSACTION", "ENDSESSIONS", "SASLSTART", "SASLCONTINUE", "BUILDINFO",
})  # fmt: skip
_HOLE = "\x00"
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD"})


def cache_shape(text: str) -> Shape:
    """The shape of a Redis or memcached command, or of a pipeline of them."""
    lines = [line for line in text.strip().split("\n") if line.strip()]
    if not lines:
        return Shape("", Category.CONTROL)
    words = lines[0].split()
    command = words[0].upper()
    if len(lines) > 1 or command in PIPELINES:
        size = max(len(lines), 2)
        return Shape(f"{command} (pipeline)", Category.CACHE, command, list_size=size)
    arguments = words[1:]
    first = arguments[0] if arguments else "?"
    size = 0
    if not arguments and command in MANY_BY_NAME:
        size = LONG_LIST
    elif command in MANY_KEY_COMMANDS:
        size = max(0, len(arguments) - (1 if command in KEY_MANY_COMMANDS else 0))
    elif first.upper() == command:  # some instrumentations write a pipeline as "GET GET GET"
        size = len(words)
    pattern = key_pattern(first)
    key = None if "?" in first else first
    if key is not None and command in FIELD_COMMANDS:
        field = arguments[1] if len(arguments) > 1 else "?"
        key = None if field[0] in "?[" else f"{key}{KEY_SEPARATOR}{field}"
    control = command in CACHE_CONTROL or _takes_lock(command, arguments)
    return Shape(
        text=f"{command} {pattern}",
        category=Category.CONTROL if control else Category.CACHE,
        operation="GET" if command == "GETS" else command,
        table=pattern,
        columns=("key",),
        key=key,
        list_size=size,
        waits=command in BLOCKING_COMMANDS
        or (command.startswith("XREAD") and "BLOCK" in text.upper()),
        queue=command in CURSOR_COMMANDS,
        family=_key_family(command, pattern),
    )


def _takes_lock(command: str, arguments: list[str]) -> bool:
    """`SET key value NX PX 1000` is how Redis documents a lock; it is tried until it is free."""
    if command != "SET":
        return False
    words = {word.upper() for word in arguments[1:]}
    return "NX" in words and bool(words & {"PX", "EX"})


@lru_cache(maxsize=4_096)
def _key_family(command: str, pattern: str) -> str:
    """Equal for keys of as many parts that begin alike."""
    parts = _KEY_PART.findall(pattern)
    return f"{command} {parts[0]} {len(parts)}" if len(parts) > 1 else ""


def document_shape(text: str, collection: str = "") -> Shape:
    """The shape of a command of MongoDB, Elasticsearch and the like; a JSON body or a name."""
    if "{" not in text:
        return _named(text)
    values: list[str] = []

    def replace(match: re.Match[str]) -> str:
        values.append(match.group().strip())
        return "?"

    flat = " ".join(text.split())
    pages = _JSON_PAGE.findall(flat)
    batch = LONG_LIST if _writes_many(flat) else 0
    kept = _JSON_NAMED.findall(flat)
    flat = _JSON_NAMED.sub(_HOLE, flat)
    bare = " ".join(_JSON_VALUE.sub(replace, _JSON_PAGE.sub('"page": ?', flat)).split())
    for constant in kept:
        bare = bare.replace(_HOLE, constant, 1)
    sizes = [match.group().count("?") for match in _JSON_LIST.finditer(bare)]
    bare = _JSON_LIST.sub("[?]", bare)
    word = re.match(r"\W*([A-Za-z_]+)", bare)
    operation = word.group(1).upper() if word else ""
    if operation in {"", "QUERY", "SIZE", "PAGE", "SORT"}:
        operation = "SEARCH"
    unknown = "?" in text or not values
    named = f'"{collection}"' in bare or not collection
    return Shape(
        text=bare if named else f"{collection} {bare}",
        category=Category.CONTROL if operation in _DOCUMENT_CONTROL else Category.QUERY,
        operation="FIND" if operation == "FILTER" else operation,
        table=collection,
        key=None if unknown and not pages else KEY_SEPARATOR.join(values),
        offset=KEY_SEPARATOR.join(pages),
        paginated=bool(pages),
        list_size=max(batch, LONG_LIST if _BULK.search(bare) else 0, *sizes, 0),
        waits=_WAITS.search(bare) is not None,
    )


def _writes_many(flat: str) -> bool:
    """Does a list of documents to write hold more than one?"""
    start = _OBJECTS.search(flat)
    if start is None:
        return False
    depth = objects = 0
    for match in _BRACE.finditer(flat, start.end()):
        if match.group() == "{":
            depth += 1
            objects += depth == 1
        elif match.group() == "}":
            depth -= 1
        elif depth <= 0:
            break
    return objects > 1


def _named(text: str) -> Shape:
    """Only a command and its collection or path: nobody knows which rows it asks for."""
    flat = " ".join(text.split())
    pattern = key_pattern(flat)
    first, _, rest = flat.partition(" ")
    operation = first.rpartition(".")[2].upper()
    if operation in _METHODS and rest:
        operation = "SEARCH" if "_search" in rest or "_count" in rest else operation
    return Shape(
        text=pattern,
        category=Category.CONTROL if operation in _DOCUMENT_CONTROL else Category.QUERY,
        operation=operation,
        table=rest,
        key=flat if pattern != flat else None,
        list_size=LONG_LIST if _BULK.search(flat) else 0,
        waits=_WAITS.search(flat) is not None,
    )
