"""What happened, from every room that knows, in one order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Json = dict[str, Any]
TimelineSource = Callable[[int, int], list[Json]]

_LIMIT = 500


class Timeline:
    """Merges sources of events `{at, kind, title, ref}`, newest first."""

    def __init__(self, sources: Sequence[TimelineSource]) -> None:
        self._sources = tuple(sources)

    def __call__(self, start_ms: int, end_ms: int) -> list[Json]:
        events = [event for source in self._sources for event in source(start_ms, end_ms)]
        # RFC 3339 in UTC with fixed digits sorts as text.
        events.sort(key=lambda event: str(event["at"]), reverse=True)
        return events[:_LIMIT]
