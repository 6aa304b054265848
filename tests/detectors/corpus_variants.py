"""The shapes of the corpus as other stacks send them: each maker in the words of each stack.

A maker takes a stack and a random source, and answers with a labelled trace. What differs: ORM
wrappers, driver spans inside them, transaction and pool spans, placeholders, names, order of
arrival, lost spans.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.detectors import corpus_calls
from tests.detectors.corpus import CLIENT, Case, TraceBuilder

CONSUMER = 5


@dataclass(frozen=True)
class Stack:
    """How one kind of application shows a query.

    Attributes:
        mark: The placeholder; `{n}` is its number, `{v}` the value itself.
        quote: What surrounds names.
        wrapper: Name of the ORM's own span around each query; `{n}` is the turn.
        inner: The driver's span inside repeats the ORM's.
        tail: What the ORM adds to a look-up of one row.
        named: The query's span has a name and no statement.
    """

    name: str
    system: str
    mark: str
    quote: str = ""
    wrapper: str = ""
    inner: bool = False
    around: tuple[str, ...] = ()
    tail: str = ""
    named: bool = False

    def value(self, number: int, place: int = 1) -> str:
        return self.mark.format(n=place, v=number)

    def quoted(self, name: str) -> str:
        end = {"[": "]"}.get(self.quote, self.quote)
        return f"{self.quote}{name}{end}"

    def by(self, table: str, column: str, number: int, *, more: str = "") -> str:
        q = self.quoted
        where = f"{q(table)}.{q(column)} = {self.value(number)}"
        return f"SELECT {q(table)}.{q('name')} FROM {q(table)} WHERE {where}{more}{self.tail}"


STACKS = (
    Stack("Django, MySQL", "mysql", "%s", "`", tail=" LIMIT 21"),
    Stack("Django, PostgreSQL", "postgresql", "%s", '"', tail=" LIMIT 21"),
    Stack("Django, SQLite", "sqlite", "%s", '"', tail=" LIMIT 21"),
    Stack("SQLAlchemy", "postgresql", "%(pk_{n})s", around=("connect",), tail="\n LIMIT %(l)s"),
    Stack("SQLAlchemy, SQLite", "sqlite", "?", tail="\n LIMIT ? OFFSET ?"),
    Stack(
        "Prisma", "postgresql", "${n}", '"', wrapper="prisma:client:operation",
        around=("prisma:engine:connection",), tail=" LIMIT $2 OFFSET $3 /* trace_id=1 */",
    ),
    Stack("Hibernate", "mysql", "?", wrapper="Session.find Product", around=("BEGIN", "COMMIT")),
    Stack("JDBC, literals", "postgresql", "{v}"),
    Stack("Go, pgx", "postgresql", "${n}", around=("pool.acquire",)),
    Stack("Go, otelsql", "mysql", "?", wrapper="repo.Find", inner=True),
    Stack("Rails", "postgresql", "${n}", '"', "Product query", inner=True, tail=" LIMIT $2"),
    Stack("Doctrine", "mysql", "?", wrapper="Doctrine\\ORM::find", around=("SAVEPOINT D2",)),
    Stack("EF Core", "mssql", "@p{n}", "[", around=("BEGIN",)),
    Stack("mysql2, literals", "mysql", "{v}", "`", wrapper="resolve products.{n}.category"),
    Stack("names only", "postgresql", "?", named=True),
)  # fmt: skip


class Variant(TraceBuilder):
    """A trace in the words of a stack."""

    def __init__(self, stack: Stack, ms: float = 200.0, route: str = "products/") -> None:
        super().__init__(ms=ms, route=route)
        self.stack = stack

    def turn(self, statement: str, start: float, ms: float, number: int = 0) -> None:
        """One query with all that the stack puts around it."""
        stack, parent = self.stack, self.root
        if stack.wrapper:
            name = stack.wrapper.format(n=number)
            parent = self.span(name, parent, start - 0.3, ms + 0.6)
        for place, text in enumerate(stack.around):
            at = start - 0.2 + place * 0.01
            if text.isupper() or " " in text:
                self.query(text, at, 0.01, parent=parent, system=stack.system)
            else:
                self.span(text, parent, at, 0.01, db_system=stack.system)
        if stack.named:
            self.span("SELECT shop", parent, start, ms, kind=CLIENT, db_system=stack.system)
            return
        outer = self.query(statement, start, ms, parent=parent, system=stack.system)
        if stack.inner:
            self.query(statement, start + ms * 0.1, ms * 0.8, parent=outer, system=stack.system)

    def case(self, name: str, *expected: str, repetitions: int = 0, complete: bool = True) -> Case:
        full = f"{name} ({self.stack.name})"
        return Case(full, tuple(self.rows), expected, repetitions, complete)


Maker = Callable[[Stack, random.Random], Case]


def loop(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    count = rng.randint(5, 60)
    ids = rng.sample(range(1_000, 9_000), count)
    for turn, number in enumerate(ids):
        trace.turn(stack.by("shop_category", "id", number), 2 + turn * 3, 1.5, turn)
    return trace.case("look-ups in a loop", "n_plus_one_query", repetitions=count)


def loop_by_foreign_key(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    for turn in range(12):
        number = rng.randint(1_000, 9_000) + turn
        trace.turn(stack.by("shop_image", "product_id", number), 2 + turn * 8, 2, turn)
    return trace.case("relations in a loop", "n_plus_one_query", repetitions=12)


def parallel_loop(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    for turn in range(rng.randint(8, 20)):
        trace.turn(stack.by("shop_category", "id", 100 + turn), 5 + turn * 0.05, 30, turn)
    return trace.case("look-ups at the same time", "n_plus_one_query")


def loop_of_a_tenant(stack: Stack, rng: random.Random) -> Case:
    """The tenant is in every WHERE, as it should be; the loop is over products."""
    trace = Variant(stack)
    for turn in range(9):
        more = f" AND {stack.quoted('id')} = {stack.value(rng.randint(1, 10**6) * 10 + turn, 2)}"
        trace.turn(stack.by("shop_price", "tenant_id", 7, more=more), 2 + turn * 9, 3, turn)
    return trace.case("a loop inside one tenant", "n_plus_one_query", repetitions=9)


def lost_spans(stack: Stack, rng: random.Random) -> Case:
    """The exporter dropped the wrappers and some queries; the request's own span is there."""
    trace = Variant(stack)
    for turn in range(30):
        wrapper = trace.span("ProductSerializer.to_representation", trace.root, 2 + turn * 5, 4)
        trace.query(
            stack.by("shop_category", "id", turn), 3 + turn * 5, 2, parent=wrapper,
            system=stack.system,
        )  # fmt: skip
    dropped = set(rng.sample([row["span_id"] for row in trace.rows[1:]], 20))
    trace.rows = [row for row in trace.rows if row["span_id"] not in dropped]
    return trace.case("an exporter lost spans", "n_plus_one_query", complete=False)


