"""Rates by source and the memory limit: who waits, for how long, and what is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from collector.guards import BURST_S, MemoryGuard, RateGuard
from collector.pipeline import Hooks, Pipeline
from collector.source_health import SourceRegistry, SourceState
from store.errors import Overloaded
from store.model import Labels, SampleBatch
from store.testing import open_store

NOW_MS = 1_790_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def rate_guard(clock: Clock, rate: float = 10.0) -> RateGuard:
    return RateGuard({"spans": rate, "logs": 0.0}, lambda name: name, clock_s=clock)


def passes(guard: RateGuard, count: int, source: str = "otlp:shop") -> bool:
    try:
        guard.check("spans", {source: count})
    except Overloaded:
        return False
    return True


def test_a_source_that_sends_too_fast_waits_as_long_as_it_is_told() -> None:
    clock = Clock()
    guard = rate_guard(clock)
    assert passes(guard, round(10 * BURST_S) + 25)
    with pytest.raises(Overloaded) as refusal:
        guard.check("spans", {"otlp:shop": 1})
    assert (refusal.value.reason, refusal.value.retry_after_s) == ("rate_limited", 3)
    clock.now_s += 3
    assert passes(guard, 1)


def test_one_source_does_not_use_up_anothers_rate() -> None:
    guard = rate_guard(Clock())
    assert passes(guard, 10_000, "otlp:loud")
    assert not passes(guard, 1, "otlp:loud")
    assert passes(guard, 1, "otlp:quiet")


def test_a_batch_of_several_sources_is_taken_or_refused_as_a_whole() -> None:
    clock = Clock()
    guard = rate_guard(clock)
    assert passes(guard, 10_000, "loud")
    with pytest.raises(Overloaded, match="loud"):
        guard.check("spans", {"quiet": 300, "loud": 1})
    assert passes(guard, 300, "quiet")
    assert not passes(guard, 1, "quiet")


def test_a_signal_without_a_rate_is_not_looked_at() -> None:
    guard = rate_guard(Clock())
    guard.check("logs", {"otlp:shop": 10**9})
    guard.check("logs", {"otlp:shop": 10**9})


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 500)), max_size=60), st.floats(0.5, 50))
def test_over_time_no_more_passes_than_the_rate_and_one_batch(
    sent: list[tuple[float, int]], rate: float
) -> None:
    clock = Clock()
    guard = rate_guard(clock, rate)
    passed = 0
    for pause_s, count in sent:
        clock.now_s += pause_s
        passed += count if passes(guard, count) else 0
    largest = max((count for _, count in sent), default=0)
    assert passed <= rate * (clock.now_s + BURST_S) + largest + 1e-6


class Memory:
    """A process whose allocator keeps some of what was freed."""

    def __init__(self, held: int, kept: int = 0) -> None:
        self.held, self.kept, self.releases = held, kept, 0

    def resident(self) -> int:
        return self.held + self.kept

    def release(self) -> None:
        self.releases += 1
        self.kept = 0


def _at_once(work: Callable[[], None]) -> None:
    work()


def test_nobody_waits_while_memory_is_given_back_and_nothing_is_refused_meanwhile() -> None:
    memory, clock = Memory(held=800, kept=250), Clock()
    begun, may_end = threading.Event(), threading.Event()

    def slowly() -> None:
        begun.set()
        assert may_end.wait(60)
        memory.release()

    guard = MemoryGuard(1_000, memory.resident, slowly, clock)
    try:
        for _ in range(8):
            guard.check("samples", {"a": 1})
            clock.now_s += 1.0
        assert begun.wait(60)
        assert memory.releases == 0  # it goes on, and did not hold up a single batch
        memory.held = 1_000
        clock.now_s += 1.0
        with pytest.raises(Overloaded):  # so far above the limit it is not waited for
            guard.check("samples", {"a": 1})
    finally:
        may_end.set()


def test_memory_is_given_back_seldom_however_long_it_is_short() -> None:
    memory, clock = Memory(held=1_200), Clock()

    def slowly() -> None:
        clock.now_s += 0.5
        memory.release()

    guard = MemoryGuard(1_000, memory.resident, slowly, clock, _at_once)
    while clock.now_s < 60.0:
        with pytest.raises(Overloaded):
            guard.check("samples", {"a": 1})
        clock.now_s += 0.01
    assert 5 <= memory.releases <= 6


def test_memory_that_is_only_kept_for_later_is_given_back_before_anything_is_refused() -> None:
    memory, clock = Memory(held=800, kept=400), Clock()
    guard = MemoryGuard(1_000, memory.resident, memory.release, clock, _at_once)
    guard.check("samples", {"a": 1})
    assert (memory.releases, memory.kept) == (1, 0)


def test_while_memory_is_short_everybody_waits_and_then_it_goes_on() -> None:
    memory, clock = Memory(held=1_200), Clock()
    guard = MemoryGuard(1_000, memory.resident, memory.release, clock, _at_once)
    for _ in range(3):
        with pytest.raises(Overloaded) as refusal:
            guard.check("samples", {"a": 1})
        assert refusal.value.reason == "memory"
    assert memory.releases == 1  # looked at a few times a second, not with every batch
    memory.held, clock.now_s = 960, 1.0
    with pytest.raises(Overloaded):
        guard.check("samples", {"a": 1})
    memory.held, clock.now_s = 940, 2.0
    guard.check("samples", {"a": 1})


def test_what_a_guard_refuses_is_counted_by_its_reason_and_shown_at_its_source() -> None:
    sources, registry = SourceRegistry(), CollectorRegistry()
    guard = RateGuard({"samples": 1.0}, sources.name_of, clock_s=Clock())
    batch = SampleBatch.of_rows([(Labels.of(__name__="up"), NOW_MS, 1.0)] * 40)
    with open_store() as store:
        pipeline = Pipeline(
            store,
            (),
            sources,
            now_ms=lambda: NOW_MS,
            registry=registry,
            hooks=Hooks(guards=(guard,)),
        )
        asyncio.run(pipeline.push(batch, "remote_write"))
        with pytest.raises(Overloaded):
            asyncio.run(pipeline.push(batch, "remote_write"))
    (status,) = sources.list(NOW_MS)
    assert status.state is SourceState.SHEDDING
    assert status.dropped == {"rate_limited": 40}
    assert "limits.per_source.samples_per_second" in status.remedy
    labels = {"source": "remote_write", "reason": "rate_limited"}
    assert registry.get_sample_value("warroom_collector_dropped_total", labels) == 40
