"""Caches that throw out what is still wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import ThresholdDetector, ThresholdSettings, Watched

_FIX = (
    "The cache is full: raise maxmemory, shorten timeouts, or stop caching what is read once; "
    "check for a key that changed and now stores everything twice."
)
_WATCHED = Watched("sig:cache_evictions:rate", "Cache {where} evicts {value} keys a second", _FIX)


@dataclass(frozen=True)
class Evictions(ThresholdDetector):
    """A cache that evicts keys all the time.

    Maths: evicted keys a second, between the last two samples or over a minute, whichever is more,
    are at or above `warn` at every step of `hold_s`, and at or above `page` for `page_hold_s` to
    page; it ends below `clear`, so when a minute was quiet.

    Parameters: `ThresholdSettings`.

    Example: 300 keys a second for half a minute page; 15 are listed.

    Reference: the Redis manual, "Key eviction".
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=10.0, page=200.0, hold_s=5.0, clear=1.0, page_hold_s=30.0
        )
    )

    kinds: ClassVar[tuple[str, ...]] = ("evictions",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        return ((_WATCHED, self.settings),)
