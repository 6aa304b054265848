"""Traces at the limits of `traces.md`, just below them, and just above.

Times are whole nanoseconds; shares of them are quotients, and clocks that tell floating-point
seconds are some hundred nanoseconds off. A limit that is reached is reached all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.detectors.corpus import CLIENT, Case, TraceBuilder

QUERY, CALL, CACHE, SLOW, CHAIN, CALLS, BLOCKING, POOL = (
    "n_plus_one_query", "n_plus_one_call", "n_plus_one_cache", "slow_query", "consecutive_queries",
    "consecutive_calls", "blocking_call", "pool_wait",
)  # fmt: skip
_BANNER, _MENU = "SELECT a FROM banner WHERE live = true", "SELECT b FROM menu ORDER BY pos"
_ROUNDING_MS = 0.0003  # what a float of seconds may be off


def limits() -> list[Case]:
    return [*chains(), *waits(), *turns(), *named(), *addresses(), *taken()]


def _of(trace: TraceBuilder, name: str, found: str = "", repetitions: int = 0) -> Case:
    return Case(name, tuple(trace.rows), (found,) if found else (), repetitions)


def chains() -> Iterator[Case]:
    """A saving of 100 ms and 10 %, of 500 ms for calls."""
    for first, saving, total in (
        (170.3, 100, 700), (412.7, 100, 700), (333.333, 99.9, 700), (150, 150, 1_500),
        (310, 310, 3_100), (150, 150, 1_501), (130, 100 - _ROUNDING_MS, 700),
    ):  # fmt: skip
        trace = TraceBuilder(ms=total)
        trace.query(_BANNER, 3, first)
        trace.query(_MENU, 5 + first, saving)
        found = CHAIN if saving > 99.95 and saving * 10 >= total else ""
        yield _of(
            trace, f"{first} ms and {saving} ms of {total} in a row", found, 2 if found else 0
        )
    for saving, total in ((500, 5_000), (499.9, 1_800), (500, 5_010)):
        trace = TraceBuilder(ms=total)
        trace.call("http://reviews/api/top", 3, 600)
        trace.call("http://recos/api/home", 620, saving)
        found = CALLS if saving == 500 and total == 5_000 else ""
        yield _of(trace, f"calls that save {saving} of {total}", found, 2 if found else 0)
    trace = TraceBuilder(ms=400)
    for turn, table in enumerate(("category", "product", "image")):
        marks = ", ".join(["%s"] * (12 * turn + 1))
        text = f"SELECT id FROM {table} WHERE {table}_parent IN ({marks})"
        trace.query(text, 5 + turn * 110, 100)
    yield _of(trace, "one prefetch a level")


def waits() -> Iterator[Case]:
    """1 s for a query; 300 ms and 30 % for a call in a checkout; 100 ms and 20 % for a pool."""
    for ms in (999, 1_000 - _ROUNDING_MS, 1_000):
        trace = TraceBuilder(ms=1_500)
        trace.query("SELECT id FROM orders WHERE note LIKE %s", 5, ms)
        yield _of(trace, f"a query of {ms} ms", SLOW if ms > 999 else "", int(ms > 999))
    trace = TraceBuilder(ms=2_500)
    told = {"db.operation": "getMore", "db.mongodb.collection": "orders"}
    trace.span("getMore", trace.root, 5, 2_200, kind=CLIENT, db_system="mongodb", attributes=told)
    yield _of(trace, "a cursor that streams")
    for ms, total in ((360, 1_200), (690, 2_300), (300 - _ROUNDING_MS, 900), (359, 1_200)):
        trace = TraceBuilder(route="checkout/", ms=total)
        trace.call("http://crm/contact", 9, ms, method="POST")
        found = BLOCKING if ms != 359 else ""
        yield _of(trace, f"checkout waits {ms} of {total}", found, int(bool(found)))
    for ms, total in ((160, 800), (180, 900), (220, 1_100), (100, 500), (99, 300)):
        trace = TraceBuilder(ms=total)
        trace.span("waiting for connection", trace.root, 5, ms)
        found = POOL if ms >= 100 else ""
        yield _of(trace, f"a pool makes wait {ms} of {total}", found, int(bool(found)))


def turns() -> Iterator[Case]:
    """Statements of one turn cost together what none of them costs alone."""
    tables = ("product", "price", "stock")
    for total, found in ((500, QUERY), (2_000, "")):
        trace = TraceBuilder(ms=total)
        for turn in range(6):
            for place, table in enumerate(tables):
                text = f"SELECT n FROM {table} WHERE product_id = %s"
                trace.query(text, 5 + turn * 9 + place * 3, 1.5)
        yield _of(trace, f"three statements of 2 % a turn, in {total} ms", found, 6 if found else 0)
    trace = TraceBuilder(ms=300)
    for turn in range(6):
        trace.query("SELECT n FROM product WHERE id = %s", 5 + turn * 20, 9)
        trace.call("http://localhost:8099/flags/beta", 15 + turn * 20, 0.3)
    yield _of(trace, "a quick look at a flag in each turn", QUERY, 6)
    trace = TraceBuilder(ms=300)
    for turn in range(40):
        trace.query(f"GET a:{turn}", 5 + turn * 0.2, 0.02, system="redis")
        trace.query(f"GET b:{turn}", 5.1 + turn * 0.2, 0.02, system="redis")
    yield _of(trace, "alternating reads of 0.02 ms")
    trace = TraceBuilder(ms=200)
    for turn in range(9):
        late = turn * 37 % 9 / 3  # the two of a turn start in any order
        trace.query("SELECT n FROM product WHERE id = %s", 3 + late, 40 + late)
        trace.query("SELECT n FROM stock WHERE product_id = %s", 3 + (turn < 6) * 2.9, 38 + late)
    yield _of(trace, "two statements a turn, all at the same time", QUERY, 9)


def named() -> Iterator[Case]:
    """Spans that are named by their statements."""
    for name, text, found in (
        ("another key", "SELECT n FROM line WHERE order_id = {n}", QUERY),
        ("one key", "SELECT v FROM setting WHERE name = 'tax'", "repeated_query"),
        ("a summary", "SELECT FROM setting", QUERY),
    ):
        for at_once in (False, True):
            if at_once and found != QUERY:
                continue
            trace = TraceBuilder(ms=200)
            for turn in range(9):
                start = 3 + (turn % 3 * 0.3 if at_once else turn * 16)
                trace.span(text.format(n=turn), trace.root, start, 15 + turn * at_once, kind=CLIENT,
                           db_system="mysql")  # fmt: skip
            yield _of(trace, f"named by its text: {name}, {at_once=}", found, 9)
    trace = TraceBuilder(ms=500)
    for start, text in ((3, _BANNER), (160, _MENU)):
        trace.span(text, trace.root, start, 150, kind=CLIENT, db_system="mysql")
    yield _of(trace, "a chain of spans named by their texts", CHAIN, 2)
    trace = TraceBuilder(ms=200)
    for turn in range(6):
        trace.span("MGET", trace.root, 3 + turn * 9, 6, kind=CLIENT, db_system="redis",
                   attributes={"db.operation.name": "MGET"})  # fmt: skip
    yield _of(trace, "MGET without its keys")


def addresses() -> Iterator[Case]:
    """Pods are told by address: which of them answers is no part of the question."""
    trace = TraceBuilder(ms=300)
    for turn in range(8):
        trace.call(f"http://10.42.0.{17 + turn % 4}:8080/items/{900 + turn}", 5 + turn * 30, 20)
    yield _of(trace, "a loop over four pods", CALL, 8)
    trace = TraceBuilder(ms=300)
    for turn in range(6):
        trace.call(f"http://10.42.9.{turn + 3}:9000/shard/search?q=sock", 5 + turn * 0.2, 90)
    yield _of(trace, "one question to six shards")
    trace = TraceBuilder(ms=2_000)
    for turn, path in enumerate(("a/top", "b/now", "c/new")):
        trace.call(f"http://10.42.0.{turn + 5}:8080/{path}", 5 + turn * 610, 600)
    yield _of(trace, "three services by address in a row", CALLS, 3)


def taken() -> Iterator[Case]:
    """Messages that are waited for, or marked as taken, are no calls of a loop."""
    for name in ("SQS.ReceiveMessage", "orders receive", "poll orders", "ack orders"):
        trace = TraceBuilder(ms=42_000)
        for turn in range(8):
            trace.span(name, trace.root, 5 + turn * 5_100, 5_000, kind=CLIENT)
        yield _of(trace, f"a worker's loop: {name}")
