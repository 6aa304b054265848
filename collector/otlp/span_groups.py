"""Requests of spans that wait at the same time are decoded and stored as one.

Every call on the way costs more than the spans of a usual request. One group is under way at a
time, and what arrives meanwhile makes the next one, as in a group commit; what the next one has no
room for is the lane's queue. Each request keeps its own answer. Whatever is wrong with a group
sends its requests the way that a single one goes, so that nobody pays for a neighbour.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from collector.body import THREAD_ABOVE_BYTES
from collector.otlp.outcome import DecodedTogether, Rejections
from collector.otlp.traces import TraceDecoder
from collector.overload import Lane
from collector.pipeline import Pipeline
from store.model import Batch

# A larger body has no need of company: its spans cost more than its calls.
MAX_JOINING_BYTES = 256 * 1024
MAX_GROUP_BYTES = 1024 * 1024
# Those who sent together will do so again: the first one waits this long for the others.
GATHER_S = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A body, and what will be said of it: what was refused, or None to take it alone.

    Attributes:
        queued: The next group has no room for it.
    """

    body: bytes
    queued: bool
    outcome: asyncio.Future[Rejections | None]

    def settle(self, rejections: Rejections | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(rejections)

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class SpanGroups:
    """Gathers bodies of spans into groups. Used on one event loop.

    Args:
        source: Whom the pipeline is told that the groups come from.
    """

    def __init__(self, decoder: TraceDecoder, pipeline: Pipeline, lane: Lane, source: str) -> None:
        self._decoder = decoder
        self._pipeline = pipeline
        self._lane = lane
        self._source = source
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        # Not one of the lane's decoders: small bodies would wait behind all that large ones bring.
        self._thread = anyio.CapacityLimiter(1)
        self._task: asyncio.Task[None] | None = None
        self._had_company = False

    async def take(self, body: bytes) -> Rejections | None:
        """Wait until the body's spans are durable: what was refused of them.

        None when it was not stored and is to be taken alone, as is a large body.

        Raises:
            Overloaded, LimitExceeded, StoreUnavailable: From the pipeline, for the whole group.
        """
        if len(body) > MAX_JOINING_BYTES:
            return None
        queued = self._waiting_bytes + len(body) > MAX_GROUP_BYTES
        if queued and len(body) <= THREAD_ABOVE_BYTES:
            return None  # alone it is decoded at once, and does not queue behind large ones
        self._waiting_bytes += len(body)
        mine = _Waiting(body, queued, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if queued:
            self._lane.join()
        if self._task is None:
            self._task = asyncio.create_task(self._work_off())
        try:
            return await mine.outcome
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
                self._gone(mine)
                self._pipeline.dropped(self._source, "client_gone", 1)
            raise

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_S if self._had_company else 0)
                group = self._next_group()  # none when those who waited are gone
                self._had_company = len(group) > 1
                if group:
                    await self._take_together(group)
        finally:
            self._task = None

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting and size + len(self._waiting[0].body) <= MAX_GROUP_BYTES:
            one = self._waiting.popleft()
            self._gone(one)
            group.append(one)
            size += len(one.body)
        return group

    def _gone(self, one: _Waiting) -> None:
        self._waiting_bytes -= len(one.body)
        if one.queued:
            self._lane.leave()

    async def _take_together(self, group: Sequence[_Waiting]) -> None:
        try:
            ready = await self._ready([one.body for one in group])
        except Exception:  # noqa: BLE001 -- who is to blame shows when each is taken alone
            ready = None
        if ready is None:
            gone = sum(one.outcome.cancelled() for one in group)
            self._pipeline.dropped(self._source, "client_gone", gone)
            for one in group:
                one.settle(None)
            return
        batch, found = ready
        try:
            await self._pipeline.push(
                batch, self._source, by_source=found.by_source, processed=True
            )
        except Exception as error:  # noqa: BLE001 -- the boundary: raised again for each request
            for one in group:
                one.fail(error)
            return
        for one, rejections in zip(group, found.rejections, strict=True):
            one.settle(rejections)

    async def _ready(self, bodies: Sequence[bytes]) -> tuple[Batch, DecodedTogether] | None:
        """What will be stored, past the guards; None where processors would drop of it."""
        found = await self._decoded(bodies)
        if not len(found.batch):
            return found.batch, found
        batch, dropped = await self._pipeline.process(found.batch)
        if dropped:
            return None
        self._pipeline.check(batch, found.by_source)
        return batch, found

    async def _decoded(self, bodies: Sequence[bytes]) -> DecodedTogether:
        decode = partial(self._decoder.decode_together, bodies, self._pipeline.now_ms())
        if sum(map(len, bodies)) <= THREAD_ABOVE_BYTES:
            return decode()
        return await anyio.to_thread.run_sync(decode, limiter=self._thread)
