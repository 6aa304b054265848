"""What strangers' clients send: statements in their own ways, values told beside the text, retries.

Each row was once judged wrongly. The twin of a row stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.detectors.corpus import CLIENT, SERVER, Case, TraceBuilder

BY_ID = "SELECT name FROM brand WHERE id = $1"
TURNS = 7
Row = tuple[str, str, Callable[[int], str], str]
QUERY, SAME, PAGES, CALL, CACHE = (
    "n_plus_one_query", "repeated_query", "paginated_loop", "n_plus_one_call", "n_plus_one_cache",
)  # fmt: skip
_COLUMNS = ", ".join(f"p.attribute_{number}" for number in range(30))
_JOINS = " ".join(
    f"LEFT JOIN part_{number} q{number} ON q{number}.p = p.id" for number in range(30)
)

STATEMENTS: tuple[Row, ...] = (
    ("a cast before ORDER BY", "postgresql",
     lambda n: "SELECT id FROM news WHERE id > %(id)s::INTEGER ORDER BY id LIMIT 200", PAGES),
    ("a cast of two words", "postgresql",
     lambda n: f"SELECT id FROM news WHERE name = 'n{n}'::character varying AND shop = 7", QUERY),
    ("a LIMIT inside, another key", "postgresql",
     lambda n: "SELECT o.id FROM p, LATERAL (SELECT id FROM offer LIMIT 3) o WHERE p.id = "
     f"{n + 5}", QUERY),
    ("a LIMIT inside, the same key", "postgresql",
     lambda n: "SELECT o.id FROM p, LATERAL (SELECT id FROM offer LIMIT 3) o WHERE p.id = 5", SAME),
    ("columns cut at 255", "postgresql", lambda n: f"SELECT {_COLUMNS}"[:255], QUERY),
    ("joins cut at 1,024", "postgresql",
     lambda n: f"SELECT p.name FROM p {_JOINS} WHERE p.id = {n}"[:1_024], QUERY),
    ("joins that were not cut", "postgresql",
     lambda n: f"SELECT p.name FROM p {_JOINS} WHERE p.id = 5"[:1_500], SAME),
    ("bulk copies", "mssql", lambda n: "INSERT BULK hits ([a] int, [b] int)", ""),
    ("one nested document each", "mongodb",
     lambda n: f'{{"insert": "stock", "documents": [{{"_id": {n}, "price": {{"cents": 1}}}}]}}',
     QUERY),
    ("two documents each", "mongodb",
     lambda n: f'{{"insert": "stock", "documents": [{{"_id": {n}}}, {{"_id": {n + 9}}}]}}', ""),
    ("many items at once", "cosmosdb", lambda n: "read_many_items products", ""),
    ("fields of one hash", "redis", lambda n: f"HGET prices sku-{n}", CACHE),
    ("one field of one hash", "redis", lambda n: "HGET prices sku-1", SAME),
    ("fields that are not told", "redis", lambda n: "HGET prices ?", CACHE),
    ("a cursor over keys", "redis", lambda n: f"SCAN {n * 177} MATCH cart:* COUNT 500", ""),
    ("seven reads of 1 ms", "redis", lambda n: f"GET price:{n + 100}", CACHE),
)  # fmt: skip

URLS: tuple[tuple[str, Callable[[int], str], str, str], ...] = (
    ("words that the template calls ids", lambda n: f"http://fx/rate/{'abcdefg'[n] * 3}",
     "GET /rate/{code}", CALL),
    ("words that nobody calls ids", lambda n: f"http://fx/rate/{'abcdefg'[n] * 3}", "GET", ""),
    ("ids between bars", lambda n: f"http://cat/items?ids={'|'.join(map(str, range(n, n + 20)))}",
     "GET", ""),
    ("ids behind semicolons", lambda n: f"http://cat/items?ids={'%3B'.join('123456789')}", "GET",
     ""),
)  # fmt: skip


def clients() -> list[Case]:
    return [
        *statements(),
        *urls(),
        *told_values(),
        *retries(),
        *operations(),
        *neighbours(),
        *sides(),
        *lost(),
    ]


def _of(trace: TraceBuilder, name: str, *expected: str, **told: Any) -> Case:
    return Case(name, tuple(trace.rows), expected, **told)


def statements() -> Iterator[Case]:
    """One text a turn, in a request that does nothing else."""
    for name, system, text, expected in STATEMENTS:
        trace = TraceBuilder(ms=100)
        ms = 1 if system == "redis" else 10
        for turn in range(TURNS):
            trace.query(text(turn), 3 + turn * 13, ms, system=system)
        yield _of(trace, name, *filter(None, [expected]), repetitions=TURNS if expected else 0)


def urls() -> Iterator[Case]:
    """One call a turn."""
    for name, url, span, expected in URLS:
        trace = TraceBuilder(ms=100)
        for turn in range(TURNS):
            trace.span(span, trace.root, 3 + turn * 13, 10, kind=CLIENT, url=url(turn),
                       http_method="GET")  # fmt: skip
        yield _of(trace, name, *filter(None, [expected]), repetitions=TURNS if expected else 0)


def told_values() -> Iterator[Case]:
    """Text with placeholders is a varying key, unless the attributes tell that it is one."""
    for attribute, value in (
        ("db.query.parameter.0", str), ("db.query.parameter.id", str),
        ("db.statement.parameters", lambda key: f"({key!r},)"),
        ("db.postgresql.values", lambda key: [str(key)]),
    ):  # fmt: skip
        for same in (True, False):
            trace = TraceBuilder(ms=100)
            for turn in range(TURNS):
                told = {attribute: value(5 if same else turn)}
                trace.query(BY_ID, 3 + turn * 13, 10, attributes=told)
            kind = SAME if same else QUERY
            yield _of(trace, f"{attribute}, {kind}", kind, repetitions=TURNS)
    trace = TraceBuilder(ms=200)
    for turn, name in enumerate(("filter", "menu", "cart", "wishes", "footer", "audit")):
        wrapper = trace.span(name, trace.root, 3 + turn * 20, 15)
        trace.query("SELECT name FROM users WHERE id = 42", 5 + turn * 20, 10, parent=wrapper)
    yield _of(trace, "one known key in six functions", SAME, repetitions=6)


def retries() -> Iterator[Case]:
    """A transaction that is tried again as a whole is no loop over its reads; its writes failed."""
    for name, words, gates, expected in (
        ("rolled back", ("ROLLBACK",) * 5, ("retries_after_failure",), ()),
        ("back to a savepoint", ("ROLLBACK TO SAVEPOINT s",) * 5, (), (QUERY,)),
    ):
        trace = TraceBuilder(ms=900)
        for turn, end in enumerate((*words, "COMMIT")):
            at = 5 + turn * 120
            trace.query("BEGIN", at, 1)
            trace.query("SELECT n FROM stock WHERE sku = ? FOR UPDATE", at + 2, 10)
            trace.query("UPDATE stock SET n = ? WHERE sku = ?", at + 15, 20,
                        status=0 if end == "COMMIT" else 2)  # fmt: skip
            trace.query(end, at + 40, 2)
        yield _of(trace, f"transactions tried again, {name}", *expected, gates=gates)


def operations() -> Iterator[Case]:
    """One URL or name that stands for any operation."""
    names = ("Cart", "Menu", "User", "Banner", "Flags", "Reviews", "Prices")
    for name, chosen, expected in (("different", names, ()), ("one", ("Cart",) * 7, (CALL,))):
        trace = TraceBuilder(ms=100)
        for turn, operation in enumerate(chosen):
            trace.call("http://api/graphql", 3 + turn * 13, 10, method="POST",
                       attributes={"graphql.operation.name": operation})  # fmt: skip
        yield _of(trace, f"{name} of GraphQL by one URL", *expected)
        trace = TraceBuilder(ms=100)
        for turn, operation in enumerate(chosen):
            told = {"rpc.service": "shop.Page", "rpc.method": operation}
            trace.span("grpc.client", trace.root, 3 + turn * 13, 10, kind=CLIENT, attributes=told)
        yield _of(trace, f"{name} of gRPC by one name", *expected)
    for table, expected in (("users", (QUERY,)), ("products", ())):
        trace = TraceBuilder(ms=100)
        for turn in range(6):
            told = {"rpc.method": "GetItem"}
            told["aws.dynamodb.table_names"] = "users" if turn < 3 else table
            trace.span("DynamoDB.GetItem", trace.root, 3 + turn * 13, 10, kind=CLIENT,
                       db_system="dynamodb", attributes=told)  # fmt: skip
        yield _of(trace, f"items of users, then of {table}", *expected)


def neighbours() -> Iterator[Case]:
    """A cart's column `session` is no login; a checkout that only its URL names is one."""
    for table, expected in (("cart", ("consecutive_queries",)), ("user_session", ())):
        trace = TraceBuilder(ms=900)
        trace.query(f"SELECT id FROM {table} WHERE session = ?", 5, 280)
        trace.query("SELECT title FROM banner WHERE active", 300, 280)
        yield _of(trace, f"a session's {table}, then a banner", *expected)
    for path, expected in (
        ("/checkout/place?step=2", ("blocking_call",)), ("/newsletter?back=/checkout", ()),
    ):  # fmt: skip
        trace = TraceBuilder(ms=1_200)
        trace.rows[0].update(name="POST", http_route=None, url=path)
        trace.call("http://mail/send", 100, 900, method="POST")
        yield _of(trace, f"mail in {path}", *expected)


