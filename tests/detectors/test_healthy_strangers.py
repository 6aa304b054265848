"""What looks like a fault and is none: it may be listed, and wakes nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import detectors.signals
from detectors.detector import SignalContext
from detectors.finding import Finding, Priority
from detectors.registry import DetectorSettings
from store.documents import parse_document
from store.model import METRIC_NAME, Float64Array, Labels, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store
from tests.detectors.watched_shop import as_batch

START_MS = 1_700_000_000_000
STEP_MS = 5_000
MINUTES = 45
STEPS = MINUTES * 12
AT_S = np.arange(STEPS) * STEP_MS / 1_000
RULES = Path(detectors.signals.__file__).with_name("signals.yml")
# Ten minutes, as a backup takes.
BACKUP = (AT_S >= 1_500) & (AT_S < 2_100)
Series = dict[Labels, Float64Array]


def named(metric: str, values: Float64Array, /, **labels: str) -> Series:
    return {Labels.of({METRIC_NAME: metric, **labels}): np.broadcast_to(values, STEPS)}


def flat(value: float) -> Float64Array:
    return np.full(STEPS, value)


def counted(per_second: Float64Array | float) -> Float64Array:
    return np.cumsum(np.broadcast_to(per_second, STEPS) * STEP_MS / 1_000)


def told(kind: str, rules: str, series: Series, every: int = 6) -> list[Finding]:
    """Every finding of every sixth tick, by the rules whose name begins so."""
    parsed = parse_document(RULES.read_text(encoding="utf-8"), RULES.name).data["groups"]
    wanted = [rule for rule in parsed[0]["rules"] if rule["record"].startswith(rules)]
    detector = DetectorSettings().signal_detectors()[kind]
    times = START_MS + np.arange(STEPS, dtype=np.int64) * STEP_MS
    index = np.repeat(np.arange(len(series), dtype=np.int32), STEPS)
    whole = np.tile(times, len(series)), np.concatenate(list(series.values()))
    active: dict[str, Finding] = {}
    seen: list[Finding] = []
    with open_store() as store:
        store.append(SampleBatch(tuple(series), index, *whole)).result(30)
        engine = Engine(store)
        for rule in wanted:
            matrix = engine.range(rule["expr"], int(times[0]), int(times[-1]), STEP_MS)
            if matrix.series:
                store.append(as_batch(rule["record"], matrix)).result(30)
        for now_ms in times[12::every].tolist():
            found = detector.evaluate(engine, SignalContext(now_ms, active))
            active = {finding.fingerprint: finding for finding in found}
            seen.extend(found)
    return seen


def paging(findings: list[Finding]) -> set[str]:
    return {finding.title for finding in findings if finding.priority is not Priority.P2}


@pytest.mark.parametrize(
    ("metric", "label", "wait"),
    [
        ("node_cpu_seconds_total", "mode", "iowait"),
        ("system_cpu_time_seconds_total", "state", "wait"),
    ],
)
def test_a_processor_that_waits_for_the_disk_of_a_backup_is_idle(
    metric: str, label: str, wait: str
) -> None:
    waits, idle = np.where(BACKUP, 0.88, 0.01), np.where(BACKUP, 0.02, 0.7)
    series: Series = {}
    for cpu in ("0", "1"):
        for name, share in (("idle", idle), (wait, waits)):
            place = {"instance": "db-2", "cpu": cpu, label: name}
            series |= named(metric, counted(share), **place)
    assert told("resource_saturation", "sig:host_cpu", series) == []
    busy = {key: row if key.get(label) == "idle" else row * 0.1 for key, row in series.items()}
    assert told("resource_saturation", "sig:host_cpu", busy)


def test_a_host_that_was_started_anew_was_not_busy_while_it_was_off() -> None:
    off = (AT_S >= 1_500) & (AT_S < 1_650)
    idle = np.where(AT_S < 1_500, counted(0.9), (AT_S - 1_650) * 0.9)
    kept = np.flatnonzero(~off & (np.arange(STEPS) % 3 == 0))
    (labels,) = named("node_cpu_seconds_total", idle, instance="w", cpu="0", mode="idle")
    parsed = parse_document(RULES.read_text(encoding="utf-8"), RULES.name).data["groups"]
    rules = {rule["record"]: rule["expr"] for rule in parsed[0]["rules"]}
    times = START_MS + kept.astype(np.int64) * STEP_MS
    with open_store() as store:
        index = np.zeros(len(kept), dtype=np.int32)
        store.append(SampleBatch((labels,), index, times, idle[kept])).result(30)
        expr = rules["sig:host_cpu:used_ratio_now"]
        told = Engine(store).range(expr, START_MS, int(times[-1]), STEP_MS)
    assert told.values[told.present].max() < 0.2
    assert bool(told.present[0, -1])


@pytest.mark.parametrize("height", [0.08, 0.24])
def test_a_backup_that_is_written_in_ten_minutes_will_not_fill_its_disk(height: float) -> None:
    used = 0.65 + height * np.clip((AT_S - 1_500) / 600, 0, 1)
    disk = {"instance": "db-2", "mountpoint": "/backup", "fstype": "xfs"}
    series = named("node_filesystem_size_bytes", flat(2e12), **disk)
    series |= named("node_filesystem_avail_bytes", 2e12 * (1 - used), **disk)
    assert told("resource_saturation", "sig:host_disk", series) == []


def postgresql(*jobs: str) -> Series:
    """A pair whose primary writes all the time, and one that nobody uses."""
    series: Series = {}
    for place, (job, writes) in enumerate(zip(jobs, (30.0, 0.0), strict=True)):
        primary = {"job": job, "instance": f"pg-{place}-1"}
        replica = {"job": job, "instance": f"pg-{place}-2"}
        for kind, rate in (("inserted", writes), ("updated", 0.0), ("deleted", 0.0)):
            metric = f"pg_stat_database_tup_{kind}"
            series |= named(metric, counted(rate), **primary, datname="shop")
        series |= named("pg_replication_is_replica", flat(0), **primary)
        series |= named("pg_replication_is_replica", flat(1), **replica)
        age_s = flat(0.3) if writes else 3_600 + AT_S
        series |= named("pg_replication_lag_seconds", age_s, **replica)
    return series


def test_an_idle_replica_of_staging_beside_production_is_not_late() -> None:
    assert paging(told("replica_lag", "sig:pg_", postgresql("pg", "pg"))) == set()
    assert told("replica_lag", "sig:pg_", postgresql("pg", "pg-staging")) == []


def digest(text: str, calls: float, each_s: float, server: str = "db-1") -> Series:
    series: Series = {}
    for name, each in (("total", 1.0), ("seconds_total", each_s), ("rows_sent_total", 9e4)):
        metric = f"mysql_perf_schema_events_statements_{name}"
        labels = {"instance": server, "schema": "shop", "digest": "d1", "digest_text": text}
        series |= named(metric, counted(calls * each), **labels)
    return series


RANGE = "SELECT {} * FROM `shop` . `order_line` WHERE `id` BETWEEN ? AND ?"


@pytest.mark.parametrize(
    "text",
    [
        RANGE.format("SQL_NO_CACHE"),
        "SELECT GET_LOCK ( ? , ... )",
        "SELECT `SLEEP` (?)",
        "SELECT WAIT_FOR_EXECUTED_GTID_SET (?, ...)",
        "COPY public.order_line (id, price) TO STDOUT",
    ],
)
def test_what_a_backup_reads_and_what_waits_on_purpose_is_listed(text: str) -> None:
    findings = told("missing_index", "sig:sql_digest", digest(text, 4.0, 1.9), every=60)
    assert findings
    assert paging(findings) == set()


def test_reports_page_nobody_on_a_replica_and_statements_of_the_shop_do() -> None:
    threads = {"instance": "db-1", "channel_name": "", "connection_name": ""}
    replica = named("mysql_slave_status_slave_io_running", flat(1), **threads)
    reports = digest(RANGE.format(""), 0.3, 25.0)
    assert paging(told("missing_index", "sig:", reports | replica, every=36)) == set()
    assert paging(told("missing_index", "sig:sql_digest", reports, every=36))
    often = digest(RANGE.format(""), 4.0, 1.9)
    assert paging(told("missing_index", "sig:", often | replica, every=36))
