"""The PostgreSQL and pgbouncer pollers against a real streaming pair and a real pooler."""

from __future__ import annotations

import contextlib
import math
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.postgres_servers import (
    PASSWORD,
    Pgbouncer,
    PostgresPair,
    PostgresServer,
    postgres_pair,
)
from tests.e2e.service import until

SECRETS = {"PG": PASSWORD}


@pytest.fixture(scope="module")
def pg() -> Iterator[PostgresPair]:
    with postgres_pair(Path(tempfile.mkdtemp(prefix="warroom-pg-"))) as pair:
        yield pair


def entry(server: PostgresServer | Pgbouncer, kind: str = "postgresql", more: str = "") -> str:
    return (
        f"pollers: [{{type: {kind}, name: it, address: '{server.address}', user: warroom, "
        f"password_env: PG{more}}}]"
    )


def test_a_primary_tells_its_databases_connections_and_replicas(ask: Ask, pg: PostgresPair) -> None:
    asking = ask(entry(pg.primary), SECRETS)
    answer = asking.poll()
    assert (asking.status.state, asking.status.error) == ("ok", "")
    assert answer.value("pg_up") == 1
    assert answer.value("pg_settings_max_connections") == 30
    assert answer.value("pg_replication_is_replica") == 0
    assert answer.value("pg_stat_database_xact_commit", datname="postgres") > 0
    assert answer.value("pg_database_size_bytes", datname="postgres") > 1_000_000
    assert answer.value("pg_stat_user_tables_n_tup_ins", relname="product") >= 500
    until(
        lambda: bool(asking.poll().values("pg_stat_replication_pg_wal_lsn_diff")),
        "the replica is known",
    )


def test_indexes_are_told_with_their_columns_and_which_are_needless(
    ask: Ask, pg: PostgresPair
) -> None:
    pg.primary.sql(
        "CREATE TABLE part (id serial PRIMARY KEY, name text, price int, note text)",
        "CREATE INDEX by_name ON part (name)",
        "CREATE INDEX by_name_price ON part (name, price DESC)",
        "CREATE INDEX by_name_again ON part (name)",
        "CREATE UNIQUE INDEX one_note ON part (note)",
        "CREATE INDEX cheap ON part (price) WHERE price < 5",
        "CREATE INDEX by_lower ON part (lower(name))",
    )
    asking = ask(entry(pg.primary), SECRETS)
    answer = asking.poll()
    found = answer.values("pg_index_columns", relname="part")
    columns = {series.get("indexrelname"): series.get("columns") for series in found}
    assert columns == {
        "part_pkey": "id",
        "by_name": "name",
        "by_name_again": "name",
        "by_name_price": "name,price",
        "one_note": "note",
    }
    needless = answer.values("pg_index_redundant", relname="part")
    assert {series.get("indexrelname") for series in needless} == {"by_name", "by_name_again"}
    unique = answer.values("pg_stat_user_indexes_is_unique", relname="part")
    assert {s.get("indexrelname") for s, value in unique.items() if value} == {
        "part_pkey",
        "one_note",
    }
    # The catalogue is read now and then, and told at every poll.
    pg.primary.sql("DROP INDEX by_name_again")
    assert asking.poll().value("pg_index_columns", indexrelname="by_name_again") == 1
    later = asking.poll(300_000)
    assert math.isnan(later.value("pg_index_columns", indexrelname="by_name_again"))
    assert later.value("pg_index_columns", indexrelname="by_name_price") == 1


def test_a_transaction_that_stays_open_shows_its_age(ask: Ask, pg: PostgresPair) -> None:
    asking = ask(entry(pg.primary), SECRETS)
    with contextlib.closing(pg.primary.connect()) as held:
        held.autocommit = False
        held.execute("SELECT 1")
        until(
            lambda: any(
                age > 0.2
                for series, age in asking.poll()
                .values("pg_stat_activity_max_tx_duration", state="idle in transaction")
                .items()
                if series.get("usename") == "postgres"
            ),
            "the age grows",
        )


def test_a_replica_that_applies_nothing_is_behind(ask: Ask, pg: PostgresPair) -> None:
    asking = ask(entry(pg.replica), SECRETS)
    assert asking.poll().value("pg_replication_is_replica") == 1
    pg.replica.sql("SELECT pg_wal_replay_pause()")
    try:
        pg.primary.sql("INSERT INTO product (name) VALUES ('late')")
        until(
            lambda: asking.poll().value("pg_replication_lag_seconds") > 0.5, "the replica is behind"
        )
    finally:
        pg.replica.sql("SELECT pg_wal_replay_resume()")
    until(lambda: asking.poll().value("pg_replication_lag_seconds") == 0, "it caught up")


def test_a_replica_that_is_cut_off_is_behind_although_it_applied_all(
    ask: Ask, pg: PostgresPair
) -> None:
    asking = ask(entry(pg.replica), SECRETS)
    until(lambda: asking.poll().value("pg_wal_receivers") == 1, "the receiver runs")
    original = pg.replica.sql("SHOW primary_conninfo")[0][0]
    nowhere = "host=127.0.0.1 port=1"
    pg.replica.sql(f"ALTER SYSTEM SET primary_conninfo = '{nowhere}'", "SELECT pg_reload_conf()")
    try:
        until(
            lambda: (
                (answer := asking.poll()).value("pg_wal_receivers") == 0
                and answer.value("pg_replication_lag_seconds") > 0
            ),
            "the receiver is gone and the lag is told",
        )
    finally:
        quoted = original.replace("'", "''")
        pg.replica.sql(f"ALTER SYSTEM SET primary_conninfo = '{quoted}'", "SELECT pg_reload_conf()")
    until(lambda: asking.poll().value("pg_replication_lag_seconds") == 0, "it is linked again", 60)


def test_waiting_clients_of_pgbouncer_are_told(
    ask: Ask, pg: PostgresPair, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pooler = Pgbouncer(pg.primary.directory.parent / "pooler", pg.primary)
    asking = ask(entry(pooler, "pgbouncer"), SECRETS)
    stop = threading.Event()

    def hold() -> None:
        with contextlib.closing(pooler.connect()) as connection:
            while not stop.is_set():
                connection.execute("SELECT pg_sleep(0.2)")

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    pools = "pgbouncer_pools_"
    try:
        until(
            lambda: (
                (answer := asking.poll()).value(
                    f"{pools}client_waiting_connections", database="shop"
                )
                >= 2
                and answer.value(f"{pools}client_maxwait_seconds", database="shop") > 0
                and answer.value(f"{pools}server_active_connections", database="shop") == 2
            ),
            "clients wait",
        )
        answer = asking.poll()
        assert answer.value("pgbouncer_up") == 1
        assert answer.value("pgbouncer_databases_pool_size", name="shop") == 2
        assert answer.value("pgbouncer_stats_client_wait_seconds_total", database="shop") > 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        pooler.stop()


def test_an_account_without_pg_monitor_still_reads_what_it_may(ask: Ask, pg: PostgresPair) -> None:
    pg.primary.sql("DROP ROLE IF EXISTS small", "CREATE ROLE small LOGIN")
    asking = ask(entry(pg.primary).replace("user: warroom", "user: small"), SECRETS)
    answer = asking.poll()
    assert answer.value("pg_up") == 1
    assert answer.values("pg_stat_database_xact_commit")
