"""Sessions that wait for locks, and transactions that hold them and do nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import NEVER, ThresholdDetector, ThresholdSettings, Watched

_WAITING = Watched(
    "sig:db_lock_waits",
    "{value} sessions of {where} wait for a lock",
    "See who holds it: MySQL SHOW ENGINE INNODB STATUS and SHOW PROCESSLIST (a schema change that "
    "waits behind a long transaction makes all others wait), PostgreSQL pg_blocking_pids(). End "
    "that transaction; change schemas with a lock timeout.",
)
_IDLE = Watched(
    "sig:pg_idle_transaction:seconds",
    "A transaction of {where} {datname} is {value} s old and does nothing",
    "Look in pg_stat_activity for state 'idle in transaction': code that calls something slow "
    "between its statements, or never commits. It keeps its locks and stops VACUUM: set "
    "idle_in_transaction_session_timeout.",
)


@dataclass(frozen=True, slots=True)
class LockWaitSettings:
    """From where on locks count.

    Attributes:
        waiting: Sessions of a server that wait for a row, a table or its metadata.
        idle: Seconds since a transaction began that does nothing.
    """

    waiting: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=5.0, page=NEVER, hold_s=5.0, clear=2.0, forget_s=3_600.0
        )
    )
    idle: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=60.0, page=NEVER, hold_s=5.0, clear=30.0, forget_s=3_600.0
        )
    )


@dataclass(frozen=True)
class LockWait(ThresholdDetector):
    """A queue behind a lock in the database. It is listed: what stands still pages by itself.

    Maths: the number of waiting sessions, or the age of the oldest transaction that does nothing,
    is at or above `warn` at every step of `hold_s`; it ends below `clear`.

    Parameters: `LockWaitSettings`, each a `ThresholdSettings`.

    Example: an ALTER TABLE waits for a report to end, and 15 requests wait for the ALTER.

    Reference: the MySQL manual, "Metadata Locking"; the PostgreSQL manual, "pg_stat_activity".
    """

    settings: LockWaitSettings = field(default_factory=LockWaitSettings)

    kinds: ClassVar[tuple[str, ...]] = ("lock_wait",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        return ((_WAITING, self.settings.waiting), (_IDLE, self.settings.idle))