def sides() -> Iterator[Case]:
    """What only the other side of a query or call tells."""
    for name, inner, expected, gates in (
        ("batches", {"attributes": {"db.operation.batch.size": 500}}, (), ()),
        ("failures", {"status": 2}, (), ("retries_after_failure",)),
        ("nothing", {}, (QUERY,), ()),
    ):
        trace = TraceBuilder(ms=100)
        for turn in range(TURNS):
            told = {} if name == "failures" and turn == TURNS - 1 else inner
            outer = trace.query("UPDATE stock SET n = ? WHERE sku = ?", 3 + turn * 13, 11)
            trace.query("UPDATE stock SET n = ? WHERE sku = ?", 4 + turn * 13, 9, parent=outer,
                        **told)  # fmt: skip
        yield _of(trace, f"the driver tells {name}", *expected, gates=gates)
    trace = TraceBuilder(ms=100)
    for turn in range(TURNS):
        query = trace.query(BY_ID, 3 + turn * 13, 11)
        proxy = trace.span("Execute", query, 4 + turn * 13, 9, kind=SERVER, service="proxy")
        trace.query(BY_ID, 5 + turn * 13, 7, parent=proxy, service="proxy")
    yield _of(trace, "a proxy of the database shows its side", QUERY, repetitions=TURNS)
    trace = TraceBuilder(ms=100)
    for turn in range(TURNS):
        outer = trace.query(BY_ID, 3 + turn * 13, 11)
        middle = trace.query(BY_ID, 4 + turn * 13, 9, parent=outer)
        trace.query(BY_ID, 5 + turn * 13, 7, parent=middle,
                    attributes={"db.operation.batch.size": 500})  # fmt: skip
    yield _of(trace, "the innermost of three layers tells batches")


