"""From the names that exporters use, through the shipped rules, to findings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import detectors.signals
from detectors.detector import SignalContext
from detectors.finding import Finding, Priority
from detectors.index_advice import advise
from detectors.registry import DetectorSettings
from store.documents import parse_document
from store.model import METRIC_NAME, Labels, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store

THREADS = "mysql_slave_status_slave_{}_running{{instance=db-2;channel_name=;connection_name=}}"
REFUSED = "mysql_global_status_connection_errors_total{instance=db-1;error=max_connections}"
START_MS = 1_700_000_000_000
STEP_MS = 30_000
RULES = Path(detectors.signals.__file__).with_name("signals.yml")
SLOW = "SELECT `id` , `total` FROM `shop_order` WHERE `email` = ? ORDER BY `placed` DESC LIMIT ?"
# Value of a series after a number of seconds.
Shape = Callable[[float], float]
Series = dict[str, Shape]


def line(per_second: float, start: float = 0.0) -> Shape:
    return lambda second: start + per_second * second


def flat(value: float) -> Shape:
    return lambda _: value


def rules_over(names: set[str]) -> list[dict[str, str]]:
    """The shipped rules that read one of these metrics, and those that read other rules."""
    data = parse_document(RULES.read_text(encoding="utf-8"), RULES.name).data
    rules = [rule for group in data["groups"] for rule in group["rules"]]
    return [
        rule
        for rule in rules
        if "sig:" in rule["expr"] or any(name in rule["expr"] for name in names)
    ]


def found(
    kind: str, series: Series, *, minutes: int = 9, recorded_minutes: int = 5
) -> tuple[Finding, ...]:
    """What a detector says after some minutes of these series, the rules run at each step."""
    rules = rules_over({text.partition("{")[0] for text in series})
    with open_store() as store:
        engine = Engine(store)
        labels = {text: labels_of(text) for text in series}
        end_ms = START_MS + minutes * 60_000
        for at_ms in range(START_MS, end_ms + 1, STEP_MS):
            second = (at_ms - START_MS) / 1_000
            raw = [(labels[text], at_ms, shape(second)) for text, shape in series.items()]
            store.append(SampleBatch.of_rows(raw)).result(30)
            recent = at_ms > end_ms - recorded_minutes * 60_000
            for rule in rules if recent else ():
                rows = [
                    (Labels.of({**one.to_dict(), METRIC_NAME: rule["record"]}), at_ms, value)
                    for one, value in engine.instant(rule["expr"], at_ms).items()
                ]
                if rows:
                    store.append(SampleBatch.of_rows(rows)).result(30)
        detector = DetectorSettings().signal_detectors()[kind]
        return detector.evaluate(engine, SignalContext(end_ms))


def labels_of(text: str) -> Labels:
    name, _, inner = text.partition("{")
    pairs = dict(pair.split("=", 1) for pair in inner.rstrip("}").split(";") if pair)
    return Labels.of({METRIC_NAME: name, **pairs})


def digest(rows: float, *, calls: float = 2.0, text: str = SLOW) -> Series:
    prefix = "mysql_perf_schema_events_statements"
    inner = f"{{instance=db-1;schema=shop;digest=d1;digest_text={text}}}"
    return {
        f"{prefix}_total{inner}": line(calls),
        f"{prefix}_seconds_total{inner}": line(calls * 0.2),
        f"{prefix}_rows_examined_total{inner}": line(calls * rows),
        f"{prefix}_rows_sent_total{inner}": line(calls * 10),
        f"{prefix}_no_index_used_total{inner}": line(calls),
    }


def cpu(idle: float) -> Series:
    return {
        f"node_cpu_seconds_total{{instance=web-1;cpu={core};mode=idle}}": line(idle)
        for core in range(2)
    }


def heartbeat(instance: str) -> Series:
    """A row of pt-heartbeat that nobody has written for a while."""
    now_s = START_MS / 1_000
    return {
        f"mysql_heartbeat_now_timestamp_seconds{{instance={instance}}}": line(1, now_s),
        f"mysql_heartbeat_stored_timestamp_seconds{{instance={instance}}}": flat(now_s),
    }


FAULTS: dict[str, tuple[str, Series, str]] = {
    "processor": ("resource_saturation", cpu(0.1), "web-1 uses 90% of its CPU"),
    "memory": (
        "resource_saturation",
        {
            "node_memory_MemAvailable_bytes{instance=web-1}": flat(1e9),
            "node_memory_MemTotal_bytes{instance=web-1}": flat(16e9),
        },
        "web-1 uses 94% of its memory",
    ),
    "disk": (
        "resource_saturation",
        {
            "node_filesystem_avail_bytes{instance=db-1;mountpoint=/var;fstype=ext4}": flat(8e9),
            "node_filesystem_size_bytes{instance=db-1;mountpoint=/var;fstype=ext4}": flat(1e11),
        },
        "db-1 /var is 92% full",
    ),
    "replication": (
        "replication_broken",
        {
            THREADS.format("io"): flat(1),
            THREADS.format("sql"): flat(0),
        },
        "Replication to db-2 has stopped",
    ),
    "pooler": (
        "connection_wait",
        {"pgbouncer_pools_client_maxwait_seconds{instance=pool-1;database=shop}": flat(2.5)},
        "Clients of pool-1 shop wait 2.5 s",
    ),
    "refused": (
        "connection_wait",
        {REFUSED: line(3)},
        "db-1 refuses 3.0 connections a second",
    ),
    "queue": (
        "queue_growth",
        {"celery_queue_length{instance=q;queue_name=mail}": line(10, 2_000)},
        "Queue mail grows",
    ),
    "autoscaling": (
        "autoscaling_at_limit",
        {
            "aws_autoscaling_group_desired_capacity{group_name=web}": flat(20),
            "aws_autoscaling_group_max_size{group_name=web}": flat(20),
            "aws_autoscaling_group_min_size{group_name=web}": flat(4),
        },
        "web runs at 100% of its maximum size",
    ),
    "autoscaling by cloudwatch_exporter": (
        "autoscaling_at_limit",
        {
            f"aws_autoscaling_group_{name}_average{{auto_scaling_group_name=web}}": flat(size)
            for name, size in (("desired_capacity", 20), ("max_size", 20), ("min_size", 4))
        },
        "web runs at 100% of its maximum size",
    ),
    "a replica's old heartbeat": (
        "replica_lag",
        {**heartbeat("db-2"), "mysql_slave_status_slave_io_running{instance=db-2}": flat(1)},
        "Replica db-2 is 540.0 s behind",
    ),
    "search": (
        "search_latency",
        {
            "elasticsearch_indices_search_query_time_seconds{cluster=shop;name=es-1}": line(6),
            "elasticsearch_indices_search_query_total{cluster=shop;name=es-1}": line(10),
        },
        "Search on shop es-1 takes 0.6 s on average",
    ),
    "vitals": (
        "web_vital_poor",
        {
            "browser_web_vital_lcp_seconds_bucket{page=/p;device=mobile;le=4}": line(0.1),
            "browser_web_vital_lcp_seconds_bucket{page=/p;device=mobile;le=6}": line(1.0),
            "browser_web_vital_lcp_seconds_bucket{page=/p;device=mobile;le=+Inf}": line(1.0),
            "browser_web_vital_lcp_seconds_count{page=/p;device=mobile}": line(1.0),
        },
        "LCP of /p is poor on mobile: p75 5.4",
    ),
    "index": ("missing_index", digest(599_120), "599,120 rows read for 10 sent: SELECT"),
}
QUIET: dict[str, tuple[str, Series]] = {
    "processor": ("resource_saturation", cpu(0.6)),
    "running replica": (
        "replication_broken",
        {
            THREADS.format("io"): flat(1),
            THREADS.format("sql"): flat(1),
        },
    ),
    "a primary whose heartbeat has stopped": ("replica_lag", heartbeat("db-1")),
    "full disk that nothing writes to": (
        "resource_saturation",
        {
            "node_filesystem_avail_bytes{instance=db-1;mountpoint=/usr;fstype=squashfs}": flat(0),
            "node_filesystem_size_bytes{instance=db-1;mountpoint=/usr;fstype=squashfs}": flat(1e9),
        },
    ),
    "shrinking queue": ("queue_growth", {"celery_queue_length{queue_name=mail}": line(-10, 9_000)}),
    "group of a fixed size": (
        "autoscaling_at_limit",
        {
            "aws_autoscaling_group_desired_capacity{group_name=web}": flat(4),
            "aws_autoscaling_group_max_size{group_name=web}": flat(4),
            "aws_autoscaling_group_min_size{group_name=web}": flat(4),
        },
    ),
    "a page that few visit": (
        "web_vital_poor",
        {
            "browser_web_vital_lcp_seconds_bucket{page=/p;device=mobile;le=4}": flat(0),
            "browser_web_vital_lcp_seconds_bucket{page=/p;device=mobile;le=6}": line(0.02),
            "browser_web_vital_lcp_seconds_bucket{page=/p;device=mobile;le=+Inf}": line(0.02),
            "browser_web_vital_lcp_seconds_count{page=/p;device=mobile}": line(0.02),
        },
    ),
    "a small table": ("missing_index", digest(200)),
    "a statement that is hardly run": ("missing_index", digest(599_120, calls=0.005)),
    "an answer of many rows": ("missing_index", digest(60)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_exporters_names_is_found(name: str) -> None:
    kind, series, title = FAULTS[name]
    (finding,) = found(kind, series)
    assert finding.title.startswith(title)
    assert finding.kind == kind
    assert finding.fix


@pytest.mark.parametrize("name", QUIET)
def test_its_harmless_twin_is_not(name: str) -> None:
    kind, series = QUIET[name]
    assert found(kind, series) == ()


def test_a_disk_that_fills_within_hours_is_known_before_it_is_full() -> None:
    size = "node_filesystem_size_bytes{instance=db-1;mountpoint=/var;fstype=ext4}"
    free = "node_filesystem_avail_bytes{instance=db-1;mountpoint=/var;fstype=ext4}"
    # 70 % used, and full in about two hours.
    series = {size: flat(100.0), free: line(-0.004, 32.0)}
    (finding,) = found("resource_saturation", series, minutes=40, recorded_minutes=38)
    assert finding.title == "db-1 /var will be full within 4 hours"
    assert finding.priority is Priority.P1


def test_a_missing_index_comes_with_the_statement_that_makes_it() -> None:
    (finding,) = found("missing_index", digest(599_120))
    assert finding.fix.startswith(
        "CREATE INDEX ix_shop_order_email_placed ON shop_order (email, placed)"
    )
    assert finding.evidence.statement == SLOW
    assert finding.evidence.detail["rows_examined"] == pytest.approx(599_120)


def explained(table: str, access: str, text: str) -> tuple[Finding, ...]:
    """What is said of a statement whose plan reads that table so."""
    plan = f"mysql_explain_rows{{instance=db-1;schema=shop;digest=d1;table={table};access_type="
    rows = {f"{plan}{access}}}": flat(400_000), f"{plan}const}}": flat(1)}
    return found("missing_index", digest(400_000, text=text) | rows)


JOIN = "SELECT `i` . `sku` FROM `shop_order` `o` JOIN `item` `i` ON `i` . `order_id` = `o` . `id` "


def test_the_plan_says_on_which_table_of_a_join_the_index_is_missing() -> None:
    (finding,) = explained("i", "ALL", f"{JOIN}WHERE `o` . `id` = ?")
    assert finding.kind == "missing_index"
    assert "CREATE INDEX ix_item_order_id ON item (order_id)" in finding.fix
    assert finding.evidence.detail["explain"] == "i: ALL, 400,000 rows"


def test_a_statement_whose_plan_scans_nothing_is_no_finding_any_more() -> None:
    assert explained("i", "ref", f"{JOIN}WHERE `o` . `id` = ?") == ()


def test_no_index_is_advised_that_is_there() -> None:
    index = "mysql_index_columns{instance=db-1;schema=shop;table=shop_order;index=by_mail;columns="
    text = "SELECT `id` FROM `shop_order` WHERE `email` = ?"
    (finding,) = found("missing_index", digest(400_000, text=text) | {f"{index}Email}}": flat(1)})
    assert finding.kind == "full_scan"
    assert "CREATE INDEX" not in finding.fix
    assert "Index by_mail (email) is there and is not used" in finding.fix
    (other,) = found("missing_index", digest(400_000, text=text) | {f"{index}status}}": flat(1)})
    assert "CREATE INDEX ix_shop_order_email" in other.fix


def test_an_index_counts_in_its_own_schema_and_with_what_is_compared_first() -> None:
    index = "mysql_index_columns{{instance=db-1;schema={};table=shop_order;index=ix;columns={}}}"
    text = "SELECT `id` FROM `shop_order` WHERE `status` = ? AND `placed` > ?"

    def kind(schema: str, columns: str) -> str:
        series = digest(400_000, text=text) | {index.format(schema, columns): flat(1)}
        (finding,) = found("missing_index", series)
        return finding.kind

    assert kind("shop", "status,placed") == "full_scan"
    assert kind("staging", "status,placed") == "missing_index"
    assert kind("shop", "placed,status") == "missing_index"


def test_a_text_that_was_cut_off_gives_no_advice_that_may_be_wrong() -> None:
    text = f"SELECT {' , '.join(f'`c{number}`' for number in range(20))} FROM `t` WHERE `a` = ?"
    (finding,) = found("missing_index", digest(400_000, text=text[:120]))
    assert finding.kind == "full_scan"
    assert "cut off" in finding.fix


def test_a_table_that_postgresql_scans_is_told_with_the_statement_that_reads_it() -> None:
    table = "instance=pg;datname=shop;schemaname=public;relname=orders"
    text = 'SELECT "id" FROM "orders" WHERE "email" = $1'
    (finding,) = found(
        "missing_index",
        {
            f"pg_stat_user_tables_seq_scan{{{table}}}": line(2),
            f"pg_stat_user_tables_seq_tup_read{{{table}}}": line(100_000),
            "pg_stat_statements_calls_total{instance=pg;datname=shop;queryid=7}": line(2),
            "pg_stat_statements_seconds_total{instance=pg;datname=shop;queryid=7}": line(0.1),
            f"pg_stat_statements_query_id{{instance=pg;queryid=7;query={text}}}": flat(1),
        },
    )
    assert finding.kind == "missing_index"
    assert finding.evidence.statement == text
    assert "CREATE INDEX CONCURRENTLY ix_orders_email ON orders (email)" in finding.fix


def test_the_index_of_a_table_outside_of_public_is_made_where_the_table_is() -> None:
    for table in ("schemaname=sales;relname=Order", "schemaname=shop|sales;relname=Order"):
        labels = f"instance=pg;datname=shop;{table}"
        text = 'SELECT id FROM "Order" WHERE "userId" = $1'
        (finding,) = found(
            "missing_index",
            {
                f"pg_stat_user_tables_seq_scan{{{labels}}}": line(2),
                f"pg_stat_user_tables_seq_tup_read{{{labels}}}": line(100_000),
                "pg_stat_statements_calls_total{instance=pg;datname=shop;queryid=7}": line(2),
                "pg_stat_statements_seconds_total{instance=pg;datname=shop;queryid=7}": line(0.1),
                f"pg_stat_statements_query_id{{instance=pg;queryid=7;query={text}}}": flat(1),
            },
        )
        made = 'CREATE INDEX CONCURRENTLY "ix_Order_userId" ON sales."Order" ("userId")'
        assert made in finding.fix


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("SELECT * FROM `order` WHERE `key` = ?", "ix_order_key ON `order` (`key`)"),
        ("SELECT * FROM `s` . `t` WHERE `a b` = ?", "ix_t_a_b ON s.t (`a b`)"),
        ("SELECT * FROM `Basket` WHERE `userId` = ?", "ix_Basket_userId ON Basket (userId)"),
    ],
)
def test_names_of_an_advice_are_quoted_where_they_must_be(text: str, statement: str) -> None:
    advice = advise(text)
    assert advice is not None
    assert advice.statement == f"CREATE INDEX {statement}"


def test_names_that_postgresql_reads_in_small_letters_stay_so() -> None:
    advice = advise('SELECT * FROM Orders WHERE UserId = $1 AND "User" = $2', "postgres")
    assert advice is not None
    assert advice.concurrent == (
        'CREATE INDEX CONCURRENTLY "ix_orders_userid_User" ON orders (userid, "User")'
    )


def test_a_scan_that_no_index_serves_is_told_apart() -> None:
    (finding,) = found("missing_index", digest(80_000, text="SELECT * FROM `coupon`"))
    assert finding.kind == "full_scan"


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("SELECT * FROM `t` WHERE `a` IN (...) AND `b` > ?", "t (a, b)"),
        ("SELECT * FROM `t` WHERE `b` > ? AND `a` = ?", "t (a, b)"),
        (
            "SELECT `x` . * FROM `t` `x` JOIN `u` ON `x` . `u` = `u` . `id` WHERE `x` . `a` = ?",
            "t (a)",
        ),
        ("SELECT * FROM `u` JOIN `t` ON `t` . `u` = `u` . `id` WHERE `t` . `a` = ?", "t (a)"),
        ("UPDATE `t` SET `b` = ? WHERE `a` = ?", "t (a)"),
        ("DELETE FROM `t` WHERE `a` < ?", "t (a)"),
        ("SELECT * FROM `t` ORDER BY `a` LIMIT ?", "t (a)"),
    ],
)
def test_an_index_has_equality_first_then_one_range_or_the_order(text: str, index: str) -> None:
    advice = advise(text)
    assert advice is not None
    assert advice.statement.endswith(f" ON {index}")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM `t`",
        "SELECT * FROM `t` WHERE LOWER ( `a` ) = ?",
        "SELECT * FROM `t` WHERE `a` = ? OR `b` = ?",
        "SELECT * FROM `t` WHERE NOT `a` = ?",
        "SELECT * FROM ( SELECT * FROM `u` WHERE `k` = ? ) AS `s` WHERE `x` = ?",
        "SELECT * FROM `t` WHERE `a` = ? AND `b` ...",
        "SHOW GLOBAL STATUS",
        "not a statement (",
    ],
)
def test_no_index_is_advised_that_would_not_serve(text: str) -> None:
    assert advise(text) is None


@given(st.text(max_size=200))
def test_any_text_gets_an_answer(text: str) -> None:
    for statement in (text, f"SELECT * FROM t WHERE {text}"):
        advice = advise(statement)
        assert advice is None or advice.columns
