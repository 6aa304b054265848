"""Forwarding to a real HTTP endpoint that delays, refuses, sheds and hangs up."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from collector.forward.config import MetadataConfig, QueueConfig, RemoteWrite
from collector.forward.delivery import Delivery
from collector.forward.forwarder import ForwardContext, Forwarder, open_forwarder
from collector.forward.handover import HandOver
from collector.forward.metrics import ForwardMetrics
from collector.forward.request import MAX_RETRY_AFTER_S, Verdict, compressed, verdict_of
from collector.forward.request import Answer as Told
from collector.forward.segment_log import SegmentLog
from collector.forward.write_request import Encoder
from collector.http_client import HttpClientConfig, Secret
from collector.remote_write.decode import Memory, decode, decompress
from collector.source_health import SourceRegistry, SourceState
from store.errors import QueryError, StoreUnavailable
from store.model import (
    EVENT_SCHEMA,
    EventBatch,
    Labels,
    Matcher,
    MetricMetadata,
    SampleBatch,
    SeriesSet,
)
from store.retry_after import retry_after_s

NOW_MS = 1_790_000_000_000
PATIENCE_S = 30.0
QUICK = QueueConfig(
    shards=2,
    max_samples_per_send=10,
    batch_send_deadline_s=0.02,
    min_backoff_s=0.01,
    max_backoff_s=0.05,
)
Answer = Callable[[SampleBatch], Response | None]


@dataclass
class Endpoint:
    """Keeps what it takes. `answers` are used up first, one a request; None hangs up."""

    taken: list[SampleBatch] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    always: Answer | None = None
    requests: list[Request] = field(default_factory=list)
    delay_s: float = 0.0
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def write(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append(request)
        found = decode(decompress(body), Memory())
        assert found is not None
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay_s)
            answer = self.answers.pop(0) if self.answers else self.always
            response = answer(found.batch) if answer else None
            if response is not None:
                return response
            self.taken.append(found.batch)
            return Response(status_code=204)
        finally:
            self.at_once -= 1

    def samples(self) -> dict[Labels, list[float]]:
        """What arrived, in the order in which it did."""
        found: dict[Labels, list[float]] = {}
        for batch in list(self.taken):
            for place, value in zip(batch.series_index.tolist(), batch.values, strict=True):
                found.setdefault(batch.series[place], []).append(float(value))
        return found

    def count(self) -> int:
        return sum(len(rows) for rows in self.samples().values())


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def url(endpoint: Endpoint, serve: Any) -> str:
    routes = [
        Route("/write", endpoint.write, methods=["POST"]),
        Route("/moved", lambda _: RedirectResponse("/write", 307), methods=["POST"]),
    ]
    return f"{serve(routes)}/write"


@dataclass
class World:
    """A forwarder's surroundings, which stay when it is started again."""

    directory: Path
    clock: Any
    sources: SourceRegistry = field(default_factory=SourceRegistry)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    made: ForwardMetrics | None = None

    @property
    def context(self) -> ForwardContext:
        self.made = self.made or ForwardMetrics(self.registry)
        return ForwardContext(self.directory, self.sources, self.made, self.clock)

    def figure(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, {"endpoint": "central", **labels}) or 0.0

    def dropped(self, reason: str) -> float:
        return self.figure("warroom_forward_samples_dropped_total", reason=reason)


@pytest.fixture
def world(tmp_path: Path, clock: Any) -> World:
    return World(tmp_path / "forward", clock)


def config(url: str, queue: QueueConfig = QUICK, **fields: Any) -> RemoteWrite:
    return RemoteWrite("central", url, queue=queue, **fields)


def batch(value: float, series: int = 5, at_ms: int | None = None) -> SampleBatch:
    at_ms = NOW_MS + round(value) if at_ms is None else at_ms
    return SampleBatch.of_rows(
        [(Labels.of(__name__="work", n=str(n)), at_ms, value) for n in range(series)]
    )


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what


def running(
    world: World, endpoint: RemoteWrite, play: Callable[[Forwarder], Awaitable[None]]
) -> None:
    async def run() -> None:
        forwarder = Forwarder(endpoint, world.context)
        await forwarder.start()
        try:
            await play(forwarder)
        finally:
            await forwarder.stop()

    asyncio.run(run())


