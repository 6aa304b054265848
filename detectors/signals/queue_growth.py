"""Queues that grow because workers do not keep up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import Sooner, ThresholdDetector, ThresholdSettings, Watched

_WATCHED = Watched(
    "sig:queue:growing_length",
    "Queue {queue_name} grows: {value} tasks wait",
    "Look for a slow or failing task and for missing workers; add workers for this queue, and "
    "move what buyers wait for (mails of orders, payment callbacks) to a queue of its own.",
    # The slope of minutes is still above zero when the workers have begun to catch up.
    recovers_per_s=0.1,
    sooner=Sooner(
        "sig:queue:length_in_1m", "Queue {queue_name} grows: {value} tasks will wait in a minute"
    ),
)


@dataclass(frozen=True)
class QueueGrowth(ThresholdDetector):
    """A queue of tasks that gets longer and longer.

    Maths: the length while the slope of its last 5 minutes is above zero, else 0, is at or above
    `warn` at every step of `hold_s`; it ends below `clear`, so also when the queue shrinks.

    Parameters: `ThresholdSettings`; `warn` and `page` are tasks.

    Example: 12,000 mails wait and 300 more each minute: it pages after ten. The mails of a sale,
    which are worked off then, are listed.

    Reference: Little's law; the Celery manual, "Monitoring and Management".
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=500.0, page=5_000.0, hold_s=10.0, clear=250.0, page_hold_s=600.0
        )
    )

    kinds: ClassVar[tuple[str, ...]] = ("queue_growth",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        return ((_WATCHED, self.settings),)
