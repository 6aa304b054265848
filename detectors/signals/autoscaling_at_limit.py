"""Auto-scaling that cannot grow further."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import ThresholdDetector, ThresholdSettings, Watched

_WATCHED = Watched(
    "sig:autoscaling:used_ratio",
    "{group} runs at {value} of its maximum size",
    "Raise the group's maximum (and the account's quota) now: the next rise of traffic meets no "
    "new machine. Then look for what made each machine do less.",
    percent=True,
)


@dataclass(frozen=True)
class AutoscalingAtLimit(ThresholdDetector):
    """A group that wants as many machines as it may have.

    Maths: wanted / maximum is at or above `warn` at every step of `hold_s`; it ends below `clear`.
    Groups of a fixed size (minimum = maximum) are left out.

    Parameters: `ThresholdSettings`.

    Example: 20 of 20 instances are listed, and page after two minutes; 18 of 20 are listed.

    Reference: the AWS manual, "GroupMaxSize"; Kubernetes, HorizontalPodAutoscaler, ScalingLimited.
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=0.9, page=1.0, hold_s=5.0, clear=0.85, page_hold_s=120.0
        )
    )

    kinds: ClassVar[tuple[str, ...]] = ("autoscaling_at_limit",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        return ((_WATCHED, self.settings),)
