"""What real instrumentations send: one query in several spans, texts that are elsewhere, batches.

Each maker names the library whose spans it has. The expected repeats are queries, not spans.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.detectors.corpus import CLIENT, INTERNAL, SERVER, Case, TraceBuilder

BY_ID = "SELECT name FROM category WHERE id = ?"
TABLES = ("account", "address", "basket", "brand", "coupon", "country", "invoice")


def frameworks() -> list[Case]:
    return [
        *several_spans_a_query(),
        *prepared(),
        *texts_elsewhere(),
        *batches(),
        *batched_statements(),
        *pages(),
        *caches(),
        *calls(),
        *nested(),
        *polling(),
        *broken(),
    ]


def _of(trace: TraceBuilder, name: str, *expected: str, **told: Any) -> Case:
    return Case(name, tuple(trace.rows), expected, **told)


def _db(trace: TraceBuilder, name: str, start: float, ms: float, **columns: Any) -> bytes:
    parent = columns.pop("parent", trace.root)
    system = columns.pop("db_system", "mysql")
    return trace.span(name, parent, start, ms, kind=CLIENT, db_system=system, **columns)


def _pdo(trace: TraceBuilder, text: str, start: float, *, linked: bool = True) -> None:
    """PHP's PDO: prepare has the text; execute and fetchAll only where they are told to."""
    told = {"statement": text} if linked else {}
    _db(trace, "PDO::prepare", start, 0.1, statement=text)
    _db(trace, "PDOStatement::execute", start + 0.2, 3, code_function="Repository.find", **told)
    _db(trace, "PDOStatement::fetchAll", start + 3.3, 0.2, **told)


def _otelsql(trace: TraceBuilder, text: str, start: float) -> None:
    """Go's database/sql: reset, prepare, query and the reading of rows."""
    _db(trace, "sql.conn.reset_session", start, 0.05)
    _db(trace, "sql.conn.prepare", start + 0.1, 0.4, statement=text)
    _db(trace, "sql.stmt.query", start + 0.6, 3, statement=text)
    _db(trace, "sql.rows", start + 3.7, 0.5)


def _laravel(trace: TraceBuilder, text: str, start: float) -> None:
    """The framework hears of a query when it is over: its span stands beside the driver's."""
    _pdo(trace, text, start)
    _db(trace, "sql SELECT", start, 3.6, statement=text)


def several_spans_a_query() -> Iterator[Case]:
    """A query is counted once, however many spans it has."""
    for name, put in (("PDO", _pdo), ("otelsql", _otelsql), ("Laravel", _laravel)):
        trace = TraceBuilder()
        for turn in range(9):
            put(trace, BY_ID, 3 + turn * 9)
        yield _of(trace, f"loop ({name})", "n_plus_one_query", repetitions=9)
        trace = TraceBuilder()
        for turn in range(3):
            put(trace, BY_ID, 3 + turn * 9)
        yield _of(trace, f"three queries ({name})")
        trace = TraceBuilder()
        for turn, table in enumerate(TABLES):
            put(trace, f"SELECT name FROM {table} WHERE id = ?", 3 + turn * 9)
        yield _of(trace, f"seven tables ({name})")
    trace = TraceBuilder()
    for turn in range(9):
        _pdo(trace, BY_ID, 3 + turn * 9, linked=False)
    yield _of(trace, "execute without a text (PDO)", "n_plus_one_query", repetitions=9)
    trace = TraceBuilder()
    for turn, table in enumerate(TABLES):
        _pdo(trace, f"SELECT name FROM {table} WHERE id = ?", 3 + turn * 9, linked=False)
    yield _of(trace, "seven tables without texts (PDO)")
    for begin, end in (("PDO::beginTransaction", "PDO::commit"), ("sql.conn.begin_tx", "COMMIT")):
        trace = TraceBuilder(ms=400)
        _db(trace, begin, 1, 1)
        for turn, table in enumerate(("teaser", "menu", "banner")):
            trace.query(f"SELECT title FROM {table}", 3 + turn * 100, 90)
        _db(trace, end, 310, 1)
        yield _of(trace, f"reads between {begin} and {end}", gates=("inside_a_transaction",))
    trace = TraceBuilder()
    for turn in range(12):
        _db(trace, "PDO::beginTransaction", 3 + turn * 7, 1)
        _db(trace, "sql.tx.commit", 5 + turn * 7, 1)
    yield _of(trace, "transactions by name")


