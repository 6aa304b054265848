"""Stored spans gathered into whole traces, in small batches by arrival.

A trace is judged when every span's parent is here (or the span is where a request entered from
outside) and nothing of it has arrived for `settle_ms`; or as it is, when nothing has arrived for
`incomplete_after_ms`. Spans that come later bring the whole trace back from the store.

How far the reader came is a cursor of three numbers: where unjudged spans begin, what was read, and
when. From them a restart tells judged traces from waiting ones, since the rule above looks at
nothing else. So a restart, a late span or another split of the batches changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa

from detectors.settings import RunnerSettings
from detectors.traces.columns import codes, ints, matching, places
from detectors.traces.frame import CONSUMER, SERVER
from store.model import SPAN_READ_SCHEMA, BoolArray, Int64Array
from store.ports import SpanReader

_PAGE = 100_000
_MAX_JUDGED = 100_000
_MAX_LATE_TRACES = 5_000


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
        fresh: Spans read now, for counting requests.
        ready: Every span of the traces to judge now.
        waiting: Spans held back.
        behind: There is more to read than one tick may.
    """

    fresh: pa.Table
    ready: pa.Table
    waiting: int
    behind: bool


class MicroBatcher:
    """Reads spans in the order of their commit and gives out whole traces."""

    def __init__(self, settings: RunnerSettings, cursor: SpanCursor | None = None) -> None:
        self._settings = settings
        self._judged: OrderedDict[bytes, None] = OrderedDict()
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
        late = self._late(fresh)
        spans = pa.concat_tables([self._waiting, fresh])
        ready = _ready(spans, now_ms, self._settings)
        ready = self._bounded(spans, ready)
        known = _of_traces(spans, late)
        out = matching(spans, ready & ~known)
        waiting = matching(spans, ~ready & ~known).combine_chunks()
        again = late | self._fragments(out)
        if again:
            whole = reader.traces(sorted(again))
            out = pa.concat_tables([matching(out, ~_of_traces(out, again)), _typed(whole)])
        # Nothing above changed this object: a reader that fails is asked again at the next tick.
        self._remember(out)
        self._waiting, self._read_seq, self._tick_ms = waiting, read_seq, now_ms
        return MicroBatch(fresh, out, len(self._waiting), behind)

    def _resume(self, reader: SpanReader, cursor: SpanCursor) -> None:
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
        ready = _ready(spans, cursor.tick_ms, self._settings)
        self._remember(matching(spans, ready))
        self._waiting = matching(spans, ~ready).combine_chunks()

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

    def _late(self, fresh: pa.Table) -> set[bytes]:
        """Traces that were judged before and got more spans now."""
        ids = codes(fresh["trace_id"])[1]
        late = [trace for trace in ids if trace in self._judged]
        return set(late[:_MAX_LATE_TRACES])

    def _fragments(self, ready: pa.Table) -> set[bytes]:
        """Traces that are judged incomplete: the store may hold an older part of them."""
        if not len(ready):
            return set()
        traces, distinct = codes(ready["trace_id"])
        broken = np.unique(traces[_orphans(ready)])
        return {distinct[code] for code in broken.tolist()[:_MAX_LATE_TRACES]}

    def _bounded(self, spans: pa.Table, ready: BoolArray) -> BoolArray:
        """Also the oldest arrivals, where more would wait than may."""
        excess = int((~ready).sum()) - self._settings.max_pending_spans
        if excess <= 0:
            return ready
        waiting = np.flatnonzero(~ready)
        traces, _ = codes(spans["trace_id"])
        return ready | np.isin(traces, traces[waiting[:excess]])

    def _remember(self, judged: pa.Table) -> None:
        for trace in codes(judged["trace_id"])[1]:
            self._judged[trace] = None
            self._judged.move_to_end(trace)
        while len(self._judged) > _MAX_JUDGED:
            self._judged.popitem(last=False)


def _empty() -> pa.Table:
    return SPAN_READ_SCHEMA.empty_table()


def _typed(table: pa.Table) -> pa.Table:
    return table.select(SPAN_READ_SCHEMA.names).cast(SPAN_READ_SCHEMA)


def _of_traces(spans: pa.Table, traces: Iterable[bytes]) -> BoolArray:
    wanted = set(traces)
    if not wanted or not len(spans):
        return np.zeros(len(spans), dtype=np.bool_)
    numbers, distinct = codes(spans["trace_id"])
    return np.array([trace in wanted for trace in distinct], dtype=np.bool_)[numbers]


def _orphans(spans: pa.Table) -> BoolArray:
    """Spans whose parent is named and missing, where no request enters from outside."""
    traces, _ = codes(spans["trace_id"])
    ids = pa.chunked_array([*spans["span_id"].chunks, *spans["parent_span_id"].chunks], pa.binary())
    numbers, distinct = codes(ids)
    width = len(distinct) + 2
    own: Int64Array = traces.astype(np.int64) * width + numbers[: len(spans)]
    parent = numbers[len(spans) :]
    above = np.where(parent >= 0, traces.astype(np.int64) * width + parent, -1)
    kind = ints(spans, "kind")
    outside = (kind == SERVER) | (kind == CONSUMER)
    orphans: BoolArray = (parent >= 0) & (places(own, above) < 0) & ~outside
    return orphans


def _ready(spans: pa.Table, now_ms: int, settings: RunnerSettings) -> BoolArray:
    """For each span: may its trace be judged?"""
    if not len(spans):
        return np.zeros(0, dtype=np.bool_)
    traces, distinct = codes(spans["trace_id"])
    arrival = np.minimum(ints(spans, "received_ms"), now_ms)
    latest = np.full(len(distinct), np.iinfo(np.int64).min, dtype=np.int64)
    np.maximum.at(latest, traces, arrival)
    broken = np.bincount(traces[_orphans(spans)], minlength=len(distinct)) > 0
    quiet = np.where(broken, settings.incomplete_after_ms, settings.settle_ms)
    ready: BoolArray = (now_ms - latest >= quiet)[traces]
    return ready
