"""Real faults in real servers, from the poller through rules and detectors to the findings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tests.collector.pollers.servers import PASSWORD, Pair, RedisServer
from tests.e2e.service import until
from tests.warroom.world import IN_MEMORY, TICK_MS, World, open_world

DETECTORS = """
detectors:
  replica_lag: {warn: 1, page: 2, hold_s: 5, clear: 0.5}
  evictions: {hold_s: 15}
"""
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
            text = f"{IN_MEMORY}{DETECTORS}pollers:\n{pollers}"
            return Watch(opened.enter_context(open_world(tmp_path, text)))

        yield open_watch


def mysql(pair: Pair) -> str:
    account = "user: warroom, password_file: mysql.secret, heartbeat_table: shop.heartbeat"
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
    beat = "REPLACE INTO shop.heartbeat VALUES (NOW(6), 1)"
    service = watch(mysql(pair) + redis(cache) + "  - {type: host, name: box}\n")

    def work() -> None:
        pair.primary.sql("USE shop", "SELECT COUNT(*) FROM shop.product WHERE name LIKE '%1'", beat)
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


def test_a_stopped_sql_thread_is_found_as_lag_and_ends_when_it_caught_up(
    watch: Callable[[str], Watch], pair: Pair
) -> None:
    beat = "REPLACE INTO shop.heartbeat VALUES (NOW(6), 1)"
    service = watch(mysql(pair))

    def arrived() -> bool:
        pair.primary.sql(beat)
        return pair.caught_up()

    until(arrived, "the heartbeat arrives")
    service.tick(2, arrived)
    assert service.found("replica_lag") == []
    pair.replica.sql("STOP SLAVE SQL_THREAD")
    try:

        def found() -> bool:
            service.tick(1, lambda: pair.primary.sql(beat))
            return bool(service.found("replica_lag"))

        until(found, "the lag is found")
        (finding,) = service.found("replica_lag")
        assert "replica" in finding["title"]
        # NULL instead of a lag, and a flag that says so.
        assert service.values("sig:mysql_replica_broken")["replica"] == 1
    finally:
        pair.replica.sql("START SLAVE")

    def healed() -> bool:
        service.tick(1, arrived)
        return not service.found("replica_lag")

    until(healed, "the finding ends", 60)


def test_connections_that_run_out_are_found(watch: Callable[[str], Watch], pair: Pair) -> None:
    service = watch(mysql(pair))
    service.tick(2)
    assert service.found("connection_saturation") == []
    with contextlib.ExitStack() as held:
        for _ in range(200):
            try:
                held.callback(pair.primary.connect().close)
            except pymysql.err.OperationalError:
                break
        service.tick(5)
        (finding,) = service.found("connection_saturation")
    assert "primary" in finding["title"]
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
    service.tick(6, fill)
    (finding,) = service.found("evictions")
    assert "sessions" in finding["title"]
    assert service.values("sig:cache_mem:used_ratio")["sessions"] > 0.8
