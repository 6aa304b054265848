"""The lag of a PostgreSQL replica by the age of what it replayed last, tick by tick.

Primary and replica are scraped at different times: neither knows of the other's present.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from detectors.finding import Priority
from store.model import METRIC_NAME, Labels
from tests.detectors.replica_ticks import START_MS, TICK_S, Row, judged

# One second until a write is replayed.
REPLAY_S = 1.0


def paging(
    writes: list[float], phases: tuple[float, float], every_s: int, replays: Callable[[float], bool]
) -> Iterator[float]:
    """Seconds at which the replica pages; `replays` says which writes it ever applies."""
    ticks = judged(
        ("pg_", "db_is_replica"),
        lambda now_s: scraped(now_s, writes, phases, every_s, replays),
        500,
    )
    for now_s, found in ticks:
        if any(finding.priority is Priority.P1 for finding in found):
            yield now_s


def scraped(
    now_s: int,
    writes: list[float],
    phases: tuple[float, float],
    every_s: int,
    replays: Callable[[float], bool],
) -> Iterator[Row]:
    """What was scraped since the last tick."""
    for server, phase_s in zip(("pg-1", "pg-2"), phases, strict=True):
        at_s = (now_s - phase_s) // every_s * every_s + phase_s
        if not now_s - TICK_S < at_s <= now_s or at_s < 0:
            continue
        replica = server == "pg-2"
        written = 0 if replica else sum(10 for write in writes if write <= at_s)
        replayed = [write for write in writes if write <= at_s - REPLAY_S and replays(write)]
        told = {
            "pg_stat_database_tup_inserted": float(written),
            "pg_stat_database_tup_updated": 0.0,
            "pg_stat_database_tup_deleted": 0.0,
            "pg_replication_is_replica": float(replica),
            "pg_replication_lag_seconds": at_s - max(replayed, default=-100.0) if replica else 0.0,
        }
        for name, value in told.items():
            labels = Labels.of({METRIC_NAME: name, "job": "pg", "instance": server})
            yield labels, START_MS + round(at_s * 1_000), value


@pytest.mark.parametrize(
    ("phases", "every_s"),
    [((2, 13), 15), ((3, 3.5), 15), ((4, 16), 30), ((1, 29), 30)],
)
def test_the_first_write_after_an_idle_time_is_no_lag(
    phases: tuple[float, float], every_s: int
) -> None:
    # One of them just before the primary is scraped.
    writes = [200.0, 300.0 + phases[0] - 0.2, 437.0]
    assert list(paging(writes, phases, every_s, lambda _write: True)) == []


@pytest.mark.parametrize(("phases", "every_s"), [((13, 2), 15), ((4, 16), 30)])
def test_a_replica_that_stops_to_replay_pages(phases: tuple[float, float], every_s: int) -> None:
    writes = [float(second) for second in range(7, 500, 7)]
    at_s = list(paging(writes, phases, every_s, lambda write: write < 300))
    assert 300 < at_s[0] <= 300 + 45 + 2 * every_s
    assert at_s[-1] == 495