def test_everything_arrives_once_and_in_order_by_series(
    world: World, endpoint: Endpoint, url: str
) -> None:
    async def play(forwarder: Forwarder) -> None:
        for value in range(50):
            forwarder.stored(batch(value), "test")
        await until(
            lambda: world.figure("warroom_forward_samples_sent_total") == 250, "all arrived"
        )

    running(world, config(url), play)
    assert endpoint.samples() == {
        Labels.of(__name__="work", n=str(n)): [float(v) for v in range(50)] for n in range(5)
    }
    assert world.figure("warroom_forward_samples_sent_total") == 250
    assert world.figure("warroom_forward_samples_pending") == 0
    assert world.figure("warroom_forward_newest_sent_timestamp_seconds") == (NOW_MS + 49) / 1000
    headers = endpoint.requests[0].headers
    assert headers["content-encoding"] == "snappy"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["x-prometheus-remote-write-version"] == "0.1.0"
    # Pieces were put together: 250 samples in requests of at most ten.
    assert 25 <= len(endpoint.requests) < 60


def test_what_is_no_sample_is_left_alone(world: World, endpoint: Endpoint, url: str) -> None:
    async def play(forwarder: Forwarder) -> None:
        forwarder.stored(EventBatch(EVENT_SCHEMA.empty_table()), "test")
        forwarder.stored(batch(1), "test")
        await until(lambda: endpoint.count() == 5, "the samples arrived")

    running(world, config(url), play)


@pytest.mark.parametrize("status", [500, 503, 429, 408, 307])
def test_what_may_pass_is_tried_again_until_it_is_taken(
    world: World, endpoint: Endpoint, url: str, status: int
) -> None:
    endpoint.answers = [lambda _: Response("busy", status)] * 3

    async def play(forwarder: Forwarder) -> None:
        forwarder.stored(batch(1, series=1), "test")
        await until(lambda: endpoint.count() == 1, "it arrived")

    running(world, config(url), play)
    assert world.figure("warroom_forward_retries_total") == 3
    assert [r.headers.get("retry-attempt") for r in endpoint.requests] == [None, "1", "2", "3"]


def test_a_connection_that_breaks_or_hangs_is_tried_again(
    world: World, endpoint: Endpoint, url: str
) -> None:
    async def play(forwarder: Forwarder) -> None:
        forwarder.stored(batch(1, series=1), "test")
        await until(lambda: len(endpoint.requests) >= 2, "two were given up")
        endpoint.delay_s = 0
        await until(lambda: endpoint.count() >= 1, "it arrived")

    endpoint.delay_s = 2
    running(world, config(url, timeout_s=0.2), play)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed_url = f"http://127.0.0.1:{listener.getsockname()[1]}/write"

    async def nobody(forwarder: Forwarder) -> None:
        forwarder.stored(batch(1), "test")
        await until(
            lambda: world.figure("warroom_forward_retries_total") >= 3, "it was tried again"
        )
        (source,) = world.sources.list(world.clock())
        assert source.state is SourceState.ERROR
        assert "ConnectError" in source.error
        assert closed_url not in source.error + source.remedy

    running(world, config(closed_url), nobody)


def test_retry_after_is_kept() -> None:
    assert retry_after_s("7", NOW_MS, MAX_RETRY_AFTER_S) == 7
    assert retry_after_s("Mon, 21 Sep 2026 14:13:25 GMT", NOW_MS, MAX_RETRY_AFTER_S) == 5
    assert retry_after_s("Mon, 21 Sep 2020 14:13:25 GMT", NOW_MS, MAX_RETRY_AFTER_S) == 0
    assert retry_after_s("999999", NOW_MS, MAX_RETRY_AFTER_S) == 600
    assert retry_after_s("soon", NOW_MS, MAX_RETRY_AFTER_S) is None


@given(st.text(max_size=80))
def test_any_retry_after_is_a_bounded_wait_or_none(text: str) -> None:
    wait_s = retry_after_s(text, NOW_MS, MAX_RETRY_AFTER_S)
    assert wait_s is None or 0 <= wait_s <= 600


