"""Spans kept in a table: what a store answers, without a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from store.model import SPAN_READ_SCHEMA
from store.ports import TraceQuery


class StoredSpans:
    """A `SpanReader`; `append` gives each span its `seq` and its time of arrival."""

    def __init__(self) -> None:
        self._table = SPAN_READ_SCHEMA.empty_table()
        self._seq = 0

    def append(self, rows: Iterable[dict[str, Any]], received_ms: int) -> None:
        added = []
        for row in rows:
            self._seq += 1
            added.append({**row, "seq": self._seq, "received_ms": received_ms})
        table = pa.Table.from_pylist(added, schema=SPAN_READ_SCHEMA)
        self._table = pa.concat_tables([self._table, table])

    def spans_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        return self._table.filter(pc.field("seq") > seq).slice(0, limit)

    def traces(self, trace_ids: Sequence[bytes]) -> pa.Table:
        return self._table.filter(pc.field("trace_id").isin(list(trace_ids)))

    def find_traces(self, query: TraceQuery) -> list[bytes]:
        ids = {bytes(trace) for trace in self._table["trace_id"].to_pylist() if trace is not None}
        return sorted(ids)[: query.limit]

    def services(self, *, kind: int | None = None) -> dict[str, list[str]]:
        return {}
