"""What waits for the rest of its trace keeps its own texts, and none of those read beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.micro_batch import MicroBatch, MicroBatcher
from detectors.settings import RunnerSettings
from detectors.traces.columns import matching
from tests.detectors.corpus import T0_NS, TraceBuilder
from tests.detectors.stored_spans import StoredSpans

NOW_MS = T0_NS // 1_000_000


def _busy(tick: int) -> list[dict[str, Any]]:
    """Whole traces, and one whose parent never comes."""
    rows: list[dict[str, Any]] = []
    for number in range(20):
        trace = TraceBuilder(tick * 100 + number + 1)
        for turn in range(5):
            trace.query("SELECT a FROM b", 3 + turn, attributes={"user": f"{tick}-{number}-{turn}"})
        rows += trace.rows
    lost = TraceBuilder(1_000_000 + tick).rows[0]
    return [*rows, {**lost, "parent_span_id": b"\x77" * 8, "kind": 1}]


def _texts(batch: MicroBatch) -> int:
    column: Any = batch.ready["attributes"]
    return sum(len(chunk.dictionary) for chunk in column.chunks)


def test_texts_are_let_go_with_their_spans_while_an_incomplete_trace_always_waits() -> None:
    told = RunnerSettings()
    spans, batcher, now_ms = StoredSpans(), MicroBatcher(told), NOW_MS
    ticks, held = 40, []
    for tick in range(ticks):
        spans.append(_busy(tick), now_ms)
        batch = batcher.next(spans, now_ms)
        assert batch.waiting
        held.append(_texts(batch))
        now_ms += told.settle_ms
    assert sum(held) > ticks * 50  # most traces were given out
    # Two ticks of texts at the most; without an end it would be all 40.
    assert max(held) <= 2 * 20 * 5 + 64


_TEXTS = pa.array([f"text {number}" for number in range(300)])
_CHUNKS = st.lists(
    st.lists(st.none() | st.integers(0, len(_TEXTS) - 1), max_size=200), min_size=1, max_size=3
)


@settings(deadline=None)
@given(_CHUNKS, st.randoms(use_true_random=False))
def test_the_rows_that_are_left_have_their_texts(chunks: list[list[int | None]], dice: Any) -> None:
    coded: list[Any] = [
        pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), _TEXTS) for places in chunks
    ]
    table = pa.table({"text": pa.chunked_array(coded), "n": range(sum(map(len, chunks)))})
    mask = np.array([dice.random() < 0.3 for _ in range(len(table))], dtype=np.bool_)
    left = matching(table, mask)
    left.validate(full=True)
    assert left.schema == table.schema
    marked = [row for row, kept in zip(table.to_pylist(), mask.tolist(), strict=True) if kept]
    assert left.to_pylist() == marked
    column: Any = left["text"]
    assert all(len(chunk.dictionary) <= 2 * len(chunk) + 64 for chunk in column.chunks)
