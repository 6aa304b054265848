"""Replicas that have stopped replicating."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import ThresholdDetector, ThresholdSettings, Watched

_WATCHED = Watched(
    "sig:mysql_replica_broken",
    "Replication to {where} has stopped",
    "SHOW REPLICA STATUS names the thread and its last error. Send reads elsewhere until it has "
    "caught up; skip a transaction only when you know what it was.",
)


@dataclass(frozen=True)
class ReplicationBroken(ThresholdDetector):
    """Replication that stands still, whatever its lag says.

    Maths: a thread of the replica does not run, at every step of `hold_s`. A stopped replica has no
    lag: the server answers NULL and the exporters then leave the series out. A link that is dead
    without a word is `replica_lag`, which the heartbeat sees and the server does not.

    Parameters: `ThresholdSettings`; the series are 0 or 1.

    Example: an UPDATE on the replica breaks row replication; the SQL thread stops and this pages
    10 s later.

    Reference: the MySQL manual, "SHOW REPLICA STATUS", Seconds_Behind_Source.
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=1.0, page=1.0, hold_s=10.0, clear=0.5)
    )

    kinds: ClassVar[tuple[str, ...]] = ("replication_broken",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        return ((_WATCHED, self.settings),)
