"""The pipeline keeps an account of everything, and what it acknowledges is in the real store."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from collector.cloudevents import decode_events
from collector.otlp.traces import TraceDecoder
from collector.pipeline import Pipeline
from collector.processors.limit import Limit, Limits
from collector.processors.redact import Redact
from collector.source_health import SourceRegistry
from store.errors import LimitExceeded
from store.model import Batch, Labels, Matcher, MatchOp, SampleBatch
from store.testing import open_store
from tests.collector.otlp_bodies import trace_request

NOW_MS = 1_790_000_000_000


def samples(*rows: tuple[Labels, float]) -> SampleBatch:
    return SampleBatch.of_rows([(labels, NOW_MS, value) for labels, value in rows])


def test_what_is_pushed_can_be_read_from_the_real_store() -> None:
    with open_store() as store:
        pipeline = Pipeline(
            store,
            (Limit(), Redact()),
            SourceRegistry(),
            now_ms=lambda: NOW_MS,
            registry=CollectorRegistry(),
        )
        series = Labels.of(__name__="up", job="shop")
        spans = TraceDecoder().decode(trace_request(3).SerializeToString(), NOW_MS)
        event = {
            "specversion": "1.0",
            "id": "e",
            "source": "shop",
            "type": "purchase",
            "data": {"transaction_id": "o", "value": "12.50", "currency": "EUR"},
        }

        async def push() -> None:
            await pipeline.push(samples((series, 1.0)), "scrape:shop")
            await pipeline.push(spans.batch, "otlp:shop")
            for _ in range(2):
                await pipeline.push(decode_events([event], NOW_MS).batch, "events")

        asyncio.run(push())
        found = store.select([Matcher("__name__", MatchOp.EQUAL, "up")], NOW_MS, NOW_MS)
        assert (found.series, found.values.tolist()) == ((series,), [1.0])
        assert store.traces([bytes([1] * 16)]).num_rows == 3
        orders = store.events(NOW_MS, NOW_MS + 1).to_pylist()
        assert [(row["order_id"], str(row["amount"])) for row in orders] == [("o", "12.5000")]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (Labels.of(job="x"), "no_metric_name"),
        (Labels.of({f"l{n}": "v" for n in range(9)}, __name__="a"), "too_many_labels"),
        (Labels.of({"n" * 20: "v"}, __name__="a"), "label_name_too_long"),
        (Labels.of(__name__="a", x="v" * 31), "label_value_too_long"),
        (Labels.of(__name__="a" * 31), "metric_name_too_long"),
    ],
)
def test_a_series_past_a_bound_is_dropped_and_counted(
    appender: Any, labels: Labels, reason: str
) -> None:
    sources, registry = SourceRegistry(), CollectorRegistry()
    limit = Limit(Limits(max_labels=8, max_label_name=16, max_label_value=30))
    pipeline = Pipeline(appender, (limit,), sources, now_ms=lambda: NOW_MS, registry=registry)
    good = Labels.of(__name__="good")
    for _ in range(2):
        asyncio.run(pipeline.push(samples((labels, 1), (good, 2), (labels, 3)), "remote_write"))
    assert appender.samples() == {good: [(NOW_MS, 2.0)] * 2}
    assert sources.list(NOW_MS)[0].dropped == {reason: 4}
    name = {"source": "remote_write", "reason": reason}
    assert registry.get_sample_value("warroom_collector_dropped_total", name) == 4


def test_a_refused_batch_is_counted_under_the_stores_reason(
    appender: Any, pipeline: Pipeline, sources: SourceRegistry
) -> None:
    appender.refuse_with = LimitExceeded("too many series", reason="max_series", hint="drop some")
    with pytest.raises(LimitExceeded):
        asyncio.run(pipeline.push(samples((Labels.of(__name__="a"), 1)), "remote_write"))
    (status,) = sources.list(NOW_MS)
    assert status.dropped == {"max_series": 1}
    assert (status.error, status.remedy) == ("too many series", "drop some")


def test_what_is_accepted_is_counted_without_what_was_dropped(
    pipeline: Pipeline, registry: CollectorRegistry
) -> None:
    batch = samples((Labels.of(__name__="a"), 1), (Labels.of(job="nameless"), 1))
    asyncio.run(pipeline.push(batch, "remote_write"))
    name = {"source": "remote_write", "signal": "samples"}
    assert registry.get_sample_value("warroom_collector_accepted_total", name) == 1


def test_a_caller_that_goes_away_does_not_cancel_the_commit(
    clock: Any, sources: SourceRegistry, registry: CollectorRegistry
) -> None:
    commit: Future[None] = Future()

    class SlowAppender:
        def append(self, _: Batch) -> Future[None]:
            return commit

    pipeline = Pipeline(SlowAppender(), (), sources, now_ms=clock, registry=registry)

    async def push_and_leave() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await pipeline.push(samples((Labels.of(__name__="a"), 1)), "remote_write")

    asyncio.run(push_and_leave())
    assert not commit.cancelled()
    commit.set_result(None)
