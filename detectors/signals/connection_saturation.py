"""Servers that run out of connections."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import ThresholdDetector, ThresholdSettings, Watched

_FIX = (
    "See who holds them (SHOW PROCESSLIST, pg_stat_activity, CLIENT LIST): idle transactions, a "
    "pool per process, a leak. Lower the pools or put a pooler in front before the limit is raised."
)
_WATCHED = tuple(
    Watched(expr, title, _FIX, percent=True)
    for expr, title in (
        ("sig:mysql_connections:used_ratio", "{where} uses {value} of its connections"),
        ("sig:pg_connections:used_ratio", "{where} uses {value} of its connections"),
        ("sig:cache_conn:used_ratio", "Cache {where} uses {value} of its connections"),
        (
            "sig:pgbouncer_clients:used_ratio",
            "Pooler {where} uses {value} of its client connections",
        ),
    )
)
_POOL = Watched(
    "sig:db_client_pool:used_ratio",
    "{job} uses {value} of its connection pool {db_client_connection_pool_name}",
    _FIX,
    percent=True,
)
# A client's pool is meant to be used up by a burst: who waits then is told as `connection_wait`.
_POOL_PAGES_AFTER_S = 60.0


@dataclass(frozen=True)
class ConnectionSaturation(ThresholdDetector):
    """A server, or a client's pool, close to its limit of connections.

    Maths: used / allowed is at or above `warn` at every step of `hold_s`, or at or above `page`
    for `page_hold_s` (of a client's own pool: a minute), which pages; it ends below `clear`.

    Parameters: `ThresholdSettings`.

    Example: 96 % of max_connections at two looks in a row pages; 85 % is listed.

    Reference: the MySQL manual, "Too many connections"; the PostgreSQL manual, max_connections.
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=0.8, page=0.95, hold_s=5.0, clear=0.75)
    )

    kinds: ClassVar[tuple[str, ...]] = ("connection_saturation",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        chosen = self.settings
        pool = replace(chosen, page_hold_s=max(chosen.page_hold_s, _POOL_PAGES_AFTER_S))
        return (*((watched, chosen) for watched in _WATCHED), (_POOL, pool))
