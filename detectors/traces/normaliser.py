"""Texts of spans to shapes, each distinct text once."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from detectors.traces.call_shape import normalise_call
from detectors.traces.shape import MAX_STATEMENT_CHARS, Shape
from detectors.traces.sql_shape import sql_shape
from detectors.traces.store_shape import cache_shape, document_shape
from detectors.traces.vocabulary import CACHE_SYSTEMS, DOCUMENT_SYSTEMS

# Longer texts are normalised again each time: 16,384 of these take about 50 MB at the most.
_MAX_REMEMBERED_CHARS = 1_024


class Normaliser:
    """Turns texts into shapes; what was seen before costs one look-up.

    Args:
        cache_size: Distinct texts remembered of each kind; the least recently used is forgotten
            first.
    """

    def __init__(self, cache_size: int = 16_384) -> None:
        self._statement = lru_cache(maxsize=cache_size)(normalise_statement)
        self._name = lru_cache(maxsize=cache_size)(normalise_name)
        self._call = lru_cache(maxsize=cache_size)(normalise_call)

    @property
    def remembered(self) -> int:
        """How many distinct texts are known."""
        caches = (self._statement, self._name, self._call)
        return sum(cache.cache_info().currsize for cache in caches)

    def statement(self, system: str, text: str) -> Shape:
        """See `normalise_statement`."""
        if len(text) > _MAX_REMEMBERED_CHARS:
            return normalise_statement(system, text)
        return self._statement(system, text)

    def name(self, system: str, name: str) -> Shape:
        """See `normalise_name`."""
        return self._name(system, name[:_MAX_REMEMBERED_CHARS])

    def call(self, method: str, url: str, name: str, host: str) -> Shape:
        """See `normalise_call`."""
        if len(url) > _MAX_REMEMBERED_CHARS:
            return normalise_call(method, url, name, host)
        return self._call(method, url, name[:_MAX_REMEMBERED_CHARS], host)


def normalise_statement(system: str, text: str) -> Shape:
    """The shape of a database or cache statement.

    Args:
        system: `db.system.name` or `db.system`; empty where unknown.
        text: `db.query.text` or `db.statement`.

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
        return document_shape(text)
    return sql_shape(system, text)


def normalise_name(system: str, name: str) -> Shape:
    """The shape of a database span without a statement: its name, which tells no key.

    >>> normalise_name("postgresql", "SELECT shop.product").key is None
    True
    """
    return replace(normalise_statement(system, name), key=None)
