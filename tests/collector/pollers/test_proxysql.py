"""The ProxySQL poller against a MariaDB that holds ProxySQL's own tables.

ProxySQL itself is in no Debian archive; its admin interface speaks MySQL's protocol, and every
value in it is a text.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.mysql_server import Rows, SqlError, mysql_server
from tests.collector.pollers.servers import PASSWORD, MariaDb, Pair

POOL = (
    "CREATE TABLE stats.stats_mysql_connection_pool (hostgroup VARCHAR(9), srv_host VARCHAR(99), "
    "srv_port VARCHAR(9), status VARCHAR(20), ConnUsed VARCHAR(20), ConnFree VARCHAR(20), "
    "ConnOK VARCHAR(20), ConnERR VARCHAR(20), MaxConnUsed VARCHAR(20), Queries VARCHAR(20), "
    "Queries_GTID_sync VARCHAR(20), Bytes_data_sent VARCHAR(20), Bytes_data_recv VARCHAR(20), "
    "Latency_us VARCHAR(20))"
)
ROWS = (
    "INSERT INTO stats.stats_mysql_connection_pool VALUES "
    "('10','db-1','3306','ONLINE','7','3','90','2','10','5000','0','111','222','350'),"
    "('20','db-2','3306','SHUNNED','0','0','5','40','1','15000','0','1','2','900')"
)
GLOBAL = (
    "CREATE TABLE stats.stats_mysql_global (Variable_Name VARCHAR(99), Variable_Value VARCHAR(99))"
)
FIGURES = (
    "INSERT INTO stats.stats_mysql_global VALUES ('Server_Connections_delayed','12'),"
    "('Client_Connections_connected','44'),('Slow_queries','3'),('max_connect_timeouts','1'),"
    "('Access_Denied_Wrong_Password','0'),('odd','text')"
)


@pytest.fixture
def console(pair: Pair) -> Iterator[MariaDb]:
    server = pair.primary
    server.sql("CREATE DATABASE stats", POOL, ROWS, GLOBAL, FIGURES)
    server.sql("GRANT SELECT ON stats.* TO warroom@'%'")
    yield server
    server.sql("DROP DATABASE stats")


def test_endpoints_their_share_and_waits_are_told(ask: Ask, console: MariaDb) -> None:
    asking = ask(
        f"pollers: [{{type: proxysql, name: px, address: '{console.address}', user: warroom, "
        "password_env: P}]",
        {"P": PASSWORD},
    )
    answer = asking.poll()
    assert asking.status.error == ""
    assert answer.value("proxysql_up") == 1
    first = {"endpoint": "db-1:3306", "hostgroup": "10"}
    assert answer.value("proxysql_connpool_conns", status="used", **first) == 7
    assert answer.value("proxysql_connpool_conns_queries_total", **first) == 5000
    assert answer.value("proxysql_connpool_conns_status", **first) == 1
    assert answer.value("proxysql_connpool_conns_status", endpoint="db-2:3306") == 2
    assert answer.value("proxysql_connpool_conns_total", status="err", hostgroup="20") == 40
    assert answer.value("proxysql_server_connections_total", status="delayed") == 12
    assert answer.value("proxysql_client_connections_connected") == 44
    assert answer.value("proxysql_slow_queries_total") == 3
    # No session variables are set: the console knows none.
    console.sql(
        "UPDATE stats.stats_mysql_global SET Variable_Value = '13' "
        "WHERE Variable_Name = 'Server_Connections_delayed'"
    )
    later = asking.poll().value("proxysql_server_connections_total", status="delayed")
    assert later == 13


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (1045, "ProxySQL Admin Error: Access denied"),
        (1045, "ProxySQL Admin Error: no such table: stats.stats_mysql_connection_pool"),
        (9001, "Max connect timeout reached while reaching hostgroup 10 after 10000ms"),
    ],
)
def test_a_console_that_refuses_is_down_with_its_own_words(
    code: int, message: str, ask: Ask
) -> None:
    refused: dict[str, Rows | SqlError] = {
        "^SET (NAMES|AUTOCOMMIT)": [],  # the driver's own greeting
        "stats_mysql_connection_pool": SqlError(code, message),
    }
    with mysql_server(refused) as server:
        asking = ask(
            f"pollers: [{{type: proxysql, name: px, address: '{server.address}', user: stats, "
            "password_env: P}]",
            {"P": PASSWORD},
        )
        assert asking.poll().value("proxysql_up") == 0
        assert message in asking.status.error
        assert PASSWORD not in f"{asking.status}"
        # A console knows no session variables, and its *_reset tables empty it for everybody.
        assert not [asked for asked in server.asked if "SET SESSION" in asked or "reset" in asked]
