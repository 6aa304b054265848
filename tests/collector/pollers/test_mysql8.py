"""The MySQL poller where MySQL 8.4 answers otherwise than MariaDB, asked over its own protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.pollers.mysql.replication import transactions
from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.mysql_server import (
    MysqlProtocolServer,
    Rows,
    SqlError,
    mysql_server,
)
from tests.e2e.service import until

UNKNOWN = SqlError(1193, "Unknown system variable")
SYNTAX = SqlError(1064, "You have an error in your SQL syntax")
SOURCE = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
REPLICA = {
    "Replica_IO_State": "Waiting for source to send event",
    "Source_Host": "db-1",
    "Source_UUID": SOURCE,
    "Replica_IO_Running": "Yes",
    "Replica_SQL_Running": "Yes",
    "Seconds_Behind_Source": "7",
    "SQL_Delay": "0",
    "Source_Server_Id": "1",
    "Retrieved_Gtid_Set": f"{SOURCE}:1-60",
    "Executed_Gtid_Set": f"{SOURCE}:1-50",
    "Channel_Name": "",
}
DIGEST = {
    "schema": "shop",
    "digest": "d" * 64,
    "digest_text": "SELECT * FROM `product`",
    **dict.fromkeys(
        ("COUNT_STAR", "SUM_ERRORS", "SUM_WARNINGS", "SUM_ROWS_AFFECTED", "SUM_ROWS_SENT"), "3"
    ),
    **dict.fromkeys(("SUM_TIMER_WAIT", "SUM_LOCK_TIME"), "2000000000000"),
    **dict.fromkeys(
        (
            "SUM_ROWS_EXAMINED",
            "SUM_CREATED_TMP_TABLES",
            "SUM_CREATED_TMP_DISK_TABLES",
            "SUM_SORT_MERGE_PASSES",
            "SUM_SORT_ROWS",
            "SUM_NO_INDEX_USED",
        ),
        "900",
    ),
}
ANSWERS: dict[str, Rows | SqlError] = {
    "max_statement_time": UNKNOWN,
    "^SET |^START TRANSACTION|^USE ": [],
    "^SHOW GLOBAL STATUS": [{"Variable_name": "Threads_connected", "Value": "12"}],
    "^SHOW GLOBAL VARIABLES": [
        {"Variable_name": "max_connections", "Value": "151"},
        {"Variable_name": "version", "Value": "8.4.3"},
    ],
    "^SHOW ALL SLAVES|^SHOW SLAVE": SYNTAX,
    "^SHOW REPLICA STATUS": [REPLICA],
    "GTID_SUBTRACT": [{"unapplied": f"{SOURCE}:51-60"}],
    "gtid_binlog_pos": UNKNOWN,
    "gtid_executed": [{"executed": f"{SOURCE}:1-50,\n{'a' * 8}:1-3:9"}],
    "QUERY_SAMPLE_TEXT": [
        {"schema": "shop", "digest": "d" * 64, "statement": "SELECT * FROM product WHERE a = 1"}
    ],
    "^EXPLAIN FORMAT=JSON SELECT": [
        {
            "EXPLAIN": '{"query_block": {"table": {"table_name": "product", "access_type": "ALL",'
            ' "rows_examined_per_scan": 900}}}'
        }
    ],
    "STATISTICS": [{"schema": "shop", "table": "product", "index": "old", "columns": "a,b"}],
    # Among the dearest and among the new ones.
    "summary_by_digest": [DIGEST, DIGEST],
    "PROCESSLIST": [{"command": "Query", "state": "", "threads": "2", "seconds": "1"}],
    "index_usage": [],
    "userstat": UNKNOWN,
    "schema_unused_indexes": [{"schema": "shop", "table": "product", "index": "old"}],
    "schema_redundant_indexes": [],
}


@pytest.fixture
def server() -> Iterator[MysqlProtocolServer]:
    who: dict[str, Rows | SqlError] = {" AS who": [{"who": "shop", "threads": "2"}]}
    with mysql_server({**who, **ANSWERS}) as running:
        yield running


def entry(server: MysqlProtocolServer, more: str = "") -> str:
    return (
        f"pollers: [{{type: mysql, name: db-2, address: '{server.address}', user: warroom, "
        f"password_env: P{more}}}]"
    )


def test_a_replica_of_mysql_tells_its_lag_and_what_it_has_not_applied(
    ask: Ask, server: MysqlProtocolServer
) -> None:
    asking = ask(entry(server), {"P": "x"})
    answer = asking.poll()
    assert asking.status.error == ""
    # The names that mysqld_exporter gives these columns.
    assert answer.value("mysql_slave_status_seconds_behind_source", master_host="db-1") == 7
    assert answer.value("mysql_slave_status_replica_io_running", master_uuid=SOURCE) == 1
    assert answer.value("mysql_gtid_waiting_transactions", channel_name="") == 10
    assert answer.value("mysql_gtid_transactions", source_uuid=SOURCE) == 50
    assert answer.value("mysql_gtid_transactions", source_uuid="a" * 8) == 4
    assert any("GTID_SUBTRACT(" in asked and f"{SOURCE}:1-60" in asked for asked in server.asked)
    assert answer.value("mysql_version_info", version="8.4.3") == 1
    assert answer.value("mysql_index_unused", index="old") == 1
    prefix = "mysql_perf_schema_events_statements_"
    assert answer.value(f"{prefix}no_index_used_total", digest="d" * 64) == 900
    assert answer.value(f"{prefix}seconds_total", digest="d" * 64) == 2


def test_what_is_scanned_and_which_indexes_there_are_is_told(
    ask: Ask, server: MysqlProtocolServer
) -> None:
    answer = ask(entry(server), {"P": "x"}).poll()
    plan = {"schema": "shop", "table": "product", "access_type": "ALL"}
    assert answer.value("mysql_explain_rows", **plan) == 900
    assert answer.value("mysql_index_columns", table="product", index="old", columns="a,b") == 1


def test_a_replica_whose_threads_stand_has_no_lag_but_flags(
    ask: Ask, server: MysqlProtocolServer
) -> None:
    stopped = {**REPLICA, "Replica_SQL_Running": "No", "Seconds_Behind_Source": None}
    server.answers["^SHOW REPLICA STATUS"] = [stopped]
    answer = ask(entry(server), {"P": "x"}).poll()
    assert answer.value("mysql_slave_status_replica_sql_running") == 0
    assert not answer.values("mysql_slave_status_seconds_behind_source")


def test_a_server_that_refuses_parts_is_read_without_them(
    ask: Ask, server: MysqlProtocolServer
) -> None:
    server.answers["summary_by_digest"] = SqlError(1142, "SELECT command denied to user")
    server.answers["^SHOW REPLICA STATUS"] = SqlError(1227, "Access denied; you need REPLICATION")
    asking = ask(entry(server), {"P": "x"})
    answer = asking.poll()
    assert answer.value("mysql_global_status_threads_connected") == 12
    assert answer.value("mysql_gtid_transactions", source_uuid=SOURCE) == 50
    assert "digests: SELECT command denied" in asking.status.error
    assert "replication: " in asking.status.error


def test_a_server_that_goes_away_in_an_answer_is_down_with_the_reason(
    ask: Ask, server: MysqlProtocolServer
) -> None:
    server.answers["^SHOW GLOBAL STATUS"] = SqlError(1053, "Server shutdown in progress")
    asking = ask(entry(server), {"P": "x"})
    assert asking.poll().value("mysql_up") == 0
    assert "Server shutdown in progress" in asking.status.error


INTERVALS = st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**4)), max_size=5)


@given(st.dictionaries(st.from_regex(r"[0-9a-f]{8}", fullmatch=True), INTERVALS, max_size=4))
def test_transactions_of_a_set_are_the_sum_of_its_intervals(
    sets: dict[str, list[tuple[int, int]]],
) -> None:
    parts = [
        ":".join([source, *(f"{low}-{low + more}" if more else f"{low}" for low, more in pairs)])
        for source, pairs in sets.items()
    ]
    wanted = {source: sum(more + 1 for _, more in pairs) for source, pairs in sets.items() if pairs}
    assert transactions(",\n".join(parts)) == wanted


@given(st.text(alphabet="0123456789abc-:,\n² ", max_size=40))
def test_any_set_is_read(text: str) -> None:
    assert all(count >= 0 for count in transactions(text).values())


def test_a_part_that_takes_too_long_leaves_the_rest_and_is_asked_again_later(
    ask: Ask, server: MysqlProtocolServer
) -> None:
    server.answers["STATISTICS"] = SqlError(3024, "maximum statement execution time exceeded")
    asking = ask(entry(server), {"P": "not-told"})
    first = asking.poll()
    assert first.value("mysql_up") == 1
    assert first.value("mysql_global_status_threads_connected") == 12
    assert "indexes: maximum statement execution time exceeded" in asking.status.error
    asked = sum("STATISTICS" in statement for statement in server.asked)
    assert asking.poll().value("mysql_up") == 1
    # What lacks is still said, and not asked for at every poll.
    assert "indexes: maximum statement execution time exceeded" in asking.status.error
    assert sum("STATISTICS" in statement for statement in server.asked) == asked
    server.answers["STATISTICS"] = ANSWERS["STATISTICS"]
    assert asking.poll(300_000).value("mysql_index_columns", index="old") == 1


def test_plans_are_asked_over_connections_that_say_goodbye_and_only_where_there_are_any(
    ask: Ask, server: MysqlProtocolServer
) -> None:
    asking = ask(entry(server), {"P": "not-told"})
    assert asking.poll().value("mysql_explain_rows", table="product") == 900
    until(lambda: server.left == 1, "the connection of the plans has gone")
    server.answers["QUERY_SAMPLE_TEXT"] = []
    asking.poll(60_000)
    asking.loop.run(asking.runner.aclose())
    until(lambda: server.left + server.aborted == 2, "the kept connection has gone")
    assert server.aborted == 0


def test_a_right_that_the_plans_lack_is_told(ask: Ask, server: MysqlProtocolServer) -> None:
    denied = SqlError(1142, "SELECT command denied for table events_statements_history")
    server.answers["QUERY_SAMPLE_TEXT"] = denied
    asking = ask(entry(server), {"P": "not-told"})
    for _ in range(2):
        assert asking.poll().value("mysql_up") == 1
        assert "plans: SELECT command denied" in asking.status.error
        assert "performance_schema" in asking.status.remedy
