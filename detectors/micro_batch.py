"""Stored spans gathered into whole traces, in small batches by arrival.

A trace is judged when every span's parent is here (or the span is where a request entered from
outside) and nothing of it has arrived for `settle_ms`; or as it is, when nothing has arrived for
`incomplete_after_ms`. Spans that come later bring the whole trace back from the store.

How far the reader came is a cursor of three numbers: where unjudged spans begin, what was read, and
when. From them a restart tells judged traces from waiting ones, since the rule above looks at
nothing else; the spans before them tell which traces may get a late one. So a restart, a late span
or another split of the batches changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from detectors.settings import RunnerSettings
from detectors.traces.columns import coded, ints, matching
from detectors.traces.frame import COLUMNS, CONSUMER, SERVER
from detectors.traces.tree import Tree
from store.model import SPAN_CODED_READ_SCHEMA, BoolArray, Int64Array
from store.ports import SpanReader

_PAGE = 100_000
_MAX_JUDGED = 100_000
_MAX_LATE_TRACES = 5_000
# Spans before the cursor that a restart looks at: late spans of their traces may come.
_LOOK_BACK = 200_000
_SCHEMA: pa.Schema = pa.schema([SPAN_CODED_READ_SCHEMA.field(name) for name in COLUMNS])


@dataclass(frozen=True, slots=True)
class SpanCursor:
    """Where unjudged spans begin (exclusive), the last span read, and the tick that read it."""

    resume_seq: int = 0
    read_seq: int = 0
    tick_ms: int = 0

    def dumps(self) -> str:
        return orjson.dumps([self.resume_seq, self.read_seq, self.tick_ms]).decode()

    @classmethod
    def loads(cls, text: str) -> SpanCursor:
        """What `dumps` wrote; anything else starts anew."""
        try:
            values = orjson.loads(text)
        except orjson.JSONDecodeError:
            return cls()
        if not isinstance(values, list) or [type(value) for value in values] != [int] * 3:
            return cls()
        return cls(*values)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one tick brought.

    Attributes:
        fresh: Spans read now, for counting requests; `COLUMNS` of the frame.
        ready: Every span of the traces to judge now; the same columns.
        again: Those of `ready` that were judged before, or are judged without all they name.
        tree: Of `ready`, where it is known.
        waiting: Spans held back.
        behind: There is more to read than one tick may.
    """

    fresh: pa.Table
    ready: pa.Table
    waiting: int
    behind: bool
    again: frozenset[bytes] = frozenset()
    tree: Tree | None = None


class MicroBatcher:
    """Reads spans in the order of their commit and gives out whole traces.

    Args:
        settings: How long to wait for the rest of a trace.
        cursor: Where the last process stopped.
        judged: Ids of traces that it judged, as far as they are known.
    """

    def __init__(
        self,
        settings: RunnerSettings,
        cursor: SpanCursor | None = None,
        judged: Iterable[bytes] = (),
    ) -> None:
        self._settings = settings
        self._judged: OrderedDict[bytes, None] = OrderedDict.fromkeys(judged)
        self._waiting = _empty()
        self._read_seq = 0
        self._tick_ms = 0
        self._resume_from = cursor

    @property
    def cursor(self) -> SpanCursor:
        first = int(ints(self._waiting, "seq").min()) - 1 if len(self._waiting) else self._read_seq
        return SpanCursor(min(first, self._read_seq), self._read_seq, self._tick_ms)

    def next(self, reader: SpanReader, now_ms: int) -> MicroBatch:
        """Read on, and take out what can be judged at `now_ms`."""
        if self._resume_from is not None:
            self._resume(reader, self._resume_from)
            self._resume_from = None
        fresh, read_seq, behind = self._read(reader)
        spans = _Gathered.of(pa.concat_tables([self._waiting, fresh]))
        late, later = self._late(spans)
        ready = spans.ready(now_ms, self._settings) & ~spans.rows_of(later)
        ready = self._bounded(spans, ready)
        known = spans.rows_of(late)
        judged = ready & ~known
        again = late | spans.fragments(judged)
        tree = None
        if again:
            whole = reader.traces(sorted(again))
            alone = matching(spans.table, judged & ~spans.rows_of(again))
            out = pa.concat_tables([alone, _typed(whole)])
        else:
            out, tree = matching(spans.table, judged), spans.tree.of_traces(judged)
        waiting = matching(spans.table, ~ready & ~known).combine_chunks()
        # Nothing above changed this object: a reader that fails is asked again at the next tick.
        self._remember(spans.traces_of(judged) | again)
        self._waiting, self._read_seq, self._tick_ms = waiting, read_seq, now_ms
        return MicroBatch(fresh, out, len(self._waiting), behind, frozenset(again), tree)

    def _resume(self, reader: SpanReader, cursor: SpanCursor) -> None:
        self._look_back(reader, cursor.resume_seq)
        self._read_seq = cursor.resume_seq
        spans = _empty()
        while self._read_seq < cursor.read_seq:
            page = _typed(reader.spans_after(self._read_seq, limit=_PAGE))
            if not len(page):
                break
            seq = ints(page, "seq")
            page = matching(page, seq <= cursor.read_seq)
            self._read_seq = min(int(seq.max()), cursor.read_seq)
            spans = pa.concat_tables([spans, page])
        self._read_seq = max(self._read_seq, cursor.read_seq)
        self._tick_ms = cursor.tick_ms
        gathered = _Gathered.of(spans)
        ready = gathered.ready(cursor.tick_ms, self._settings)
        self._remember(gathered.traces_of(ready))
        self._waiting = matching(spans, ~ready).combine_chunks()

    def _look_back(self, reader: SpanReader, resume_seq: int) -> None:
        """Whatever lies before the cursor was judged."""
        seq = max(0, resume_seq - _LOOK_BACK)
        while seq < resume_seq:
            page = reader.spans_after(seq, limit=_PAGE)
            if not len(page):
                break
            reached = ints(page, "seq")
            seen: Any = pc.unique(matching(page, reached <= resume_seq)["trace_id"])
            self._remember(seen.to_pylist())
            seq = int(reached.max())

    def _read(self, reader: SpanReader) -> tuple[pa.Table, int, bool]:
        pages = [_empty()]
        read_seq = self._read_seq
        budget = self._settings.max_spans_per_tick
        while budget > 0:
            limit = min(_PAGE, budget)
            page = _typed(reader.spans_after(read_seq, limit=limit))
            if len(page):
                read_seq = int(ints(page, "seq").max())
                pages.append(page)
            if len(page) < limit:
                return pa.concat_tables(pages).combine_chunks(), read_seq, False
            budget -= len(page)
        return pa.concat_tables(pages).combine_chunks(), read_seq, True

    def _late(self, spans: _Gathered) -> tuple[set[bytes], set[bytes]]:
        """Traces that were judged before and got more spans now; and those that must wait."""
        late = sorted(trace for trace in spans.names if trace in self._judged)
        return set(late[:_MAX_LATE_TRACES]), set(late[_MAX_LATE_TRACES:])

    def _bounded(self, spans: _Gathered, ready: BoolArray) -> BoolArray:
        """Also the oldest arrivals, where more would wait than may."""
        excess = int((~ready).sum()) - self._settings.max_pending_spans
        if excess <= 0:
            return ready
        waiting = np.flatnonzero(~ready)
        return ready | np.isin(spans.trace, spans.trace[waiting[:excess]])

    def _remember(self, judged: Iterable[bytes]) -> None:
        for trace in judged:
            self._judged[trace] = None
            self._judged.move_to_end(trace)
        while len(self._judged) > _MAX_JUDGED:
            self._judged.popitem(last=False)


