"""Gauges that are too high for some time: the mechanism under the saturation detectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detectors.detector import SignalContext
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.settings import require
from store.model import METRIC_NAME, Float64Array, Labels
from store.ports import Querier

_STEP_MS = 5_000


@dataclass(frozen=True, slots=True)
class ThresholdSettings:
    """From where on a gauge is too high, and for how long.

    Attributes:
        warn: From this value on it is listed (P2).
        page: From this value on it pages (P1).
        hold_s: So long it must be there without a break, before it counts.
        clear: Below this value it has ended.
    """

    warn: float
    page: float
    hold_s: float
    clear: float

    def __post_init__(self) -> None:
        require(self.warn > 0, "warn", "above 0", self.warn)
        require(self.page >= self.warn, "page", "warn or more", self.page)
        require(0 <= self.clear <= self.warn, "clear", "from 0 to warn", self.clear)
        require(0 < self.hold_s <= 3_600, "hold_s", "above 0, at most 3600", self.hold_s)


@dataclass(frozen=True, slots=True)
class Watched:
    """One series to watch, and its words.

    Attributes:
        expr: A `sig:` series.
        title: With `{instance}` and `{value}`.
        percent: The value is a ratio and is shown as a percentage.
    """

    expr: str
    title: str
    fix: str
    percent: bool = False


def too_high(
    kind: str,
    watched: Watched,
    settings: ThresholdSettings,
    querier: Querier,
    context: SignalContext,
) -> Iterator[Finding]:
    """A finding for each series that is too high now, or was and has not come down.

    A series without values now proves nothing: an active finding stays as it is.
    """
    start_ms = context.now_ms - (int(settings.hold_s * 1_000) // _STEP_MS + 1) * _STEP_MS
    matrix = querier.range(watched.expr, start_ms, context.now_ms, _STEP_MS)
    for place, series in enumerate(matrix.series):
        labels = series.drop((METRIC_NAME,))
        key = fingerprint(kind, _where(labels), "", f"{watched.expr}{labels!r}")
        active = context.active.get(key)
        present = matrix.present[place] & np.isfinite(matrix.values[place])
        if not present[-1]:
            if active is not None:
                yield active
            continue
        values = matrix.values[place][present]
        if active is not None and values[-1] >= settings.clear:
            yield _finding(kind, watched, settings, labels, key, values, context, active)
        elif active is None and present.all() and bool((values >= settings.warn).all()):
            yield _finding(kind, watched, settings, labels, key, values, context, None)


def unjudged(
    kinds: tuple[str, ...], found: list[Finding], querier: Querier, context: SignalContext
) -> Iterator[Finding]:
    """Active findings whose series has vanished altogether: no data is no recovery."""
    told = {finding.fingerprint for finding in found}
    for key, finding in context.active.items():
        if finding.kind in kinds and key not in told:
            expr = finding.evidence.series
            answer = querier.instant(expr, context.now_ms) if expr else None
            labels = Labels.of(finding.labels)
            if answer is None or labels not in {
                series.drop((METRIC_NAME,)) for series in answer.series
            }:
                yield finding


def _where(labels: Labels) -> str:
    return labels.get("instance") or labels.get("cluster") or labels.get("job")


def _finding(  # noqa: PLR0913  # private, and all of it is needed
    kind: str,
    watched: Watched,
    settings: ThresholdSettings,
    labels: Labels,
    key: str,
    values: Float64Array,
    context: SignalContext,
    active: Finding | None,
) -> Finding:
    value = float(values[-1])
    shown = f"{value:.0%}" if watched.percent else f"{value:.1f}"
    since = (
        context.now_ms - int(settings.hold_s * 1_000) if active is None else active.first_seen_ms
    )
    return Finding(
        fingerprint=key,
        kind=kind,
        priority=Priority.P1 if value >= settings.page else Priority.P2,
        title=watched.title.format(instance=_where(labels), value=shown),
        service=_where(labels),
        route="",
        first_seen_ms=since,
        last_seen_ms=context.now_ms,
        evidence=Evidence(
            series=watched.expr,
            window_start_ms=since,
            window_end_ms=context.now_ms,
            detail={"value": round(value, 6), "threshold": settings.warn},
        ),
        impact=Impact(),
        fix=watched.fix,
        confidence=0.9,
        labels=labels.to_dict(),
    )
