"""What a database span asks for, where its own text does not say it.

Three things are told elsewhere. A driver sends one query as several spans: prepare, execute, fetch;
only the first may have the text. A span without a text has a summary, or an operation and a
collection. A document store's filter does not name its collection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from detectors.traces.columns import Columns
from detectors.traces.vocabulary import CONTROL_NAMES, DOCUMENT_SYSTEMS, PART_OF_QUERY
from store.model import BoolArray, Int32Array, Int64Array

_PREPARES = r"(?i)(?:^|::|\.|\\)prepare\w*$"
_EXECUTES = r"(?i)(?:statement|stmt)\w*(?:::|\.)(?:execute|exec|query)\w*$"
_OPERATIONS = ("db.operation.name", "db.operation", "rpc.method")  # the last of AWS's clients
_COLLECTIONS = (
    "db.collection.name", "db.sql.table", "db.mongodb.collection", "db.cassandra.table",
    "db.cosmosdb.container", "azure.cosmosdb.container", "db.couchbase.collection",
    "aws.dynamodb.table_names", "db.elasticsearch.path_parts.index", "elasticsearch.target",
)  # fmt: skip
_NAMESPACES = ("db.namespace", "db.name", "db.instance")
_MAX_LABEL = 200


@dataclass(frozen=True)
class Texts:
    """A column of texts: for each span the place in `distinct`, -1 for none."""

    numbers: Int32Array
    distinct: list[Any]

    def matching(self, pattern: str) -> BoolArray:
        """For each span: does its text match? Each distinct text is looked at once."""
        if not self.distinct:
            return np.zeros(len(self.numbers), dtype=np.bool_)
        found: Any = pc.match_substring_regex(pa.array(self.distinct, pa.string()), pattern)
        marked: BoolArray = np.append(found.to_numpy(zero_copy_only=False), False)[self.numbers]
        return marked


class _Prepared:
    """Statements that were prepared below one parent, by number."""

    def __init__(self) -> None:
        self._all: set[int] = set()
        self._fresh: set[int] = set()  # since the last execution

    def prepare(self, statement: int) -> None:
        self._all.add(statement)
        self._fresh.add(statement)

    def executed(self) -> int:
        """What an execution that has no text runs; -1 where it may be one of several."""
        chosen = self._fresh or self._all
        self._fresh = set()
        return next(iter(chosen)) if len(chosen) == 1 else -1


def own_statements(
    statement: Texts, name: Texts, database: BoolArray, parent_key: Int64Array
) -> Int32Array:
    """The statement of each span, by number: none for parts, the prepared one for its execution.

    Args:
        statement: Texts of statements, as they came.
        name: Names of the spans.
        database: Spans of databases.
        parent_key: Equal for siblings; spans are in the order of their start within a trace.
    """
    parts = database & name.matching(f"(?i){PART_OF_QUERY}")
    if not parts.any():
        return statement.numbers
    found = np.where(parts, -1, statement.numbers).astype(np.int32)
    given = (statement.numbers >= 0) & name.matching(_PREPARES)
    wanted = (statement.numbers < 0) & name.matching(_EXECUTES)
    if given.any() and wanted.any():
        prepared: dict[int, _Prepared] = {}
        for row in np.flatnonzero(given | wanted).tolist():
            parent = int(parent_key[row])
            if parent < 0:
                continue
            below = prepared.setdefault(parent, _Prepared())
            if given[row]:
                below.prepare(int(statement.numbers[row]))
            else:
                found[row] = below.executed()
    return found


def labels(columns: Columns, statement: Int32Array, system: Texts, name: Texts) -> Texts:
    """What the attributes say of what is asked, where the text does not: see `label`."""
    documents = [str(item).lower() in DOCUMENT_SYSTEMS for item in (*system.distinct, "")]
    untold = (system.numbers >= 0) & ((statement < 0) | np.array(documents)[system.numbers])
    untold &= ~name.matching(f"(?i){CONTROL_NAMES.pattern}")
    found = np.full(len(statement), -1, dtype=np.int32)
    if not untold.any():
        return Texts(found, [])
    attributes = columns.numbers("attributes")
    chosen = np.flatnonzero(untold & (attributes >= 0))
    names = len(name.distinct) + 1
    keys = attributes[chosen].astype(np.int64) * names + name.numbers[chosen]
    distinct, inverse = np.unique(keys * 2 + (statement[chosen] >= 0), return_inverse=True)
    # Attributes of all the other spans stay in their buffer.
    texts = columns.distinct("attributes").take(pa.array(distinct // 2 // names)).to_pylist()
    known: dict[str, int] = {}
    numbers = [
        known.setdefault(
            _label_of(text, str(name.distinct[key // 2 % names]), stated=bool(key % 2)), len(known)
        )
        for text, key in zip(texts, distinct.tolist(), strict=True)
    ]
    found[chosen] = np.array(numbers, dtype=np.int32)[inverse]
    return Texts(found, list(known))


def _label_of(text: str, name: str, *, stated: bool) -> str:
    return label(_object(text), name, stated=stated)


def label(attributes: Mapping[str, Any], name: str, *, stated: bool) -> str:
    """Of a span with a text its collection; else its summary, or operation and collection.

    A name that only says operation and database is cut to the operation; empty: the name must do.

    >>> label({"db.operation": "find", "db.mongodb.collection": "cart"}, "mongodb.find",
    ...       stated=False)
    'find cart'
    >>> label({"db.name": "shop"}, "SELECT shop", stated=False)
    'SELECT'
    """
    collection = next(_texts(attributes, _COLLECTIONS), "")
    if stated:
        return collection
    summary = next(_texts(attributes, ("db.query.summary",)), "")
    if summary:
        return summary
    operation = next(_texts(attributes, _OPERATIONS), "")
    if operation and collection:
        return f"{operation} {collection}"
    first, _, rest = name.partition(" ")
    if rest and rest in _texts(attributes, _NAMESPACES):
        return operation or first
    return ""


def _texts(attributes: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            yield value.strip()[:_MAX_LABEL]


def _object(text: str | None) -> Mapping[str, Any]:
    try:
        found = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
