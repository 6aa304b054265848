"""The state of a source follows from its record and the instant alone."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from collector.source_health import SourceRegistry, SourceState
from collector.source_metrics import SourceMetrics
from store.errors import Overloaded

NOW_MS = 1_790_000_000_000


def state(sources: SourceRegistry, now_ms: int) -> SourceState:
    (status,) = sources.list(now_ms)
    return status.state


def test_a_source_goes_from_ok_to_silent_and_back() -> None:
    sources = SourceRegistry()
    sources.expect("scrape:shop", NOW_MS, interval_s=2)
    sources.accepted("scrape:shop", 10, NOW_MS, newest_ms=NOW_MS - 500)
    assert state(sources, NOW_MS + 6000) is SourceState.OK
    assert state(sources, NOW_MS + 6001) is SourceState.SILENT
    (status,) = sources.list(NOW_MS + 6001)
    assert status.error
    assert status.remedy
    assert status.delay_seconds == 0.5
    sources.accepted("scrape:shop", 1, NOW_MS + 7000)
    assert state(sources, NOW_MS + 7000) is SourceState.OK


def test_an_expected_source_that_was_never_heard_becomes_silent() -> None:
    sources = SourceRegistry()
    sources.expect("otlp:shop", NOW_MS, interval_s=5)
    assert state(sources, NOW_MS) is SourceState.OK
    assert state(sources, NOW_MS + 15_001) is SourceState.SILENT
    assert sources.list(NOW_MS)[0].last_success_at_ms is None


def test_old_data_makes_a_source_late() -> None:
    sources = SourceRegistry()
    sources.accepted("otlp:shop", 1, NOW_MS, newest_ms=NOW_MS - 31_000)
    assert state(sources, NOW_MS) is SourceState.LATE
    assert "31 s old" in sources.list(NOW_MS)[0].error


def test_an_error_stays_until_the_next_success() -> None:
    sources = SourceRegistry()
    sources.accepted("otlp:shop", 1, NOW_MS)
    sources.failed("otlp:shop", "disk full", "free space", NOW_MS)
    assert state(sources, NOW_MS) is SourceState.ERROR
    sources.accepted("otlp:shop", 1, NOW_MS + 1)
    assert state(sources, NOW_MS + 1) is SourceState.OK
    assert sources.list(NOW_MS + 1)[0].error == ""


def test_what_a_receiver_refused_is_past_once_it_took_a_request() -> None:
    sources = SourceRegistry()
    sources.heard("otlp", NOW_MS)
    assert sources.list(NOW_MS) == ()
    sources.failed("otlp", "no protobuf", "check the exporter", NOW_MS)
    assert state(sources, NOW_MS + 3_600_000) is SourceState.ERROR
    sources.heard("otlp", NOW_MS + 1000)
    assert state(sources, NOW_MS + 1000) is SourceState.OK


def test_a_silent_source_is_told_as_a_metric() -> None:
    sources, registry = SourceRegistry(), CollectorRegistry()
    now_ms = [NOW_MS]
    registry.register(SourceMetrics(sources, lambda: now_ms[0]))
    sources.accepted("otlp:shop", 1, NOW_MS)
    sources.expect("scrape:shop", NOW_MS, interval_s=600)

    def told(name: str, source: str) -> float | None:
        return registry.get_sample_value(f"warroom_collector_source_{name}", {"source": source})

    assert told("silent", "otlp:shop") == 0
    assert told("last_success_timestamp_seconds", "otlp:shop") == NOW_MS / 1000
    assert told("last_success_timestamp_seconds", "scrape:shop") is None
    now_ms[0] += 60_001
    assert (told("silent", "otlp:shop"), told("silent", "scrape:shop")) == (1, 0)
    sources.accepted("otlp:shop", 1, now_ms[0])
    assert told("silent", "otlp:shop") == 0


def test_shedding_is_shown_for_a_while() -> None:
    sources = SourceRegistry()
    sources.accepted("otlp:shop", 1, NOW_MS)
    sources.shed("otlp:shop", 7, NOW_MS, Overloaded("the queue is full"))
    assert state(sources, NOW_MS + 30_000) is SourceState.SHEDDING
    assert state(sources, NOW_MS + 30_001) is SourceState.OK
    (status,) = sources.list(NOW_MS)
    assert status.dropped == {"overloaded": 7}
    assert "the queue is full" in status.error
    assert status.remedy


@pytest.mark.parametrize("seconds", [5, 30, 300])
def test_the_rate_is_right_from_the_start_and_decays(seconds: int) -> None:
    sources = SourceRegistry()
    for second in range(seconds):
        sources.accepted("otlp:shop", 100, NOW_MS + second * 1000)
    end_ms = NOW_MS + seconds * 1000
    assert sources.list(end_ms)[0].rate_per_second == pytest.approx(100, rel=0.03)
    assert sources.list(end_ms + 300_000)[0].rate_per_second < 0.1


def test_sources_and_reasons_are_bounded() -> None:
    sources = SourceRegistry(max_sources=3)
    for place in range(100):
        sources.accepted(f"otlp:{place}", 1, NOW_MS)
    assert [s.name for s in sources.list(NOW_MS)] == ["otlp:(other)", "otlp:0", "otlp:1", "otlp:2"]
    for place in range(100):
        sources.dropped("otlp:0", f"reason{place}", 1, NOW_MS)
    dropped = sources.list(NOW_MS)[1].dropped
    assert len(dropped) <= 33
    assert sum(dropped.values()) == 100