def test_an_endpoint_that_says_when_to_come_again_is_left_in_peace_until_then(
    world: World, endpoint: Endpoint, url: str
) -> None:
    endpoint.answers = [lambda _: Response("busy", 429, {"Retry-After": "600"})]

    async def play(forwarder: Forwarder) -> None:
        forwarder.stored(batch(1, series=1), "test")
        await until(lambda: len(endpoint.requests) == 1, "it was asked")
        # Longer than any back-off of this configuration.
        await asyncio.sleep(0.3)
        assert len(endpoint.requests) == 1

    running(world, config(url), play)
    # It was not lost: the next start sends it.
    running(world, config(url), lambda _: until(lambda: endpoint.count() == 1, "it arrived"))


@pytest.mark.parametrize("status", [400, 401, 413])
def test_what_is_refused_is_dropped_and_counted_and_takes_nothing_with_it(
    world: World, endpoint: Endpoint, url: str, status: int
) -> None:
    def judge(found: SampleBatch) -> Response | None:
        return Response("poison", status) if 7.0 in found.values else None

    endpoint.always = judge

    async def play(forwarder: Forwarder) -> None:
        for value in range(20):
            forwarder.stored(batch(value, series=1), "test")
        await until(lambda: endpoint.count() + world.dropped("refused") == 20, "all was decided")

    running(world, config(url), play)
    assert world.dropped("refused") == 1
    assert [float(v) for v in range(20) if v != 7] in endpoint.samples().values()
    (source,) = world.sources.list(world.clock())
    assert source.dropped == {"refused": 1}


def test_without_retry_on_429_it_is_a_refusal() -> None:
    assert verdict_of(429, retry_on_http_429=False) is Verdict.REFUSED
    assert verdict_of(429) is Verdict.LATER
    assert {verdict_of(status) for status in (200, 204, 299)} == {Verdict.TAKEN}


def test_redirects_are_not_followed(world: World, endpoint: Endpoint, url: str) -> None:
    async def play(forwarder: Forwarder) -> None:
        forwarder.stored(batch(1), "test")
        await until(
            lambda: world.figure("warroom_forward_retries_total") >= 2, "it was tried again"
        )

    running(world, config(url.replace("/write", "/moved")), play)
    assert endpoint.requests == []


def test_an_endpoint_that_is_down_for_a_while_gets_everything_afterwards(
    world: World, endpoint: Endpoint, url: str
) -> None:
    endpoint.always = lambda _: Response(status_code=503)

    async def play(forwarder: Forwarder) -> None:
        for value in range(40):
            forwarder.stored(batch(value), "test")
        await until(lambda: world.figure("warroom_forward_retries_total") >= 3, "it is down")
        assert world.figure("warroom_forward_samples_pending") == 200
        world.clock.now_ms += 120_000
        assert world.figure("warroom_forward_lag_seconds") >= 119
        endpoint.always = None
        await until(lambda: endpoint.count() == 200, "it caught up")
        await until(lambda: world.figure("warroom_forward_lag_seconds") == 0, "nothing waits")

    # Memory holds less than that: the rest waits on disk.
    running(world, config(url, replace(QUICK, capacity=20)), play)
    assert all(rows == sorted(rows) for rows in endpoint.samples().values())


def test_data_that_grows_too_old_is_dropped_and_counted(
    world: World, endpoint: Endpoint, url: str
) -> None:
    endpoint.always = lambda _: Response(status_code=503)

    async def play(forwarder: Forwarder) -> None:
        forwarder.stored(batch(1), "test")
        await until(lambda: world.figure("warroom_forward_retries_total") >= 1, "it is down")
        world.clock.now_ms += 3_600_000
        await until(lambda: world.dropped("too_old") == 5, "it was dropped")
        endpoint.always = None
        forwarder.stored(batch(2, at_ms=world.clock()), "test")
        await until(lambda: endpoint.count() == 5, "what is new arrives")

    running(world, config(url, replace(QUICK, sample_age_limit_s=60)), play)


