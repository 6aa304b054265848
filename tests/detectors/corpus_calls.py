"""Calls, caches, document stores and pools: what is the same whatever the caller's ORM is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tests.detectors.corpus import CLIENT, INTERNAL, SERVER, Case, TraceBuilder

CONSUMER = 5


def _call(trace: TraceBuilder, url: str, start: float, ms: float, **columns: Any) -> bytes:
    """A call and the request that another service, with another clock, served for it."""
    client = trace.call(url, start, ms, **columns)
    host = url.split("/")[2]
    skew = columns.get("skew", 0.0)
    server = trace.span("GET", client, start + 0.2 + skew, ms * 0.9, service=host, kind=SERVER)
    trace.query("SELECT n FROM t WHERE id = $1", start + 0.3 + skew, ms * 0.5, parent=server,
                system="postgresql", service=host)  # fmt: skip
    return client


def call_loops() -> Iterator[Case]:
    """Calls again and again that are a fault."""
    trace = TraceBuilder(route="cart/", ms=200)
    for turn, slug in enumerate(("red-shirt", "blue-jeans", "old-hat", "big-boots", "warm-sock")):
        _call(trace, f"http://stock/items/{slug}", 3 + turn * 20, 15)
    yield Case("slugs in the path", tuple(trace.rows), ("n_plus_one_call",), 5)

    trace = TraceBuilder(route="cart/", ms=300)
    for turn in range(8):
        client = trace.call(f"http://stock/items/{turn}", 3 + turn * 20, 15, method="POST")
        server = trace.span("POST", client, 9_003 + turn * 20, 14, service="stock", kind=SERVER)
        for step in range(3):
            trace.query(f"SELECT n FROM t{'abc'[step]} WHERE id = $1", 9_004 + turn * 20 + step * 4,
                        3, parent=server, system="postgresql", service="stock")  # fmt: skip
    yield Case("POSTs, several queries each", tuple(trace.rows), ("n_plus_one_call",), 8)

    trace = TraceBuilder(route="cart/", ms=300)
    for turn in range(7):
        trace.span("stock.v1.Stock/GetItem", trace.root, 3 + turn * 20, 15, kind=CLIENT)
    yield Case("gRPC", tuple(trace.rows), ("n_plus_one_call",), 7)

    trace = TraceBuilder(route="cart/", ms=300)
    for turn in range(7):
        lost = (900 + turn).to_bytes(8, "big")
        trace.span("GET items", lost, 3 + turn * 20, 15, service="stock", kind=SERVER,
                   http_route="items/{id}")  # fmt: skip
    yield Case("client spans were lost", tuple(trace.rows), ("n_plus_one_call",), 7, complete=False)


def harmless_calls(rng: random.Random) -> Iterator[Case]:
    """Calls that look like a loop or a chain, and pages."""
    trace = TraceBuilder(ms=900)
    for turn, path in enumerate(("reviews", "prices", "stock", "banner", "menu", "teaser")):
        trace.call(f"http://api/v1/{path}", 3 + turn * 30, 20)
    yield Case("six different endpoints", tuple(trace.rows))

    trace = TraceBuilder(ms=900)
    for turn in range(8):
        trace.call(f"http://api/items?ids={turn},{turn + 1},7,8,9,10", 3 + turn * 30, 20)
    yield Case("calls in batches", tuple(trace.rows))

    trace = TraceBuilder(ms=900)
    for turn in range(rng.randint(5, 9)):
        trace.call(f"http://api/items?page={turn}&size=50", 3 + turn * 50, 40)
    yield Case("pages of an API", tuple(trace.rows), ("paginated_loop",))

    trace = TraceBuilder(ms=900)
    for turn in range(6):
        trace.call("http://api/items/5", 3 + turn * 50, 40, http_status=429 if turn < 5 else 200)
    yield Case("throttled and retried", tuple(trace.rows))

    trace = TraceBuilder(ms=3_000, route="product/<slug>/")
    for turn, number in enumerate((17, 18, 19)):
        trace.call(f"http://api/items/{number}", 3 + turn * 500, 480)
    yield Case("each id from the last answer", tuple(trace.rows))


def call_chains() -> Iterator[Case]:
    """Calls that could run together."""
    trace = TraceBuilder(ms=3_000)
    trace.rows[0]["url"] = "/product/42/"
    for turn, host in enumerate(("reviews", "prices", "stock")):
        trace.call(f"http://{host}/of/42", 3 + turn * 500, 480)
    yield Case("independent calls", tuple(trace.rows), ("consecutive_calls",), 3)


def blocking_calls() -> Iterator[Case]:
    """Calls that somebody, or nobody, waits for."""
    trace = TraceBuilder(route="orders process", ms=1_000)
    trace.rows[0].update(kind=CONSUMER, name="orders process", http_route=None, http_method=None)
    trace.call("http://mail/send", 3, 800, method="POST")
    yield Case("a worker may wait", tuple(trace.rows))

    trace = TraceBuilder(route="api/placeOrder", ms=1_000)
    trace.call("http://mail/send", 3, 800, method="POST")
    yield Case("camel case", tuple(trace.rows), ("blocking_call",), 1)

    trace = TraceBuilder(route="borders/", ms=1_000)
    trace.call("http://mail/send", 3, 800, method="POST")
    yield Case("borders are no orders", tuple(trace.rows))

    trace = TraceBuilder(route="checkout/", ms=1_200)
    client = trace.call("http://order-api/create", 3, 1_000, method="POST")
    server = trace.span("POST", client, 5, 990, service="order", kind=SERVER, http_route="orders")
    trace.call("http://mail/send", 10, 900, method="POST", parent=server, service="order")
    yield Case("the callee waits", tuple(trace.rows), ("blocking_call",), 1)

    trace = TraceBuilder(route="checkout/", ms=1_200)
    client = trace.call("http://order-api/create", 3, 1_000, method="POST")
    server = trace.span("POST", client, 5, 990, service="order", kind=SERVER, http_route="orders")
    trace.call("https://api.stripe.com/v1/payment_intents", 10, 900, method="POST", parent=server,
               service="order")  # fmt: skip
    yield Case("the callee waits for the payment", tuple(trace.rows))


def caches(rng: random.Random) -> Iterator[Case]:
    """Commands of caches."""
    trace = TraceBuilder(ms=100)
    for turn in range(12):
        slug = "".join(rng.choices("abcdefghij", k=6)) + "xyzuvwklmnop"[turn]
        trace.query(f"GET :1:product:{slug}:price", 3 + turn * 3, 1, system="redis")
    yield Case("words as keys", tuple(trace.rows), ("n_plus_one_cache",), 12)

    trace = TraceBuilder(ms=100)
    for turn in range(15):
        trace.query("GET ?", 3 + turn * 3, 1, system="redis")
    yield Case("keys are hidden", tuple(trace.rows), ("n_plus_one_cache",), 15)

    trace = TraceBuilder(ms=100)
    for turn in range(80):
        trace.query(f"GET a:{turn}", 3 + turn, 0.02, system="memcached")
        trace.query(f"GET b:{turn}", 3.5 + turn, 0.02, system="memcached")
    yield Case("many reads from the own memory", tuple(trace.rows))

    trace = TraceBuilder(ms=100)
    for turn in range(12):
        trace.query(f"MGET a:{turn} b:{turn} c:{turn}", 3 + turn * 3, 1, system="redis")
    yield Case("MGET", tuple(trace.rows))

    trace = TraceBuilder(ms=5_000)
    trace.query("BLPOP queue 5", 3, 4_900, system="redis")
    yield Case("a blocking pop", tuple(trace.rows))

    trace = TraceBuilder(ms=5_000)
    trace.query("KEYS session:*", 3, 1_400, system="redis")
    yield Case("KEYS", tuple(trace.rows), ("slow_query",), 1)


def documents() -> Iterator[Case]:
    """Commands of document stores."""
    trace = TraceBuilder(ms=400)
    for turn in range(9):
        trace.query(f'{{"find": "product", "filter": {{"_id": {turn}}}}}', 3 + turn * 9, 5,
                    system="mongodb")  # fmt: skip
    yield Case("MongoDB", tuple(trace.rows), ("n_plus_one_query",), 9)

    trace = TraceBuilder(ms=400)
    for turn in range(9):
        trace.query("find product", 3 + turn * 9, 5, system="mongodb")
    yield Case("MongoDB without filters", tuple(trace.rows), ("n_plus_one_query",), 9)

    trace = TraceBuilder(ms=400)
    for turn in range(9):
        row = f'{{"a": {turn}}}'
        trace.query(f'{{"insert": "line", "documents": [{row}, {row}, {row}]}}', 3 + turn * 9, 5,
                    system="mongodb")  # fmt: skip
    yield Case("insertMany", tuple(trace.rows))


def pools() -> Iterator[Case]:
    """Waits for a connection, by the names that clients give them."""
    for name, wait, more in (
        ("HikariDataSource.getConnection", 150, ("pool_wait",)),
        ("pg-pool.connect", 120, ("pool_wait",)),
        ("prisma:engine:connection", 300, ("pool_wait",)), ("pool.acquire", 99, ()),
        ("checkout/connect", 200, ()),
    ):  # fmt: skip
        trace = TraceBuilder(ms=450)
        trace.span(name, trace.root, 3, wait, kind=INTERNAL)
        yield Case(f"{name} {wait} ms", tuple(trace.rows), more)


def stampede(requests: int, *, key: str = "home:teaser", gap_ms: float = 150.0) -> list[Case]:
    """Requests that miss one key one after the other, and all run the same query for it."""
    found = []
    for number in range(requests):
        trace = TraceBuilder(ms=400)
        start = 3 + number * gap_ms
        trace.query(f"GET {key}", start, 1, system="redis")
        trace.query("SELECT * FROM teaser ORDER BY rank LIMIT 10", start + 2, 300)
        trace.query(f"SET {key} ? EX 60", start + 305, 1, system="redis")
        trace.rows[0].update(start_ns=trace.rows[1]["start_ns"] - 2_000_000)
        trace.rows[0].update(end_ns=trace.rows[3]["end_ns"] + 2_000_000)
        found.append(Case(f"miss {number} of {key}", tuple(trace.rows)))
    return found
