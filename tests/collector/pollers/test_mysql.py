"""The MySQL poller against a real MariaDB primary and its GTID replica."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.pollers.mysql.explain import may_be_explained
from collector.pollers.mysql.poller import MysqlPoller
from collector.pollers.mysql.replication import quoted_table
from collector.pollers.mysql.slow_log import alike
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
    assert healthy.value("mysql_gtid_waiting_transactions", connection_name="") == 0
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
            and answer.value("mysql_gtid_waiting_transactions") >= 3
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


@pytest.mark.parametrize("lock", ["LOCK TABLES shop.product READ", "FLUSH TABLES WITH READ LOCK"])
def test_a_locked_replica_falls_behind_in_the_servers_own_words(
    lock: str, ask: Ask, pair: Pair, replica: MariaDb
) -> None:
    asking = ask(entry(replica), SECRETS)
    with contextlib.closing(replica.connect()) as holder:
        holder.cursor().execute(lock)
        pair.primary.sql("INSERT INTO shop.product (name, category) VALUES ('new', 1)")
        poll_until(
            asking,
            lambda answer: (
                max(answer.values("mysql_slave_status_seconds_behind_master").values(), default=0)
                >= 1
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


def test_without_performance_schema_unused_indexes_come_from_userstat(
    ask: Ask, pair: Pair, replica: MariaDb
) -> None:
    replica.sql("SET GLOBAL userstat = 1")
    try:
        pair.primary.sql(
            "CREATE OR REPLACE TABLE shop.both_kinds (id INT PRIMARY KEY, a INT, b INT, c INT, "
            "KEY is_read (a), KEY never_read (b), UNIQUE KEY is_needed (c))",
            "INSERT INTO shop.both_kinds VALUES (1, 1, 1, 1)",
        )
        until(pair.caught_up, "the table is there")
        replica.sql("SELECT COUNT(*) FROM shop.both_kinds FORCE INDEX (is_read) WHERE a > 0")
        told = ask(entry(replica), SECRETS).poll().values("mysql_index_unused", table="both_kinds")
        assert [series.get("index") for series in told] == ["never_read"]
    finally:
        replica.sql("SET GLOBAL userstat = 0")


def test_the_slow_log_counts_statements_without_their_values(ask: Ask, pair: Pair) -> None:
    server = pair.primary
    server.sql(
        "GRANT SELECT ON mysql.slow_log TO warroom@'%'",
        "SET GLOBAL log_output = 'TABLE', GLOBAL long_query_time = 0.02, GLOBAL slow_query_log = 1",
    )
    try:
        asking = ask(entry(server, "slow_log: true"), SECRETS)
        assert not asking.poll().values("mysql_slow_log_queries_total")
        waits = "SELECT name, SLEEP(0.03) FROM shop.product WHERE id = {} AND name <> 's3cret'"
        server.sql("USE shop", *(waits.format(number) for number in (1, 2, 3)))
        answer = asking.poll()
        statement = "SELECT name, SLEEP(?) FROM shop.product WHERE id = ? AND name <> ?"
        labels = {"schema": "shop", "statement": statement}
        assert answer.value("mysql_slow_log_queries_total", **labels) == 3
        assert 0.09 <= answer.value("mysql_slow_log_query_seconds_total", **labels) < 60
        assert answer.value("mysql_slow_log_rows_sent_total", **labels) == 3
        assert answer.values("mysql_slow_log_lock_seconds_total", **labels)
        # What was counted once is not counted again.
        assert asking.poll().value("mysql_slow_log_queries_total", **labels) == 3
        # A statement's time is text on the clock of its session: as if clocks went back, or ahead.
        for zone in ("-11:00", "+13:00", "SYSTEM"):
            server.sql("USE shop", f"SET time_zone = '{zone}'", waits.format(4))
        assert asking.poll().value("mysql_slow_log_queries_total", **labels) == 6
        server.sql("TRUNCATE TABLE mysql.slow_log", "USE shop", waits.format(5))
        assert asking.poll().value("mysql_slow_log_queries_total", **labels) == 7
        assert "s3cret'" not in f"{asking.appender.samples()}"
        assert asking.status.error == ""
    finally:
        server.sql(
            "SET GLOBAL slow_query_log = 0, GLOBAL log_output = 'FILE', GLOBAL long_query_time = 10"
        )


@pytest.mark.parametrize(
    ("statement", "bare"),
    [
        ("SELECT 1", "SELECT ?"),
        ("SELECT 'it''s' , \"a\\\"b\"", "SELECT ? , ?"),
        ("SELECT * FROM t2 WHERE a = -1.5e3", "SELECT * FROM t2 WHERE a = ?"),
        ("INSERT INTO t VALUES (1, 'x'), (2, 'y')", "INSERT INTO t VALUES (?)"),
        ("SELECT 1 /* by hand: s3cret */ # s3cret", "SELECT ?"),
        ("SELECT a FROM t WHERE b = 'cut off", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a1, `b2`.c3 FROM d.e4", "SELECT a1, `b2`.c3 FROM d.e4"),
    ],
)
def test_statements_of_the_slow_log_lose_their_values(statement: str, bare: str) -> None:
    assert alike(statement) == bare


@given(st.text(alphabet="ab'\"\\/*#- \n0,()", max_size=40))
def test_no_text_of_any_statement_is_kept(statement: str) -> None:
    bare = alike(statement)
    assert len(bare) <= 120
    assert "'" not in bare
    assert '"' not in bare


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


@pytest.fixture
def exhausted(pair: Pair) -> Iterator[Callable[[], MariaDb]]:
    """Takes every connection of the primary with 200 clients; they are given back in the end."""
    with contextlib.ExitStack() as held:

        def exhaust() -> MariaDb:
            refused = 0
            for _ in range(200):
                try:
                    held.callback(pair.primary.connect("shopper", PASSWORD).close)
                except pymysql.err.OperationalError as error:
                    refused += error.args[0] == 1040
            assert refused >= 140
            return pair.primary

        pair.primary.sql("CREATE OR REPLACE USER shopper@'%' IDENTIFIED BY 'p0ll-s3cret'")
        yield exhaust
    until(
        lambda: pair.primary.sql("SHOW STATUS LIKE 'Threads_connected'")[0]["Value"] < "9",
        "the connections are given back",
    )


def test_the_kept_connection_reads_a_server_that_takes_no_other(
    ask: Ask, pair: Pair, exhausted: Callable[[], MariaDb]
) -> None:
    asking = ask(entry(pair.primary), SECRETS)
    asking.poll()
    exhausted()
    full = asking.poll()
    assert full.value("up") == 1
    assert full.value("mysql_global_status_threads_connected") >= 60


def test_the_right_to_a_slot_of_its_own_reads_a_server_that_is_full_already(
    ask: Ask, exhausted: Callable[[], MariaDb]
) -> None:
    answer = ask(entry(exhausted()), SECRETS).poll()
    assert answer.value("mysql_up") == 1
    assert answer.value("mysql_global_status_threads_connected") >= 60
    assert answer.value("mysql_global_status_aborted_connects") >= 140


def test_without_that_right_a_full_server_is_down_and_the_way_out_is_told(
    ask: Ask, exhausted: Callable[[], MariaDb]
) -> None:
    text = entry(exhausted()).replace("user: warroom", "user: shopper")
    asking = ask(text, SECRETS)
    assert asking.poll().value("mysql_up") == 0
    assert "no free connection" in asking.status.error
    assert "CONNECTION ADMIN" in asking.status.remedy


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
    assert "GRANT SELECT ON performance_schema.* to the account." in asking.status.remedy
    assert "GRANT SLAVE MONITOR (MySQL: REPLICATION CLIENT) ON *.*" in asking.status.remedy
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
    assert [number_of(text) for text in texts] == [
        1,
        0,
        0,
        12.5,
        None,
        None,
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("name", ["heartbeat", "a.b.c", "shop.heart`beat", "shop.", "a b.c"])
def test_a_heartbeat_table_is_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"write database\.table"):
        quoted_table(name)