def test_what_a_stop_left_is_sent_after_the_next_start_with_other_shards_too(
    world: World, endpoint: Endpoint, url: str
) -> None:
    endpoint.always = lambda _: Response(status_code=503)

    async def first(forwarder: Forwarder) -> None:
        for value in range(20):
            forwarder.stored(batch(value), "test")
        await until(lambda: len(endpoint.requests) >= 1, "it was tried")

    async def second(forwarder: Forwarder) -> None:
        for value in range(20, 40):
            forwarder.stored(batch(value), "test")
        await until(lambda: endpoint.count() == 200, "all arrived")

    running(world, config(url), first)
    endpoint.always = None
    running(world, config(url, replace(QUICK, shards=5)), second)
    assert all(rows == [float(v) for v in range(40)] for rows in endpoint.samples().values())


def test_requests_run_side_by_side_but_never_two_of_a_shard(
    world: World, endpoint: Endpoint, url: str
) -> None:
    endpoint.delay_s = 0.05

    async def play(forwarder: Forwarder) -> None:
        for value in range(30):
            forwarder.stored(batch(value, series=10), "test")
        await until(lambda: endpoint.count() == 300, "all arrived")

    running(world, config(url, replace(QUICK, shards=3)), play)
    assert 2 <= endpoint.most_at_once <= 3
    assert all(rows == [float(v) for v in range(30)] for rows in endpoint.samples().values())


def test_metadata_is_sent_every_interval(world: World, endpoint: Endpoint, url: str) -> None:
    entry = MetricMetadata("work", help="Work done.")

    async def play(forwarder: Forwarder) -> None:
        forwarder.stored(replace(batch(1), metadata=(entry,)), "test")
        await until(lambda: any(entry in taken.metadata for taken in endpoint.taken), "it was told")

    running(world, config(url, metadata=MetadataConfig(interval_s=0.02)), play)


