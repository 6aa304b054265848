"""Replicas that are behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import ThresholdDetector, ThresholdSettings, Watched

_FIX = (
    "Find what the replica applies (a long transaction, a big UPDATE, a schema change) and split "
    "or stop it; until then send reads that must be fresh to the primary."
)
_WATCHED = (
    Watched("sig:mysql_replica_lag:seconds", "Replica {where} is {value} s behind", _FIX),
    Watched("sig:pg_replica_lag:seconds", "Replica {where} is {value} s behind", _FIX),
)


@dataclass(frozen=True)
class ReplicaLag(ThresholdDetector):
    """A replica that stays behind its primary.

    Maths: the canonical lag (heartbeat first, then what the server says) is at or above `warn` at
    every step of `hold_s`; it ends below `clear`.

    Parameters: `ThresholdSettings`.

    Example: 45 s behind for 15 s pages; 12 s is listed.

    Reference: Percona's pt-heartbeat documentation on why the server's own figure lies.
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=10.0, page=30.0, hold_s=15.0, clear=5.0)
    )

    kinds: ClassVar[tuple[str, ...]] = ("replica_lag",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        return tuple((watched, self.settings) for watched in _WATCHED)
