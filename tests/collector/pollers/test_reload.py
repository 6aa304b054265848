"""Pollers change while the service runs: what did not change keeps its connection."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from collector.poll_registry import POLLERS
from store.model import STALE_NAN_BITS
from tests.collector.pollers.asking import targets_of
from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.servers import RedisServer
from tests.collector.pollers.test_contract import SECRETS, entry


@pytest.mark.parametrize("kind", sorted(POLLERS))
def test_the_same_configuration_read_twice_is_the_same_target(kind: str) -> None:
    (one,), (other,) = (targets_of(entry(kind, "127.0.0.1:1"), SECRETS) for _ in range(2))
    assert one == other
    (changed,) = targets_of(entry(kind, "127.0.0.1:1", ", timeout: 1s"), SECRETS)
    assert changed != one


def test_a_new_password_makes_another_target() -> None:
    text = entry("mysql", "127.0.0.1:1")
    assert targets_of(text, {"SECRET": "old"}) != targets_of(text, {"SECRET": "new"})


def is_stale(value: float) -> bool:
    return int(np.array([value]).view(np.uint64)[0]) == STALE_NAN_BITS


def test_an_unchanged_poller_keeps_its_connection_and_a_changed_one_its_series(
    ask: Ask, redis_server: RedisServer
) -> None:
    asking = ask(f"pollers: [{{type: redis, name: it, address: '{redis_server.address}'}}]")
    asking.poll()
    poller = asking.poller
    now_ms = asking.clock.now_ms + 1_000
    change = asking.loop.run(asking.runner.reconfigure([replace(asking.target)], now_ms))
    assert (change.added, change.gone) == ((), ())
    assert asking.poller is poller
    changed = replace(asking.target, interval_s=7.0)
    change = asking.loop.run(asking.runner.reconfigure([changed], now_ms))
    assert (change.added, change.gone) == ((changed,), ())
    assert asking.poller is not poller
    asking.target = changed
    answer = asking.poll()
    assert answer.value("up") == 1
    assert not any(is_stale(value) for value in answer.samples.values())


@pytest.mark.parametrize("polled", [True, False])
def test_new_labels_end_every_series_with_the_old_ones(
    ask: Ask, redis_server: RedisServer, polled: bool
) -> None:
    asking = ask(f"pollers: [{{type: redis, name: it, address: '{redis_server.address}'}}]")
    asking.poll()
    before = set(asking.appender.samples())
    assert {"up", "redis_up", "scrape_duration_seconds"} <= {series.metric for series in before}
    changed = replace(asking.target, labels={**asking.target.labels, "zone": "b"})
    now_ms = asking.clock.now_ms
    asking.loop.run(asking.runner.reconfigure([changed], now_ms + 1_000))
    asking.target = changed
    asking.appender.batches.clear()
    if polled:
        asking.poll()
    else:
        asking.loop.run(asking.runner.reconfigure([], now_ms + 2_000))
    found = asking.appender.samples()
    ended = {series for series, rows in found.items() if is_stale(rows[-1][1])}
    assert ended == before
    new = [rows for series, rows in found.items() if series not in before]
    assert bool(new) is polled


def test_a_poller_that_is_gone_ends_everything_it_had(ask: Ask, redis_server: RedisServer) -> None:
    asking = ask(f"pollers: [{{type: redis, name: it, address: '{redis_server.address}'}}]")
    had = asking.poll().names()
    asking.appender.batches.clear()
    change = asking.loop.run(asking.runner.reconfigure([], asking.clock.now_ms + 1_000))
    assert [target.name for target in change.gone] == ["it"]
    ended = asking.appender.samples()
    assert {series.metric for series in ended} == had
    assert all(is_stale(value) for rows in ended.values() for _, value in rows)
    assert asking.sources.list(asking.clock.now_ms) == ()
    # One that was due just then is not asked any more.
    asking.loop.run(asking.runner.poll(asking.target, asking.clock.now_ms + 5_000))
    assert asking.runner.targets() == ()


def test_a_poll_that_runs_ends_before_its_poller_goes(ask: Ask, redis_server: RedisServer) -> None:
    asking = ask(f"pollers: [{{type: redis, name: it, address: '{redis_server.address}'}}]")
    now_ms = asking.clock.now_ms

    async def both() -> None:
        polling = asyncio.create_task(asking.runner.poll(asking.target, now_ms))
        await asyncio.sleep(0)
        await asking.runner.reconfigure([], now_ms + 1)
        assert polling.done()

    asking.loop.run(both())
    up = [rows for s, rows in asking.appender.samples().items() if s.metric == "up"]
    assert up[0][0][1] == 1
    assert is_stale(up[0][-1][1])
