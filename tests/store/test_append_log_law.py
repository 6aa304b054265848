"""What readers see is the same wherever a row lies: in the log, on its way, or in the database."""

import shutil
import threading
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from store.backends.duckdb import DuckDBStore, StoreLimits
from store.backends.duckdb.database import Connection
from store.backends.duckdb.flush import Flusher
from store.errors import BadInput, StoreUnavailable
from store.model import (
    EVENT_SCHEMA,
    SPAN_SCHEMA,
    EventBatch,
    Exemplar,
    Labels,
    Matcher,
    MatchOp,
    SampleBatch,
    SpanBatch,
)
from store.ports import TraceQuery

MINUTE_MS = 60_000
# Only the flushes that a test asks for.
BY_HAND = {"flush_interval_s": 3600.0, "log_segment_bytes": 2_000}

rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 99)), min_size=1, max_size=8
)
steps = st.lists(
    st.one_of(
        rows.map(lambda found: ("append", found)),
        st.sampled_from([("flush", None), ("crash", None), ("restart", None), ("stuck", None)]),
    ),
    min_size=1,
    max_size=10,
)


def series(number: int) -> Labels:
    return Labels.of(__name__="m", n=str(number))


class World:
    """A store that is flushed, restarted and killed; and a dict that remembers what it was told."""

    def __init__(self, directory: Path, limits: StoreLimits) -> None:
        self._directory = directory
        self._limits = limits
        self._copies = 0
        directory.mkdir()
        self.store = DuckDBStore.open(directory, limits=limits)
        self.told: dict[tuple[int, int], float] = {}

    def append(self, found: list[tuple[int, int, int]]) -> None:
        batch = [(series(n), minute * MINUTE_MS, float(value)) for n, minute, value in found]
        self.store.append(SampleBatch.of_rows(batch)).result(timeout=60)
        for n, minute, value in found:
            self.told[n, minute * MINUTE_MS] = float(value)

    def flush(self, _: None) -> None:
        self.store._writer.run(lambda connection: None).result(timeout=60)

    def stuck(self, _: None) -> None:
        """A generation on its way into the database, which never arrives by itself."""
        self.store._ingest.tail.freeze()

    def restart(self, _: None) -> None:
        self.store.close()
        self.store = DuckDBStore.open(self._directory, limits=self._limits)

    def crash(self, _: None) -> None:
        """What the disk holds now, opened by the next process."""
        self._copies += 1
        copy = self._directory.with_name(f"{self._directory.name}-{self._copies}")
        shutil.copytree(self._directory, copy)
        self.store.close()
        self._directory = copy
        self.store = DuckDBStore.open(copy, limits=self._limits)
        assert not self.store.recovery.lost_data

    def check(self, start_ms: int, end_ms: int) -> None:
        found = self.store.select([Matcher("__name__", MatchOp.EQUAL, "m")], start_ms, end_ms)
        bounds = found.offsets.tolist()
        seen = {
            (int(labels.get("n")), ts_ms): value
            for i, labels in enumerate(found.series)
            for ts_ms, value in zip(
                found.ts_ms[bounds[i] : bounds[i + 1]].tolist(),
                found.values[bounds[i] : bounds[i + 1]].tolist(),
                strict=True,
            )
        }
        assert len(seen) == len(found.ts_ms)
        assert seen == {
            (n, ts_ms): value
            for (n, ts_ms), value in self.told.items()
            if start_ms <= ts_ms <= end_ms
        }


@settings(max_examples=25)
@given(
    steps=steps,
    window=st.sampled_from([0, 10 * MINUTE_MS]),
    start=st.integers(0, 40),
    length=st.integers(0, 40),
)
def test_any_course_of_writes_flushes_and_crashes_reads_like_a_dict(
    tmp_path_factory: pytest.TempPathFactory, steps: Any, window: int, start: int, length: int
) -> None:
    limits = StoreLimits(head_window_ms=window, **BY_HAND)  # type: ignore[arg-type]
    world = World(tmp_path_factory.mktemp("course") / "data", limits=limits)
    try:
        for step, found in steps:
            getattr(world, step)(found)
            world.check(start * MINUTE_MS, (start + length) * MINUTE_MS)
        world.check(0, 10**9)
    finally:
        world.store.close()


def test_readers_see_whole_batches_while_rounds_move_into_the_database(tmp_path: Path) -> None:
    limits = StoreLimits(
        head_window_ms=0, flush_rows=60, flush_interval_s=0.01, log_segment_bytes=2_000
    )
    labels = [series(n) for n in range(20)]
    stop = threading.Event()
    torn: list[object] = []
    with DuckDBStore.open(tmp_path, limits=limits) as store:

        def read() -> None:
            least = 0
            while not stop.is_set():
                found = store.select([Matcher("__name__", MatchOp.EQUAL, "m")], 0, 10**9)
                lengths = set(np.diff(found.offsets).tolist())
                rows = len(found.ts_ms)
                if len(lengths) > 1 or len(found.series) not in {0, 20} or rows < least:
                    torn.append((lengths, len(found.series), rows, least))
                least = rows

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for second in range(150):
            batch = SampleBatch.of_rows([(one, second * 1_000, 1.0) for one in labels])
            store.append(batch).result(timeout=60)
        stop.set()
        for reader in readers:
            reader.join()
        assert torn == []
        assert len(store.select([], 0, 10**9).ts_ms) == 3_000


