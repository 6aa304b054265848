"""The usual exporters beside our pollers, at the same servers: same names, labels and values."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from collector.scrape.text_format import PageParser
from store.model import Labels
from tests.collector.pollers.asking import Answer, Asking
from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.servers import PASSWORD, MariaDb, Pair, RedisServer, Server
from tests.e2e.service import free_port, needs, until

# What shows who asks: each has a connection of its own and sees the other's, not its own.
ASKERS = re.compile(
    r"mysql_global_status_(memory_used|threads_)|mysql_info_schema_processlist_.*"
    r"(127\.0\.0\.1|sleep|warroom)|redis_(connected_clients|client_|mem_clients|pubsub_clients)|"
    r"redis_(latency_percentiles|memory_|allocator_|mem_)"
)
# This version of mysqld_exporter gives each of the two the other's value.
SWAPPED = re.compile(r"mysql_perf_schema_events_statements_tmp_(disk_)?tables_total")
# node_exporter's own choice of devices, for Debian's package has another one; and without file
# systems of other machines, which the poller never asks.
UPSTREAM = (
    "--collector.netdev.device-exclude=^$",
    "--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$",
    "--collector.filesystem.mount-points-exclude="
    "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+)($|/)",
    "--collector.filesystem.fs-types-exclude=^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|"
    "devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|"
    "securityfs|selinuxfs|squashfs|sysfs|tracefs|nfs4?|cifs|smb3?|fuse\\..*)$",
)
# Series of the pollers alone.
OWN = re.compile(
    r"mysql_(explain_rows$|gtid_|index_(unused|redundant|columns)|perf_schema_events_statements_lock_time|"
    r"slave_status_.*(bytes|rows)|up$)|redis_up$|up$|scrape_|node_filesystem_device_error$"
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
            return "_up 1" in self.page() or "node_load1" in self.page()
        return False

    def page(self) -> str:
        return httpx.get(f"http://{self.address}/metrics", timeout=10, trust_env=False).text

    def figures(self) -> dict[Labels, float]:
        page = PageParser(Labels.of).parse(self.page())
        return dict(zip(page.series, page.values, strict=True))


# The poller's value, the exporter's, the poller's again.
Disagreement = tuple[float | None, float | None, float | None]


def exporter_of(server: MariaDb, directory: Path) -> Exporter:
    return Exporter(
        directory,
        "prometheus-mysqld-exporter",
        "--collect.perf_schema.eventsstatements",
        "--collect.perf_schema.indexiowaits",
        "--collect.info_schema.processlist",
        "--collect.heartbeat",
        "--collect.heartbeat.database=shop",
        DATA_SOURCE_NAME=f"warroom:{PASSWORD}@({server.address})/",
    )


def agree(exporter: Exporter, poll: Callable[[], Answer], least: int) -> Answer:
    """Every series of a name that both have is in both, and its values agree.

    The exporter is asked between two polls: its value lies between theirs. What wavers (memory,
    processes that run) may need another try; what differs by rule never agrees.
    """
    left: dict[str, Disagreement] | None = None
    last: list[Answer] = []

    def agreed() -> bool:
        nonlocal left
        before, theirs, after = poll(), exporter.figures(), poll()
        last[:] = [after]
        both = {series: value for series, value in theirs.items() if series.metric in after.names()}
        both = {series: both[series] for series in both if not SWAPPED.match(series.metric)}
        assert len(both) >= least
        other: dict[str, Disagreement] = {
            repr(series): (before.samples.get(series), value, after.samples.get(series))
            for series, value in both.items()
            if not _between(before.samples.get(series), value, after.samples.get(series))
        }
        names = theirs_names(theirs)
        ours = {repr(series) for series in after.samples if series.metric in names}
        other |= dict.fromkeys(ours - {repr(series) for series in theirs}, (None, None, None))
        other = {key: values for key, values in other.items() if not ASKERS.search(key)}
        left = {key: other[key] for key in (other if left is None else left.keys() & other.keys())}
        return not left

    try:
        until(agreed, "the exporter and the poller agree")
    except AssertionError as error:
        raise AssertionError(f"series that differ: {left}") from error
    return last[0]


def theirs_names(theirs: dict[Labels, float]) -> set[str]:
    return {series.metric for series in theirs}


def _between(before: float | None, value: float, after: float | None) -> bool:
    if before is None or after is None:
        return False
    slack = 1e-9 * abs(value)
    return min(before, after) - slack <= value <= max(before, after) + slack


@pytest.mark.parametrize(("role", "least"), [("primary", 1_100), ("replica", 1_000)])
def test_mysqld_exporter_and_the_poller_tell_the_same(
    role: str, least: int, ask: Ask, pair: Pair, tmp_path: Path
) -> None:
    pair.primary.sql("REPLACE INTO shop.heartbeat VALUES (NOW(6), 1)")
    until(pair.caught_up, "the replica has the heartbeat")
    server: MariaDb = getattr(pair, role)
    text = (
        f"pollers: [{{type: mysql, name: r, address: '{server.address}', user: warroom, "
        "password_env: P, heartbeat_table: shop.heartbeat, digests: 250, "
        "digest_text_length: 120}]"
    )

    def fresh() -> Answer:
        # A new one each time: what it reads of indexes it keeps for minutes.
        asking = Asking(text, {"P": PASSWORD})
        try:
            return asking.poll()
        finally:
            asking.close()

    exporter = exporter_of(server, tmp_path)
    try:
        ours = agree(exporter, fresh, least)
        unknown = ours.names() - theirs_names(exporter.figures())
    finally:
        exporter.stop()
    assert {name for name in unknown if not OWN.match(name)} == set()


def test_redis_exporter_and_the_poller_tell_the_same(
    ask: Ask, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.client.set("a", 1)
    asking = ask(f"pollers: [{{type: redis, name: r, address: '{redis_server.address}'}}]")
    exporter = Exporter(
        tmp_path, "prometheus-redis-exporter", f"--redis.addr=redis://{redis_server.address}"
    )
    try:
        ours = agree(exporter, asking.poll, 150)
        theirs = exporter.figures()
    finally:
        exporter.stop()
    names = {name for name in theirs_names(theirs) if name.startswith("redis_")}
    other = re.compile(r"redis_(exporter|target_scrape|last_key_groups|.*usec_(sum|count))")
    assert {name for name in names - ours.names() if not other.match(name)} == set()
    newer = re.compile(r"redis_(evict|expire_cycle|latest_fork_usec|max_clients)")
    unknown = {name for name in ours.names() - names if not newer.match(name)}
    assert {name for name in unknown if not OWN.match(name)} == set()


def test_node_exporter_and_the_poller_tell_the_same(ask: Ask, tmp_path: Path) -> None:
    asking = ask("pollers: [{type: host, name: h}]")
    exporter = Exporter(tmp_path, "prometheus-node-exporter", *UPSTREAM)
    try:
        ours = agree(exporter, asking.poll, 60)
        unknown = ours.names() - theirs_names(exporter.figures())
    finally:
        exporter.stop()
    assert {name for name in unknown if not OWN.match(name)} == set()
