"""Replicas that have stopped replicating."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import ThresholdDetector, ThresholdSettings, Watched

_STOPPED = "Replication to {where} has stopped"
_WATCHED = (
    Watched(
        "sig:mysql_replica_broken",
        _STOPPED,
        "SHOW REPLICA STATUS names the thread and its last error. Send reads elsewhere until it "
        "has caught up; skip a transaction only when you know what it was.",
    ),
    Watched(
        "sig:pg_replica_broken",
        _STOPPED,
        "No WAL receiver runs: look at the replica's log and at pg_replication_slots on the "
        "primary; a slot that is kept for it fills the primary's disk.",
    ),
    Watched(
        "sig:redis_replica_broken",
        _STOPPED,
        "master_link_status is down: look at the replica's log, the network and masterauth.",
    ),
)


@dataclass(frozen=True)
class ReplicationBroken(ThresholdDetector):
    """Replication that stands still, whatever its lag says.

    Maths: a thread of the replica (PostgreSQL: its WAL receiver; Redis: its link) does not run, at
    every step of `hold_s`. A stopped replica has no lag: the server answers NULL and the exporters
    then leave the series out. A link that is dead without a word is `replica_lag`, which heartbeat
    and GTIDs see and the server does not.

    Parameters: `ThresholdSettings`; the series are 0 or 1.

    Example: an UPDATE on the replica breaks row replication; the SQL thread stops and this pages
    at the second look.

    Reference: the MySQL manual, "SHOW REPLICA STATUS", Seconds_Behind_Source.
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=1.0, page=1.0, hold_s=5.0, clear=0.5)
    )

    kinds: ClassVar[tuple[str, ...]] = ("replication_broken",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        return tuple((watched, self.settings) for watched in _WATCHED)