def test_credentials_are_sent_and_a_secret_that_vanished_is_waited_for(
    world: World, endpoint: Endpoint, url: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"

    async def play(forwarder: Forwarder) -> None:
        forwarder.stored(batch(1), "test")
        await until(
            lambda: world.figure("warroom_forward_retries_total") >= 1, "the file is missing"
        )
        token.write_text("s3cret")
        await until(lambda: endpoint.count() == 5, "it arrived")

    http = HttpClientConfig(credentials=Secret(file=token), headers={"X-Scope-OrgID": "shop"})
    running(world, config(url, http=http), play)
    assert endpoint.requests[0].headers["authorization"] == "Bearer s3cret"
    assert endpoint.requests[0].headers["x-scope-orgid"] == "shop"


def test_a_full_hand_over_costs_samples_and_never_time(world: World, url: str) -> None:
    forwarder = Forwarder(config(url), world.context)
    forwarder._handover = HandOver(max_samples=10)
    for value in range(5):
        forwarder.stored(batch(value), "test")
    assert world.dropped("handover_full") == 15
    asyncio.run(forwarder.stop())


def test_a_disk_that_fails_costs_samples_and_is_told(
    world: World, endpoint: Endpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def play(forwarder: Forwarder) -> None:
        with monkeypatch.context() as broken:
            broken.setattr("collector.forward.segment_log._write", full)
            forwarder.stored(batch(1), "test")
            await until(lambda: world.dropped("disk") == 5, "it was counted")
        assert "No space left" in world.sources.list(world.clock())[0].error
        forwarder.stored(batch(2), "test")
        await until(lambda: endpoint.count() == 5, "it goes on")

    running(world, config(url), play)
    assert set(endpoint.samples()[Labels.of(__name__="work", n="0")]) == {2.0}


def test_an_idle_endpoint_is_healthy(world: World, url: str) -> None:
    async def play(_: Forwarder) -> None:
        await until(lambda: len(world.sources.list(world.clock())) == 1, "it is told")

    running(world, config(url), play)
    (source,) = world.sources.list(world.clock())
    assert (source.name, source.state) == ("forward:central", SourceState.OK)


def test_a_fault_of_its_own_loses_nothing(tmp_path: Path, clock: Any) -> None:
    """The sending function itself raises: the pieces go back to the front."""
    sent: list[int] = []
    faults = [RuntimeError("a bug")]

    class Account:
        def sent(self, samples: int, newest_ms: int) -> None:
            sent.append(samples)

        def failed(self, error: str) -> None:
            assert "a bug" in error

        def dropped(self, reason: str, samples: int) -> None:
            raise AssertionError(reason)

    async def send(_block: bytes, _retry: int) -> Any:
        if faults:
            raise faults.pop()
        return Told(Verdict.TAKEN)

    async def run() -> None:
        log = SegmentLog(tmp_path, max_bytes=1 << 22, dropped=lambda *_: None)
        pieces = Encoder((), shards=1, max_samples=10).pieces(batch(1))
        log.append(pieces, [compressed(p.payload) for p in pieces])
        delivery = Delivery(log, QUICK, send, Account(), clock)
        task = asyncio.create_task(delivery.run())
        await until(lambda: sent == [5], "it was sent in the end")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        log.close()

    asyncio.run(run())


# -- after a crash ------------------------------------------------------------


class Stored:
    """A store that holds these samples."""

    def __init__(self, batch: SampleBatch) -> None:
        self._batch = batch
        self.refuse = False

    def select(
        self, matchers: Any, start_ms: int, end_ms: int, *, max_samples: int = 0
    ) -> SeriesSet:
        assert all(isinstance(matcher, Matcher) for matcher in matchers)
        if self.refuse:
            raise QueryError("too many samples")
        held = self._batch
        order = np.lexsort((held.ts_ms, held.series_index))
        order = order[(held.ts_ms[order] >= start_ms) & (held.ts_ms[order] <= end_ms)]
        ends = np.searchsorted(held.series_index[order], np.arange(len(held.series) + 1))
        return SeriesSet(held.series, ends.astype(np.int64), held.ts_ms[order], held.values[order])


def joined(*batches: SampleBatch) -> SampleBatch:
    return SampleBatch.of_rows(
        [
            (b.series[place], at, float(value))
            for b in batches
            for place, at, value in zip(
                b.series_index.tolist(), b.ts_ms.tolist(), b.values, strict=True
            )
        ]
    )


def crashed(world: World, url: str, *batches: SampleBatch) -> None:
    """A forwarder that wrote these to its queue and was killed."""
    forwarder = Forwarder(config(url), world.context)
    for one in batches:
        forwarder._write(one)
    forwarder._log.close()


def test_after_a_crash_the_store_gives_what_the_queue_lacks_and_nothing_twice(
    world: World, endpoint: Endpoint, url: str
) -> None:
    old = batch(0, at_ms=NOW_MS - 3_600_000)
    store = Stored(joined(old, *(batch(v) for v in range(1, 6))))
    crashed(world, url, batch(1), batch(2), batch(3))

    async def run() -> None:
        forwarder = open_forwarder(config(url), world.context, store)
        await forwarder.start()
        await until(lambda: endpoint.count() >= 25, "all arrived")
        await forwarder.stop()
        again = open_forwarder(config(url), world.context, store)
        assert again._pending() == 0  # it was stopped in order: nothing is looked up
        await again.stop()

    asyncio.run(run())
    assert all(rows == [1.0, 2.0, 3.0, 4.0, 5.0] for rows in endpoint.samples().values())


def test_a_new_endpoint_does_not_get_the_past(world: World, url: str) -> None:
    forwarder = open_forwarder(config(url), world.context, Stored(batch(1)))
    assert forwarder._pending() == 0
    asyncio.run(forwarder.stop())


def test_a_store_that_cannot_tell_does_not_stop_the_start(world: World, url: str) -> None:
    store = Stored(batch(2))
    store.refuse = True
    crashed(world, url, batch(1))
    forwarder = open_forwarder(config(url), world.context, store)
    assert forwarder._pending() == 5
    asyncio.run(forwarder.stop())


def test_one_that_never_started_closes_in_order_and_twice_is_harmless(
    world: World, url: str
) -> None:
    forwarder = open_forwarder(config(url), world.context, Stored(batch(1)))
    forwarder.close()
    forwarder.close()
    assert (world.directory / "central" / "clean").exists()


def test_a_directory_that_cannot_be_used_is_told(world: World, url: str) -> None:
    world.directory.mkdir()
    (world.directory / "central").write_text("a file")
    with pytest.raises(StoreUnavailable, match="queue"):
        open_forwarder(config(url), world.context, Stored(batch(1)))
