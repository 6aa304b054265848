"""Findings that ended, and how much went by without them since: proof of a fix, not silence.

A finding of a route is fixed when its route was used so often without it that it would have been
seen: had each request still had it with the share `p` of before, `n` clean ones in a row would have
a chance of `(1 - p)^n`, which must be 1 % or less. One of a signal is fixed when its series had
values in `_LOOKS` minutes, none of them too high; a series that ends with its fault must be away
while its server is up. Both take `fixed_after_s` at least. A route that
nobody uses and a series without data prove nothing, however long that lasts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson

from detectors.finding import Finding
from detectors.request_rate import RequestRates
from detectors.signal_values import Signal, has_clean_value
from store.errors import QueryError
from store.ports import Querier

_MAX_WATCHED = 2_000
_MAX_LOOKED_AT = 200
_LEAST_REQUESTS = 100
_LOOKS = 30
_LOOK_EVERY_MS = 60_000
_CHANCE = 0.01


@dataclass(frozen=True, slots=True)
class _Watched:
    service: str
    route: str
    share: float
    series: str
    labels: dict[str, str]
    since_ms: int
    clean: int = 0

    @property
    def wanted(self) -> int:
        """Clean requests, or minutes with data, that prove it gone."""
        if not self.route:
            return _LOOKS
        return max(_LEAST_REQUESTS, math.ceil(math.log(_CHANCE) / math.log1p(-self.share)))

    @property
    def unit(self) -> str:
        return "requests" if self.route else "minutes with data"


@dataclass(frozen=True, slots=True)
class Proof:
    """A finding that is gone, and why that is known."""

    fingerprint: str
    reason: str


class QuietWatch:
    """Counts what goes by without the findings that ended. Bounded; the longest watched gives way.

    Args:
        fixed_after_s: Least time without a finding.
    """

    def __init__(self, fixed_after_s: float) -> None:
        self._after_ms = int(fixed_after_s * 1_000)
        self._watched: dict[str, _Watched] = {}
        self._last_ms: int | None = None
        self._looked_ms = 0

    def observe(self, changes: Iterable[Finding], now_ms: int) -> None:
        """Watch what ended; leave what came back."""
        for finding in changes:
            self._watched.pop(finding.fingerprint, None)
            if not finding.active:
                self._watched[finding.fingerprint] = _Watched(
                    finding.service,
                    finding.route,
                    min(max(finding.impact.hit_share, 1e-4), 1 - 1e-9),
                    finding.evidence.series,
                    finding.labels,
                    now_ms,
                )
        while len(self._watched) > _MAX_WATCHED:
            del self._watched[next(iter(self._watched))]

    def count(self, rates: RequestRates, querier: Querier, now_ms: int) -> None:
        """Add what went by since the last tick."""
        last_ms = now_ms if self._last_ms is None else self._last_ms
        self._last_ms = now_ms
        for key, watched in self._watched.items():
            if watched.route and watched.since_ms < now_ms:
                clean = rates.since(watched.service, watched.route, last_ms)
                self._watched[key] = replace(watched, clean=watched.clean + clean)
        if now_ms - self._looked_ms >= _LOOK_EVERY_MS:
            self._looked_ms = now_ms
            self._look(querier, now_ms)

    def proven(self, now_ms: int) -> tuple[Proof, ...]:
        """Findings that are gone; they are watched no longer."""
        over = [
            (key, watched)
            for key, watched in self._watched.items()
            if now_ms - watched.since_ms >= self._after_ms and watched.clean >= watched.wanted
        ]
        for key, _ in over:
            del self._watched[key]
        return tuple(Proof(key, _told(watched, now_ms)) for key, watched in over)

    def dumps(self) -> str:
        """Everything as JSON, so that a restart goes on."""
        rows = [
            [key, w.service, w.route, w.share, w.series, w.labels, w.since_ms, w.clean]
            for key, w in self._watched.items()
        ]
        return orjson.dumps({"last_ms": self._last_ms, "rows": rows}).decode()

    def loads(self, text: str) -> None:
        """Take over what `dumps` wrote."""
        data = orjson.loads(text)
        self._last_ms = data.get("last_ms")
        self._watched = {key: _Watched(*rest) for key, *rest in data.get("rows", [])}

    def _look(self, querier: Querier, now_ms: int) -> None:
        """One more minute for each signal whose series has a clean value."""
        signals = [(key, w) for key, w in self._watched.items() if not w.route and w.series]
        for key, watched in signals[:_MAX_LOOKED_AT]:
            if _has_value(querier, watched, now_ms):
                self._watched[key] = replace(watched, clean=watched.clean + 1)


def _has_value(querier: Querier, watched: _Watched, now_ms: int) -> bool:
    try:
        return has_clean_value(querier, Signal(watched.series, watched.labels), now_ms)
    except QueryError:
        return False  # what cannot be read proves nothing


def _told(watched: _Watched, now_ms: int) -> str:
    hours = (now_ms - watched.since_ms) / 3_600_000
    return f"not seen for {hours:.1f} h and {watched.clean} {watched.unit}"