def span(number: int, **other: Any) -> dict[str, Any]:
    return {
        "trace_id": (number // 3).to_bytes(16, "big"),
        "span_id": number.to_bytes(8, "big"),
        "start_ns": number * 10,
        "end_ns": number * 10 + 5,
        "service": f"s{number % 2}",
        "name": f"op{number % 3}",
        "kind": 2,
        "status": 0,
        "received_ms": number,
        **other,
    }


def event(number: int) -> dict[str, Any]:
    return {
        "event_id": str(number),
        "source": "web",
        "type": ("purchase", "refund")[number % 2],
        "ts_ms": 1_000 - number,
        "bot": False,
        "test": False,
        "received_ms": number,
    }


def put_spans(store: DuckDBStore, numbers: range) -> None:
    table = pa.Table.from_pylist([span(number) for number in numbers], schema=SPAN_SCHEMA)
    store.append(SpanBatch(table)).result(timeout=60)


def put_events(store: DuckDBStore, numbers: range) -> None:
    table = pa.Table.from_pylist([event(number) for number in numbers], schema=EVENT_SCHEMA)
    store.append(EventBatch(table)).result(timeout=60)


def flushed(store: DuckDBStore) -> None:
    store._writer.run(lambda connection: None).result(timeout=60)


@pytest.mark.parametrize("flush_after", [(), (0,), (1,), (0, 1), (2,)])
def test_spans_and_events_read_the_same_wherever_they_lie(
    tmp_path: Path, flush_after: tuple[int, ...]
) -> None:
    limits = StoreLimits(**BY_HAND)  # type: ignore[arg-type]
    with DuckDBStore.open(tmp_path, limits=limits) as store:
        for part in range(3):
            put_spans(store, range(part * 10, part * 10 + 10))
            put_events(store, range(part * 10, part * 10 + 10))
            if part in flush_after:
                flushed(store)
        put_events(store, range(5, 25))  # all of them again
        for after, limit in ((0, 100), (0, 7), (9, 3), (10, 100), (15, 10), (29, 5), (30, 5)):
            seqs = store.spans_after(after, limit=limit).column("seq").to_pylist()
            assert seqs == list(range(after + 1, 31))[:limit]
            assert store.events_after(after, limit=limit).column("seq").to_pylist() == seqs
        wanted = [number.to_bytes(16, "big") for number in (0, 3, 9)]
        spans = store.traces(wanted).column("span_id").to_pylist()
        expected = [number for number in range(30) if number // 3 in {0, 3, 9}]
        assert spans == [number.to_bytes(8, "big") for number in expected]
        found = store.find_traces(TraceQuery(0, 10**9, operation="op1", limit=4))
        assert [int.from_bytes(one, "big") for one in found] == [9, 8, 7, 6]
        assert store.services() == {name: ["op0", "op1", "op2"] for name in ("s0", "s1")}
        times = store.events(975, 995, types=["refund"]).column("ts_ms").to_pylist()
        assert times == [number for number in range(975, 995) if number % 2]
        stats = store.stats()
        assert (stats.spans, stats.events, stats.spans_written, stats.events_written) == (30,) * 4


class _Doubting(Flusher):
    """Its first commit arrives, and is reported as failed."""

    commits = 0

    @override
    def _commit(self, connection: Connection) -> None:
        super()._commit(connection)
        self.commits += 1
        if self.commits == 1:
            raise duckdb.IOException("could not write file")


def test_a_commit_that_arrived_although_it_reported_a_failure_is_not_repeated(
    tmp_path: Path,
) -> None:
    limits = StoreLimits(**BY_HAND)  # type: ignore[arg-type]
    with DuckDBStore.open(tmp_path, limits=limits) as store:
        store._writer._flusher = _Doubting(store._ingest.tail, store._ingest.log, store._database)
        put_spans(store, range(5))
        with pytest.raises(StoreUnavailable):
            flushed(store)
        flushed(store)
        put_spans(store, range(5, 8))
    with DuckDBStore.open(tmp_path) as store:
        assert store.spans_after(0).column("seq").to_pylist() == list(range(1, 9))


def test_exemplars_and_metadata_are_seen_before_and_after_the_flush(tmp_path: Path) -> None:
    examples = tuple(
        Exemplar(series(0), Labels.of(trace_id=str(n)), n * 1_000, float(n)) for n in (1, 2)
    )
    with DuckDBStore.open(tmp_path) as store:
        for example in examples:
            batch = SampleBatch.of_rows([(series(0), example.ts_ms, 1.0)], exemplars=(example,))
            store.append(batch).result(timeout=60)
            assert example in store.exemplars([], 0, 9_000)
            flushed(store)
        assert store.exemplars([], 0, 9_000) == list(examples)


def test_a_span_with_bytes_that_are_no_text_is_refused_before_it_is_acknowledged(
    tmp_path: Path,
) -> None:
    good = pa.Table.from_pylist([span(1)], schema=SPAN_SCHEMA)
    offsets = pa.py_buffer(np.array([0, 2], dtype=np.int32).tobytes())
    broken = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    place = SPAN_SCHEMA.get_field_index("service")
    bad = good.set_column(place, SPAN_SCHEMA.field("service"), broken)
    with DuckDBStore.open(tmp_path) as store:
        with pytest.raises(BadInput, match="type"):
            store.append(SpanBatch(bad))
        store.append(SpanBatch(good)).result(timeout=60)
        assert store.spans_after(0).num_rows == 1
