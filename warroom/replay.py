"""Stored history as it was seen at some instant: a store that only moves forward in time.

Readers see samples up to `now_ms`, and spans and events that had arrived by then. What rules record
during the replay is kept in memory and stands in for what was recorded back then; nothing is ever
written to the store.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectors.traces.columns import ints, matching
from store.errors import LimitExceeded
from store.model import (
    METRIC_NAME,
    Batch,
    Labels,
    Matcher,
    MatchOp,
    SampleBatch,
    SeriesSet,
)
from store.ports import (
    ROLLUP_MS,
    EventReader,
    RollupReader,
    RollupSet,
    RollupSpan,
    SeriesCatalog,
    SeriesReader,
    SpanReader,
    TraceQuery,
)
from store.promql.selectors import matcher_passes

_MAX_RECORDED = 20_000_000
_FIRST_STEP = 1_024
_EVER_MS = 2**62
_NOTHING = SeriesSet((), np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0))


class History(SeriesReader, SeriesCatalog, RollupReader, SpanReader, EventReader, Protocol):
    """A store that can be read in every way that judges need."""


class Replay:
    """A view of a store. Not thread-safe.

    Args:
        history: The store, which is only read.
        start_ms: From here on recorded series are those of the replay.

    Attributes:
        now_ms: Nothing later is seen.
        stored: Names of metrics that the store has.
    """

    def __init__(self, history: History, start_ms: int) -> None:
        self._history = history
        self._start_ms = start_ms
        # Most of what rules ask for is not there: that is known once.
        self.stored = frozenset(history.label_values(METRIC_NAME, (), 0, _EVER_MS))
        self._recorded: set[str] = set()
        self._kept: dict[str, dict[Labels, tuple[array[int], array[float]]]] = {}
        self._count = 0
        self._span_seq: int | None = None
        self.now_ms = start_ms

    # -- what is recorded -----------------------------------------------------

    def hide(self, names: Iterable[str]) -> None:
        """Names that rules record: what was stored of them since the start is not seen."""
        self._recorded.update(names)

    def append(self, batch: Batch) -> Future[None]:
        """Keep what a rule recorded.

        Raises:
            LimitExceeded: More was recorded than memory should hold.
        """
        assert isinstance(batch, SampleBatch)  # rules, SLOs and figures record nothing else
        rows = zip(
            batch.series_index.tolist(), batch.ts_ms.tolist(), batch.values.tolist(), strict=True
        )
        for place, at_ms, value in rows:
            labels = batch.series[place]
            self._recorded.add(labels.metric)
            times, values = self._kept.setdefault(labels.metric, {}).setdefault(
                labels, (array("q"), array("d"))
            )
            if times and at_ms <= times[-1]:
                continue  # judged twice at one instant
            times.append(at_ms)
            values.append(value)
            self._count += 1
        if self._count > _MAX_RECORDED:
            raise LimitExceeded(
                f"the rules recorded more than {_MAX_RECORDED:,} samples",
                reason="replay",
                hint="choose a shorter time, or a longer --step",
            )
        done: Future[None] = Future()
        done.set_result(None)
        return done

    # -- samples --------------------------------------------------------------

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        max_samples: int = 50_000_000,
    ) -> SeriesSet:
        end_ms = min(end_ms, self.now_ms)
        name = _name(matchers)
        if name is not None and name not in self._recorded:
            if name not in self.stored:
                return _NOTHING
            return self._history.select(matchers, start_ms, end_ms, max_samples=max_samples)
        if name is None:
            stored = self._history.select(matchers, start_ms, end_ms, max_samples=max_samples)
        else:
            before_ms = min(end_ms, self._start_ms - 1)
            stored = self._history.select(matchers, start_ms, before_ms, max_samples=max_samples)
        return self._merged(stored, self._chosen(matchers, name, start_ms, end_ms))

    def _chosen(
        self, matchers: Sequence[Matcher], name: str | None, start_ms: int, end_ms: int
    ) -> dict[Labels, tuple[array[int], array[float]]]:
        names = self._kept if name is None else {name} & self._kept.keys()
        found = {}
        for metric in names:
            for labels, (times, values) in self._kept[metric].items():
                if all(matcher_passes(one, labels.get(one.name)) for one in matchers):
                    low, high = bisect_left(times, start_ms), bisect_right(times, end_ms)
                    if high > low:
                        found[labels] = (times[low:high], values[low:high])
        return found

    def _merged(
        self, stored: SeriesSet, kept: dict[Labels, tuple[array[int], array[float]]]
    ) -> SeriesSet:
        if not kept and not any(labels.metric in self._recorded for labels in stored.series):
            return stored
        series: list[Labels] = []
        times, values = [], []
        for place, labels in enumerate(stored.series):
            part = slice(int(stored.offsets[place]), int(stored.offsets[place + 1]))
            ts, column = stored.ts_ms[part], stored.values[part]
            if labels.metric in self._recorded:
                old = ts < self._start_ms
                ts, column = ts[old], column[old]
            new = kept.pop(labels, None)
            if new is not None:
                ts = np.concatenate((ts, np.array(new[0], dtype=np.int64)))
                column = np.concatenate((column, np.array(new[1])))
            if len(ts):
                series.append(labels)
                times.append(ts)
                values.append(column)
        for labels, (at_ms, numbers) in kept.items():
            series.append(labels)
            times.append(np.array(at_ms, dtype=np.int64))
            values.append(np.array(numbers))
        lengths = [len(part) for part in times]
        return SeriesSet(
            tuple(series),
            np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            np.concatenate(times) if times else np.empty(0, np.int64),
            np.concatenate(values) if values else np.empty(0),
        )

    def raw_after_ms(self) -> int:
        return self._history.raw_after_ms()

    def rollup_span(self) -> RollupSpan:
        """Roll-ups end where the replay begins: they hold nothing of what it records."""
        span = self._history.rollup_span()
        start_ms = self._start_ms // ROLLUP_MS * ROLLUP_MS
        return RollupSpan(min(span.rolled_until_ms, start_ms), span.raw_after_ms)

    def rollups(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        columns: Sequence[str],
        max_samples: int = 50_000_000,
    ) -> RollupSet:
        return self._history.rollups(
            matchers, start_ms, min(end_ms, self.now_ms), columns=columns, max_samples=max_samples
        )

    # -- spans ----------------------------------------------------------------

    def spans_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        """Spans that arrived since the replay's start, up to now."""
        if self._span_seq is None:
            self._span_seq = self._last_before_start()
        page = self._history.spans_after(max(seq, self._span_seq), limit=limit)
        return _arrived(page, self.now_ms)

    def traces(self, trace_ids: Sequence[bytes]) -> pa.Table:
        found = self._history.traces(trace_ids)
        return matching(found, ints(found, "received_ms") <= self.now_ms)

    def find_traces(self, query: TraceQuery) -> list[bytes]:
        end_ns = min(query.end_ns, self.now_ms * 1_000_000)
        return self._history.find_traces(
            replace(query, end_ns=end_ns, received_until_ms=self.now_ms)
        )

    def services(self, *, kind: int | None = None) -> dict[str, list[str]]:
        """Those of which a span had arrived; slow, as each is asked for."""
        seen = {
            service: [name for name in names if self._had_arrived(service, name)]
            for service, names in self._history.services(kind=kind).items()
        }
        return {service: names for service, names in seen.items() if names}

    def _had_arrived(self, service: str, operation: str) -> bool:
        end_ns = self.now_ms * 1_000_000
        query = TraceQuery(0, end_ns, service=service, operation=operation, limit=1)
        return bool(self.find_traces(query))

    def _last_before_start(self) -> int:
        """The number of the last span that had arrived before the start: bisection by arrival."""
        low, high = 0, _FIRST_STEP
        while self._is_before(high):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._is_before(middle) else (low, middle)
        return low

    def _is_before(self, seq: int) -> bool:
        """Is there a span from `seq` on, and did it arrive before the start?"""
        page = self._history.spans_after(seq - 1, limit=1)
        return bool(len(page)) and int(ints(page, "received_ms")[0]) < self._start_ms

    # -- events ---------------------------------------------------------------

    def events(
        self, start_ms: int, end_ms: int, *, types: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> pa.Table:
        wanted = tuple(dict.fromkeys((*columns, "received_ms"))) if columns else ()
        found = self._history.events(start_ms, end_ms, types=types, columns=wanted)
        known = matching(found, ints(found, "received_ms") <= self.now_ms)
        return known.select(list(columns)) if columns else known

    def events_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        return _arrived(self._history.events_after(seq, limit=limit), self.now_ms)


def _arrived(page: pa.Table, now_ms: int) -> pa.Table:
    """The rows in front that had arrived: a reader goes on behind the last of them."""
    late: int = pc.index(
        pc.greater(page["received_ms"], pa.scalar(now_ms)), pa.scalar(value=True)
    ).as_py()
    return page if late < 0 else page.slice(0, late)


def _name(matchers: Sequence[Matcher]) -> str | None:
    """The one metric that is asked for, if it is one."""
    for matcher in matchers:
        if matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL:
            return matcher.value
    return None
