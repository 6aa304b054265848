"""Clients that wait for a connection, or are refused one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import NEVER, ThresholdDetector, ThresholdSettings, Watched

_FIX = (
    "Find the transactions that hold connections longest and make them shorter; then size the "
    "pool for the number of queries that run at once, not for the number of clients."
)
_POOLER = Watched(
    "sig:pgbouncer_wait:seconds", "Clients of {where} {database} wait {value} s", _FIX
)
_DELAYED = Watched(
    "sig:proxysql_pool_wait:rate1m", "{where} delays {value} connections a second", _FIX
)
_PENDING = Watched(
    "sig:db_client_pool:pending",
    "{value} requests of {job} wait for pool {db_client_connection_pool_name}",
    _FIX,
)
_REFUSED = Watched(
    "sig:mysql_conn_refused:rate1m",
    "{where} refuses {value} connections a second",
    "max_connections is reached: see who holds them (SHOW PROCESSLIST) and lower their pools, or "
    "put a pooler in front.",
)
_CACHE_REFUSED = Watched(
    "sig:cache_conn_refused:rate1m",
    "Cache {where} refuses {value} connections a second",
    "maxclients is reached: see who holds them (CLIENT LIST) and give each process one pool.",
)
_LOGINS = Watched(
    "sig:db_logins_refused:rate1m",
    "{where} refuses {value} logins a second",
    "Look at the server's log for the account and the host: a password that was changed in one "
    "place, a grant that lacks, or a health check that connects and does not log in.",
)
_SHUT = Watched(
    "sig:server_shut",
    "{where} ({system}) takes no connection: it is down, or all of them are used",
    "Log in on the host itself. Where it runs, all connections are used: see who holds them; a "
    "poller keeps one of its own, an exporter needs a free one each time.",
)


@dataclass(frozen=True, slots=True)
class ConnectionWaitSettings:
    """From where on waiting counts.

    Attributes:
        pooler_wait: Seconds that the first client in a pooler's queue has waited.
        delayed: Connections a second that a proxy holds back.
        pending: Requests that wait for a connection of a client's own pool.
        refused: Connections a second that a server refuses.
        logins: Logins a second that fail.
        shut: 1 while a server takes no connection of its exporter or poller, which it did before.
    """

    pooler_wait: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=0.5, page=2.0, hold_s=5.0, clear=0.2)
    )
    delayed: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=1.0, page=20.0, hold_s=5.0, clear=0.5)
    )
    pending: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=5.0, page=50.0, hold_s=5.0, clear=2.0, page_hold_s=20.0
        )
    )
    refused: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=0.02, page=0.5, hold_s=5.0, clear=0.005)
    )
    logins: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=0.4, page=NEVER, hold_s=5.0, clear=0.1)
    )
    shut: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=1.0, page=1.0, hold_s=5.0, clear=0.5, forget_s=3_600.0, page_hold_s=30.0
        )
    )


@dataclass(frozen=True)
class ConnectionWait(ThresholdDetector):
    """A queue in front of the database, seen at the pooler, the proxy, the client or the server.

    Maths: the wait (seconds), the rate (a second) or the number is at or above `warn` at every step
    of `hold_s`, or at or above `page` for `page_hold_s`, which pages; it ends below `clear`.

    Parameters: `ConnectionWaitSettings`, each a `ThresholdSettings`.

    Example: 20 clients on 3 server connections; the first in the queue has waited 2.1 s: it pages.

    Reference: the PgBouncer manual, "SHOW POOLS", maxwait; HikariCP, "About Pool Sizing".
    """

    settings: ConnectionWaitSettings = field(default_factory=ConnectionWaitSettings)

    kinds: ClassVar[tuple[str, ...]] = ("connection_wait",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        chosen = self.settings
        return (
            (_POOLER, chosen.pooler_wait),
            (_DELAYED, chosen.delayed),
            (_PENDING, chosen.pending),
            (_REFUSED, chosen.refused),
            (_CACHE_REFUSED, chosen.refused),
            (_LOGINS, chosen.logins),
            (_SHUT, chosen.shut),
        )
