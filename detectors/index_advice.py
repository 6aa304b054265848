"""Which index a normalised statement lacks.

A rule of thumb, said as one: columns compared for equality first, then one range or the order of
the answer (Winand, "SQL Performance Explained", chapters 2 and 6). The optimiser has the last word,
so the advice asks for an EXPLAIN before and after.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from detectors.sql_names import mysql_name, postgres_name

_MAX_TEXT = 4_096
_MAX_COLUMNS = 4
# Lengths at which exporters, and our poller, cut a text without a mark.
_USUAL_CUTS = frozenset({120, 1_024})
_ELLIPSIS = re.compile(r"\(\s*\.\.\.\s*\)")
_NAME = re.compile(r"[^0-9A-Za-z_]+")
_EQUAL = (exp.EQ, exp.In, exp.NullSafeEQ)
_RANGE = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.Like)

# Tables of a statement by their alias.
Tables = dict[str, exp.Table]


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index that would serve a statement: `columns` in the order that they should have.

    Attributes:
        table: Its table, as the server knows it.
        columns: Those compared for equality, then one range or the order.
        equal: How many of them are compared for equality.
        schema: What the statement says before the table; mostly nothing.
    """

    table: str
    columns: tuple[str, ...]
    equal: int = 0
    schema: str = ""

    @property
    def statement(self) -> str:
        """The `CREATE INDEX` to try on MySQL or MariaDB."""
        return f"CREATE INDEX {self._rest(mysql_name)}"

    @property
    def concurrent(self) -> str:
        """Likewise on PostgreSQL, where writers need not wait."""
        return f"CREATE INDEX CONCURRENTLY {self._rest(postgres_name)}"

    def _rest(self, quoted: Callable[..., str]) -> str:
        name = quoted(_NAME.sub("_", "_".join(("ix", self.table, *self.columns)))[:60])
        columns = ", ".join(quoted(column) for column in self.columns)
        return f"{name} ON {quoted(self.schema, self.table)} ({columns})"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a table is asked for: columns compared for equality, and a range or an order."""

    equal: dict[str, list[str]]
    ranged: dict[str, list[str]]
    joined: dict[str, list[str]]


def is_cut_off(text: str) -> bool:
    """The statement's end is not in the text: nobody knows what else it asks for."""
    return len(text) > _MAX_TEXT or text.rstrip().endswith("...") or len(text) in _USUAL_CUTS


@lru_cache(maxsize=2_048)
def advise(text: str, dialect: str = "mysql", table: str = "") -> IndexAdvice | None:
    """The index that a statement's WHERE, JOIN and ORDER BY ask for; None when none would help.

    Statements are digests: literals are `?` and lists are `(...)`. A digest that the server cut
    off, or that does not parse, gives None.

    Args:
        text: The statement.
        dialect: Whose SQL it is.
        table: The table that the plan scans, by its alias; columns that join it count for it. Empty
            where no plan is known: then only columns compared with values count.

    >>> advise("SELECT * FROM `orders` WHERE `email` = ? ORDER BY `created` DESC").statement
    'CREATE INDEX ix_orders_email_created ON orders (email, created)'
    """
    if is_cut_off(text):
        return None
    try:
        tree = sqlglot.parse_one(_ELLIPSIS.sub("(?)", text), dialect=dialect)
    except (SqlglotError, RecursionError):
        return None
    if dialect == "postgres":
        _fold(tree)
    query = tree if isinstance(tree, exp.Select | exp.Update | exp.Delete) else None
    return None if query is None else _of(query, table)


def _of(query: exp.Expr, scanned: str) -> IndexAdvice | None:
    tables = _tables(query)
    wish = _wish(query, tables)
    for alias, table in tables.items():
        if scanned and scanned.lower() not in (alias.lower(), table.name.lower()):
            continue
        # A table that is scanned for each row of another wants the column that joins them.
        joined = wish.joined.get(alias, []) if scanned else []
        columns = list(dict.fromkeys(wish.equal.get(alias, []) or joined))
        equal = min(len(columns), _MAX_COLUMNS)
        tail = wish.ranged.get(alias, []) or _order(query, alias, tables)
        columns += [name for name in tail if name not in columns][:1]
        if columns:
            return IndexAdvice(table.name, tuple(columns[:_MAX_COLUMNS]), equal, table.db)
    return None


def _fold(tree: exp.Expr) -> None:
    """PostgreSQL reads a name that is not quoted in small letters."""
    for name in tree.find_all(exp.Identifier):
        if not name.args.get("quoted"):
            name.set("this", name.name.lower())


def _wish(query: exp.Expr, tables: Tables) -> Wish:
    """What the conditions ask of each alias."""
    wish = Wish({}, {}, {})
    for condition in _conditions(query):
        left, right = condition.this, condition.args.get("expression")
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            sides = [left, right] if isinstance(condition, exp.EQ) else []
            into = wish.joined
        else:
            sides = [left] if isinstance(left, exp.Column) else []
            into = wish.equal if isinstance(condition, _EQUAL) else wish.ranged
        for column in sides:
            alias = _alias_of(column, tables)
            if alias:
                into.setdefault(alias, []).append(column.name)
    return wish


def _tables(query: exp.Expr) -> Tables:
    """Tables by the name that columns use for them; the one that is read first comes first."""
    source = query.args.get("from_") or query.args.get("from")
    named = [query.this if source is None else source.this]
    named += [join.this for join in query.args.get("joins") or []]
    found = [table for table in named if isinstance(table, exp.Table)]
    return {table.alias_or_name: table for table in found if table.name}


def _conditions(query: exp.Expr) -> Iterator[exp.Expr]:
    """Comparisons that all must hold; what stands under OR or NOT serves no index."""
    where = query.args.get("where")
    if where is not None:
        yield from _all_of(where.this)
    for join in query.args.get("joins") or []:
        on = join.args.get("on")
        if on is not None:
            yield from _all_of(on)


def _all_of(condition: exp.Expr) -> Iterator[exp.Expr]:
    inner = condition.unnest()
    if isinstance(inner, exp.And):
        yield from _all_of(inner.left)
        yield from _all_of(inner.right)
    elif isinstance(inner, (*_EQUAL, *_RANGE)):
        yield inner


def _order(query: exp.Expr, alias: str, tables: Tables) -> list[str]:
    order = query.args.get("order")
    if order is None or query.args.get("group") is not None:
        return []
    first = order.expressions[0].this
    if isinstance(first, exp.Column) and _alias_of(first, tables) == alias:
        return [first.name]
    return []


def _alias_of(column: exp.Column, tables: Tables) -> str:
    if column.table:
        return column.table if column.table in tables else ""
    return next(iter(tables)) if len(tables) == 1 else ""