def prepared() -> Iterator[Case]:
    """What is executed is known where only one statement can be meant."""
    for name, tables, executed, expected in (
        ("one statement prepared once", ("brand",), 9, ("n_plus_one_query",)),
        ("one statement prepared twice", ("brand", "brand"), 9, ("n_plus_one_query",)),
        ("seven statements prepared first", TABLES, len(TABLES), ()),
        ("one of two that are prepared", TABLES[:2], 12, ()),
    ):
        trace = TraceBuilder(ms=200)
        for turn, table in enumerate(tables):
            text = f"SELECT name FROM {table} WHERE id = ?"
            _db(trace, "PDO::prepare", 1 + turn * 0.2, 0.1, statement=text)
        for turn in range(executed):
            _db(trace, "PDOStatement::execute", 5 + turn * 10, 4)
        yield _of(trace, f"{name} (PDO)", *expected, repetitions=executed if expected else 0)


def texts_elsewhere() -> Iterator[Case]:
    """Summaries, operations, collections; and names that tell nothing."""
    by_table: dict[str, tuple[str, str, Any]] = {
        "summary": ("shop", "postgresql", lambda it: {"db.query.summary": f"SELECT {it}"}),
        "operation and table": (
            "shop",
            "mysql",
            lambda it: {"db.operation": "SELECT", "db.sql.table": it},
        ),
        "MongoDB for Node": (
            "mongodb.find",
            "mongodb",
            lambda it: {"db.operation": "find", "db.mongodb.collection": it},
        ),
        "DynamoDB": (
            "DynamoDB.GetItem",
            "dynamodb",
            lambda it: {"db.operation": "GetItem", "aws.dynamodb.table_names": [it]},
        ),
    }
    for name, (span, system, attributes) in by_table.items():
        trace = TraceBuilder()
        for turn in range(8):
            _db(trace, span, 3 + turn * 9, 3, db_system=system, attributes=attributes("brand"))
        yield _of(trace, f"loop ({name})", "n_plus_one_query", repetitions=8)
        trace = TraceBuilder()
        for turn, table in enumerate(TABLES):
            _db(trace, span, 3 + turn * 9, 3, db_system=system, attributes=attributes(table))
        yield _of(trace, f"seven tables ({name})")
    for name, attributes in (
        ("shop", {"db.name": "shop"}),
        ("SELECT shop", {"db.name": "shop"}),
        ("SELECT", {}),
    ):
        trace = TraceBuilder()
        for turn in range(8):
            _db(trace, name, 3 + turn * 9, 3, attributes=attributes)
        yield _of(trace, f"{name!r} may be any query", gates=("name_tells_no_statement",))
    trace = TraceBuilder()
    for turn, table in enumerate(TABLES):
        _db(trace, "mongodb.find", 3 + turn * 9, 3, db_system="mongodb", statement='{"_id":"?"}',
            attributes={"db.mongodb.collection": table})  # fmt: skip
    yield _of(trace, "seven collections, one filter")
    trace = TraceBuilder()
    for turn, table in enumerate(TABLES):
        text = f'{{"TableName":"{table}","Key":{{"id":{{"S":"{turn}"}}}}}}'
        _db(trace, "DynamoDB GetItem", 3 + turn * 9, 3, db_system="dynamodb", statement=text)
    yield _of(trace, "seven tables named in the text")