@dataclass(frozen=True)
class _Gathered:
    """Spans with what is asked of them more than once.

    Attributes:
        tree: Of the spans; `names[number]` is the id of a trace.
        orphan: Its parent is named and not here, and no request enters from outside by it.
    """

    table: pa.Table
    tree: Tree
    names: list[bytes]
    orphan: BoolArray

    @property
    def trace(self) -> Int64Array:
        return self.tree.trace

    @classmethod
    def of(cls, table: pa.Table) -> _Gathered:
        tree = Tree.of(table)
        names: list[Any] = table["trace_id"].take(pa.array(tree.first, pa.int64())).to_pylist()
        return cls(table, tree, names, _orphans(table, tree))

    def ready(self, now_ms: int, settings: RunnerSettings) -> BoolArray:
        """For each span: may its trace be judged?"""
        if not len(self.trace):
            return np.zeros(0, dtype=np.bool_)
        arrival = np.minimum(ints(self.table, "received_ms"), now_ms)
        latest = np.full(len(self.names), np.iinfo(np.int64).min, dtype=np.int64)
        np.maximum.at(latest, self.trace, arrival)
        broken = np.bincount(self.trace[self.orphan], minlength=len(self.names)) > 0
        quiet = np.where(broken, settings.incomplete_after_ms, settings.settle_ms)
        ready: BoolArray = (now_ms - latest >= quiet)[self.trace]
        return ready

    def traces_of(self, marked: BoolArray) -> set[bytes]:
        """Ids of the traces that have a marked span."""
        numbers = np.flatnonzero(np.bincount(self.trace[marked], minlength=len(self.names)))
        return {self.names[number] for number in numbers.tolist()}

    def rows_of(self, traces: set[bytes]) -> BoolArray:
        """Spans of these traces."""
        if not traces:
            return np.zeros(len(self.trace), dtype=np.bool_)
        return np.array([name in traces for name in self.names], dtype=np.bool_)[self.trace]

    def fragments(self, judged: BoolArray) -> set[bytes]:
        """Traces that are judged incomplete: the store may hold an older part of them."""
        broken = self.traces_of(judged & self.orphan)
        return set(sorted(broken)[:_MAX_LATE_TRACES])


def _empty() -> pa.Table:
    return _SCHEMA.empty_table()


def _typed(table: pa.Table) -> pa.Table:
    return coded(table, _SCHEMA)


def _orphans(spans: pa.Table, tree: Tree) -> BoolArray:
    """Spans whose parent is named and missing, where no request enters from outside."""
    kind = ints(spans, "kind")
    outside = (kind == SERVER) | (kind == CONSUMER)
    orphans: BoolArray = (tree.above >= 0) & (tree.parent < 0) & ~outside
    return orphans
