"""The relational state: one SQLAlchemy engine, its sessions, its base, and its migrations.

Tables live beside their owners, in `<room>/repository.py`; only their shape over time is here, in
`store/migrations/versions`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from alembic import command
from alembic.config import Config
from pydantic import ConfigDict, TypeAdapter
from pydantic_core import PydanticSerializationError
from sqlalchemy import Engine, Table, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.pool import StaticPool

from store import postgresql
from store.errors import StoreUnavailable

_ANY: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="constants"))

SessionFactory = sessionmaker[Session]


class Base(DeclarativeBase):
    """Base of every table of the state store."""


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:///file`, `sqlite://` (in memory) or `postgresql+psycopg://…`.

    Raises:
        ConfigError: The address is none of these, or its driver is not installed.
    """
    if not url.startswith("sqlite"):
        postgresql.check(url)
        engine = create_engine(
            url,
            pool_pre_ping=True,
            pool_timeout=10,
            connect_args=dict(postgresql.OPTIONS),
            json_serializer=_json_text,
            json_deserializer=_json_value,
        )
        postgresql.fit(engine)
        event.listen(engine, "handle_error", _unavailable)
        return engine
    in_memory = url in {"sqlite://", "sqlite:///:memory:"}
    options: dict[str, Any] = {"connect_args": {"check_same_thread": False, "timeout": 10}}
    if in_memory:
        options["poolclass"] = StaticPool
    engine = create_engine(
        url, json_serializer=_json_text, json_deserializer=_json_value, **options
    )
    event.listen(engine, "handle_error", _unavailable)
    event.listen(engine, "connect", _durable_sqlite)
    if not in_memory:
        # pysqlite would begin late and as a reader; two writers would then deadlock on the upgrade.
        event.listen(
            engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
        )
    return engine


def _json_text(value: Any) -> str:
    """As `json.dumps`, several times as fast: a storm of alerts is 200,000 values in one tick."""
    try:
        return _ANY.dump_json(value).decode()
    except PydanticSerializationError:  # half of a surrogate pair, which JSON can escape
        return json.dumps(value)


def _json_value(text: str) -> Any:
    """As `json.loads`, several times as fast: a restart reads as much."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # NaN, or half of a surrogate pair
        return json.loads(text)


def json_text(mapping: Mapping[str, str]) -> str:
    """Texts by name as a JSON column holds them, for `write_rows`."""
    try:
        return orjson.dumps(mapping).decode()
    except orjson.JSONEncodeError:  # half of a surrogate pair
        return json.dumps(mapping)


def write_rows(
    session: Session, table: Table, rows: Sequence[Sequence[Any]], *, key: Sequence[str] = ()
) -> None:
    """Insert very many rows: a third of the time of SQLAlchemy's, which looks at each value.

    Args:
        session: The transaction.
        table: Where to.
        rows: A value for each column of the table, in its order, as the driver takes them: a JSON
            column takes text.
        key: Columns of a unique key. A row whose key is known is written over.
    """
    if not rows:
        return
    connection = session.connection()
    preparer = connection.dialect.identifier_preparer
    names = [preparer.quote(column.name) for column in table.columns]
    place = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    text = "INSERT INTO {} ({}) VALUES ({})".format(  # noqa: S608 - names of our own, no values
        preparer.format_table(table), ", ".join(names), ", ".join([place] * len(names))
    )
    if key:
        keys = [preparer.quote(name) for name in key]
        changed = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
        text += f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changed}"
    connection.exec_driver_sql(text, [tuple(row) for row in rows])


def _unavailable(context: ExceptionContext) -> BaseException | None:
    """A database that is away, full or locked is told as such; a mistake in SQL stays one."""
    error = context.sqlalchemy_exception
    if context.is_pre_ping:
        # The pool takes a new connection, and what was to be asked is asked there.
        return None
    if not context.is_disconnect and not isinstance(error, OperationalError):
        return None
    return StoreUnavailable(
        f"the state database does not answer: {str(context.original_exception).strip()}",
        hint="see that it runs, and that its disk has room; Warroom goes on when it is back",
    )


def _durable_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def open_sessions(engine: Engine) -> SessionFactory:
    """Sessions whose objects stay readable after commit."""
    return sessionmaker(engine, expire_on_commit=False)


def upgrade(engine: Engine) -> None:
    """Bring the schema to the newest revision; safe to call at every start."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
