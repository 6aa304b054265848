"""Which index a normalised statement lacks.

A rule of thumb, said as one: columns compared for equality first, then one range or the order of
the answer (Winand, "SQL Performance Explained", chapters 2 and 6). The optimiser has the last word,
so the advice asks for an EXPLAIN before and after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

_MAX_TEXT = 4_096
_MAX_COLUMNS = 4
_ELLIPSIS = re.compile(r"\(\s*\.\.\.\s*\)")
_NAME = re.compile(r"[^0-9A-Za-z_]+")
_EQUAL = (exp.EQ, exp.In, exp.NullSafeEQ)
_RANGE = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.Like)


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index that would serve a statement: `columns` in the order that they should have."""

    table: str
    columns: tuple[str, ...]

    @property
    def statement(self) -> str:
        """The `CREATE INDEX` to try."""
        name = _NAME.sub("_", "_".join(("ix", self.table, *self.columns)))[:60]
        return f"CREATE INDEX {name} ON {self.table} ({', '.join(self.columns)})"


@lru_cache(maxsize=2_048)
def advise(text: str, dialect: str = "mysql") -> IndexAdvice | None:
    """The index that a statement's WHERE, JOIN and ORDER BY ask for; None when none would help.

    Statements are digests: literals are `?` and lists are `(...)`. A digest that the server cut
    off, or that does not parse, gives None.

    >>> advise("SELECT * FROM `orders` WHERE `email` = ? ORDER BY `created` DESC").statement
    'CREATE INDEX ix_orders_email_created ON orders (email, created)'
    """
    if len(text) > _MAX_TEXT or text.rstrip().endswith("..."):
        return None
    try:
        tree = sqlglot.parse_one(_ELLIPSIS.sub("(?)", text), dialect=dialect)
    except (SqlglotError, RecursionError):
        return None
    query = tree if isinstance(tree, exp.Select | exp.Update | exp.Delete) else None
    return None if query is None else _of(query)


def _of(query: exp.Expr) -> IndexAdvice | None:
    tables = _tables(query)
    equal: dict[str, list[str]] = {}
    ranged: dict[str, list[str]] = {}
    for condition in _conditions(query):
        into = equal if isinstance(condition, _EQUAL) else ranged
        for table, column in _columns(condition, tables):
            into.setdefault(table, []).append(column)
    for table in tables.values():
        columns = list(dict.fromkeys(equal.get(table, ())))
        tail = ranged.get(table, []) or _order(query, table, tables)
        columns += [name for name in tail if name not in columns][:1]
        if columns:
            return IndexAdvice(table, tuple(columns[:_MAX_COLUMNS]))
    return None


def _tables(query: exp.Expr) -> dict[str, str]:
    """Tables by the name that columns use for them; the one that is read first comes first."""
    source = query.args.get("from_") or query.args.get("from")
    named = [query.this if source is None else source.this]
    named += [join.this for join in query.args.get("joins") or []]
    found = [table for table in named if isinstance(table, exp.Table)]
    return {table.alias_or_name: table.name for table in found if table.name}


def _conditions(query: exp.Expr) -> Iterator[exp.Expr]:
    """Comparisons that all must hold; what stands under OR or NOT serves no index."""
    where = query.args.get("where")
    if where is not None:
        yield from _all_of(where.this)


def _all_of(condition: exp.Expr) -> Iterator[exp.Expr]:
    inner = condition.unnest()
    if isinstance(inner, exp.And):
        yield from _all_of(inner.left)
        yield from _all_of(inner.right)
    elif isinstance(inner, (*_EQUAL, *_RANGE)):
        yield inner


def _columns(condition: exp.Expr, tables: dict[str, str]) -> Iterator[tuple[str, str]]:
    """A bare column that is compared with values; a function of it cannot use a plain index."""
    column, other = condition.this, condition.args.get("expression")
    if not isinstance(column, exp.Column) or isinstance(other, exp.Column):
        return
    table = _table_of(column, tables)
    if table:
        yield table, column.name


def _order(query: exp.Expr, table: str, tables: dict[str, str]) -> list[str]:
    order = query.args.get("order")
    if order is None or query.args.get("group") is not None:
        return []
    first = order.expressions[0].this
    if isinstance(first, exp.Column) and _table_of(first, tables) == table:
        return [first.name]
    return []


def _table_of(column: exp.Column, tables: dict[str, str]) -> str:
    if column.table:
        return tables.get(column.table, "")
    return next(iter(tables.values())) if len(tables) == 1 else ""