SLUGS = ("red-shirt", "blue-jeans", "green-hat", "old-sock", "new-shoe", "big-bag", "a-ring", "ab")
LOST: tuple[tuple[str, Callable[[int], str], range, dict[str, Any]], ...] = (
    ("every second", str, range(1, 8, 2), {"http_route": "items/{id}"}),
    ("all but one", str, range(7), {"http_route": "items/{id}"}),
    ("half, of items that are named", SLUGS.__getitem__, range(0, 8, 2),
     {"http_route": "items/{slug}"}),
    ("all, of a server without routes", str, range(8), {"http_method": "GET"}),
    ("half, of a server without routes", str, range(4), {"http_method": "GET"}),
)  # fmt: skip


def lost() -> Iterator[Case]:
    """A loop of eight calls is one of eight, whichever of its client spans are lost."""
    for name, item, turns, told in LOST:
        trace = TraceBuilder(ms=300)
        gone = []
        for turn in range(8):
            client = trace.call(f"http://stock/items/{item(turn)}", 3 + turn * 30, 25)
            trace.span(f"GET /items/{item(turn)}", client, 5 + turn * 30, 20, service="stock",
                       kind=SERVER, **told)  # fmt: skip
            gone += [client] if turn in turns else []
        trace.rows = [row for row in trace.rows if row["span_id"] not in gone]
        yield _of(trace, f"lost client spans: {name}", CALL, repetitions=8,
                  complete=len(turns) < 8)  # fmt: skip
    trace = TraceBuilder(ms=300)
    called = [trace.call(f"http://stock/items/{turn}", 3 + turn * 30, 25) for turn in range(6)]
    for turn, client in enumerate(called[2:], 2):
        trace.span("GET", client, 5 + turn * 30, 20, service="stock", kind=SERVER,
                   http_route="items/{id}")  # fmt: skip
    trace.rows = [row for row in trace.rows if row["span_id"] not in called[3:]]
    yield _of(trace, "three calls, one with its callee, and three lost", CALL, repetitions=6)
    trace = TraceBuilder(ms=900)
    other = trace.span("GET ui/", trace.root, 500, 390, service="ui", kind=SERVER)
    for turn in range(6):
        client = trace.call(f"http://stock/items/{turn}", 3 + turn * 30, 25)
        for parent, start in ((client, 5), (other, 505)):
            trace.span("GET", parent, start + turn * 30, 20, service="stock", kind=SERVER,
                       http_route="items/{id}")  # fmt: skip
    yield _of(trace, "another request calls the same without client spans", CALL, CALL)
