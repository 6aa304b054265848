"""Pages that are poor for a quarter of their visitors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import ThresholdDetector, ThresholdSettings, Watched

_NEVER = 1e9
_HOLD_S = 5.0
_FORGET_S = 1_800.0


def _listed(poor: float, good: float) -> ThresholdSettings:
    return ThresholdSettings(
        warn=poor, page=_NEVER, hold_s=_HOLD_S, clear=(poor + good) / 2, forget_s=_FORGET_S
    )


@dataclass(frozen=True, slots=True)
class WebVitalSettings:
    """From which p75 a page is poor. Listed only: set `page` of one to be woken for it.

    Attributes:
        lcp: Largest contentful paint, in seconds.
        inp: Interaction to next paint, in seconds.
        cls: Cumulative layout shift, without unit.
        fcp: First contentful paint, in seconds.
        ttfb: Time to the first byte, in seconds.
    """

    lcp: ThresholdSettings = field(default_factory=lambda: _listed(4.0, 2.5))
    inp: ThresholdSettings = field(default_factory=lambda: _listed(0.5, 0.2))
    cls: ThresholdSettings = field(default_factory=lambda: _listed(0.25, 0.1))
    fcp: ThresholdSettings = field(default_factory=lambda: _listed(3.0, 1.8))
    ttfb: ThresholdSettings = field(default_factory=lambda: _listed(1.8, 0.8))


_FIXES = {
    "lcp": "Look at the page's largest image and at the server's time: preload it, size it, cache.",
    "inp": "Long tasks block the page: split scripts, defer third parties.",
    "cls": "Give images, banners and fonts their space before they load.",
    "fcp": "Cut what blocks the first paint: styles, fonts, scripts in the head.",
    "ttfb": "The server or the CDN is slow: look at the route's latency and the CDN's hit rate.",
}


@dataclass(frozen=True)
class WebVitalPoor(ThresholdDetector):
    """A web vital whose 75th percentile is poor, by page and device.

    Maths: p75 of the last minute, of pages with 60 measurements or more in it, else of the last 10
    minutes with 40 or more, is at or above `warn` at every step of `hold_s`; it ends below `clear`,
    half-way between poor and good.

    Parameters: `WebVitalSettings`, each a `ThresholdSettings`.

    Example: LCP p75 of /products on phones is 4.6 s: poor from 4 s on.

    Reference: web.dev, "Defining the Core Web Vitals metrics thresholds".
    """

    settings: WebVitalSettings = field(default_factory=WebVitalSettings)

    kinds: ClassVar[tuple[str, ...]] = ("web_vital_poor",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        return tuple(
            (
                Watched(
                    f"sig:web_vital_{vital}:p75",
                    f"{vital.upper()} of {{page}} is poor on {{device}}: p75 {{value}}",
                    fix,
                ),
                getattr(self.settings, vital),
            )
            for vital, fix in _FIXES.items()
        )
