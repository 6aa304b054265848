"""Requests of spans that wait at the same time: stored together, answered each for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Event
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typing_extensions import override

from collector.guards import RateGuard
from collector.otlp.ingest import OtlpAnswer, OtlpIngest, Signal
from collector.otlp.outcome import DecodedTogether
from collector.otlp.span_groups import MAX_GROUP_BYTES, MAX_JOINING_BYTES, SpanGroups
from collector.otlp.traces import TraceDecoder
from collector.overload import STANDING_S, Lane
from collector.pipeline import Hooks, Pipeline
from collector.processors.contract import Processed, Processor
from collector.processors.limit import Limit, Limits
from collector.source_health import SourceRegistry
from store.errors import BadInput, Overloaded
from store.model import Batch, SpanBatch
from tests.collector.otlp_bodies import trace_request

DEADLINE_S = 30.0


def body_of(service: str = "shop", spans: int = 1, *, name: str = "GET", bad: int = 0) -> bytes:
    """A request of which so many spans have no trace."""
    request = trace_request(spans, name=name)
    request.resource_spans[0].resource.attributes[0].value.string_value = service
    for span in request.resource_spans[0].scope_spans[0].spans[:bad]:
        span.trace_id = b"short"
    return request.SerializeToString()


async def together(ingest: OtlpIngest, *bodies: bytes) -> list[Any]:
    """The answer of each, or what was raised."""
    accepted = (ingest.accept(Signal.TRACES, body) for body in bodies)
    return await asyncio.gather(*accepted, return_exceptions=True)


def names(appender: Any) -> list[object]:
    return [row["name"] for row in appender.spans()]


def counted(registry: CollectorRegistry, metric: str) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["source"], sample.labels.get("reason", "")): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == metric
    }


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not reached():
            await asyncio.sleep(0.001)


class SlowAppender:
    """Keeps every batch; none is durable until it is said so."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.commits: list[Future[None]] = []

    def append(self, batch: Batch) -> Future[None]:
        self.batches.append(batch)
        self.commits.append(Future())
        return self.commits[-1]

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


async def answer(slow: SlowAppender, groups: int) -> None:
    """Make so many groups durable, one after another as they come."""
    for number in range(groups):
        await until(partial(_has_begun, slow, number))
        slow.commits[number].set_result(None)


def _has_begun(slow: SlowAppender, number: int) -> bool:
    return len(slow.commits) > number


@pytest.fixture
def processing(
    appender: Any, clock: Any, sources: SourceRegistry, registry: CollectorRegistry
) -> Callable[[Processor], OtlpIngest]:
    """Makes an ingest that has this processor."""

    def ingest(processor: Processor) -> OtlpIngest:
        return OtlpIngest(
            Pipeline(appender, (processor,), sources, now_ms=clock, registry=registry)
        )

    return ingest


@pytest.fixture
def slow() -> SlowAppender:
    return SlowAppender()


@pytest.fixture
def slow_ingest(slow: SlowAppender, clock: Any, sources: Any, registry: Any) -> OtlpIngest:
    return OtlpIngest(Pipeline(slow, (), sources, now_ms=clock, registry=registry))


def test_they_are_one_batch_and_each_is_told_of_its_own_spans(
    pipeline: Pipeline, appender: Any, registry: CollectorRegistry
) -> None:
    bodies = [
        body_of("a", 2, name="a"),
        body_of("b", 3, name="b", bad=2),
        b"",
        body_of("a", 1, name="c", bad=1),
    ]
    answers = asyncio.run(together(OtlpIngest(pipeline), *bodies))
    assert answers == [
        OtlpAnswer(),
        OtlpAnswer(2, "rejected: 2 x bad_trace_id"),
        OtlpAnswer(),
        OtlpAnswer(1, "rejected: 1 x bad_trace_id"),
    ]
    assert len(appender.batches) == 1
    assert names(appender) == ["a", "a", "b"]
    accepted = counted(registry, "warroom_collector_accepted_total")
    assert accepted == {("otlp:a", ""): 2, ("otlp:b", ""): 1}
    dropped = counted(registry, "warroom_collector_dropped_total")
    assert dropped == {("otlp:b", "bad_trace_id"): 2, ("otlp:a", "bad_trace_id"): 1}


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_one_that_is_damaged_costs_no_other(
    pipeline: Pipeline, appender: Any, registry: CollectorRegistry, cut: int
) -> None:
    bodies = [body_of(name="before"), body_of(name="cut")[:-cut], body_of(name="after")]
    answers = asyncio.run(together(OtlpIngest(pipeline), *bodies))
    assert [answers[0], answers[2]] == [OtlpAnswer(), OtlpAnswer()]
    assert isinstance(answers[1], BadInput)
    assert sorted(map(str, names(appender))) == ["after", "before"]
    assert sum(counted(registry, "warroom_collector_dropped_total").values()) == 1


