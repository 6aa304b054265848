"""Texts of spans to shapes, each distinct text once."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from detectors.traces.call_shape import normalise_call
from detectors.traces.shape import (
    LONG_LIST,
    MAX_STATEMENT_CHARS,
    Category,
    Shape,
    key_pattern,
)
from detectors.traces.sql_shape import sql_shape
from detectors.traces.store_shape import cache_shape, document_shape
from detectors.traces.vocabulary import (
    BATCH_NAMES,
    CACHE_SYSTEMS,
    CONTROL_NAMES,
    DOCUMENT_SYSTEMS,
)

# Longer texts are normalised again each time: 16,384 of these take about 50 MB at the most.
_MAX_REMEMBERED_CHARS = 1_024
# "redis-GET", "Redis::get" and "memcached.get" are the command GET.
_CLIENT_PREFIX = re.compile(r"^\w+(?:[.-]|::)(?=\w)")
_PARTS = re.compile(r"[.:/\\]+")
# Words of drivers and of the operations themselves; what is left of a name may be a collection.
_GENERIC = frozenset({
    "sql", "db", "conn", "stmt", "tx", "pg", "mysql", "mysql2", "mongodb", "mongo", "dynamodb",
    "elasticsearch", "opensearch", "collection", "query", "statement", "connection", "execute",
    "exec", "gorm", "pdo", "pdostatement",
})  # fmt: skip
# "SELECT FROM product" and "UPDATE product" are summaries.
_WHOLE_STATEMENT = re.compile(
    r"(?:select\s+(?!from\b)\S.*\sfrom\s|insert\s+into\s.*\bvalues\b|update\s.*\sset\s|delete\s+from\s.*\swhere\s)",
    re.IGNORECASE | re.DOTALL,
)
# One document by its key: whatever the collection, many of them are one batch.
_KEY_READ = re.compile(r"get(?:item)?$|readitem|getdocument")


class Normaliser:
    """Turns texts into shapes; what was seen before costs one look-up.

    Args:
        cache_size: Distinct texts remembered of each kind; the least recently used is forgotten
            first.
    """

    def __init__(self, cache_size: int = 16_384) -> None:
        self._statement = lru_cache(maxsize=cache_size)(normalise_statement)
        # Nearly every key of a cache is asked for once: they must not push statements out.
        self._command = lru_cache(maxsize=cache_size // 8)(normalise_statement)
        self._name = lru_cache(maxsize=cache_size)(normalise_name)
        self._call = lru_cache(maxsize=cache_size)(normalise_call)

    @property
    def remembered(self) -> int:
        """How many distinct texts are known."""
        caches = (self._statement, self._command, self._name, self._call)
        return sum(cache.cache_info().currsize for cache in caches)

    def statement(self, system: str, text: str, collection: str = "") -> Shape:
        """See `normalise_statement`."""
        if len(text) > _MAX_REMEMBERED_CHARS:
            return normalise_statement(system, text, collection)
        if system in CACHE_SYSTEMS:
            return self._command(system, text, collection)
        return self._statement(system, text, collection)

    def name(self, system: str, name: str) -> Shape:
        """See `normalise_name`."""
        return self._name(system, name[:_MAX_REMEMBERED_CHARS])

    def call(self, method: str, url: str, name: str, host: str) -> Shape:
        """See `normalise_call`."""
        if len(url) > _MAX_REMEMBERED_CHARS:
            return normalise_call(method, url, name, host)
        return self._call(method, url, name[:_MAX_REMEMBERED_CHARS], host)


def normalise_statement(system: str, text: str, collection: str = "") -> Shape:
    """The shape of a database or cache statement.

    Args:
        system: `db.system.name` or `db.system`; empty where unknown.
        text: `db.query.text` or `db.statement`.
        collection: Of a document store, where the span names it beside the text.

    >>> normalise_statement("mysql", "SELECT * FROM shop WHERE id IN (1, 2) -- a").text
    'SELECT * FROM shop WHERE id IN (?)'
    >>> normalise_statement("redis", "GET product:17").text
    'GET product:*'
    """
    text = text[:MAX_STATEMENT_CHARS]
    system = system.lower()
    if system in CACHE_SYSTEMS:
        return cache_shape(text)
    if system in DOCUMENT_SYSTEMS or text.lstrip()[:1] == "{":
        return document_shape(text, collection)
    return sql_shape(system, text)


def normalise_name(system: str, name: str) -> Shape:
    """The shape of a database span without a statement: its name, which tells no key.

    Some clients name a span by its whole statement, which does. A name of one word such as
    "SELECT", "mongodb.find" or that of the database may stand for any statement: it is vague.

    >>> normalise_name("postgresql", "SELECT shop.product").key is None
    True
    >>> normalise_name("postgresql", "SELECT name FROM product WHERE id = 17").key
    '17'
    >>> normalise_name("postgresql", "SELECT").vague
    True
    """
    bare = name.strip()
    if CONTROL_NAMES.search(bare):
        return Shape(key_pattern(bare), Category.CONTROL)
    if system.lower() in CACHE_SYSTEMS:
        return replace(cache_shape(_CLIENT_PREFIX.sub("", bare)), key=None)
    shape = normalise_statement(system, bare)
    batch = shape.list_size or (LONG_LIST if BATCH_NAMES.search(bare) else 0)
    _, _, rest = bare.partition(" ")
    return replace(
        shape,
        key=shape.key if _WHOLE_STATEMENT.match(bare) else None,
        table=shape.table or rest.lower(),
        list_size=batch,
        vague=shape.category == Category.QUERY and _is_vague(bare),
    )


def _is_vague(name: str) -> bool:
    """Does the name say no more than an operation, or not even that?"""
    if " " in name:
        return False
    parts = [part for part in _PARTS.split(name.lower()) if part and part not in _GENERIC]
    return len(parts) <= 1 and not (parts and _KEY_READ.match(parts[0]))
