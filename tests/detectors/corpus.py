"""Labelled traces: each bad shape, and the harmless twin that looks like it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from store.model import SPAN_READ_SCHEMA

T0_NS = 1_700_000_000_000_000_000
MS = 1_000_000
INTERNAL, SERVER, CLIENT = 1, 2, 3


class TraceBuilder:
    """Builds one trace; times are milliseconds after its start."""

    def __init__(
        self, number: int = 1, *, service: str = "shop", route: str = "products/", ms: float = 100.0
    ) -> None:
        self.trace_id = number.to_bytes(16, "big")
        self.rows: list[dict[str, Any]] = []
        self.root = self.span(
            "GET " + route, None, 0.0, ms, service=service, kind=SERVER, http_route=route,
            http_method="GET",
        )  # fmt: skip

    def span(
        self, name: str, parent: bytes | None, start: float, ms: float, **columns: Any
    ) -> bytes:
        span_id = (len(self.rows) + 1).to_bytes(8, "big")
        attributes = columns.pop("attributes", None)
        row = {
            "trace_id": self.trace_id,
            "span_id": span_id,
            "parent_span_id": parent,
            "start_ns": T0_NS + int(start * MS),
            "end_ns": T0_NS + int((start + ms) * MS),
            "service": "shop",
            "name": name,
            "kind": INTERNAL,
            "status": 0,
            "attributes": orjson.dumps(attributes).decode() if attributes else None,
            "received_ms": T0_NS // MS,
            "seq": 0,
            **columns,
        }
        self.rows.append(row)
        return span_id

    def query(
        self, statement: str, start: float, ms: float = 1.0, *, parent: bytes | None = None,
        system: str = "mysql", **columns: Any,
    ) -> bytes:  # fmt: skip
        return self.span(
            statement.partition(" ")[0], parent or self.root, start, ms, kind=CLIENT,
            db_system=system, statement=statement, **columns,
        )  # fmt: skip

    def call(
        self, url: str, start: float, ms: float = 5.0, *, parent: bytes | None = None,
        method: str = "GET", **columns: Any,
    ) -> bytes:  # fmt: skip
        return self.span(
            method, parent or self.root, start, ms, kind=CLIENT, url=url, http_method=method,
            **columns,
        )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A labelled trace: the kinds that must be found, each once; none for a harmless one."""

    name: str
    rows: tuple[dict[str, Any], ...]
    expected: tuple[str, ...] = ()
    repetitions: int = 0
    complete: bool = True
    gates: tuple[str, ...] = field(default=())