def test_one_who_sends_too_fast_is_refused_alone(
    appender: Any, clock: Any, sources: SourceRegistry, registry: CollectorRegistry
) -> None:
    guard = RateGuard({"spans": 0.1}, sources.name_of, clock_s=lambda: 0.0)
    guard.check("spans", {"otlp:greedy": 10})
    hooks = Hooks(guards=(guard,))
    pipeline = Pipeline(appender, (), sources, now_ms=clock, registry=registry, hooks=hooks)
    bodies = [body_of("greedy", 5), body_of("modest", 2, name="modest")]
    greedy, modest = asyncio.run(together(OtlpIngest(pipeline), *bodies))
    assert isinstance(greedy, Overloaded)
    assert modest == OtlpAnswer()
    assert names(appender) == ["modest", "modest"]
    dropped = counted(registry, "warroom_collector_dropped_total")
    assert dropped == {("otlp:greedy", "rate_limited"): 5}


def test_what_a_processor_drops_is_charged_to_who_sent_it(
    processing: Callable[[Processor], OtlpIngest], appender: Any, registry: CollectorRegistry
) -> None:
    ingest = processing(Limit(Limits(max_span_bytes=10_000)))
    request = trace_request(1)
    resource, (group,) = request.resource_spans[0].resource, request.resource_spans[0].scope_spans
    resource.attributes[0].value.string_value = "large"
    group.spans[0].attributes.add(key="note").value.string_value = "x" * 20_000
    bodies = [body_of("a", 5), request.SerializeToString(), body_of("b", 2)]
    assert asyncio.run(together(ingest, *bodies)) == [OtlpAnswer()] * 3
    assert sum(len(batch) for batch in appender.batches) == 7
    accepted = counted(registry, "warroom_collector_accepted_total")
    assert accepted == {("otlp:a", ""): 5, ("otlp:large", ""): 0, ("otlp:b", ""): 2}
    dropped = counted(registry, "warroom_collector_dropped_total")
    assert dropped == {("otlp:large", "span_too_large"): 1}


def test_one_that_a_processor_fails_on_fails_alone(
    processing: Callable[[Processor], OtlpIngest], appender: Any
) -> None:
    def fails(batch: Batch) -> Processed:
        assert isinstance(batch, SpanBatch)
        if "strange" in batch.table.column("name").to_pylist():
            raise RuntimeError("a mistake")
        return Processed(batch, {})

    bodies = [body_of(name="a"), body_of(name="strange"), body_of(name="b")]
    answers = asyncio.run(together(processing(fails), *bodies))
    assert [answers[0], answers[2]] == [OtlpAnswer(), OtlpAnswer()]
    assert isinstance(answers[1], RuntimeError)
    assert sorted(map(str, names(appender))) == ["a", "b"]


def test_what_the_store_refuses_is_told_to_all_and_counted_once(
    pipeline: Pipeline, appender: Any, registry: CollectorRegistry
) -> None:
    appender.refuse_with = Overloaded("the queue is full", retry_after_s=3)
    answers = asyncio.run(together(OtlpIngest(pipeline), body_of("a", 2), body_of("b", 1)))
    assert [type(answer) for answer in answers] == [Overloaded, Overloaded]
    dropped = counted(registry, "warroom_collector_dropped_total")
    assert {source: count for (source, _), count in dropped.items()} == {"otlp:a": 2, "otlp:b": 1}


def test_what_arrives_while_a_group_is_under_way_makes_the_next_one(
    slow: SlowAppender, slow_ingest: OtlpIngest
) -> None:
    async def run() -> list[object]:
        first = asyncio.create_task(slow_ingest.accept(Signal.TRACES, body_of(spans=4)))
        await until(lambda: slow.sizes == [4])
        others = asyncio.create_task(together(slow_ingest, *[body_of()] * 3))
        await asyncio.sleep(0.01)
        assert slow.sizes == [4]
        slow.commits[0].set_result(None)
        await until(lambda: slow.sizes == [4, 3])
        assert (first.done(), others.done()) == (True, False)
        slow.commits[1].set_result(None)
        return [await first, *(await others)]

    assert asyncio.run(run()) == [OtlpAnswer()] * 4


def test_a_sender_who_goes_away_takes_nobody_along(
    slow: SlowAppender, slow_ingest: OtlpIngest, registry: CollectorRegistry
) -> None:
    def accept(spans: int) -> asyncio.Task[OtlpAnswer]:
        return asyncio.create_task(slow_ingest.accept(Signal.TRACES, body_of(spans=spans)))

    async def leaves(task: Awaitable[object]) -> bool:
        (left,) = await asyncio.gather(task, return_exceptions=True)
        return isinstance(left, asyncio.CancelledError)

    async def run() -> None:
        under_way = [accept(2), accept(2)]
        await until(lambda: slow.sizes == [4])
        waiting = [accept(1), accept(7)]
        await asyncio.sleep(0.01)
        under_way[0].cancel()
        waiting[0].cancel()
        assert await leaves(under_way[0])
        assert await leaves(waiting[0])
        slow.commits[0].set_result(None)
        assert await under_way[1] == OtlpAnswer()
        await until(lambda: slow.sizes == [4, 7])
        slow.commits[1].set_result(None)
        assert await waiting[1] == OtlpAnswer()

    asyncio.run(run())
    gone = counted(registry, "warroom_collector_dropped_total")
    assert gone == {("otlp", "client_gone"): 1}


