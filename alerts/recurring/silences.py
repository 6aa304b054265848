"""Silences that come again: each occurrence is a plain silence, made when its window opens.

So the API, amtool, the stages and `why` know of nothing new, and an occurrence can be ended early.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from alerts.fields import Fields
from alerts.on_call.who import edges_of
from alerts.routing import parse_interval
from alerts.silences import Silence, checked
from alerts.time_intervals import TimeInterval
from store.documents import Document
from store.errors import BadInput, ConfigError
from store.model import Matcher

MAX_RECURRING = 1_000
MAX_WINDOWS = 64
MINUTE_MS = 60_000
# A window that is open for longer is silenced in pieces of this length.
MAX_WINDOW_MS = 2 * 86_400_000


@dataclass(frozen=True, slots=True)
class RecurringSilence:
    """Alerts that pass every matcher make no noise while one of the windows is open.

    `source` has the windows as they were written; `until_ms` is 0 for no end.
    """

    id: str
    matchers: tuple[Matcher, ...]
    windows: tuple[TimeInterval, ...]
    source: tuple[Any, ...]
    created_by: str
    comment: str
    until_ms: int = 0

    def open_at(self, at_ms: int) -> bool:
        ended = self.until_ms and at_ms >= self.until_ms
        return not ended and any(window.contains(at_ms) for window in self.windows)


def windows_of(source: Sequence[Any]) -> tuple[TimeInterval, ...]:
    """Time intervals as in an Alertmanager configuration.

    Raises:
        BadInput: One of them is not valid.
    """
    if len(source) > MAX_WINDOWS:
        raise BadInput(f"at most {MAX_WINDOWS} time_intervals are taken")
    document = Document("time_intervals", list(source), {})
    try:
        return tuple(
            parse_interval(Fields(document, (place,), "a time interval"))
            for place in range(len(source))
        )
    except ConfigError as exc:
        raise BadInput(f"time_intervals: {exc.problem}", hint=exc.hint) from exc


def checked_recurring(silence: RecurringSilence, now_ms: int, known: int) -> RecurringSilence:
    """The silence itself, if it can be kept.

    Raises:
        BadInput: Its matchers or texts are not valid, or there are too many.
    """
    if not silence.windows:
        raise BadInput("a recurring silence needs time_intervals")
    if silence.until_ms and silence.until_ms <= now_ms:
        raise BadInput("a recurring silence must not end in the past")
    if known >= MAX_RECURRING:
        raise BadInput(f"there are {MAX_RECURRING} recurring silences already")
    checked(_occurrence(silence, now_ms, now_ms + MINUTE_MS), now_ms)
    return silence


def due(
    recurring: Iterable[RecurringSilence], known_ids: Collection[str], now_ms: int
) -> list[Silence]:
    """Occurrences whose window is open and that are not kept yet, ended ones among the kept."""
    found = []
    for silence in recurring:
        if not silence.open_at(now_ms):
            continue
        occurrence = _occurrence(silence, now_ms, closes_ms(silence, now_ms))
        if occurrence.id not in known_ids:
            found.append(occurrence)
    return found


def closes_ms(silence: RecurringSilence, now_ms: int) -> int:
    """When the window that is open now closes: a whole minute, or the end of the silence."""
    # Of one window all instants must find the same end: pieces are cut at fixed times.
    cut_ms = (now_ms // MAX_WINDOW_MS + 1) * MAX_WINDOW_MS
    edges = {edge for window in silence.windows for edge in edges_of(window, now_ms, cut_ms)}
    closed = (edge for edge in sorted(edges) if not silence.open_at(edge))
    at_ms = next(closed, cut_ms)
    return min(at_ms, silence.until_ms) if silence.until_ms else at_ms


def _occurrence(silence: RecurringSilence, now_ms: int, ends_ms: int) -> Silence:
    return Silence(
        id=str(uuid5(NAMESPACE_URL, f"warroom:recurring:{silence.id}:{ends_ms}")),
        matchers=silence.matchers,
        starts_ms=now_ms,
        ends_ms=ends_ms,
        created_by=silence.created_by,
        comment=f"{silence.comment} (recurring {silence.id})"[:4096],
        updated_ms=now_ms,
    )