def table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Rows as stored spans, with `seq` in their order where it is not set."""
    numbered = [{**row, "seq": row["seq"] or place + 1} for place, row in enumerate(rows)]
    return pa.Table.from_pylist(numbered, schema=SPAN_READ_SCHEMA)


def cases() -> list[Case]:
    makers = [value for name, value in sorted(globals().items()) if name.startswith("case_")]
    return [maker() for maker in makers]


BY_ID = "SELECT name FROM shop_category WHERE id = %s LIMIT 21"


def case_loop_over_an_orm_relation() -> Case:
    trace = TraceBuilder()
    trace.query("SELECT id FROM shop_product LIMIT 20", 1)
    for turn in range(20):
        trace.query(BY_ID, 3 + turn * 2)
    return Case("queries in a loop", tuple(trace.rows), ("n_plus_one_query",), 20)


def case_loop_with_literals() -> Case:
    trace = TraceBuilder()
    for turn in range(12):
        trace.query(f"SELECT name FROM shop_image WHERE product_id = {turn}", 3 + turn * 2)
    return Case("literals differ", tuple(trace.rows), ("n_plus_one_query",), 12)


def case_comments_differ() -> Case:
    trace = TraceBuilder()
    for turn in range(12):
        text = f"{BY_ID} /*route='products',traceparent='00-{turn:032x}-{turn:016x}-03'*/"
        trace.query(text, 3 + turn * 2)
    return Case("every query has its own comment", tuple(trace.rows), ("n_plus_one_query",), 12)


def case_connect_and_begin_between() -> Case:
    trace = TraceBuilder()
    for turn in range(8):
        trace.query("BEGIN", 3 + turn * 5, 0.1)
        trace.span("connect", trace.root, 3.2 + turn * 5, 0.2, kind=CLIENT, db_system="mysql")
        trace.query(BY_ID, 4 + turn * 5)
        trace.query("COMMIT", 6 + turn * 5, 0.1)
    return Case("connect and BEGIN between", tuple(trace.rows), ("n_plus_one_query",), 8)


def case_wrapper_spans() -> Case:
    trace = TraceBuilder()
    for turn in range(8):
        wrapper = trace.span(f"Category.get {turn}", trace.root, 3 + turn * 5, 3)
        trace.query(BY_ID, 4 + turn * 5, parent=wrapper)
    return Case("each query in a wrapper", tuple(trace.rows), ("n_plus_one_query",), 8)


def case_orm_and_driver_both_instrumented() -> Case:
    trace = TraceBuilder()
    for turn in range(8):
        outer = trace.query(BY_ID, 3 + turn * 5, 3)
        trace.query(BY_ID, 4 + turn * 5, 1, parent=outer)
    return Case("ORM span around driver span", tuple(trace.rows), ("n_plus_one_query",), 8)


def case_parallel_queries() -> Case:
    trace = TraceBuilder()
    for turn in range(10):
        trace.query(BY_ID, 3 + turn * 0.1, 20)
    return Case("all at the same time", tuple(trace.rows), ("n_plus_one_query",), 10)


def case_parallel_queries_named_by_their_texts() -> Case:
    trace = TraceBuilder()
    for turn in range(20):
        text = f"SELECT name FROM shop_product WHERE id = {turn}"
        trace.query(text, 1 + turn * 0.1, 50 - turn * 1.5)
        trace.rows[-1]["name"] = text
    return Case("one in another, names are texts", tuple(trace.rows), ("n_plus_one_query",), 20)


def case_parallel_queries_of_two_instrumentations() -> Case:
    trace = TraceBuilder()
    for turn in range(12):
        start, ms = 1 + turn * 0.1, 50 - turn * 1.5
        trace.query("SELECT name FROM shop_product WHERE id = %s", start, ms)
        text = f"SELECT name FROM shop_product WHERE id = {turn}"
        trace.query(text, start + 0.01, ms - 0.02)
        trace.rows[-1]["name"] = text
    return Case("in parallel, shown twice", tuple(trace.rows), ("n_plus_one_query",), 12)


def case_several_statements_a_turn() -> Case:
    trace = TraceBuilder()
    for turn in range(10):
        trace.query(BY_ID, 3 + turn * 6)
        trace.query("SELECT url FROM shop_image WHERE product_id = %s", 5 + turn * 6)
        trace.query("SELECT price FROM shop_price WHERE product_id = %s", 7 + turn * 6)
    return Case("M x N", tuple(trace.rows), ("n_plus_one_query",), 10)


def case_write_loop() -> Case:
    trace = TraceBuilder()
    for turn in range(10):
        trace.query("UPDATE shop_stock SET n = %s WHERE id = %s", 3 + turn * 3, 2)
    return Case("updates in a loop", tuple(trace.rows), ("n_plus_one_query",), 10)


def case_single_element_prefetch() -> Case:
    trace = TraceBuilder()
    for turn in range(10):
        trace.query("SELECT url FROM shop_image WHERE product_id IN (%s)", 3 + turn * 3, 2)
    return Case("prefetch per object", tuple(trace.rows), ("n_plus_one_query",), 10)


def case_calls_in_a_loop_across_services() -> Case:
    trace = TraceBuilder(route="cart/")
    for turn in range(8):
        client = trace.call(f"http://stock/items/{turn}", 3 + turn * 8, 6)
        server = trace.span(
            "GET items", client, 4 + turn * 8, 4, service="stock", kind=SERVER,
            http_route="items/<int:pk>",
        )  # fmt: skip
        trace.query("SELECT n FROM stock WHERE id = %s", 5 + turn * 8, 2, parent=server,
                    service="stock")  # fmt: skip
    return Case("stock check per cart item", tuple(trace.rows), ("n_plus_one_call",), 8)


def case_calls_without_client_spans() -> Case:
    trace = TraceBuilder(route="cart/")
    for turn in range(8):
        server = trace.span(
            "GET items", trace.root, 4 + turn * 8, 4, service="stock", kind=SERVER,
            http_route="items/<int:pk>",
        )  # fmt: skip
        trace.query("SELECT n FROM stock WHERE id = %s", 5 + turn * 8, 2, parent=server,
                    service="stock")  # fmt: skip
    return Case("caller not instrumented", tuple(trace.rows), ("n_plus_one_call",), 8)


def case_skewed_callee() -> Case:
    case = case_calls_in_a_loop_across_services()
    rows = tuple(
        {**row, "start_ns": row["start_ns"] + 9_000 * MS, "end_ns": row["end_ns"] + 9_000 * MS}
        if row["service"] == "stock"
        else row
        for row in case.rows
    )
    return Case("the callee's clock is 9 s ahead", rows, ("n_plus_one_call",), 8)


def case_cache_loop() -> Case:
    trace = TraceBuilder()
    for turn in range(15):
        trace.query(f"GET product:{turn}:price", 3 + turn, 0.5, system="redis")
    return Case("redis GET in a loop", tuple(trace.rows), ("n_plus_one_cache",), 15)


def case_same_key() -> Case:
    trace = TraceBuilder()
    for turn in range(9):
        trace.query("SELECT value FROM settings WHERE name = 'currency'", 3 + turn * 4, 2)
    return Case("same key again and again", tuple(trace.rows), ("repeated_query",), 9)


def case_paginated() -> Case:
    trace = TraceBuilder(ms=400)
    for turn in range(10):
        text = f"SELECT id FROM shop_product ORDER BY id LIMIT 100 OFFSET {turn * 100}"
        trace.query(text, 3 + turn * 30, 25)
    return Case("pages in a loop", tuple(trace.rows), ("paginated_loop",), 10)


def case_keyset_pages() -> Case:
    trace = TraceBuilder(ms=400)
    for turn in range(10):
        text = f"SELECT id FROM shop_product WHERE id > {turn * 100} ORDER BY id LIMIT 100"
        trace.query(text, 3 + turn * 30, 25)
    return Case("pages by key", tuple(trace.rows), ("paginated_loop",), 10)


def case_composite_span() -> Case:
    trace = TraceBuilder()
    trace.query(BY_ID, 3, 40, attributes={"composite.count": 30, "composite.sum": 38_000})
    return Case("compressed by the agent", tuple(trace.rows), ("n_plus_one_query",), 30)


def case_incomplete() -> Case:
    case = case_loop_over_an_orm_relation()
    rows = tuple(row for row in case.rows if row["kind"] != SERVER)
    return Case("the root is missing", rows, ("n_plus_one_query",), 20, complete=False)


def case_stable_conventions() -> Case:
    trace = TraceBuilder()
    for turn in range(9):
        trace.query("SELECT a FROM b WHERE id = $1", 3 + turn * 4, system="postgresql")
    return Case("PostgreSQL placeholders", tuple(trace.rows), ("n_plus_one_query",), 9)


def case_slow_query() -> Case:
    trace = TraceBuilder(ms=2_000)
    trace.query("SELECT id FROM shop_order WHERE email = %s", 3, 1_400)
    return Case("slow query", tuple(trace.rows), ("slow_query",), 1)


def case_consecutive_queries() -> Case:
    trace = TraceBuilder(ms=400)
    for turn, name in enumerate(("teaser", "menu", "banner")):
        trace.query(f"SELECT title FROM {name}", 3 + turn * 100, 90)
    return Case("independent queries", tuple(trace.rows), ("consecutive_queries",), 3)


def case_consecutive_calls() -> Case:
    trace = TraceBuilder(ms=1_500)
    for turn, name in enumerate(("reviews", "prices", "stock")):
        trace.call(f"http://{name}/items/42", 3 + turn * 450, 400)
    return Case("independent calls", tuple(trace.rows), ("consecutive_calls",), 3)


def case_blocking_call() -> Case:
    trace = TraceBuilder(route="checkout/confirm/", ms=1_000)
    trace.call("http://mail/send", 50, 800, method="POST")
    return Case("checkout waits for mail", tuple(trace.rows), ("blocking_call",), 1)


def case_pool_wait() -> Case:
    trace = TraceBuilder(ms=400)
    trace.span("pool.acquire", trace.root, 3, 180)
    trace.query(BY_ID, 190)
    return Case("waits for a connection", tuple(trace.rows), ("pool_wait",), 1)


# ---- harmless twins ----


def case_harmless_sleep() -> Case:
    trace = TraceBuilder(ms=2_000)
    trace.query("SELECT pg_sleep(1.5)", 3, 1_500, system="postgresql")
    return Case("waits on purpose", tuple(trace.rows), gates=("waits_on_purpose",))


def case_harmless_fast_query() -> Case:
    trace = TraceBuilder(ms=2_000)
    trace.query("SELECT id FROM shop_order WHERE email = %s", 3, 900)
    return Case("below a second", tuple(trace.rows))


def case_harmless_dependent_queries() -> Case:
    trace = TraceBuilder(ms=400)
    trace.query("SELECT id FROM a WHERE email = %s", 3, 90)
    trace.query("SELECT id FROM b WHERE a_id = %s", 103, 90)
    trace.query("SELECT id FROM c WHERE b_id = %s", 203, 90)
    return Case("each needs the last answer", tuple(trace.rows), gates=("needs_an_earlier_answer",))


def case_harmless_transaction_chain() -> Case:
    trace = TraceBuilder(ms=400)
    trace.query("BEGIN", 1, 1)
    for turn, name in enumerate(("teaser", "menu", "banner")):
        trace.query(f"SELECT title FROM {name}", 3 + turn * 100, 90)
    trace.query("COMMIT", 310, 1)
    return Case("in a transaction", tuple(trace.rows), gates=("inside_a_transaction",))


def case_harmless_parallel_calls() -> Case:
    trace = TraceBuilder(ms=1_500)
    for name in ("reviews", "prices", "stock"):
        trace.call(f"http://{name}/items/42", 3, 400)
    return Case("calls at the same time", tuple(trace.rows))


def case_harmless_payment() -> Case:
    trace = TraceBuilder(route="checkout/confirm/", ms=1_000)
    trace.call("http://psp/v1/authorize", 50, 800, method="POST")
    return Case("payment may block", tuple(trace.rows), gates=("expected_to_block",))


def case_harmless_slow_call_elsewhere() -> Case:
    trace = TraceBuilder(route="search/", ms=1_000)
    trace.call("http://search/query", 50, 800)
    return Case("search may wait", tuple(trace.rows), gates=("route_may_wait",))


def case_harmless_short_pool_wait() -> Case:
    trace = TraceBuilder(ms=400)
    trace.span("pool.acquire", trace.root, 3, 20)
    return Case("short wait", tuple(trace.rows), gates=("min_duration_ms",))


def case_harmless_few() -> Case:
    trace = TraceBuilder()
    for turn in range(4):
        trace.query(BY_ID, 3 + turn * 4, 2)
    return Case("four queries", tuple(trace.rows), gates=("min_repetitions",))


def case_harmless_prefetch_chunks() -> Case:
    trace = TraceBuilder()
    for turn in range(8):
        ids = ", ".join(str(turn * 100 + n) for n in range(100 if turn < 7 else 13))
        trace.query(f"SELECT url FROM shop_image WHERE product_id IN ({ids})", 3 + turn * 6, 5)
    return Case("prefetch in chunks", tuple(trace.rows), gates=("already_batched_list_size",))


def case_harmless_bulk_inserts() -> Case:
    trace = TraceBuilder()
    for turn in range(8):
        values = ", ".join("(%s, %s)" for _ in range(50))
        trace.query(f"INSERT INTO a (x, y) VALUES {values}", 3 + turn * 6, 5)
    return Case("bulk inserts", tuple(trace.rows), gates=("already_batched_list_size",))


def case_harmless_batches() -> Case:
    trace = TraceBuilder()
    for turn in range(8):
        trace.query("INSERT INTO a VALUES (%s)", 3 + turn * 6, 5,
                    attributes={"db.operation.batch.size": 500})  # fmt: skip
    return Case("executemany", tuple(trace.rows), gates=("already_batched_list_size",))


def case_harmless_pipelines() -> Case:
    trace = TraceBuilder()
    for turn in range(15):
        trace.query("GET ?\nGET ?\nGET ?", 3 + turn * 2, 1, system="redis")
    return Case("redis pipelines", tuple(trace.rows))


def case_harmless_tenants() -> Case:
    trace = TraceBuilder()
    for turn in range(8):
        trace.query(f"SELECT n FROM usage WHERE tenant_id = {turn}", 3 + turn * 6, 5)
    return Case("a query a tenant", tuple(trace.rows), gates=("one_query_per_partition",))


def case_harmless_tenant_databases() -> Case:
    trace = TraceBuilder()
    for turn in range(8):
        trace.query("SELECT n FROM usage WHERE day = %s", 3 + turn * 6, 5,
                    attributes={"db.name": f"tenant{turn}"})  # fmt: skip
    return Case("a database a tenant", tuple(trace.rows), gates=("one_query_per_partition",))


def case_harmless_tiny_cached_reads() -> Case:
    trace = TraceBuilder()
    for turn in range(20):
        trace.query(f"GET product:{turn}", 3 + turn * 2, 0.02, system="redis")
    return Case("20 reads of 0.02 ms", tuple(trace.rows), gates=("min_union_time_ms",))


def case_harmless_small_share() -> Case:
    trace = TraceBuilder(ms=5_000)
    for turn in range(10):
        trace.query(BY_ID, 3 + turn * 400, 1)
    return Case("one part in 500", tuple(trace.rows), gates=("min_share_of_request",))


def case_harmless_retries() -> Case:
    trace = TraceBuilder()
    for turn in range(6):
        trace.call("http://pay/charge/7", 3 + turn * 12, 10, method="POST",
                   http_status=503 if turn < 5 else 200)  # fmt: skip
    return Case("one call, retried", tuple(trace.rows), gates=("retries_after_failure",))


def case_harmless_different_functions() -> Case:
    trace = TraceBuilder()
    for turn, name in enumerate(("header", "menu", "basket", "footer", "banner", "teaser")):
        wrapper = trace.span(name, trace.root, 3 + turn * 12, 10)
        trace.query(BY_ID, 4 + turn * 12, 5, parent=wrapper)
    return Case("one query in each of six functions", tuple(trace.rows),
                gates=("scattered_over_different_spans",))  # fmt: skip


def case_harmless_transactions() -> Case:
    trace = TraceBuilder()
    for turn in range(10):
        trace.query("SAVEPOINT s1_x2", 3 + turn * 6, 2)
        trace.query("RELEASE SAVEPOINT s1_x2", 6 + turn * 6, 2)
    return Case("savepoints", tuple(trace.rows))


def case_harmless_different_queries() -> Case:
    trace = TraceBuilder()
    for turn in range(10):
        trace.query(f"SELECT x FROM table_{'abcdefghij'[turn]} WHERE id = %s", 3 + turn * 6, 5)
    return Case("ten different tables", tuple(trace.rows))


def case_harmless_parallel_retries() -> Case:
    trace = TraceBuilder(ms=900)
    for turn in range(2):
        for item in range(3):
            trace.call(f"http://stock/items/{item + 10}", 3 + turn * 200 + item * 2, 100,
                       http_status=503 if not turn else 200)  # fmt: skip
    return Case("three calls at once, each retried", tuple(trace.rows))


def case_harmless_server_side_cursor() -> Case:
    trace = TraceBuilder(ms=900)
    for turn in range(8):
        text = 'FETCH FORWARD 2000 FROM "_django_curs_1_sync_1"'
        trace.query(text, 13 + turn * 50, 40, system="postgresql")
    return Case("an iterator over a server-side cursor", tuple(trace.rows))


def case_harmless_tenant_schemas() -> Case:
    trace = TraceBuilder(ms=900)
    for turn in range(4):
        trace.query(f'SELECT count(*) FROM "tenant_{turn}"."orders"', 3 + turn * 150, 120)
    return Case("a schema a tenant", tuple(trace.rows))


def case_harmless_abridged_chunks() -> Case:
    trace = TraceBuilder(ms=900)
    for turn in range(6):
        trace.query("SELECT a FROM shop_image WHERE product_id IN (...)", 3 + turn * 50, 40)
    return Case("chunks whose lists are abridged", tuple(trace.rows))


def case_harmless_read_write_read() -> Case:
    trace = TraceBuilder(ms=900)
    trace.query("SELECT stock FROM item WHERE sku = 1", 3, 120)
    trace.query("UPDATE item SET stock = 4 WHERE sku = 1", 130, 20)
    trace.query("SELECT stock, reserved FROM item WHERE sku = 1", 160, 120)
    return Case("read again what was written", tuple(trace.rows))


def case_harmless_lock_spin() -> Case:
    trace = TraceBuilder(ms=900)
    for turn in range(20):
        trace.query("SET lock:7 x NX PX 1000", 3 + turn * 12, 1, system="redis")
    return Case("waits for a lock in Redis", tuple(trace.rows))


def case_harmless_tailing() -> Case:
    trace = TraceBuilder(ms=3_000)
    text = '{"getMore":77,"collection":"events","maxTimeMS":2000}'
    trace.query(text, 3, 2_000, system="mongodb")
    return Case("follows a collection", tuple(trace.rows))
