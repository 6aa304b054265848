"""A long range of events, read piece by piece: memory depends on a piece, never on the range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from store.ports import EventReader

_MINUTE_MS = 60_000
_SHORTEST_MS = 5 * _MINUTE_MS
_LONGEST_MS = 240 * _MINUTE_MS
# As many rows are aimed at; how many a piece holds is known of those before it only.
_ROWS = 500_000


def slices(
    reader: EventReader,
    span_ms: tuple[int, int],
    types: Sequence[str],
    columns: Sequence[str],
) -> Iterator[pa.Table]:
    """Some columns of the events of a span, in pieces that follow each other; each in no order."""
    start_ms, end_ms = span_ms
    length_ms = _SHORTEST_MS
    while start_ms < end_ms:
        until_ms = min(start_ms + length_ms, end_ms)
        table = reader.events(start_ms, until_ms, types=types, columns=columns)
        yield table
        start_ms = until_ms
        fitting_ms = int(length_ms * min(4.0, _ROWS / max(table.num_rows, 1)))
        length_ms = min(max(fitting_ms, _SHORTEST_MS), _LONGEST_MS)
