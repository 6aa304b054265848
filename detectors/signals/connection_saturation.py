"""Servers that run out of connections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from detectors.detector import SignalContext
from detectors.finding import Finding
from detectors.thresholds import ThresholdSettings, Watched, too_high, unjudged
from store.ports import Querier

_FIX = (
    "See who holds them (SHOW PROCESSLIST, CLIENT LIST): idle transactions, a pool per process, a "
    "leak. Lower the pools or put a pooler in front before the limit is raised."
)
_WATCHED = (
    Watched(
        "sig:mysql_connections:used_ratio",
        "{instance} uses {value} of its connections",
        _FIX,
        percent=True,
    ),
    Watched(
        "sig:cache_conn:used_ratio",
        "Cache {instance} uses {value} of its connections",
        _FIX,
        percent=True,
    ),
)


@dataclass(frozen=True)
class ConnectionSaturation:
    """A server close to its limit of connections.

    Maths: used / allowed is at or above `warn` at every step of `hold_s`; it ends below `clear`.

    Parameters: `ThresholdSettings`.

    Example: 96 % of max_connections for 15 s pages; 85 % is listed.

    Reference: the MySQL manual, "Too many connections".
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=0.8, page=0.95, hold_s=15.0, clear=0.75)
    )

    kinds: ClassVar[tuple[str, ...]] = ("connection_saturation",)

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        found = [
            finding
            for watched in _WATCHED
            for finding in too_high(self.kinds[0], watched, self.settings, querier, context)
        ]
        return (*found, *unjudged(self.kinds, found, querier, context))