def test_one_who_left_before_its_group_was_refused_is_counted(
    pipeline: Pipeline, appender: Any, registry: CollectorRegistry
) -> None:
    begun, go_on = Event(), Event()

    class Waits(TraceDecoder):
        @override
        def decode_together(self, bodies: Sequence[bytes], now_ms: int) -> DecodedTogether:
            begun.set()
            assert go_on.wait(DEADLINE_S)
            return super().decode_together(bodies, now_ms)

    groups = SpanGroups(Waits(), pipeline, Lane(), "otlp")

    async def run() -> object:
        leaves = asyncio.create_task(groups.take(body_of(name="x" * 100_000)))
        damaged = asyncio.create_task(groups.take(b"\x0a\xff"))
        await until(begun.is_set)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        go_on.set()
        return await damaged

    assert asyncio.run(run()) is None
    assert appender.batches == []
    gone = counted(registry, "warroom_collector_dropped_total")
    assert gone == {("otlp", "client_gone"): 1}


def test_a_group_does_not_wait_for_large_bodies_that_are_decoded(
    pipeline: Pipeline, appender: Any
) -> None:
    lane, go_on = Lane(slots=2), Event()
    groups = SpanGroups(TraceDecoder(), pipeline, lane, "otlp")

    async def run() -> None:
        large = [lane.run(partial(go_on.wait, 4 * DEADLINE_S)) for _ in range(3)]
        decoded = asyncio.gather(*large)
        await asyncio.sleep(0)
        medium = body_of(name="x" * 100_000)
        try:
            await asyncio.gather(groups.take(medium), groups.take(body_of()))
            assert not decoded.done()
        finally:
            go_on.set()
        assert await decoded == [True] * 3

    asyncio.run(run())
    assert [len(batch) for batch in appender.batches] == [2]


def test_a_large_body_goes_alone(pipeline: Pipeline, appender: Any) -> None:
    groups = SpanGroups(TraceDecoder(), pipeline, Lane(), "otlp")
    assert asyncio.run(groups.take(b"x" * (MAX_JOINING_BYTES + 1))) is None
    assert appender.batches == []


def test_a_group_is_bounded_in_size(pipeline: Pipeline, appender: Any) -> None:
    bodies = [body_of(name="x" * 100_000) for _ in range(25)]
    assert asyncio.run(together(OtlpIngest(pipeline), *bodies)) == [OtlpAnswer()] * 25
    most = MAX_GROUP_BYTES // len(bodies[0])
    assert [len(batch) for batch in appender.batches] == [most, most, 25 - 2 * most]


def test_a_queue_that_stands_behind_the_next_group_is_overload(
    slow: SlowAppender, clock: Any, sources: SourceRegistry, registry: CollectorRegistry
) -> None:
    now_s = 0.0
    lane = Lane(clock_s=lambda: now_s)
    pipeline = Pipeline(slow, (), sources, now_ms=clock, registry=registry)
    groups = SpanGroups(TraceDecoder(), pipeline, lane, "otlp")
    body = body_of(name="x" * 200_000)

    async def take() -> None:
        with lane.answering():
            await groups.take(body)

    def later() -> None:
        """A while later, in which others were answered at once."""
        nonlocal now_s
        now_s += 2 * STANDING_S
        with lane.answering():
            pass
        lane.check()

    async def run() -> None:
        tasks = [asyncio.create_task(take())]
        await until(lambda: slow.sizes == [1])
        tasks += [asyncio.create_task(take()) for _ in range(5)]
        await asyncio.sleep(0)
        later()
        tasks += [asyncio.create_task(take()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            later()
        await answer(slow, 3)
        await asyncio.gather(*tasks)
        lane.check()

    asyncio.run(run())
    assert slow.sizes == [1, 5, 2]


def test_a_small_one_does_not_queue_behind_large_ones(
    slow: SlowAppender, slow_ingest: OtlpIngest
) -> None:
    large = body_of(name="x" * 200_000)

    async def run() -> None:
        sent = asyncio.create_task(together(slow_ingest, *[large] * 6, body_of(spans=3)))
        await answer(slow, 3)
        assert await sent == [OtlpAnswer()] * 7

    asyncio.run(run())
    assert slow.sizes == [3, 5, 1]


def test_groups_go_on_after_a_refusal(pipeline: Pipeline, appender: Any) -> None:
    ingest = OtlpIngest(pipeline)

    async def run() -> list[list[Any]]:
        return [
            await together(ingest, b"\x0a\xff", b"\x0a\xff"),
            await together(ingest, body_of(), body_of()),
            await together(ingest, body_of()),
        ]

    refused, taken, alone = asyncio.run(run())
    assert [type(answer) for answer in refused] == [BadInput, BadInput]
    assert (taken, alone) == ([OtlpAnswer()] * 2, [OtlpAnswer()])
    assert [len(batch) for batch in appender.batches] == [2, 1]
