"""The usual exporters beside our pollers, at the same servers: same names, labels and values."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from collector.scrape.text_format import PageParser
from store.model import METRIC_NAME, Labels
from tests.collector.pollers.asking import Answer
from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.servers import PASSWORD, Pair, RedisServer, Server
from tests.e2e.service import free_port, needs

# What moves between two questions, or is about the asking itself.
MOVING = re.compile(
    r"mysql_global_status_(?!innodb_page_size|innodb_num)|redis_(memory|allocator|cpu|"
    r"commands|connections|net_|total_|uptime|mem_|connected_clients|latency|client_|errors|"
    r"keyspace|slowlog|start_time|last_slow|latest_fork|repl_backlog|master_repl|unexpected|expire_cycle|rdb_changes|"
    r"lazyfree|instance_info|db_keys)"
)


class Exporter(Server):
    """An exporter of Debian's on a free port."""

    def __init__(self, directory: Path, program: str, *options: str, **environment: str) -> None:
        super().__init__(directory, free_port())
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [needs(program), f"--web.listen-address={self.address}", *options],
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )
        self.wait_for(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return "_up 1" in self.page()
        return False

    def page(self) -> str:
        return httpx.get(f"http://{self.address}/metrics", timeout=10, trust_env=False).text

    def figures(self) -> dict[Labels, float]:
        page = PageParser(Labels.of).parse(self.page())
        return dict(zip(page.series, page.values, strict=True))


@pytest.fixture
def mysqld_exporter(pair: Pair, tmp_path: Path) -> Iterator[Exporter]:
    exporter = Exporter(
        tmp_path,
        "prometheus-mysqld-exporter",
        "--collect.perf_schema.eventsstatements",
        DATA_SOURCE_NAME=f"warroom:{PASSWORD}@({pair.replica.address})/",
    )
    yield exporter
    exporter.stop()


@pytest.fixture
def redis_exporter(redis_server: RedisServer, tmp_path: Path) -> Iterator[Exporter]:
    exporter = Exporter(
        tmp_path, "prometheus-redis-exporter", f"--redis.addr=redis://{redis_server.address}"
    )
    yield exporter
    exporter.stop()


def families(figures: dict[Labels, float], pattern: str) -> dict[Labels, float]:
    return {series: value for series, value in figures.items() if re.match(pattern, series.metric)}


def missing_and_other(
    theirs: dict[Labels, float], ours: Answer
) -> tuple[set[str], dict[str, tuple[float, float]]]:
    """Series that only they have; and those whose values differ, but for what moves."""
    missing, other = set(), {}
    for series, value in theirs.items():
        mine = ours.samples.get(series)
        if mine is None:
            missing.add(repr(series))
        elif mine != value and not MOVING.match(series.metric):
            other[repr(series)] = (value, float(mine))
    return missing, other


def test_mysqld_exporter_and_the_poller_tell_the_same(
    ask: Ask, pair: Pair, mysqld_exporter: Exporter
) -> None:
    asking = ask(
        f"pollers: [{{type: mysql, name: r, address: '{pair.replica.address}', user: warroom, "
        "password_env: P}]",
        {"P": PASSWORD},
    )
    ours, theirs = asking.poll(), mysqld_exporter.figures()
    told = families(theirs, "mysql_(global_(status|variables)|slave_status)_")
    assert len(told) > 800
    missing, other = missing_and_other(told, ours)
    assert (missing, other) == (set(), {})


def test_redis_exporter_and_the_poller_tell_the_same(
    ask: Ask, redis_server: RedisServer, redis_exporter: Exporter
) -> None:
    redis_server.client.set("a", 1)
    asking = ask(f"pollers: [{{type: redis, name: r, address: '{redis_server.address}'}}]")
    asking.poll()
    theirs, ours = redis_exporter.figures(), asking.poll()
    told = families(theirs, "redis_(?!exporter|target_scrape|last_key_groups)")
    # Empty databases have no series here; the summary's sums are what redis_commands tell.
    wanted = {
        series: value
        for series, value in told.items()
        if not (series.get("db") and value == 0) and "usec_" not in series.metric
    }
    missing, other = missing_and_other(wanted, ours)
    assert len(wanted) > 100
    assert (missing, other) == (set(), {})


def test_names_of_the_host_are_those_of_node_exporter(ask: Ask, tmp_path: Path) -> None:
    exporter = Exporter.__new__(Exporter)
    Server.__init__(exporter, tmp_path, free_port())
    exporter.launch([needs("prometheus-node-exporter"), f"--web.listen-address={exporter.address}"])
    try:
        exporter.wait_for(lambda: _serves(exporter))
        theirs = exporter.figures()
    finally:
        exporter.stop()
    ours = ask("pollers: [{type: host, name: h}]").poll()
    known = {series.metric for series in theirs}
    names = {name for name in ours.names() if name.startswith("node_")}
    assert names - known <= {"node_filesystem_device_error"}
    same = re.compile(r"node_(memory_MemTotal_bytes|boot_time_seconds|filefd_maximum|filesystem_s)")
    for series, value in theirs.items():
        if same.match(series.metric) and series in ours.samples:
            assert ours.samples[series] == value, series
    cpu = {s.replace(**{METRIC_NAME: "x"}) for s in theirs if s.metric == "node_cpu_seconds_total"}
    mine = {
        s.replace(**{METRIC_NAME: "x"})
        for s in ours.samples
        if s.metric == "node_cpu_seconds_total"
    }
    assert cpu == mine


def _serves(exporter: Exporter) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return "node_load1" in exporter.page()
    return False