def batches() -> Iterator[Case]:
    """Spans of which each is part of a batch, or a batch."""
    trace = TraceBuilder()
    batch = _db(trace, "batch start", 3, 80)
    for turn in range(12):
        _db(trace, f"batch query {BY_ID}", 4 + turn * 5, 3, statement=BY_ID, parent=batch)
    yield _of(trace, "a batch and its queries (pgx)", gates=("already_batched_list_size",))
    trace = TraceBuilder()
    for turn in range(8):
        _db(trace, "BATCH INSERT shop.line", 3 + turn * 9, 5)
    yield _of(trace, "batches by name (JDBC)", gates=("already_batched_list_size",))
    trace = TraceBuilder()
    for turn in range(8):
        _db(trace, "SELECT shop.image", 3 + turn * 9, 5, attributes={"thread.name": "main"},
            statement="select url from image where product_id in (?)")  # fmt: skip
    yield _of(trace, "lists of an agent for Java", gates=("already_batched_list_size",))
    trace = TraceBuilder()
    trace.query("MULTI", 3, 1, system="redis")
    for turn in range(15):
        trace.query(f"GET price:{turn}", 3 + turn * 0.1, 20, system="redis")
    trace.query("EXEC", 6, 20, system="redis")
    yield _of(trace, "between MULTI and EXEC", gates=("already_batched_list_size",))


def batched_statements() -> Iterator[Case]:
    """Statements that ask for many rows at once, in other words than `IN (1, 2)`."""
    ids = range(40)
    texts = {
        "tuples": f"SELECT a FROM p WHERE (sku, cur) IN ({', '.join('(%s, %s)' for _ in ids)})",
        "an array and its type": "SELECT a FROM p WHERE id = ANY($1::bigint[])",
        "unnest": "SELECT a FROM p JOIN unnest($1::int[], $2::text[]) u(id, n) ON u.id = p.id",
        "OPENJSON": "SELECT a FROM p WHERE id IN (SELECT value FROM OPENJSON(@__ids_0))",
        "rows with functions": f"INSERT INTO p VALUES {', '.join('(%s, now())' for _ in ids)}",
        "UNION ALL": " UNION ALL ".join("SELECT a FROM p WHERE id = %s" for _ in ids),
        "OR": f"SELECT a FROM p WHERE {' OR '.join('id = %s' for _ in ids)}",
        "a range of keys": "UPDATE p SET a = 1 WHERE id BETWEEN %s AND %s",
        "a limit": "DELETE FROM session WHERE expires < %s LIMIT 1000",
    }
    for name, text in texts.items():
        trace = TraceBuilder()
        for turn in range(8):
            trace.query(text, 3 + turn * 9, 5, system="postgresql")
        yield _of(trace, f"batches by {name}", gates=("already_batched_list_size",))
    for name, text, gates in (
        ("a queue is asked", "SELECT id FROM job LIMIT 1 FOR UPDATE SKIP LOCKED",
         ("waits_on_purpose",)),
        ("a driver asks", "SHOW WARNINGS", ()),
    ):  # fmt: skip
        trace = TraceBuilder()
        for turn in range(8):
            trace.query(text, 3 + turn * 9, 5)
        yield _of(trace, name, gates=gates)
    trace = TraceBuilder(ms=400)
    for turn in range(8):
        trace.query(f"SELECT count(*) FROM orders_{turn:02d} WHERE day = %s", 3 + turn * 45, 40)
    yield _of(trace, "a table a partition")


