"""Names as they stand in advice that somebody pastes: quoted where the server asks for it."""

from __future__ import annotations

import re

from sqlglot.dialects.mysql import MySQL

_MYSQL_PLAIN = re.compile(r"[A-Za-z_][0-9A-Za-z_$]*")
# An unquoted name is read in small letters.
_POSTGRES_PLAIN = re.compile(r"[a-z_][0-9a-z_$]*")
# The PostgreSQL manual, appendix C, "reserved" and "reserved (can be function or type)".
_POSTGRES_WORDS = (
    "all analyse analyze and any array as asc asymmetric authorization binary both case cast check "
    "collate collation column concurrently constraint create cross current_catalog current_date "
    "current_role current_schema current_time current_timestamp current_user default deferrable "
    "desc distinct do else end except false fetch for foreign freeze from full grant group having "
    "ilike in initially inner intersect into is isnull join lateral leading left like limit "
    "localtime localtimestamp natural not notnull null offset on only or order outer overlaps "
    "placing primary references returning right select session_user similar some symmetric "
    "system_user table tablesample then to trailing true union unique user using variadic verbose "
    "when where window with"
)
_POSTGRES_RESERVED = frozenset(_POSTGRES_WORDS.split())


def mysql_name(*parts: str) -> str:
    """A name of MySQL or MariaDB, with what it is part of; empty parts are left out.

    >>> mysql_name("shop", "order")
    'shop.`order`'
    """
    return ".".join(_mysql(part) for part in parts if part)


def postgres_name(*parts: str) -> str:
    """A name of PostgreSQL, with what it is part of; empty parts are left out.

    >>> postgres_name("public", "Order"), postgres_name("", "user")
    ('public."Order"', '"user"')
    """
    return ".".join(_postgres(part) for part in parts if part)


def schema_of(namespace: str) -> str:
    """The schema of a collector's `database|schema`, or what is told alone.

    >>> schema_of("shop|sales"), schema_of("public")
    ('sales', 'public')
    """
    return namespace.rpartition("|")[2]


def _mysql(name: str) -> str:
    reserved = name.lower() in MySQL.Generator.RESERVED_KEYWORDS
    if _MYSQL_PLAIN.fullmatch(name) and not reserved:
        return name
    return "`" + name.replace("`", "``") + "`"


def _postgres(name: str) -> str:
    if _POSTGRES_PLAIN.fullmatch(name) and name not in _POSTGRES_RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'
