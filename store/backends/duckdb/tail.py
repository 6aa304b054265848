"""What is in the append log but not in the database yet, in memory, for readers and the flusher.

A generation is what goes into the database in one transaction. The active one grows; a frozen one
is on its way. Readers take a snapshot of both *before* they look at the database, and leave out a
generation that the database already has: each row is seen once.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.backends.duckdb.coded import coded
from store.backends.duckdb.database import Database
from store.backends.duckdb.head import NOTHING, Columns
from store.backends.duckdb.rounds import Round
from store.model import Exemplar, Int32Array, Int64Array, Labels, MetricMetadata

_FEWEST_ROWS = 4096
_LOOSE_TABLES = 64
_BYTES_A_SAMPLE = 20
_BYTES_A_SERIES = 400
_BYTES_A_TUPLE = 200


class _Samples:
    """Growing columns. A view that was given out stays as it was."""

    def __init__(self) -> None:
        self.series: Int32Array = np.empty(0, dtype=np.int32)
        self.ts_ms: Int64Array = np.empty(0, dtype=np.int64)
        self.bits: Int64Array = np.empty(0, dtype=np.int64)
        self.rows = 0
        self.oldest_ms = NOTHING

    def add(self, columns: Columns) -> None:
        end = self.rows + len(columns)
        if end > len(self.series):
            room = max(end, 2 * len(self.series), _FEWEST_ROWS)
            self.series = _grown(self.series, self.rows, room)
            self.ts_ms = _grown(self.ts_ms, self.rows, room)
            self.bits = _grown(self.bits, self.rows, room)
        self.series[self.rows : end] = columns.series
        self.ts_ms[self.rows : end] = columns.ts_ms
        self.bits[self.rows : end] = columns.bits
        self.oldest_ms = min(self.oldest_ms, int(columns.ts_ms.min()))
        self.rows = end

    def view(self) -> Columns:
        rows = self.rows
        return Columns(self.series[:rows], self.ts_ms[:rows], self.bits[:rows])


def _grown(old: Any, rows: int, room: int) -> Any:
    new = np.empty(room, dtype=old.dtype)
    new[:rows] = old[:rows]
    return new


class Tables:
    """Arrow tables with ascending `seq`; many small ones are joined now and then."""

    def __init__(self) -> None:
        self.first_seq = 0
        self.rows = 0
        self._whole: list[pa.Table] = []
        self._loose: list[pa.Table] = []

    def add(self, table: pa.Table) -> int:
        """Answers how many bytes it takes."""
        if not self.rows:
            self.first_seq = table.column("seq")[0].as_py()
        self.rows += table.num_rows
        self._loose.append(table)
        if len(self._loose) >= _LOOSE_TABLES:
            joined = pa.concat_tables(self._loose)
            small = joined.num_rows < _LOOSE_TABLES * _LOOSE_TABLES
            self._whole.append(joined.combine_chunks() if small else joined)
            self._loose = []
        return int(table.get_total_buffer_size())  # `nbytes` looks at each column from Python

    def tables(self) -> list[pa.Table]:
        return [*self._whole, *self._loose]


@dataclass(slots=True)
class Generation:
    """Rounds that go into the database together.

    Attributes:
        last: The number of the last frame that is in it.
        began_s: Monotonic seconds of its first round.
        size: Bytes of its rows, about.
    """

    last: int = 0
    began_s: float = 0.0
    size: int = 0
    samples: _Samples = field(default_factory=_Samples)
    series: dict[Labels, int] = field(default_factory=dict)
    metadata: dict[str, MetricMetadata] = field(default_factory=dict)
    exemplars: list[tuple[int, Exemplar]] = field(default_factory=list)
    histograms: list[tuple[int, int, bytes]] = field(default_factory=list)
    spans: Tables = field(default_factory=Tables)
    events: Tables = field(default_factory=Tables)
    logs: Tables = field(default_factory=Tables)
    event_keys: set[tuple[str, str]] = field(default_factory=set)

    def add(self, number: int, done: Round) -> None:
        self.last = number
        self.size += _BYTES_A_SERIES * len(done.fresh)
        if done.columns is not None:
            self.samples.add(done.columns)
            self.size += _BYTES_A_SAMPLE * len(done.columns)
        self.series.update(done.fresh)
        self.metadata.update(done.metadata)
        self.exemplars += done.exemplars
        self.histograms += done.histograms
        self.size += sum(_BYTES_A_TUPLE + len(found[2]) for found in done.histograms)
        if done.spans is not None:
            self.size += self.spans.add(done.spans)
        if done.events is not None:
            self.size += self.events.add(done.events)
            self.event_keys.update(keys_of(done.events))
        if done.logs is not None:
            self.size += self.logs.add(done.logs)


def keys_of(events: pa.Table) -> list[tuple[str, str]]:
    """(source, event id) of each event."""
    columns = (events.column(name).to_pylist() for name in ("source", "event_id"))
    return cast(list[tuple[str, str]], list(zip(*columns, strict=True)))


def without_repeats(stored: pa.Table, ahead: pa.Table) -> pa.Table:
    """Both, without the rows ahead that came into the database since they were looked at."""
    known = pc.is_in(ahead.column("seq"), value_set=stored.column("seq").combine_chunks())
    return pa.concat_tables([stored, ahead.filter(pc.invert(known))])


def rows_after(
    database: Database, ahead: list[pa.Table], query: str, seq: int, limit: int
) -> pa.Table:
    """At most `limit` rows with a higher `seq`, ascending; the database is asked only if need be.

    `ahead` must have been looked at before. `query` takes `seq` and `limit`.
    """
    parts: list[pa.Table] = []
    if not ahead or ahead[0].column("seq")[0].as_py() > seq + 1:
        stored = database.table(query, [seq, limit])
        parts.append(_like(stored, ahead[0].schema) if ahead else stored)
        seq = int(stored.column("seq")[-1].as_py()) if stored.num_rows else seq
        limit -= stored.num_rows
    for table in ahead:
        if limit <= 0:
            break
        first = table.column("seq")[0].as_py()
        part = table.slice(max(0, seq + 1 - first), limit)
        parts.append(part)
        limit -= part.num_rows
    return pa.concat_tables(parts) if parts else ahead[0].slice(0, 0)


def _like(stored: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of the database as those ahead of it are."""
    if any(pa.types.is_dictionary(field.type) for field in schema):
        return coded(stored, schema)
    return stored.cast(schema)


