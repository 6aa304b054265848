"""PostgreSQL as the state: where it is stricter than SQLite, text is fitted instead of refused.

One alert with an odd label must never stop the tick of all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, event, make_url
from sqlalchemy.exc import ArgumentError
from typing_extensions import override

from store.errors import ConfigError

_DRIVER = "postgresql+psycopg"
_SECRETS = frozenset({"password", "sslpassword"})
# A server that says nothing must not hold a tick. Seconds, but for the last: milliseconds.
OPTIONS: Mapping[str, str | int] = {
    "options": "-c statement_timeout=30000",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


def check(url: str) -> None:
    """Refuse an address that cannot work, or that shows a password to who reads the file.

    Raises:
        ConfigError: What is wrong with it, and what to write instead; never the address itself.
    """
    example = f"write sqlite, or {_DRIVER}://warroom@db.example/warroom"
    try:
        address = make_url(url)
    except ArgumentError:
        raise ConfigError("state.url is no address", hint=example) from None
    if address.drivername != _DRIVER:
        raise ConfigError(f"state.url begins with {address.drivername!r}", hint=example)
    if address.password is not None or _SECRETS & set(address.query):
        raise ConfigError(
            "state.url holds a password", hint="give it by PGPASSWORD, PGPASSFILE or ~/.pgpass"
        )
    try:
        address.get_dialect().import_dbapi()
    except ImportError:
        raise ConfigError(
            "the driver of PostgreSQL is missing", hint="pip install 'warroom[postgres]'"
        ) from None


def fit(engine: Engine) -> None:
    """Make every connection of an engine take any text.

    PostgreSQL's text holds no NUL; it is written as U+FFFD, the replacement character.
    """
    event.listen(engine, "connect", _without_nul)


def _without_nul(connection: Any, _record: Any) -> None:
    # An extra: only who keeps the state there has the driver.
    from psycopg.types.string import StrDumperUnknown  # noqa: PLC0415

    class Fitted(StrDumperUnknown):
        @override
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\x00", "\ufffd"))

    connection.adapters.register_dumper(str, Fitted)