def pages() -> Iterator[Case]:
    """Pages in the words of servers without OFFSET."""
    numbered = "SELECT a FROM (SELECT a, ROW_NUMBER() OVER (ORDER BY id) AS r FROM p) x"
    for name, system, text in (
        ("ROW_NUMBER", "mssql", numbered + " WHERE r BETWEEN {low} AND {high}"),
        ("ExclusiveStartKey", "dynamodb",
         '{{"TableName":"p","ExclusiveStartKey":{{"id":{{"S":"{low}"}}}},"Limit":100}}'),
    ):  # fmt: skip
        trace = TraceBuilder(ms=400)
        for turn in range(7):
            one = text.format(low=turn * 100, high=turn * 100 + 99)
            trace.query(one, 3 + turn * 45, 40, system=system)
        yield _of(trace, f"pages by {name}", "paginated_loop", repetitions=7)


def caches() -> Iterator[Case]:
    """Commands of many keys, and of many fields of one key."""
    for text in ("get_multi a:1 a:2 a:3", "get a:1 a:2 a:3", "getMulti a b"):
        trace = TraceBuilder()
        for turn in range(12):
            trace.query(text, 3 + turn * 7, 3, system="memcached")
        yield _of(trace, f"many keys by {text.split()[0]}")
    trace = TraceBuilder()
    for turn in range(12):
        trace.query(f"HMGET cart:{turn} total items", 3 + turn * 7, 3, system="redis")
    yield _of(trace, "fields of one key in a loop", "n_plus_one_cache", repetitions=12)
    trace = TraceBuilder()
    for turn in range(12):
        _db(trace, "redis.dial", 3 + turn * 7, 3, db_system="redis")
    yield _of(trace, "connections to a cache")


def calls() -> Iterator[Case]:
    """Calls of many ids, and many operations behind one URL."""
    for name, url in (
        ("a parameter for each id", "http://catalog/p?" + "&".join(f"id={n}" for n in range(50))),
        ("a method of its own", "http://catalog/v1/products:batchGet"),
    ):
        trace = TraceBuilder(ms=400)
        for turn in range(6):
            trace.call(url, 3 + turn * 40, 30)
        yield _of(trace, f"batches of calls by {name}", gates=("already_batched_list_size",))
    trace = TraceBuilder(ms=400)
    for turn in range(6):
        trace.span(
            "catalog.v1.Catalog/BatchGetProducts", trace.root, 3 + turn * 40, 30, kind=CLIENT
        )
    yield _of(trace, "batches of calls by gRPC", gates=("already_batched_list_size",))
    for name, operations, expected in (
        ("six operations", ("Viewer", "Menu", "Teasers", "Cart", "Footer", "Reco"), ()),
        ("one operation", ("Price",) * 6, ("n_plus_one_call",)),
    ):
        trace = TraceBuilder(ms=400)
        for turn, operation in enumerate(operations):
            outer = trace.span(f"query {operation}", trace.root, 3 + turn * 60, 50)
            trace.call("http://bff/graphql", 4 + turn * 60, 48, parent=outer, method="POST")
        yield _of(trace, f"{name} of GraphQL behind one URL", *expected)


def polling() -> Iterator[Case]:
    """One URL again and again: after pauses it is a poll, between other work it is not."""
    for name, other, expected in (("pauses", False, ()), ("work", True, ("n_plus_one_call",))):
        trace = TraceBuilder(ms=2_000)
        for turn in range(8):
            trace.call("http://jobs/exports/17", 3 + turn * 200, 30)
            if other:
                trace.query(f"SELECT a FROM {TABLES[turn % 7]}", 60 + turn * 200, 9)
        yield _of(trace, f"one URL between {name}", *expected)
    work = ("n_plus_one_call",)
    for name, ms, pauses, expected in (
        ("that double", 2, (100, 200, 400, 800, 800), ()),
        ("that grow by half", 2, (200, 300, 450, 675, 1_000), ()),
        ("that are the application's own work", 40, (150, 410, 190, 600, 260), work),
        ("shorter than a timer's", 5, (20,) * 11, work),
        ("as short as a loop's", 2, (8,) * 11, work),
    ):
        trace = TraceBuilder(ms=sum(pauses) + len(pauses) * ms + 50)
        start = 3
        for pause in (*pauses, 0):
            trace.call("http://price/rate?cur=EUR", start, ms)
            start += ms + pause
        yield _of(trace, f"one URL after pauses {name}", *expected)
    for pause in (20, 130):
        trace = TraceBuilder(ms=12 * (pause + 6))
        for turn in range(12):
            trace.call("http://bff/graphql", 3 + turn * (pause + 6), 6, method="POST")
        yield _of(trace, f"one URL posted to after {pause} ms", *work, repetitions=12)


