"""The MySQL poller against a real MariaDB primary and its GTID replica."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from collector.pollers.mysql.explain import may_be_explained
from collector.pollers.mysql.poller import MysqlPoller
from collector.pollers.mysql.replication import quoted_table
from collector.polling.mysql_values import number_of
from tests.collector.pollers.asking import Answer, Asking
from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.servers import PASSWORD, MariaDb, Pair, TcpPath
from tests.e2e.service import until
from warroom.cli import main

SECRETS = {"MYSQL_PASSWORD": PASSWORD}


def entry(server: MariaDb, *more: str) -> str:
    fields = ", ".join(
        [
            "type: mysql",
            "name: shop-db",
            f"address: '{server.address}'",
            "user: warroom",
            "password_env: MYSQL_PASSWORD",
            "timeout: 5s",
            *more,
        ]
    )
    return f"pollers: [{{{fields}}}]"


def poll_until(asking: Asking, holds: Any, what: str) -> Answer:
    last = asking.poll()

    def again() -> bool:
        nonlocal last
        last = asking.poll()
        return bool(holds(last))

    until(again, what)
    return last


@pytest.fixture
def replica(pair: Pair) -> Iterator[MariaDb]:
    """The replica, healed after the test."""
    yield pair.replica
    pair.replica.sql("STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY=0", "START SLAVE")
    until(pair.caught_up, "the replica has caught up", 60)


def test_a_primary_tells_status_variables_and_version(ask: Ask, pair: Pair) -> None:
    answer = ask(entry(pair.primary), SECRETS).poll()
    assert answer.value("up") == 1
    assert answer.value("mysql_up") == 1
    assert answer.value("mysql_global_variables_max_connections") == 60
    assert answer.value("mysql_global_status_threads_connected") >= 1
    assert answer.value("mysql_global_status_commands_total", command="select") >= 1
    assert answer.values("mysql_global_status_connection_errors_total", error="max_connections")
    (version,) = answer.values("mysql_version_info")
    assert "MariaDB" in version.get("version")
    assert not answer.values("mysql_slave_status_slave_io_running")
    assert answer.value("mysql_gtid_sequence", position="binlog", domain_id="0") > 1


def test_the_account_of_the_documentation_may_read_every_part(ask: Ask, pair: Pair) -> None:
    pair.primary.sql("REPLACE INTO shop.heartbeat VALUES (NOW(6), 1)")
    until(pair.caught_up, "the replica has the heartbeat")
    for server in (pair.primary, pair.replica):
        asking = ask(entry(server, "heartbeat_table: shop.heartbeat"), SECRETS)
        asking.poll()
        assert (asking.status.state, asking.status.error) == ("ok", "")


def test_a_stopped_sql_thread_shows_in_the_flag_the_heartbeat_and_the_gtids(
    ask: Ask, pair: Pair, replica: MariaDb
) -> None:
    beat = "REPLACE INTO shop.heartbeat VALUES (DATE_FORMAT(NOW(6), '%Y-%m-%dT%H:%i:%s.%f'), 1)"
    pair.primary.sql(beat)
    until(pair.caught_up, "the beat has arrived")
    asking = ask(entry(replica, "heartbeat_table: shop.heartbeat"), SECRETS)
    healthy = asking.poll()
    assert healthy.value("mysql_slave_status_slave_sql_running") == 1
    assert healthy.value("mysql_slave_status_seconds_behind_master") == 0
    replica.sql("STOP SLAVE SQL_THREAD")
    pair.primary.sql(*[beat] * 3)
    now, stored = (f"mysql_heartbeat_{part}_timestamp_seconds" for part in ("now", "stored"))
    broken = poll_until(
        asking,
        lambda answer: (
            answer.value(now) - answer.value(stored) > 1
            and answer.value("mysql_gtid_sequence", position="io")
            - answer.value("mysql_gtid_sequence", position="slave")
            >= 3
        ),
        "the heartbeat is old and three transactions are fetched but not applied",
    )
    assert broken.value("mysql_slave_status_slave_sql_running") == 0
    assert broken.value("mysql_slave_status_slave_io_running") == 1
    # NULL is no number: the series ends, it does not stay at 0.
    assert not broken.values("mysql_slave_status_seconds_behind_master")


def test_a_path_that_stalls_silently_shows_in_the_heartbeat_and_the_gtids_alone(
    ask: Ask, pair: Pair, replica: MariaDb
) -> None:
    beat = "REPLACE INTO shop.heartbeat VALUES (DATE_FORMAT(NOW(6), '%Y-%m-%dT%H:%i:%s.%f'), 1)"
    path = TcpPath(pair.primary.port)
    try:
        replica.sql("STOP SLAVE", f"CHANGE MASTER TO MASTER_PORT={path.port}", "START SLAVE")
        pair.primary.sql(beat)
        until(pair.caught_up, "it replicates over the path")
        there = ask(entry(replica, "heartbeat_table: shop.heartbeat"), SECRETS)
        here = ask(entry(pair.primary), SECRETS)
        path.flows.clear()
        pair.primary.sql(*[beat] * 5)
        now, stored = (f"mysql_heartbeat_{part}_timestamp_seconds" for part in ("now", "stored"))
        stalled = poll_until(
            there, lambda answer: answer.value(now) - answer.value(stored) > 1, "the beat is old"
        )
        # The server itself sees nothing wrong.
        assert stalled.value("mysql_slave_status_slave_io_running") == 1
        assert stalled.value("mysql_slave_status_slave_sql_running") == 1
        assert stalled.value("mysql_slave_status_seconds_behind_master") == 0
        ahead = here.poll().value("mysql_gtid_sequence", position="binlog")
        assert ahead - stalled.value("mysql_gtid_sequence", position="io") >= 5
    finally:
        path.close()
        replica.sql("STOP SLAVE", f"CHANGE MASTER TO MASTER_PORT={pair.primary.port}")


def test_a_locked_replica_falls_behind_in_the_servers_own_words(
    ask: Ask, pair: Pair, replica: MariaDb
) -> None:
    asking = ask(entry(replica), SECRETS)
    with contextlib.closing(replica.connect()) as holder:
        holder.cursor().execute("LOCK TABLES shop.product READ")
        pair.primary.sql("INSERT INTO shop.product (name, category) VALUES ('new', 1)")
        poll_until(
            asking,
            lambda answer: (
                max(answer.values("mysql_slave_status_seconds_behind_master").values(), default=0)
                >= 2
            ),
            "the lag grows while the table is locked",
        )


def test_a_delay_that_is_wanted_is_told_beside_the_lag(
    ask: Ask, pair: Pair, replica: MariaDb
) -> None:
    replica.sql("STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY=3600", "START SLAVE")
    answer = ask(entry(replica), SECRETS).poll()
    assert answer.value("mysql_slave_status_sql_delay") == 3600


def test_statements_without_an_index_show_what_they_examine(ask: Ask, pair: Pair) -> None:
    asking = ask(entry(pair.primary), SECRETS)

    def slow() -> dict[str, float]:
        prefix = "mysql_perf_schema_events_statements_"
        return {
            name: sum(
                value
                for series, value in asking.poll()
                .values(f"{prefix}{name}_total", schema="shop")
                .items()
                if "WHERE NAME LIKE" in series.get("digest_text")
            )
            for name in ("rows_examined", "no_index_used", "rows_sent")
        }

    before = slow()
    statement = "SELECT id FROM shop.product WHERE name LIKE '%9' AND id > 0 ORDER BY RAND()"
    pair.primary.sql("USE shop", *[statement] * 4)
    after = slow()
    assert after["rows_examined"] - before["rows_examined"] >= 4 * 2000
    assert after["rows_sent"] - before["rows_sent"] >= 4


def test_a_heartbeat_that_nobody_writes_is_told(ask: Ask, pair: Pair) -> None:
    pair.primary.sql("CREATE TABLE IF NOT EXISTS shop.silent LIKE shop.heartbeat")
    asking = ask(entry(pair.primary, "heartbeat_table: shop.silent"), SECRETS)
    assert asking.poll().value("up") == 1
    assert "the table holds no row" in asking.status.error
    assert "pt-heartbeat" in asking.status.remedy


def test_redundant_and_unused_indexes_are_named(ask: Ask, pair: Pair) -> None:
    pair.primary.sql(
        "CREATE OR REPLACE TABLE shop.idle (id INT PRIMARY KEY, a INT, KEY never_read (a))",
        "INSERT INTO shop.idle VALUES (1, 1)",
    )
    answer = ask(entry(pair.primary), SECRETS).poll()
    assert answer.value(
        "mysql_index_redundant", index="by_category", dominant_index="also_by_category"
    )
    assert answer.values("mysql_index_unused", table="idle", index="never_read")


def test_the_worst_statements_are_explained_on_demand(ask: Ask, pair: Pair) -> None:
    asking = ask(entry(pair.primary), SECRETS)
    holder = pair.primary.connect()
    with contextlib.closing(holder):
        # The history belongs to the thread: it lives as long as its connection.
        cursor = holder.cursor()
        cursor.execute("USE shop")
        cursor.execute("SELECT COUNT(*) FROM product WHERE name = 'p77'")
        poller = asking.poller
        assert isinstance(poller, MysqlPoller)
        plans = asking.loop.run(poller.explain(10))
    scans = [table for plan in plans for table in plan.tables if table[0] == "product"]
    assert any(access in ("ALL", "index") and rows >= 1000 for _, access, rows in scans), plans
    assert asking.poll().value("up") == 1


def test_the_command_explains_what_the_history_of_a_connection_holds(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text(PASSWORD)
    config = tmp_path / "warroom.yaml"
    text = entry(pair.primary).replace("password_env: MYSQL_PASSWORD", "password_file: secret")
    config.write_text(text)
    with contextlib.closing(pair.primary.connect()) as holder:
        cursor = holder.cursor()
        cursor.execute("USE shop")
        cursor.execute("SELECT MAX(id) FROM product WHERE name > 'q' AND category > 100 - id")
        assert main(["explain", "shop-db", "--config", str(config), "--limit", "10"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"shop  product: \w[\w ]+, \d+ rows", told), told
    assert main(["explain", "other", "--config", str(config)]) == 1
    assert "known: shop-db" in capsys.readouterr().err


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE product SET name = 'x'",
        "SELECT 1; DROP TABLE product",
        "SELECT * FROM product INTO OUTFILE '/tmp/x'",
        "SELECT * FROM product FOR UPDATE",
        "SELECT SLEEP(100)",
        "select @a := 1",
        "WITH x AS (SELECT 1) DELETE FROM product",
    ],
)
def test_what_writes_locks_or_waits_is_never_explained(statement: str) -> None:
    assert not may_be_explained(statement)


def test_the_kept_connection_reads_a_server_that_takes_no_other(ask: Ask, pair: Pair) -> None:
    asking = ask(entry(pair.primary), SECRETS)
    asking.poll()
    with contextlib.ExitStack() as held:
        refused = 0
        for _ in range(80):
            try:
                held.callback(pair.primary.connect("warroom", PASSWORD).close)
            except pymysql.err.OperationalError as error:
                refused += error.args[0] == 1040
        assert refused
        full = asking.poll()
        assert full.value("up") == 1
        assert full.value("mysql_global_status_threads_connected") >= 60
    until(
        lambda: asking.poll().value("mysql_global_status_threads_connected") < 10,
        "the connections are given back",
    )


def test_a_wrong_password_is_a_failure_that_does_not_show_it(ask: Ask, pair: Pair) -> None:
    asking = ask(entry(pair.primary), {"MYSQL_PASSWORD": "wr0ng-s3cret"})
    answer = asking.poll()
    assert (answer.value("up"), answer.value("mysql_up")) == (0, 0)
    status = asking.status
    assert status.state == "error"
    assert "denied" in status.error
    assert "wr0ng-s3cret" not in f"{status}"


def test_an_account_that_may_not_read_a_part_still_reads_the_rest(ask: Ask, pair: Pair) -> None:
    pair.primary.sql(
        "CREATE OR REPLACE USER small@'%' IDENTIFIED BY 'p0ll-s3cret'",
        "GRANT PROCESS ON *.* TO small@'%'",
    )
    asking = ask(entry(pair.primary).replace("user: warroom", "user: small"), SECRETS)
    answer = asking.poll()
    assert answer.value("up") == 1
    assert answer.values("mysql_global_status_threads_connected")
    assert asking.status.state == "error"
    assert "digests" in asking.status.error
    assert "docs/sources/mysql.md" in asking.status.remedy


def test_values_are_numbers_by_the_exporters_rules() -> None:
    texts = [
        "ON",
        "No",
        "Connecting",
        "12.5",
        "mysql-bin.000012",
        "127.0.0.1",
        "x",
        "",
        None,
        "inf",
    ]
    assert [number_of(text) for text in texts] == [1, 0, 0, 12.5, 12, None, None, None, None, None]


@pytest.mark.parametrize("name", ["heartbeat", "a.b.c", "shop.heart`beat", "shop.", "a b.c"])
def test_a_heartbeat_table_is_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"write database\.table"):
        quoted_table(name)
