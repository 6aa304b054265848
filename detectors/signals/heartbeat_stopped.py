"""Heartbeats that nobody writes any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import NEVER, ThresholdDetector, ThresholdSettings, Watched

_WATCHED = Watched(
    "sig:mysql_heartbeat_stopped:seconds",
    "Nobody has written the heartbeat on {where} for {value} s",
    "Start pt-heartbeat on the primary again, as a service that is restarted. Until then "
    "lag is judged by what the server says, which is blind for a path that stalls silently.",
)


@dataclass(frozen=True)
class HeartbeatStopped(ThresholdDetector):
    """The primary's own heartbeat row is old: pt-heartbeat has stopped, and no replica is late.

    Maths: seconds since the newest row was written, on a server that replicates from none, are at
    or above `warn` at every step of `hold_s`; it ends below `clear`. An old row on the replica
    alone is `replica_lag`.

    Parameters: `ThresholdSettings`, in seconds; it does not page unless `page` is set.

    Example: pt-heartbeat was killed with its host; the row on the primary is 40 s old.

    Reference: Percona's pt-heartbeat documentation.
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=10.0, page=NEVER, hold_s=5.0, clear=5.0)
    )

    kinds: ClassVar[tuple[str, ...]] = ("heartbeat_stopped",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        return ((_WATCHED, self.settings),)
