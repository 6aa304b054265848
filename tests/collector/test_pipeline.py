"""The pipeline keeps an account of everything, and what it acknowledges is in the real store."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry

from collector.cloudevents import decode_events
from collector.otlp.traces import TraceDecoder
from collector.pipeline import Hooks, Pipeline
from collector.processors.limit import Limit, Limits
from collector.processors.redact import Redact
from collector.source_health import SourceRegistry
from store.errors import LimitExceeded
from store.histograms import NativeHistogram
from store.model import (
    Batch,
    Exemplar,
    HistogramSample,
    Labels,
    LogBatch,
    Matcher,
    MatchOp,
    MetricMetadata,
    RefSpace,
    SampleBatch,
    SeriesRefs,
)
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
        (Labels.of(__name__="a", x="€" * 11), "label_value_too_long"),
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


@pytest.mark.parametrize("by_ref", [False, True])
def test_a_series_known_by_its_ref_is_judged_as_by_its_labels(by_ref: bool) -> None:
    limit = Limit(Limits(max_label_value=30))
    space = RefSpace()
    good, bad = Labels.of(__name__="good"), Labels.of(__name__="a", x="v" * 31)
    histogram = NativeHistogram(count=1)
    for series in ((good, bad), (bad, good), (bad,), (good,)):
        refs = np.array([int(one == bad) for one in series], dtype=np.int32)
        batch = SampleBatch(
            series=series,
            series_index=np.arange(len(series), dtype=np.int32),
            ts_ms=np.full(len(series), NOW_MS),
            values=np.ones(len(series)),
            exemplars=tuple(Exemplar(one, Labels(), NOW_MS, 1.0) for one in series),
            histograms=tuple(
                HistogramSample(place, NOW_MS, histogram) for place in range(len(series))
            ),
            series_refs=SeriesRefs(space, refs, 2, series) if by_ref else None,
        )
        left, dropped = limit(batch)
        assert isinstance(left, SampleBatch)
        wanted = (good,) if good in series else ()
        assert left.series == wanted
        assert left.series_index.tolist() == [0] * len(wanted)
        assert [sent.series_index for sent in left.histograms] == [0] * len(wanted)
        assert tuple(exemplar.series for exemplar in left.exemplars) == wanted
        assert dropped == ({"label_value_too_long": 2} if bad in series else {})
        kept = left.known_refs
        assert (kept is not None) is by_ref
        assert kept is None or kept.refs.tolist() == [0] * len(wanted)


def test_times_out_of_bounds_are_dropped_with_their_reason() -> None:
    limit = Limit(Limits(max_future_ms=1_000, max_age_ms=5_000), now_ms=lambda: NOW_MS)
    series = Labels.of(__name__="a")
    times = [NOW_MS + 1_001, NOW_MS + 1_000, NOW_MS, NOW_MS - 5_000, NOW_MS - 5_001, -(2**62)]
    batch = SampleBatch.of_rows([(series, ts, 1.0) for ts in times])
    left, dropped = limit(batch)
    assert isinstance(left, SampleBatch)
    assert left.ts_ms.tolist() == times[1:4]
    assert dropped == {"timestamp_in_future": 1, "too_old": 2}
    assert limit(left) == (left, {})
    assert Limit()(batch) == (batch, {})


@pytest.mark.parametrize("rows", [2, 0])
def test_texts_of_rows_that_are_dropped_do_not_stay_in_a_dictionary(rows: int) -> None:
    bodies = [*["short", None][:rows], "x" * 1_000_000]
    table = pa.table(
        {
            "body": pa.array(bodies).dictionary_encode(),
            "attributes": pa.array(["{}"] * len(bodies)),
            "resource": pa.array(["{}"] * len(bodies)).dictionary_encode(),
        }
    )
    left, dropped = Limit(Limits(max_log_bytes=1_000))(LogBatch(table))
    assert isinstance(left, LogBatch)
    assert dropped == {"log_too_large": 1}
    assert left.table.schema == table.schema
    assert left.table.column("body").to_pylist() == bodies[:rows]
    assert left.table.get_total_buffer_size() < 10_000


def test_metadata_without_samples_is_stored(appender: Any, pipeline: Pipeline) -> None:
    batch = SampleBatch.of_rows([], metadata=(MetricMetadata("up"),))
    pushed = asyncio.run(pipeline.push(batch, "remote_write"))
    assert [one.metadata for one in appender.batches] == [batch.metadata]
    assert (len(pushed.batch), pushed.dropped) == (0, {})


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


def test_listeners_hear_of_a_batch_once_it_is_durable_and_as_it_was_stored(
    clock: Any, sources: SourceRegistry, registry: CollectorRegistry
) -> None:
    commit: Future[None] = Future()
    heard: list[tuple[Batch, str]] = []

    class SlowAppender:
        def append(self, _: Batch) -> Future[None]:
            return commit

    pipeline = Pipeline(
        SlowAppender(),
        (Limit(),),
        sources,
        now_ms=clock,
        registry=registry,
        hooks=Hooks(on_stored=(lambda batch, source: heard.append((batch, source)),)),
    )
    good = Labels.of(__name__="good")

    async def push() -> None:
        pushed = asyncio.create_task(
            pipeline.push(samples((good, 1), (Labels.of(job="nameless"), 1)), "remote_write")
        )
        await asyncio.sleep(0)
        assert heard == []
        pushed.cancel()
        with suppress(asyncio.CancelledError):
            await pushed
        commit.set_result(None)
        while not heard:
            await asyncio.sleep(0)

    asyncio.run(push())
    ((batch, source),) = heard
    assert isinstance(batch, SampleBatch)
    assert (batch.series, source) == ((good,), "remote_write")


def test_a_listener_that_fails_is_counted_and_stops_nobody(
    appender: Any, clock: Any, sources: SourceRegistry, registry: CollectorRegistry
) -> None:
    heard: list[str] = []

    def broken(batch: Batch, source: str) -> None:
        raise RuntimeError("the forwarder's queue is on fire")

    pipeline = Pipeline(
        appender,
        (),
        sources,
        now_ms=clock,
        registry=registry,
        hooks=Hooks(on_stored=(broken, lambda _, source: heard.append(source))),
    )
    asyncio.run(pipeline.push(samples((Labels.of(__name__="a"), 1)), "remote_write"))
    assert heard == ["remote_write"]
    name = "warroom_collector_listener_errors_total"
    assert registry.get_sample_value(name, {"signal": "samples"}) == 1


def test_listeners_hear_nothing_of_what_was_not_stored(
    appender: Any, clock: Any, sources: SourceRegistry, registry: CollectorRegistry
) -> None:
    heard: list[str] = []
    failing: Future[None] = Future()
    failing.set_exception(LimitExceeded("too many series", reason="max_series"))

    class FullAppender:
        def append(self, _: Batch) -> Future[None]:
            return failing

    for store in (FullAppender(), appender):
        pipeline = Pipeline(
            store,
            (Limit(),),
            sources,
            now_ms=clock,
            registry=CollectorRegistry(),
            hooks=Hooks(on_stored=(lambda _, source: heard.append(source),)),
        )
        rows = samples((Labels.of(__name__="a") if store is not appender else Labels(), 1))
        with suppress(LimitExceeded):
            asyncio.run(pipeline.push(rows, "remote_write"))
    assert heard == []
