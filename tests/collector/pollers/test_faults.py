"""Real faults in real servers, from the poller through rules and detectors to the findings.

Detectors run as they are shipped. Where a fault is one of time, the replica's copy of the heartbeat
is set back: as if the fault had begun so long ago.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.collector.pollers.postgres_servers import Pgbouncer, PostgresServer
from tests.collector.pollers.servers import PASSWORD, MariaDb, Pair, RedisServer, TcpPath
from tests.e2e.service import until
from tests.warroom.world import IN_MEMORY, TICK_MS, World, open_world

BEAT = "REPLACE INTO shop.heartbeat VALUES (NOW(6), 1)"
BEGAN_S = 40
MYSQL_SIGNALS = (
    "sig:mysql_connections:used_ratio",
    "sig:mysql_connections:used",
    "sig:mysql_conn_refused:rate5m",
    "sig:mysql_replica_lag:seconds",
    "sig:mysql_replica_broken",
    "sig:mysql_full_scan:rate5m",
    "sig:mysql_bufferpool_miss:ratio5m",
    "sig:sql_digest_time:rate5m",
    "sig:sql_digest_rows_examined:rate5m",
    "sig:sql_digest_calls:rate5m",
    "sig:sql_digest_no_index:rate5m",
    "sig:sql_digest_rows_sent:rate5m",
)
CACHE_SIGNALS = (
    "sig:cache_hit:ratio5m",
    "sig:cache_evictions:rate5m",
    "sig:cache_mem:used_ratio",
    "sig:cache_conn:used_ratio",
    "sig:cache_hits:rate1m",
    "sig:cache_misses:rate1m",
)

HOST_SIGNALS = (
    "sig:host_cpu:used_ratio",
    "sig:host_memory:used_ratio",
    "sig:host_disk:used_ratio",
)


class Watch:
    """A whole service that polls and ticks when the test says so."""

    def __init__(self, world: World) -> None:
        self.world = world

    def poll(self, times: int = 1, work: Callable[[], Any] = lambda: None) -> None:
        """Time passes in steps of a tick, and everything is asked at each."""
        for _ in range(times):
            work()
            self.world.clock.now_ms += TICK_MS
            pollers = self.world.service.intake.pollers
            for target in pollers.targets():
                self.world.run(pollers.poll(target, self.world.clock.now_ms))

    def tick(self, times: int = 1, work: Callable[[], Any] = lambda: None) -> None:
        """As `poll`, and rules and detectors run at each."""
        for _ in range(times):
            self.poll(1, work)
            self.world.evaluate(0)

    def found(self, kind: str) -> list[dict[str, Any]]:
        findings = self.world.get("/findings", status="open")
        items = findings["findings"] if isinstance(findings, dict) else findings
        return [item for item in items if item["kind"] == kind and item["active"]]

    def values(self, expr: str) -> dict[str, float]:
        """The value of an expression by instance."""
        answer = self.world.ask(
            "GET",
            "/api/v1/query",
            params={"query": expr, "time": self.world.clock.now_ms / 1000},
        ).json()
        assert answer["status"] == "success", answer
        return {
            row["metric"].get("instance", ""): float(row["value"][1])
            for row in answer["data"]["result"]
        }


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Watch]]:
    (tmp_path / "mysql.secret").write_text(PASSWORD)
    with contextlib.ExitStack() as opened:

        def open_watch(pollers: str) -> Watch:
            text = f"{IN_MEMORY}pollers:\n{pollers}"
            return Watch(opened.enter_context(open_world(tmp_path, text)))

        yield open_watch


def mysql(pair: Pair, more: str = ", heartbeat_table: shop.heartbeat") -> str:
    account = f"user: warroom, password_file: mysql.secret{more}"
    return "".join(
        f"  - {{type: mysql, name: {name}, address: '{server.address}', {account}}}\n"
        for name, server in (("primary", pair.primary), ("replica", pair.replica))
    )


def redis(server: RedisServer) -> str:
    return f"  - {{type: redis, name: sessions, address: '{server.address}'}}\n"


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("cache"), "--maxmemory", "6mb")
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    yield server
    server.stop()


def test_every_shipped_signal_has_a_value_from_the_pollers(
    watch: Callable[[str], Watch], pair: Pair, cache: RedisServer
) -> None:
    service = watch(mysql(pair) + redis(cache) + "  - {type: host, name: box}\n")

    def work() -> None:
        pair.primary.sql("USE shop", "SELECT COUNT(*) FROM shop.product WHERE name LIKE '%1'", BEAT)
        cache.client.set("k", 1)
        cache.client.mget("k", "gone")

    service.tick(4, work)
    missing = [
        name for name in MYSQL_SIGNALS + CACHE_SIGNALS + HOST_SIGNALS if not service.values(name)
    ]
    assert missing == []
    assert service.values("sig:cache_hit:ratio5m") == {"sessions": 0.5}
    assert service.values("sig:mysql_connections:used_ratio")["primary"] < 0.5
    assert service.values("sig:mysql_replica_broken")["replica"] == 0
    assert service.values("up") == {"primary": 1, "replica": 1, "sessions": 1, "box": 1}
    sources = {row["name"]: row["state"] for row in service.world.get("/sources")["sources"]}
    assert sources["poll:mysql/primary"] == sources["poll:redis/sessions"] == "ok"


@pytest.fixture
def path(pair: Pair) -> Iterator[TcpPath]:
    """The replica replicates over a path that a test may stall; directly again after it."""
    through = TcpPath(pair.primary.port)
    change = "CHANGE MASTER TO MASTER_DELAY=0, MASTER_PORT={}"
    try:
        pair.replica.sql("STOP SLAVE", change.format(through.port), "START SLAVE")
        yield through
    finally:
        through.close()
        pair.replica.sql("STOP SLAVE", change.format(pair.primary.port), "START SLAVE")
        until(pair.caught_up, "the replica has caught up", 60)


def stopped(pair: Pair, path: TcpPath, opened: contextlib.ExitStack) -> None:
    pair.replica.sql("STOP SLAVE SQL_THREAD")


def stalled(pair: Pair, path: TcpPath, opened: contextlib.ExitStack) -> None:
    path.flows.clear()


def delayed(pair: Pair, path: TcpPath, opened: contextlib.ExitStack) -> None:
    pair.replica.sql("STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY=3600", "START SLAVE")


def locked(pair: Pair, path: TcpPath, opened: contextlib.ExitStack) -> None:
    holder = opened.enter_context(contextlib.closing(pair.replica.connect()))
    holder.cursor().execute("LOCK TABLES shop.heartbeat READ")


def frozen(pair: Pair, path: TcpPath, opened: contextlib.ExitStack) -> None:
    holder = opened.enter_context(contextlib.closing(pair.replica.connect()))
    holder.cursor().execute("FLUSH TABLES WITH READ LOCK")


@pytest.mark.parametrize("fault", [stopped, stalled, delayed, locked, frozen])
def test_a_replica_that_falls_behind_is_found_within_two_ticks_whatever_the_cause(
    fault: Callable[[Pair, TcpPath, contextlib.ExitStack], None],
    watch: Callable[[str], Watch],
    pair: Pair,
    path: TcpPath,
) -> None:
    service = watch(mysql(pair))

    def arrived() -> bool:
        pair.primary.sql(BEAT)
        return pair.caught_up()

    until(arrived, "the heartbeat arrives")
    service.tick(2, arrived)
    assert service.found("replica_lag") == []
    with contextlib.ExitStack() as opened:
        earlier = f"UPDATE shop.heartbeat SET ts = NOW(6) - INTERVAL {BEGAN_S} SECOND"
        pair.replica.sql("SET SESSION sql_log_bin = 0", earlier)
        fault(pair, path, opened)
        service.tick(2, lambda: pair.primary.sql(BEAT))
        (finding,) = service.found("replica_lag")
        behind = re.match(r"Replica replica is ([\d.]+) s behind", finding["title"])
        assert behind, finding["title"]
        assert float(behind[1]) >= BEGAN_S
        assert finding["priority"] in ("P0", "P1")
        # NULL instead of a lag, and a flag that says so; the others look whole to the server.
        broken = service.values("sig:mysql_replica_broken")["replica"]
        assert broken == float(fault is stopped)


def test_without_a_heartbeat_a_path_that_stalls_silently_is_found_by_the_gtids(
    watch: Callable[[str], Watch], pair: Pair, path: TcpPath
) -> None:
    service = watch(mysql(pair, ""))

    def written() -> bool:
        pair.primary.sql(BEAT)
        return pair.caught_up()

    until(written, "it replicates")
    service.tick(8, lambda: until(written, "it replicates"))
    assert service.found("replica_lag") == []
    path.flows.clear()
    # The server itself says 0 seconds: it takes half a minute to be sure.
    service.tick(8, lambda: pair.primary.sql(BEAT))
    assert service.values("mysql_slave_status_seconds_behind_master") == {"replica": 0}
    (finding,) = service.found("replica_lag")
    assert "replica" in finding["title"]


def test_a_replica_that_stopped_is_found_as_such_and_ends_when_it_caught_up(
    watch: Callable[[str], Watch], pair: Pair
) -> None:
    service = watch(mysql(pair))

    def arrived() -> bool:
        pair.primary.sql(BEAT)
        return pair.caught_up()

    until(arrived, "the heartbeat arrives")
    service.tick(2, arrived)
    assert service.found("replication_broken") == []
    pair.replica.sql("STOP SLAVE IO_THREAD")
    try:
        service.tick(2, lambda: pair.primary.sql(BEAT))
        (finding,) = service.found("replication_broken")
        assert finding["title"] == "Replication to replica has stopped"
    finally:
        pair.replica.sql("START SLAVE")

    def healed() -> bool:
        service.tick(1, arrived)
        return not service.found("replication_broken")

    until(healed, "the finding ends", 60)


@contextlib.contextmanager
def taken(server: MariaDb) -> Iterator[socket.socket | None]:
    """A client that has its slot and says nothing, or None where it was refused.

    One that logs in would be refused later, by the right to the extra slot, and not be counted.
    """
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        greeting = client.recv(5)
        # An error instead of a greeting: there is no slot.
        yield None if greeting[4:5] == b"\xff" else client


def test_connections_that_run_out_are_found(watch: Callable[[str], Watch], pair: Pair) -> None:
    service = watch(mysql(pair))
    service.tick(2)
    assert service.found("connection_saturation") == []
    with contextlib.ExitStack() as held:
        clients = [held.enter_context(taken(pair.primary)) for _ in range(200)]
        assert sum(client is None for client in clients) > 100
        service.tick(2)
        (finding,) = service.found("connection_saturation")
        (turned_away,) = service.found("connection_wait")
    assert finding["title"].startswith("primary uses 1")
    assert turned_away["title"].startswith("primary refuses ")
    until(
        lambda: pair.primary.sql("SHOW STATUS LIKE 'Threads_connected'")[0]["Value"] < "5",
        "the connections are given back",
    )
    service.tick(2)
    assert service.found("connection_saturation") == []


def test_a_key_that_changed_is_found_as_a_fall_of_the_hit_rate(
    watch: Callable[[str], Watch], cache: RedisServer
) -> None:
    service = watch(redis(cache))
    cache.client.mset({f"v1:{number}": "x" for number in range(50)})
    read = [f"v1:{number}" for number in range(50)]
    service.poll(11, lambda: cache.client.mget(read))
    service.tick(1, lambda: cache.client.mget(read))
    assert service.found("hit_rate_drop") == []
    changed = [key.replace("v1", "v2") for key in read]
    service.poll(1, lambda: cache.client.mget(changed))
    service.tick(1, lambda: cache.client.mget(changed))
    (finding,) = service.found("hit_rate_drop")
    assert "sessions" in finding["title"]
    service.poll(5, lambda: cache.client.mget(read))
    service.tick(1, lambda: cache.client.mget(read))
    assert service.found("hit_rate_drop") == []


def test_a_cache_that_is_too_small_is_found_by_its_evictions(
    watch: Callable[[str], Watch], cache: RedisServer
) -> None:
    service = watch(redis(cache))
    written = 0

    def fill() -> None:
        nonlocal written
        cache.fill(written, 1_500)
        written += 1_500

    service.poll(4, fill)
    assert service.found("evictions") == []
    service.tick(2, fill)
    (finding,) = service.found("evictions")
    assert "sessions" in finding["title"]
    assert service.values("sig:cache_mem:used_ratio")["sessions"] > 0.8


def test_a_statement_without_an_index_is_found_with_its_text(
    watch: Callable[[str], Watch], pair: Pair
) -> None:
    service = watch(mysql(pair))
    scan = "SELECT id FROM shop.product WHERE name = 'p77' AND category + 0 = 7"

    def work() -> None:
        pair.primary.sql("USE shop", *[scan] * 20)

    pair.primary.sql("USE shop", scan)
    service.tick(1)
    assert service.found("missing_index") == []
    service.tick(2, work)
    titles = [finding["title"] for finding in service.found("missing_index")]
    assert any("SELECT ID FROM `shop` . `product`" in title for title in titles), titles


def test_an_index_is_advised_where_explain_says_so_and_not_where_one_is_there(
    watch: Callable[[str], Watch], pair: Pair
) -> None:
    pair.primary.sql(
        "USE shop",
        "CREATE TABLE shop.item (id INT PRIMARY KEY AUTO_INCREMENT, product_id INT, "
        "phone VARCHAR(20), KEY by_phone (phone))",
        "INSERT INTO shop.item (product_id, phone) SELECT seq, seq FROM seq_1_to_2000",
    )
    service = watch(mysql(pair))
    joined = (
        "SELECT p.name AS the_name_of_the_product, p.category AS the_category_of_the_product, "
        "i.phone FROM shop.product p JOIN shop.item i ON i.product_id = p.id WHERE p.id = 5"
    )
    # A number instead of a text: the index on it cannot be used.
    compared = "SELECT id FROM shop.item WHERE phone = 77"
    with contextlib.closing(pair.primary.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("USE shop")

        def work() -> None:
            for statement in [joined, compared] * 20:
                cursor.execute(statement)
                cursor.fetchall()

        def fixes() -> str:
            service.tick(1, work)
            kinds = ("missing_index", "full_scan")
            return "\n".join(item["fix"] for kind in kinds for item in service.found(kind))

        until(
            lambda: "CREATE INDEX ix_item_product_id ON shop.item (product_id)" in fixes(), "advice"
        )
        assert "Index by_phone (phone) is there and is not used" in fixes()
        assert "(phone);" not in fixes()


def test_clients_that_wait_for_a_pooler_are_found_within_two_ticks(
    watch: Callable[[str], Watch],
) -> None:
    with contextlib.ExitStack() as opened:
        directory = Path(tempfile.mkdtemp(prefix="warroom-pool-"))
        opened.callback(shutil.rmtree, directory, ignore_errors=True)
        server = PostgresServer(directory / "server")
        opened.callback(server.stop)
        pooler = Pgbouncer(directory / "pooler", server)
        opened.callback(pooler.stop)
        account = "user: warroom, password_file: mysql.secret"
        text = f"  - {{type: pgbouncer, name: pool-1, address: '{pooler.address}', {account}}}\n"
        service = watch(text)
        service.tick(2)
        assert service.found("connection_wait") == []
        # Both of the pool's connections are held by transactions, and a third client waits.
        holders = [opened.enter_context(contextlib.closing(pooler.connect())) for _ in range(2)]
        for holder in holders:
            holder.autocommit = False
            holder.execute("SELECT 1")

        def wait_for_one() -> None:
            with contextlib.closing(pooler.connect()) as third:
                third.execute("SELECT 1")

        waiting = threading.Thread(target=wait_for_one)
        waiting.start()
        opened.callback(waiting.join, 30)
        opened.callback(holders[0].close)

        def waits() -> bool:
            service.poll()
            return max(service.values("pgbouncer_pools_client_maxwait_seconds").values()) >= 1

        until(waits, "a client has waited for a second")
        service.tick(2)
        (finding,) = service.found("connection_wait")
        assert finding["title"].startswith("Clients of pool-1 shop wait ")
