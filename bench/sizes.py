"""How much each benchmark does: whole figures, a quick look, and the least that still runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Amounts of every benchmark. Times are seconds.

    Attributes:
        series: Series of remote write and of each queried metric.
        connections: Remote write is measured once for each of these.
        write_scrapes: Scrapes of all series in one timed round of remote write.
        rounds: Timed rounds of remote write and of traces, after one of warm-up.
        query_samples: Samples of each queried series.
        query_steps: Steps of a range query.
        query_repeats: Warm runs of each query.
        footprint: Series and scrapes of each measured store.
        month: Series and days of the long query; a sample a minute.
        recovery: Series and scrapes that are there when the server is killed.
        spans: Spans of one timed round.
        watch_s: How long the watchers watch.
        settle_s: Wait after a load, so that work put off by the server is charged to it.
        detect_s: Wait after a round of traces: a tick and the detection in it.
        seasonal: Series, and days of them, in which level drops are looked for.
        order_drops: Simulated shops, judged days of each, and drops of each size.
        rules: Alerting rules, and active alerts in all.
    """

    series: int
    connections: tuple[int, ...]
    write_scrapes: int
    rounds: int
    query_samples: int
    query_steps: int
    query_repeats: int
    footprint: tuple[tuple[int, int], ...]
    month: tuple[int, int]
    recovery: tuple[int, int]
    spans: int
    watch_s: float
    settle_s: float
    detect_s: float
    seasonal: tuple[int, int]
    order_drops: tuple[int, int, int]
    rules: tuple[int, int]


FULL = Sizes(
    series=20_000,
    connections=(1, 8, 32),
    write_scrapes=25,
    rounds=3,
    query_samples=200,
    query_steps=181,
    query_repeats=5,
    footprint=((20_000, 120), (100_000, 40), (1_000_000, 4)),
    month=(100, 30),
    recovery=(20_000, 120),
    spans=100_000,
    watch_s=30.0,
    settle_s=1.5,
    detect_s=12.0,
    seasonal=(100, 14),
    order_drops=(6, 60, 40),
    rules=(10_000, 50_000),
)
QUICK = Sizes(
    series=2_000,
    connections=(8,),
    write_scrapes=50,
    rounds=1,
    query_samples=100,
    query_steps=61,
    query_repeats=3,
    footprint=((2_000, 100),),
    month=(20, 10),
    recovery=(2_000, 60),
    spans=20_000,
    watch_s=4.0,
    settle_s=0.5,
    detect_s=6.0,
    seasonal=(20, 14),
    order_drops=(4, 7, 10),
    rules=(1_000, 5_000),
)
TINY = Sizes(
    series=200,
    connections=(2,),
    write_scrapes=2,
    rounds=1,
    query_samples=20,
    query_steps=11,
    query_repeats=1,
    footprint=((200, 10),),
    month=(5, 2),
    recovery=(200, 10),
    spans=1_024,
    watch_s=2.5,
    settle_s=0.1,
    detect_s=6.0,
    seasonal=(2, 6),
    order_drops=(1, 1, 1),
    rules=(100, 500),
)
