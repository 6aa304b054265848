"""Replicas that are behind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import NEVER, ThresholdDetector, ThresholdSettings, Watched

_FIX = (
    "Find what the replica applies (a long transaction, a big UPDATE, a schema change) and split "
    "or stop it; until then send reads that must be fresh to the primary."
)
# Whether anything was written is not known: it may be late, or all is replayed.
_UNPROVEN = Watched(
    "sig:pg_replay_age_alone:seconds", "Replica {where} has replayed nothing for {value} s", _FIX
)
# What a collector counts may have been written to a temporary table.
_UNAPPLIED = Watched(
    "sig:mysql_rows_unapplied:seconds",
    "Replica {where} has applied nothing for {value} s while the primary writes",
    _FIX,
)
# It applies what it missed, half as fast again as the primary writes, or faster.
_CATCHES_UP = 0.5
_WATCHED = (
    Watched(
        "sig:mysql_replica_lag:seconds",
        "Replica {where} is {value} s behind",
        _FIX,
        recovers_per_s=_CATCHES_UP,
    ),
    Watched(
        "sig:pg_replica_lag:seconds",
        "Replica {where} is {value} s behind",
        _FIX,
        recovers_per_s=_CATCHES_UP,
    ),
    Watched(
        "sig:pg_standby_lag:seconds",
        "Replica {replication_client} of {where} is {value} s behind",
        _FIX,
    ),
    Watched(
        "sig:redis_replica_lag:seconds",
        "Replica {slave_ip}:{slave_port} of {where} is {value} s behind",
        "Look at the link and at what the replica does (a slow command, a save to disk); a backlog "
        "that is too small makes it copy everything again.",
    ),
)


@dataclass(frozen=True)
class ReplicaLag(ThresholdDetector):
    """A replica that stays behind its primary.

    Maths: the canonical lag (the heartbeat; else the larger of what the server says and of what its
    GTIDs say) is at or above `warn` at every step of `hold_s`, at or above `page` for `page_hold_s`
    to page, unless it catches up (the lag falls by half a second a second); it ends below `clear`.
    The age of what a PostgreSQL replica replayed last is a lag only if something was written since;
    where nobody tells what is written, it never pages. Nor do rows that a MySQL replica did not
    apply, by a collector that tells neither GTIDs nor positions.

    Parameters: `ThresholdSettings`.

    Example: 45 s behind at two looks in a row pages; 12 s is listed.

    Reference: Percona's pt-heartbeat documentation on why the server's own figure lies.
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=10.0, page=30.0, hold_s=5.0, clear=5.0)
    )

    kinds: ClassVar[tuple[str, ...]] = ("replica_lag",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        rows = tuple((watched, self.settings) for watched in _WATCHED)
        listed = replace(self.settings, page=NEVER)
        return (*rows, (_UNPROVEN, listed), (_UNAPPLIED, listed))
