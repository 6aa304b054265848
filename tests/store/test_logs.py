"""Logs in the store: found wherever they lie, aged, and there after an upgrade."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.backends.duckdb import DuckDBStore, StoreLimits
from store.errors import BadInput
from store.model import LOG_READ_SCHEMA, LOG_SCHEMA, LogBatch
from store.ports import LogQuery

HOUR_MS = 3_600_000
NOW_MS = 1_790_000_000_000
ALL_NS = 2**62
# Nothing is flushed by itself: the tests say when.
BY_HAND = StoreLimits(flush_rows=10**9, flush_bytes=10**12, flush_interval_s=3600.0)


def log(number: int, **other: Any) -> dict[str, Any]:
    return {
        "ts_ns": (number * 7919) % 101,
        "severity": number % 25,
        "service": ("shop", "pay")[number % 2],
        "body": f"Order {number} paid",
        "event_name": "checkout" if number % 5 == 0 else None,
        "trace_id": bytes([number % 4] * 16) if number % 4 else None,
        "attributes": f'{{"sku":"B-{number}"}}',
        "received_ms": number,
        **other,
    }


def put(store: DuckDBStore, rows: list[dict[str, Any]]) -> None:
    store.append(LogBatch(pa.Table.from_pylist(rows, schema=LOG_SCHEMA))).result(timeout=60)


def flush(store: DuckDBStore) -> None:
    store._writer.run(lambda connection: None).result(timeout=60)


def numbers(found: pa.Table) -> list[int]:
    seen: list[int] = found.column("received_ms").to_numpy().tolist()
    return seen


def expected(rows: list[dict[str, Any]], query: LogQuery) -> list[int]:
    """What the query means, said in Python."""

    def fits(row: dict[str, Any]) -> bool:
        texts = filter(None, (row["event_name"], row["body"], row["attributes"]))
        return (
            query.start_ns <= row["ts_ns"] <= query.end_ns
            and query.service in {None, row["service"]}
            and row["severity"] >= query.min_severity
            and query.trace_id in {None, row["trace_id"]}
            and any((query.text or "").lower() in text.lower() for text in texts)
        )

    places = [place for place, row in enumerate(rows) if fits(row)]
    places.sort(key=lambda place: (-rows[place]["ts_ns"], -place))
    return [rows[place]["received_ms"] for place in places][: query.limit]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A third in the database, a third that was flushed later, a third ahead of it."""
    with DuckDBStore.open(tmp_path_factory.mktemp("logs"), limits=BY_HAND) as store:
        for part in range(3):
            put(store, [log(number) for number in range(part * 40, part * 40 + 40)])
            if part < 2:
                flush(store)
        yield store


queries = st.builds(
    LogQuery,
    start_ns=st.integers(0, 101),
    end_ns=st.integers(0, 101),
    service=st.sampled_from([None, "shop", "pay", "nobody"]),
    min_severity=st.integers(0, 24),
    trace_id=st.sampled_from([None, bytes([1] * 16), bytes([9] * 16)]),
    text=st.sampled_from([None, "order 1", "CHECKOUT", "sku", "b-3", "%", "ord_r", "\\", "'", ""]),
    limit=st.integers(0, 130),
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(query=queries)
def test_a_search_finds_what_it_says_wherever_it_lies(filled: DuckDBStore, query: LogQuery) -> None:
    found = filled.logs(query)
    assert found.schema.equals(LOG_READ_SCHEMA)
    assert numbers(found) == expected([log(number) for number in range(120)], query)


@pytest.mark.parametrize("size", [1, 7, 119, 120, 500])
def test_pages_hold_each_record_once(filled: DuckDBStore, size: int) -> None:
    seen: list[int] = []
    before: tuple[int, int] | None = None
    while True:
        page = filled.logs(LogQuery(0, ALL_NS, before=before, limit=size))
        seen += numbers(page)
        if page.num_rows < size:
            break
        before = (page.column("ts_ns")[-1].as_py(), page.column("seq")[-1].as_py())
    assert seen == expected([log(number) for number in range(120)], LogQuery(0, ALL_NS, limit=120))


def test_old_records_go_by_age_and_their_numbers_never_come_back(tmp_path: Path) -> None:
    old, new = (NOW_MS - 5 * HOUR_MS) * 10**6, (NOW_MS - HOUR_MS) * 10**6
    with DuckDBStore.open(tmp_path, limits=BY_HAND) as store:
        put(store, [log(1, ts_ns=new), log(2, ts_ns=old)])
        done = store.retain(NOW_MS, 3 * HOUR_MS)
        assert done.rows["logs"] == 1
        assert numbers(store.logs(LogQuery(0, ALL_NS))) == [1]
        done = store.retain(NOW_MS + 9 * HOUR_MS, 3 * HOUR_MS)
        assert done.rows["logs"] == 1
    with DuckDBStore.open(tmp_path, limits=BY_HAND) as store:
        put(store, [log(3)])
        assert store.logs(LogQuery(0, ALL_NS)).column("seq").to_pylist() == [3]


def many(hour: int, count: int, first_ns: int) -> LogBatch:
    """As many as fill a row group: DuckDB gives the room of whole ones back."""
    noise = np.random.default_rng(hour).integers(0, 2**62, count)
    cells = {
        "ts_ns": pa.array(np.arange(first_ns, first_ns + count)),
        "severity": pa.array(np.full(count, 9, dtype=np.int8)),
        "service": pa.array(["shop"] * count),
        "body": pa.array(noise).cast(pa.string()),
        "received_ms": pa.array(np.full(count, hour)),
    }
    empty = {field.name: pa.nulls(count, field.type) for field in LOG_SCHEMA}
    return LogBatch(pa.table({**empty, **cells}, schema=LOG_SCHEMA))


def test_the_oldest_records_go_where_there_is_no_room(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path, limits=BY_HAND) as store:
        for hour in range(4):
            first_ns = (NOW_MS - (4 - hour) * HOUR_MS) * 10**6
            store.append(many(hour, 122_880, first_ns)).result(timeout=60)
            flush(store)
        used = store.reclaim()
        done = store.retain(NOW_MS, 400 * 24 * HOUR_MS, max_bytes=used * 2 // 3)
        assert done.used_bytes <= used * 2 // 3
        left = set(numbers(store.logs(LogQuery(0, ALL_NS, limit=10**6))))
        assert left
        assert left == set(range(min(left), 4)) != set(range(4))


def test_a_store_from_before_logs_takes_them(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path):
        pass
    with duckdb.connect(str(tmp_path / "telemetry.duckdb")) as connection:
        connection.execute("DROP TABLE logs")
        connection.execute("UPDATE meta SET value = 2 WHERE key = 'version'")
    with DuckDBStore.open(tmp_path) as store:
        put(store, [log(1)])
        assert store.logs(LogQuery(0, ALL_NS)).num_rows == 1
        assert store.stats().logs == store.stats().logs_written == 1


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"body": ["x"]}),
        pa.Table.from_pylist([log(1) | {"service": None}], schema=LOG_SCHEMA),
    ],
)
def test_columns_that_are_no_logs_are_refused(table: pa.Table) -> None:
    with DuckDBStore.open(None) as store, pytest.raises(BadInput):
        store.append(LogBatch(table))