@dataclass(frozen=True, slots=True)
class SamplesAhead:
    """Samples of one generation at the time of a snapshot; `last` is its last frame then."""

    last: int
    oldest_ms: int
    columns: Columns


class Tail:
    """The generations. Written by the writing thread, frozen and let go by the flusher."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frozen: Generation | None = None
        self._active = Generation()

    def add(self, number: int, done: Round) -> None:
        """Take a round that is durable."""
        with self._lock:
            if not self._active.last:
                self._active.began_s = time.monotonic()
            self._active.add(number, done)

    def freeze(self) -> Generation | None:
        """What goes into the database next: again the one that did not get there."""
        with self._lock:
            if self._frozen is None and self._active.last:
                self._frozen, self._active = self._active, Generation()
            return self._frozen

    def let_go(self) -> None:
        """The frozen generation is in the database."""
        with self._lock:
            self._frozen = None

    def _generations(self) -> list[Generation]:
        return [self._active] if self._frozen is None else [self._frozen, self._active]

    def samples(self) -> list[SamplesAhead]:
        """Samples of each generation, oldest first."""
        with self._lock:
            return [
                SamplesAhead(one.last, one.samples.oldest_ms, one.samples.view())
                for one in self._generations()
                if one.samples.rows
            ]

    def spans(self) -> list[pa.Table]:
        """Spans ahead of the database, ascending in `seq`."""
        with self._lock:
            return [table for one in self._generations() for table in one.spans.tables()]

    def events(self) -> list[pa.Table]:
        """Events ahead of the database, ascending in `seq`."""
        with self._lock:
            return [table for one in self._generations() for table in one.events.tables()]

    def logs(self) -> list[pa.Table]:
        """Log records ahead of the database, ascending in `seq`."""
        with self._lock:
            return [table for one in self._generations() for table in one.logs.tables()]

    def exemplars(self) -> list[tuple[int, Exemplar]]:
        """Exemplars ahead of the database, each with the id of its series."""
        with self._lock:
            return [found for one in self._generations() for found in one.exemplars]

    def histograms(self) -> list[tuple[int, int, bytes]]:
        """Series, time and bytes of the histograms ahead of the database."""
        with self._lock:
            return [found for one in self._generations() for found in one.histograms]

    def known_events(self) -> list[set[tuple[str, str]]]:
        """Keys of the events ahead; for the writing thread alone."""
        with self._lock:
            return [one.event_keys for one in self._generations()]

    def rows(self) -> dict[str, int]:
        """Rows ahead of the database, by table."""
        with self._lock:
            generations = self._generations()
            return {
                "samples": sum(one.samples.rows for one in generations),
                "spans": sum(one.spans.rows for one in generations),
                "events": sum(one.events.rows for one in generations),
                "logs": sum(one.logs.rows for one in generations),
            }

    def active_size(self) -> tuple[int, int, float]:
        """Bytes and rows of the active generation, and its age in seconds (0 when empty)."""
        with self._lock:
            active = self._active
            rows = active.samples.rows + sum(
                tables.rows for tables in (active.spans, active.events, active.logs)
            )
            age_s = time.monotonic() - active.began_s if active.last else 0.0
            return active.size, rows, age_s

    def is_frozen(self) -> bool:
        """Whether a generation is on its way, or did not get there."""
        with self._lock:
            return self._frozen is not None

    def is_empty(self) -> bool:
        with self._lock:
            return self._frozen is None and not self._active.last
