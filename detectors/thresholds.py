"""Gauges that are too high for some time: the mechanism under the saturation detectors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from detectors.detector import SignalContext
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.settings import require
from store.model import METRIC_NAME, Float64Array, Labels, RangeMatrix
from store.ports import Querier

_STEP_MS = 5_000
_RECOVERS_STEPS = 6
# What a series did in so long is what it usually does, if it is known for the shorter time.
_USUAL_S = 1_800
_KNOWN_S = 300
# A `page` that no value reaches: it is listed and wakes nobody.
NEVER = math.inf


@dataclass(frozen=True, slots=True)
class ThresholdSettings:
    """From where on a gauge is too high, and for how long.

    Attributes:
        warn: From this value on it is listed (P2).
        page: From this value on it pages (P1).
        hold_s: So long it must be at `warn` without a break, before it counts.
        page_hold_s: So long it must be at `page` without a break, before it pages. What is so bad
            is listed at the second look, also before `hold_s`, if `page` is above `warn`.
        clear: Below this value it has ended.
        forget_s: A series that has been away for so long has ended too: its server is gone.
    """

    warn: float
    page: float
    hold_s: float
    clear: float
    forget_s: float = 86_400.0
    page_hold_s: float = 5.0

    def __post_init__(self) -> None:
        require(self.warn > 0, "warn", "above 0", self.warn)
        require(self.page >= self.warn, "page", "warn or more", self.page)
        require(0 <= self.clear <= self.warn, "clear", "from 0 to warn", self.clear)
        require(0 < self.hold_s <= 3_600, "hold_s", "above 0, at most 3600", self.hold_s)
        hold = self.page_hold_s
        require(0 < hold <= 3_600, "page_hold_s", "above 0, at most 3600", hold)
        require(self.forget_s >= self.hold_s, "forget_s", "hold_s or more", self.forget_s)


@dataclass(frozen=True, slots=True)
class Sooner:
    """What tells of a step up before an average of a minute or more can.

    What is at `warn` there at two looks, and was not so in the half hour before, is listed.

    Attributes:
        expr: A `sig:` series with the labels of the one that is watched: of its last samples.
        title: Likewise, while the series that is watched is below `warn` itself.
    """

    expr: str
    title: str


@dataclass(frozen=True, slots=True)
class Watched:
    """One series to watch, and its words.

    Attributes:
        expr: A `sig:` series.
        title: With `{value}` and any label of the series in braces; `{where}` is its host.
        percent: The value is a ratio and is shown as a percentage.
        recovers_per_s: What falls so fast recovers by itself: no page begins.
        sooner: What tells of it sooner, where there is such a series.
    """

    expr: str
    title: str
    fix: str
    percent: bool = False
    recovers_per_s: float = math.inf
    sooner: Sooner | None = None


@dataclass(frozen=True)
class ThresholdDetector(ABC):
    """Judges gauges against fixed thresholds. What is watched is the subclass's."""

    kinds: ClassVar[tuple[str, ...]]

    @abstractmethod
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        """What is watched, each with its thresholds."""

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        """Every gauge that is too high now, or was and has not come down."""
        (kind,) = self.kinds
        found: list[Finding] = []
        judged: set[str] = set()
        for watched, settings in self.rows():
            for key, finding in _judge(kind, watched, settings, querier, context):
                judged.add(key)
                if finding is not None:
                    found.append(finding)
        forget_s = {watched.expr: settings.forget_s for watched, settings in self.rows()}
        longest_s = max(forget_s.values())
        held = (
            finding
            for finding in context.without_data(judged, longest_s)
            if context.remembers(finding, forget_s.get(finding.evidence.series, longest_s))
        )
        return (*found, *held)


def _judge(
    kind: str,
    watched: Watched,
    settings: ThresholdSettings,
    querier: Querier,
    context: SignalContext,
) -> Iterator[tuple[str, Finding | None]]:
    """Each series that was looked at, with its finding if it is too high.

    A series without values now proves nothing: an active finding stays as it is, for a while.
    """
    longest_s = max(settings.hold_s, settings.page_hold_s)
    start_ms = context.now_ms - _steps(longest_s) * _STEP_MS
    matrix = querier.range(watched.expr, start_ms, context.now_ms, _STEP_MS)
    looks = _Looks.of(kind, watched, settings, querier, context) if matrix.series else _NO_LOOKS
    for place, series in enumerate(matrix.series):
        labels = series.drop((METRIC_NAME,))
        key = _key(kind, watched, labels)
        active = context.active.get(key)
        present = matrix.present[place] & np.isfinite(matrix.values[place])
        if not present[-1]:
            continue
        values = np.where(present, matrix.values[place], -np.inf)
        pages = _lasts(values, settings.page, settings.page_hold_s)
        if active is None or active.priority is Priority.P2:
            pages = pages and not _recovers(values, watched, settings)
        if active is None:
            # Where all that is listed pages, `hold_s` alone says when.
            clear = settings.page > settings.warn
            bad = clear and _lasts(values, settings.page, _STEP_MS / 1_000)
            high = bad or pages or _lasts(values, settings.warn, settings.hold_s)
            high = high or labels in looks.new
        else:
            high = max(values[-1], looks.latest.get(labels, -np.inf)) >= settings.clear
        seen = _Seen(labels, key, float(values[-1]), active, pages, looks.latest.get(labels))
        yield key, _finding(kind, watched, settings, seen, context.now_ms) if high else None


