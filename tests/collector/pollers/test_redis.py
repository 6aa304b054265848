"""The Redis poller against a real server: hits, evictions, slow log, latency, replication."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.pollers.redis import fields_of, read_info
from collector.polling.contract import Reading
from tests.collector.pollers.asking import Asking
from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.servers import RedisServer
from tests.e2e.service import until


def entry(server: RedisServer, *more: str) -> str:
    fields = ", ".join(["type: redis", "name: cache", f"address: '{server.address}'", *more])
    return f"pollers: [{{{fields}}}]"


@pytest.fixture
def cache(redis_server: RedisServer) -> Iterator[RedisServer]:
    yield redis_server
    client = redis_server.client
    client.config_set("maxmemory", 0)
    client.config_set("slowlog-log-slower-than", 10_000)
    client.config_set("latency-monitor-threshold", 0)
    client.flushall()


def test_hits_and_misses_are_counted_as_the_server_counts_them(
    ask: Ask, cache: RedisServer
) -> None:
    asking = ask(entry(cache))
    before = asking.poll()
    cache.client.set("a", 1)
    for key in ("a", "a", "a", "gone"):
        cache.client.get(key)
    after = asking.poll()

    def more(name: str) -> float:
        return after.value(name) - before.value(name)

    assert (more("redis_keyspace_hits_total"), more("redis_keyspace_misses_total")) == (3, 1)
    assert after.value("redis_commands_total", cmd="get") >= 4
    assert after.value("redis_commands_duration_seconds_total", cmd="get") > 0
    assert after.value("redis_db_keys", db="db0") == 1
    assert after.value("redis_up") == 1
    assert after.value("redis_config_maxclients") >= 1000
    assert asking.status.state == "ok"


def test_a_full_cache_shows_its_evictions_and_its_bound(ask: Ask, cache: RedisServer) -> None:
    asking = ask(entry(cache))
    before = asking.poll().value("redis_evicted_keys_total")
    used = int(cache.client.info("memory")["used_memory"])
    cache.client.config_set("maxmemory-policy", "allkeys-lru")
    cache.client.config_set("maxmemory", used + 4_000_000)
    cache.fill(0, 8_000)
    full = asking.poll()
    assert full.value("redis_evicted_keys_total") - before > 1_000
    assert full.value("redis_memory_max_bytes") == used + 4_000_000
    assert full.value("redis_memory_used_bytes") <= used + 5_000_000


def test_slow_commands_and_latency_spikes_are_told_without_their_arguments(
    ask: Ask, cache: RedisServer
) -> None:
    cache.client.config_set("slowlog-log-slower-than", 1_000)
    cache.client.config_set("latency-monitor-threshold", 1)
    cache.run("EVAL", "for i=1,2000000 do end return 'card-4111'", "0")
    answer = ask(entry(cache)).poll()
    assert answer.value("redis_slowlog_length") >= 1
    assert answer.value("redis_slowlog_last_id") >= 0
    assert answer.value("redis_last_slow_execution_duration_seconds") > 0
    assert answer.value("redis_latency_spike_duration_seconds", event_name="command") > 0
    assert "card-4111" not in repr(answer.samples)


def test_a_replica_and_its_primary_tell_of_each_other(
    ask: Ask, cache: RedisServer, tmp_path: Path
) -> None:
    replica = RedisServer(tmp_path, "--replicaof", "127.0.0.1", str(cache.port))
    try:
        primary, follower = ask(entry(cache)), ask(entry(replica))
        until(
            lambda: 1 in follower.poll().values("redis_master_link_up").values(),
            "the replica is linked",
        )
        cache.client.set("something", "to replicate")
        until(
            lambda: any(
                offset > 0 and series.get("slave_port") == str(replica.port)
                for series, offset in primary.poll()
                .values("redis_connected_slave_offset_bytes", slave_state="online")
                .items()
            ),
            "the primary knows how far its replica is",
        )
        (link,) = follower.poll().values("redis_master_link_up")
        assert link.get("master_port") == str(cache.port)
    finally:
        replica.stop()


def test_an_acl_account_reads_and_one_without_rights_says_what_lacks(
    ask: Ask, cache: RedisServer
) -> None:
    rights = ["-@all", "+info", "+ping", "+select", "+client"]
    more = ["+config|get", "+slowlog|len", "+slowlog|get", "+latency|latest"]
    cache.run("ACL", "SETUSER", "poller", "on", ">s3cr3t-redis", *rights, *more)
    secrets = {"REDIS": "s3cr3t-redis"}
    text = entry(cache, "user: poller", "password_env: REDIS")
    full = ask(text, secrets)
    full.poll()
    assert (full.status.state, full.status.error) == ("ok", "")
    cache.run("ACL", "SETUSER", "poller", "-slowlog")
    asking = ask(text, secrets)
    answer = asking.poll()
    assert answer.value("redis_up") == 1
    assert not answer.values("redis_slowlog_length")
    assert "SLOWLOG" in asking.status.error
    assert "docs/sources/redis.md" in asking.status.remedy
    wrong = ask(text, {"REDIS": "wr0ng-redis"})
    assert wrong.poll().value("redis_up") == 0
    assert "wr0ng-redis" not in f"{wrong.status}"
    assert wrong.status.state == "error"


def test_a_server_that_went_away_and_came_back_is_read_again(ask: Ask, tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    asking: Asking = ask(entry(server))
    assert asking.poll().value("redis_up") == 1
    server.client.config_set("maxclients", 100)
    server.stop()
    assert asking.poll().value("redis_up") == 0
    assert asking.status.state == "error"
    server.launch(["redis-server", "--port", str(server.port), "--save", ""])
    server.wait_for(server._answers)
    assert asking.poll(120_000).value("redis_up") == 1
    assert asking.status.state == "ok"
    server.stop()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment",
        "used_memory",
        "used_memory:many\nslave0:ip=1\ndb0:keys=x\ncmdstat_get:calls=\nlatency_percentiles_usec_a:p5",
        "errorstat_ERR:count=\ncmdstat_:calls=1,usec=x",
        "role:slave\nmaster_link_status:up",
    ],
)
def test_any_text_of_info_is_read_without_raising(text: str) -> None:
    reading = Reading()
    read_info(fields_of(text), reading)
    assert all(sample.name.startswith("redis_") for sample in reading.samples)