def nested() -> Iterator[Case]:
    """A query that travels by HTTP, a proxy that passes a call on, statements in arguments."""
    trace = TraceBuilder(ms=400)
    for turn in range(8):
        told = {"aws.dynamodb.table_names": ["p"], "db.operation": "GetItem"}
        query = _db(trace, "DynamoDB.GetItem", 3 + turn * 40, 30, db_system="dynamodb",
                    attributes=told)  # fmt: skip
        trace.call("https://dynamodb.example/", 4 + turn * 40, 28, parent=query, method="POST")
    yield _of(trace, "queries over HTTP", "n_plus_one_query", repetitions=8)
    trace = TraceBuilder(ms=400)
    for turn in range(8):
        call = trace.call(f"http://stock/items/{turn}", 3 + turn * 40, 30)
        trace.call(f"http://stock/items/{turn}", 4 + turn * 40, 28, parent=call, service="sidecar")
    yield _of(trace, "a proxy beside the service", "n_plus_one_call", repetitions=8)
    for name, tables, expected in (
        ("one statement", ("Brand",) * 7, ("n_plus_one_query",)),
        ("seven statements", TABLES, ()),
    ):
        trace = TraceBuilder()
        for turn, table in enumerate(tables):
            text = f"SELECT [Name] FROM [{table}] WHERE [Id] = @p0"
            whole = f"exec sp_executesql N'{text}',N'@p0 int',@p0={turn}"
            trace.query(whole, 3 + turn * 9, 5, system="mssql")
        yield _of(trace, f"{name} by sp_executesql", *expected)
    trace = TraceBuilder()
    columns = ", ".join(f"product.column_{number}" for number in range(60))
    for turn in range(8):
        trace.query(f"SELECT {columns}"[:1_000], 3 + turn * 9, 5)
    yield _of(trace, "texts cut off before FROM", "n_plus_one_query", repetitions=8)
    trace = TraceBuilder(route="checkout/", ms=2_600)
    for turn in range(3):
        trace.call("http://mail/send", 5 + turn * 800, 700, method="POST",
                   http_status=503 if turn < 2 else 202)  # fmt: skip
    yield _of(trace, "a call that blocks three times", "blocking_call", repetitions=3)


def broken() -> Iterator[Case]:
    """A loop of which half of the client spans were lost is one loop."""
    trace = TraceBuilder(route="cart/", ms=900)
    lost = []
    for turn in range(12):
        client = trace.call(f"http://stock/items/{turn}", 3 + turn * 60, 50)
        server = trace.span(
            "GET items", client, 5 + turn * 60, 46, service="stock", kind=SERVER,
            http_route="items/{id}",
        )  # fmt: skip
        trace.query("SELECT n FROM stock WHERE id = ?", 7 + turn * 60, 30, parent=server,
                    service="stock")  # fmt: skip
        if turn % 2:
            lost.append(client)
    trace.rows = [row for row in trace.rows if row["span_id"] not in lost]
    yield _of(trace, "half of the client spans", "n_plus_one_call", repetitions=12)


def rootless(*, function: str = "") -> TraceBuilder:
    """A loop whose request's own span is not in the trace."""
    trace = TraceBuilder()
    parent = trace.span(function, trace.root, 1, 98, kind=INTERNAL) if function else trace.root
    for turn in range(8):
        trace.query(BY_ID, 3 + turn * 9, 4, parent=parent)
    trace.rows = trace.rows[1:]
    return trace