def _steps(hold_s: float) -> int:
    """Steps between the first and the last value of a time, one at least."""
    return max(int(hold_s * 1_000) // _STEP_MS, 1)


def _lasts(values: Float64Array, bound: float, hold_s: float) -> bool:
    """The value was there for so long without a break."""
    return bool((values[-_steps(hold_s) - 1 :] >= bound).all())


def _recovers(values: Float64Array, watched: Watched, settings: ThresholdSettings) -> bool:
    """It fell in the last half minute, or in the shorter time after which it pages."""
    steps = min(_steps(settings.page_hold_s), _RECOVERS_STEPS)
    fell = values[-steps - 1] - values[-1]
    return bool(fell >= watched.recovers_per_s * steps * _STEP_MS / 1_000)


@dataclass(frozen=True, slots=True)
class _Looks:
    """What the sooner series of a `Watched` says.

    Attributes:
        latest: Its value now.
        new: Series at `warn` at two looks, which they were not in the half hour before.
    """

    latest: Mapping[Labels, float]
    new: frozenset[Labels]

    @classmethod
    def of(
        cls,
        kind: str,
        watched: Watched,
        settings: ThresholdSettings,
        querier: Querier,
        context: SignalContext,
    ) -> _Looks:
        """The past is read only where something is high that no finding tells yet."""
        if watched.sooner is None:
            return _NO_LOOKS
        now_ms, expr = context.now_ms, watched.sooner.expr
        values = _values(querier.range(expr, now_ms - _STEP_MS, now_ms, _STEP_MS))
        high = {labels for labels, row in values.items() if (row >= settings.warn).all()}
        new = {labels for labels in high if _key(kind, watched, labels) not in context.active}
        if new:
            start_ms = now_ms - _USUAL_S * 1_000
            past = _values(querier.range(expr, start_ms, now_ms - 2 * _STEP_MS, _STEP_MS))
            new = {one for one in new if one in past and _is_unusual(past[one], settings.warn)}
        latest = {labels: float(row[-1]) for labels, row in values.items()}
        return cls(latest, frozenset(new))


_NO_LOOKS = _Looks({}, frozenset())


def _values(matrix: RangeMatrix) -> dict[Labels, Float64Array]:
    """Each series without its name; what is missing is -inf."""
    present = matrix.present & np.isfinite(matrix.values)
    rows = np.where(present, matrix.values, -np.inf)
    return {
        series.drop((METRIC_NAME,)): row for series, row in zip(matrix.series, rows, strict=True)
    }


def _is_unusual(past: Float64Array, bound: float) -> bool:
    """Known for five minutes, and never at the bound at two looks."""
    high = past >= bound
    known = int(np.isfinite(past).sum()) >= _KNOWN_S * 1_000 // _STEP_MS
    return known and not bool((high[1:] & high[:-1]).any())


@dataclass(frozen=True, slots=True)
class _Seen:
    """One series, its value now, the finding that it has already, and what tells of it sooner."""

    labels: Labels
    key: str
    value: float
    active: Finding | None
    pages: bool
    sooner: float | None


def _key(kind: str, watched: Watched, labels: Labels) -> str:
    return fingerprint(kind, _where(labels), "", f"{watched.expr}{labels!r}")


def _where(labels: Labels) -> str:
    names = ("instance", "cluster", "queue", "group", "page", "job")
    return next((labels.get(name) for name in names if labels.get(name)), "")


class _Words(dict[str, str]):
    """Labels that a title names and a series lacks are left out."""

    def __missing__(self, key: str) -> str:
        return ""


def _finding(
    kind: str, watched: Watched, settings: ThresholdSettings, seen: _Seen, now_ms: int
) -> Finding:
    value, active, title = seen.value, seen.active, watched.title
    if watched.sooner and seen.sooner is not None and value < min(settings.warn, seen.sooner):
        value, title = seen.sooner, watched.sooner.title
    shown = f"{value:.0%}" if watched.percent else f"{value:.1f}"
    hold_s = settings.page_hold_s if seen.pages else settings.hold_s
    since = now_ms - int(hold_s * 1_000) if active is None else active.first_seen_ms
    where = _where(seen.labels)
    words = _Words(seen.labels.to_dict(), value=shown, where=where)
    return Finding(
        fingerprint=seen.key,
        kind=kind,
        priority=Priority.P1 if seen.pages else Priority.P2,
        title=" ".join(title.format_map(words).split()),
        service=where,
        route="",
        first_seen_ms=since,
        last_seen_ms=now_ms,
        evidence=Evidence(
            series=watched.expr,
            window_start_ms=since,
            window_end_ms=now_ms,
            detail={"value": round(value, 6), "threshold": settings.warn},
        ),
        impact=Impact(),
        fix=watched.fix,
        confidence=0.9,
        labels=seen.labels.to_dict(),
    )