def worker_loop(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    trace.rows[0].update(kind=CONSUMER, name="orders process", http_route=None, http_method=None)
    for turn in range(rng.randint(6, 15)):
        trace.turn(stack.by("shop_category", "id", 17 + turn), 2 + turn * 9, 4, turn)
    return trace.case("a worker's loop", "n_plus_one_query")


def few(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    for turn in range(rng.randint(1, 4)):
        trace.turn(stack.by("shop_category", "id", 17 + turn), 2 + turn * 9, 4, turn)
    return trace.case("fewer than five")


def tenants(stack: Stack, rng: random.Random) -> Case:
    column = rng.choice(["tenant_id", "org_id", "shard_id"])
    trace = Variant(stack)
    for turn in range(10):
        trace.turn(stack.by("usage", column, 1 + turn), 2 + turn * 9, 4, turn)
    expected = ("n_plus_one_query",) if stack.named else ()  # a name tells no tenant
    return trace.case("a query a tenant", *expected)


def tenant_schemas(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    for turn in range(rng.randint(6, 12)):
        trace.query(f"SET search_path TO tenant_{turn}", 1 + turn * 9, 0.2, system=stack.system)
        trace.turn(f"SELECT count(*) FROM {stack.quoted('orders')}", 2 + turn * 9, 4, turn)
    return trace.case("a schema a tenant")


def prefetch_chunks(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    size = rng.randint(20, 400)
    for turn in range(8):
        ids = ", ".join(stack.value(turn * size + n, n + 1) for n in range(size))
        where = f"{stack.quoted('product_id')} IN ({ids})"
        text = f"SELECT url FROM {stack.quoted('shop_image')} WHERE {where}"
        trace.query(text, 3 + turn * 9, 5, system=stack.system)
    return trace.case("prefetch in chunks")


def bulk_writes(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    for turn in range(8):
        row = f"({stack.value(turn, 1)}, {stack.value(turn + 1, 2)})"
        rows = ", ".join([row] * rng.randint(20, 100))
        text = f"INSERT INTO {stack.quoted('shop_line')} (a, b) VALUES {rows}"
        trace.query(text, 3 + turn * 9, 5, system=stack.system)
    return trace.case("bulk inserts")


def growing_lists(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    for turn in range(9):
        ids = ", ".join(stack.value(n, n + 1) for n in range(turn + 1))
        text = f"SELECT url FROM shop_image WHERE product_id IN ({ids})"
        trace.query(text, 3 + turn * 9, rng.uniform(2, 5), system=stack.system)
    return trace.case("a list that grows")


def retries(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    tries = rng.randint(5, 9)
    for turn in range(tries):
        trace.query(
            f"UPDATE shop_stock SET n = n - 1 WHERE id = {stack.value(9)}", 3 + turn * 12, 8,
            system=stack.system, status=2 if turn < tries - 1 else 0,
        )  # fmt: skip
    return trace.case("a deadlock, retried")


def small_share(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack, ms=4_000)
    for turn in range(rng.randint(5, 20)):
        trace.turn(stack.by("shop_category", "id", 17 + turn), 2 + turn * 90, 1, turn)
    return trace.case("a loop that nobody feels")


def transactions(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack)
    for turn in range(rng.randint(6, 12)):
        for place, text in enumerate(("BEGIN", "SAVEPOINT s1", "RELEASE SAVEPOINT s1", "COMMIT")):
            trace.query(text, 3 + turn * 9 + place * 2, 1.5, system=stack.system)
        trace.query("SELECT 1", 12 + turn * 9, 0.5, system=stack.system)
    return trace.case("only transactions and pings")


def pages(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack, ms=600)
    for turn in range(rng.randint(6, 12)):
        q = stack.quoted
        limit = f"LIMIT {stack.value(100, 1)} OFFSET {stack.value(100 * turn, 2)}"
        trace.query(f"SELECT {q('id')} FROM {q('product')} ORDER BY {q('id')} {limit}",
                    3 + turn * 40, 30, system=stack.system)  # fmt: skip
    return trace.case("pages by offset", "paginated_loop")


def pages_by_key(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack, ms=600)
    for turn in range(rng.randint(6, 12)):
        q = stack.quoted
        where = f"{q('product')}.{q('id')} > {stack.value(turn * 500, 1)}"
        text = f"SELECT * FROM {q('product')} WHERE {where} ORDER BY {q('id')} ASC"
        trace.query(f"{text} LIMIT {stack.value(500, 2)}", 3 + turn * 40, 30, system=stack.system)
    return trace.case("pages by key", "paginated_loop")


def independent_queries(stack: Stack, rng: random.Random) -> Case:
    """Reviews, stock and prices of one product, each from its own function."""
    trace = Variant(stack, ms=700)
    for turn, table in enumerate(("review", "stock", "price")):
        wrapper = trace.span(f"load_{table}", trace.root, 3 + turn * 200, 190)
        text = stack.by(table, "product_id", 4_711)
        trace.query(text, 4 + turn * 200, rng.uniform(120, 180), parent=wrapper,
                    system=stack.system)  # fmt: skip
    return trace.case("independent queries", "consecutive_queries")


def dependent_queries(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack, ms=700)
    steps = (("customer", "email"), ("cart", "customer_id"), ("cart_item", "cart_id"))
    for turn, (table, column) in enumerate(steps):
        text = stack.by(table, column, rng.randint(10**5, 10**6))
        trace.query(text, 4 + turn * 200, 150, system=stack.system)
    return trace.case("each needs the answer before it")


def slow(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack, ms=6_000)
    trace.turn(stack.by("shop_order", "email", 5), 5, rng.uniform(1_001, 4_000))
    return trace.case("slow", "slow_query")


def not_slow(stack: Stack, rng: random.Random) -> Case:
    trace = Variant(stack, ms=6_000)
    trace.turn(stack.by("shop_order", "email", 5), 5, rng.uniform(500, 999))
    return trace.case("not slow yet")


QUERY_MAKERS: tuple[Maker, ...] = (
    loop, loop_by_foreign_key, parallel_loop, loop_of_a_tenant, lost_spans, worker_loop, few,
    tenants, tenant_schemas, prefetch_chunks, bulk_writes, growing_lists, retries, small_share,
    transactions, pages, pages_by_key, independent_queries, dependent_queries, slow, not_slow,
)  # fmt: skip


def variants(seed: int) -> Iterator[Case]:
    """Every maker in the words of every stack, and what is the same for all stacks."""
    rng = random.Random(seed)
    for maker in QUERY_MAKERS:
        for stack in STACKS:
            if stack.named and maker in {tenant_schemas, slow, not_slow}:
                continue
            yield maker(stack, rng)
    yield from corpus_calls.call_loops()
    yield from corpus_calls.harmless_calls(rng)
    yield from corpus_calls.call_chains()
    yield from corpus_calls.blocking_calls()
    yield from corpus_calls.caches(rng)
    yield from corpus_calls.documents()
    yield from corpus_calls.pools()
