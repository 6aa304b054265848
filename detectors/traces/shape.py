"""What a span does, with everything that varies set aside.

A shape drops literals, IN and VALUES lists, placeholders of every driver, comments (sqlcommenter
too), ids in cache keys and ids in URLs. The dropped values are the *key*: they tell a loop over
many keys from one key read again and again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from detectors.traces.vocabulary import READS

MAX_STATEMENT_CHARS = 4_096
KEY_SEPARATOR = "\x1f"
# An array parameter, or a list that was cut off or abridged: long, nobody knows how long.
LONG_LIST = 100


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
        columns: The columns that the WHERE clause compares with values, in lower case.
        compares_more: The WHERE clause also compares what is no plain column.
        waits: It waits on purpose (SLEEP, LISTEN, blocking pops), streams or maintains.
        queue: It takes the next of a queue (SKIP LOCKED) or of a cursor (SCAN): asked again, it
            answers otherwise.
        vague: Only a name is known, and it may stand for any statement.
        family: Equal for keys and URLs that may differ in one word; empty where `text` says it.
    """

    text: str
    category: Category
    operation: str = ""
    table: str = ""
    columns: tuple[str, ...] = ()
    compares_more: bool = False
    key: str | None = None
    offset: str = ""
    paginated: bool = False
    list_size: int = 0
    waits: bool = False
    family: str = ""
    queue: bool = False
    vague: bool = False

    @property
    def reads(self) -> bool:
        return self.operation in READS

    @property
    def column(self) -> str:
        """The first compared column, empty where there is none."""
        return self.columns[0] if self.columns else ""

    @property
    def values(self) -> tuple[str, ...] | None:
        """The single values of the key; None where they are unknown."""
        if self.key is None:
            return None
        return tuple(filter(None, self.key.split(KEY_SEPARATOR)))


_PRIMARY = frozenset({"id", "pk", "uuid", "guid", "_id", "rowid", "oid"})
_NATURAL = frozenset({
    "key", "code", "sku", "slug", "email", "token", "hash", "username", "name", "number", "ref",
})  # fmt: skip


def is_primary(column: str) -> bool:
    """A column that names a row of its own table."""
    return column in _PRIMARY


def identifies(column: str) -> bool:
    """A column whose value may well come from another answer: a key, and not a flag or a date."""
    return is_primary(column) or column.rpartition("_")[2] in (_PRIMARY | _NATURAL)


_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_ID = re.compile(rf"{_UUID}|(?<![0-9A-Za-z])[0-9a-fA-F]{{16,}}+(?![0-9A-Za-z])|\d++")
_TOKEN = re.compile(r"(?=[\w=-]*\d)(?=[\w=-]*[A-Za-z])[\w=-]{16,}|[A-Za-z0-9_=-]{32,}")


def key_pattern(key: str) -> str:
    """A cache key with its ids starred.

    >>> key_pattern("shop:1:product:42:de")
    'shop:*:product:*:de'
    """
    return _ID.sub("*", _TOKEN.sub("*", key)) if key != "?" else "?"
