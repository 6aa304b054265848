"""The lag of a MySQL replica by its GTIDs, tick by tick, whoever is asked how often."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from alerts.rule_evaluation import STALE_NAN
from store.model import METRIC_NAME, Labels
from tests.detectors.replica_ticks import START_MS, TICK_S, Row, judged

LASTS_S = 200
# Transactions a second, and how long one takes to be applied.
RATE = 4.0
APPLY_S = 1.0


def listed(every_s: dict[str, int], stalls_s: float, gone_s: float = LASTS_S) -> Iterator[int]:
    """Seconds at which a replica is listed whose link is silent from `stalls_s` on.

    Its primary tells nothing from `gone_s` on.
    """
    names = (
        "mysql_is_replica",
        "mysql_primary_gtid",
        "mysql_replica_gtid",
        "mysql_gtid_lag",
        "mysql_replica_lag",
    )
    ticks = judged(names, lambda now_s: polled(now_s, every_s, stalls_s, gone_s), LASTS_S)
    return (now_s for now_s, found in ticks if found)


def polled(now_s: int, every_s: dict[str, int], stalls_s: float, gone_s: float) -> Iterator[Row]:
    """What each server says at this tick, a second before it."""
    at_s = now_s - 1.0
    for server, position in (("db-1", "binlog"), ("db-2", "slave")):
        if now_s % every_s[server] or at_s < 0:
            continue
        applied_s = min(at_s - APPLY_S, stalls_s) if position == "slave" else at_s
        told = {("mysql_gtid_sequence", ("position", position)): RATE * applied_s}
        if position == "slave":
            told["mysql_slave_status_slave_io_running", ("channel_name", "")] = 1.0
            told["mysql_slave_status_seconds_behind_master", ("channel_name", "")] = 0.0
            told["mysql_slave_status_sql_delay", ("channel_name", "")] = 0.0
        gone = position == "binlog" and at_s >= gone_s
        for (name, (label, text)), value in told.items():
            labels = {METRIC_NAME: name, "instance": server, "domain_id": "0", label: text}
            yield (
                Labels.of(labels),
                START_MS + round(at_s * 1_000),
                STALE_NAN if gone else float(int(value)),
            )


@pytest.mark.parametrize("replica_s", [30, 60])
def test_a_replica_that_is_asked_less_often_than_its_primary_is_not_late(replica_s: int) -> None:
    assert list(listed({"db-1": 5, "db-2": replica_s}, float(LASTS_S))) == []


@pytest.mark.parametrize(("replica_s", "within_s"), [(5, 20), (30, 60)])
def test_a_link_that_is_silent_is_found_by_gtids(replica_s: int, within_s: int) -> None:
    seen = list(listed({"db-1": 5, "db-2": replica_s}, 100.0))
    assert 100 < seen[0] <= 100 + within_s
    assert seen == list(range(seen[0], LASTS_S, TICK_S))


@pytest.mark.parametrize("replica_s", [5, 30])
def test_what_was_compared_with_a_primary_that_is_gone_counts_until_it_is_asked_again(
    replica_s: int,
) -> None:
    seen = list(listed({"db-1": 5, "db-2": replica_s}, 90.0, gone_s=140.0))
    assert seen[-1] <= 145 + replica_s
