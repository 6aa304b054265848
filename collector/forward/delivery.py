"""From the queue on disk to the endpoint: shards that keep the order of each series."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import cramjam
import structlog

from collector.forward.config import QueueConfig
from collector.forward.request import Answer, Verdict, compressed
from collector.forward.segment_log import Position, Read, SegmentLog
from collector.forward.write_request import Piece

log = structlog.get_logger()

Send = Callable[[bytes, int], Awaitable[Answer]]
"""Sends a compressed request; the number says how often it has failed before."""

_PAUSE_AFTER_FAULT_S = 1.0
_READ_AT_ONCE = 32
_WARN_AGAIN_S = 60.0


class Observer(Protocol):
    """Who is told what became of pieces."""

    def sent(self, samples: int, newest_ms: int) -> None: ...

    def failed(self, error: str) -> None: ...

    def dropped(self, reason: str, samples: int) -> None: ...


@dataclass(slots=True, eq=False)
class _Ticket:
    """A piece under way. `end` is where the queue may be settled to once it is done."""

    piece: Piece
    end: Position
    done: bool = False


@dataclass(slots=True)
class _Lane:
    """What waits for one shard, in memory."""

    tickets: deque[_Ticket] = field(default_factory=deque)
    samples: int = 0
    since: float = 0.0  # when the oldest of them came, by the monotonic clock
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Delivery:
    """Reads the queue ahead, as far as `capacity` allows, and sends; settles what is done."""

    def __init__(
        self,
        queue: SegmentLog,
        config: QueueConfig,
        send: Send,
        observer: Observer,
        now_ms: Callable[[], int],
    ) -> None:
        self._queue = queue
        self._config = config
        self._send = send
        self._observer = observer
        self._now_ms = now_ms
        self._ahead: deque[Read] = deque()
        self._lanes = [_Lane() for _ in range(config.shards)]
        self._under_way: deque[_Ticket] = deque()
        self.under_way = 0  # samples read and not done; any thread may look
        self._layout: int | None = None
        self._arrived = asyncio.Event()
        self._freed = asyncio.Event()
        self._settling = asyncio.Lock()
        self._stopping = False
        self._busy = 0  # shards with a request on the wire, or settling one
        self._quiet = asyncio.Event()
        self._warned = "", 0.0
        # Not for secrecy: shards that failed together should not try again together.
        self._random = random.Random()  # noqa: S311

    @property
    def oldest_ms(self) -> int | None:
        """Time of the oldest piece that is not settled; None when there is none."""
        try:
            return self._under_way[0].piece.newest_ms
        except IndexError:
            return None

    def wake(self) -> None:
        """Something was written to the queue."""
        self._arrived.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._read_ahead))
            for lane in self._lanes:
                group.create_task(self._forever(partial(self._drain, lane)))

    async def finish(self, timeout_s: float) -> None:
        """Begin no request, and give those on the wire a moment: fewer are sent twice."""
        self._stopping = True
        try:
            async with asyncio.timeout(timeout_s):
                while self._busy:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            log.info("forwarding stopped with requests under way", requests=self._busy)

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception as error:
                # The loop boundary: the source's health shows it, the next round tries again.
                log.exception("forwarding failed")
                self._observer.failed(f"{type(error).__name__}: {error}")
                await asyncio.sleep(_PAUSE_AFTER_FAULT_S)

    # -- from disk to memory -------------------------------------------------

    async def _read_ahead(self) -> None:
        self._arrived.clear()
        if not self._ahead:
            self._ahead.extend(await asyncio.to_thread(self._read_some))
            self.under_way += sum(read.piece.samples for read in self._ahead)
        if not self._ahead:
            await self._arrived.wait()
            return
        # It leaves the list only when it is admitted: a fault in between loses nothing.
        while self._ahead:
            await self._room_for(self._ahead[0].piece)
            self._admit(self._ahead.popleft())

    def _read_some(self) -> list[Read]:
        """Several at once: a hop to a thread costs more than a read."""
        found: list[Read] = []
        while len(found) < _READ_AT_ONCE and (read := self._queue.read()) is not None:
            found.append(read)
        return found

    async def _room_for(self, piece: Piece) -> None:
        """Wait until its shard has room; with other numbers of shards, until all else is done.

        A series may move to another shard then, and must not overtake itself.
        """
        lane = self._lane_of(piece)
        while True:
            self._freed.clear()
            settled = self._layout in (piece.shards, None) or not self._under_way
            if settled and lane.samples < self._config.capacity:
                self._layout = piece.shards
                return
            await self._freed.wait()

    def _admit(self, read: Read) -> None:
        ticket = _Ticket(read.piece, read.end)
        self._under_way.append(ticket)
        lane = self._lane_of(read.piece)
        if not lane.tickets:
            lane.since = time.monotonic()
        lane.tickets.append(ticket)
        lane.samples += read.piece.samples
        lane.changed.set()

    def _lane_of(self, piece: Piece) -> _Lane:
        return self._lanes[piece.shard % len(self._lanes)]

    # -- from memory to the endpoint -----------------------------------------

    async def _drain(self, lane: _Lane) -> None:
        await self._worth_sending(lane)
        if self._stopping:
            await asyncio.Event().wait()
        tickets = self._next_request(lane)
        self._change_busy(1)
        try:
            await self._deliver(tickets)
            await self._settle()
        except Exception:
            # Back to the front: nothing is lost by a fault of ours.
            open_tickets = [ticket for ticket in tickets if not ticket.done]
            lane.tickets.extendleft(reversed(open_tickets))
            lane.samples += sum(ticket.piece.samples for ticket in open_tickets)
            raise
        finally:
            self._change_busy(-1)

    def _change_busy(self, by: int) -> None:
        self._busy += by
        self._quiet.set()

    async def _worth_sending(self, lane: _Lane) -> None:
        """Wait for a full request, or for the deadline of the oldest piece."""
        while True:
            lane.changed.clear()
            if lane.samples >= min(self._config.max_samples_per_send, self._config.capacity):
                return
            left_s = None
            if lane.tickets:
                left_s = lane.since + self._config.batch_send_deadline_s - time.monotonic()
                if left_s <= 0:
                    return
            try:
                async with asyncio.timeout(left_s):
                    await lane.changed.wait()
            except TimeoutError:
                return

    def _next_request(self, lane: _Lane) -> list[_Ticket]:
        taken: list[_Ticket] = []
        samples = 0
        while lane.tickets:
            following = samples + lane.tickets[0].piece.samples
            if taken and following > self._config.max_samples_per_send:
                break
            taken.append(lane.tickets.popleft())
            samples = following
        lane.samples -= samples
        lane.since = time.monotonic()
        self._freed.set()
        return taken

    async def _deliver(self, tickets: Sequence[_Ticket]) -> None:
        answer = await self._send_until_decided(tickets)
        samples = sum(ticket.piece.samples for ticket in tickets)
        if answer is None:
            self._observer.dropped("too_old", samples)
        elif answer.verdict is Verdict.TAKEN:
            self._observer.sent(samples, max(ticket.piece.newest_ms for ticket in tickets))
        elif len(tickets) > 1:
            # One of them is refused: the others need not go with it.
            for ticket in tickets:
                await self._deliver([ticket])
            return
        else:
            self._warn(answer.error)
            self._observer.failed(answer.error)
            self._observer.dropped("refused", samples)
        for ticket in tickets:
            ticket.done = True
            self.under_way -= ticket.piece.samples

    def _warn(self, error: str) -> None:
        """Once a minute for the same error: an endpoint may refuse thousands of pieces."""
        now_s = time.monotonic()
        if error != self._warned[0] or now_s - self._warned[1] >= _WARN_AGAIN_S:
            self._warned = error, now_s
            log.warning("forwarded samples refused", error=error)

    async def _send_until_decided(self, tickets: Sequence[_Ticket]) -> Answer | None:
        """The first answer that decides; None when the data grew too old before there was one."""
        blocks = [ticket.piece.payload for ticket in tickets]
        block = blocks[0] if len(blocks) == 1 else await asyncio.to_thread(_joined, blocks)
        newest_ms = max(ticket.piece.newest_ms for ticket in tickets)
        retry = 0
        while not self._too_old(newest_ms):
            answer = await self._send(block, retry)
            if answer.verdict is not Verdict.LATER:
                return answer
            self._observer.failed(answer.error)
            self._change_busy(-1)
            try:
                await asyncio.sleep(self._pause_s(retry, answer))
            finally:
                self._change_busy(1)
            retry += 1
        return None

    def _too_old(self, newest_ms: int) -> bool:
        limit_s = self._config.sample_age_limit_s
        return limit_s > 0 and newest_ms < self._now_ms() - limit_s * 1000

    def _pause_s(self, retry: int, answer: Answer) -> float:
        config = self._config
        grown_s = min(config.max_backoff_s, config.min_backoff_s * 2.0 ** float(min(retry, 30)))
        pause_s: float = grown_s * self._random.uniform(0.5, 1.0)
        return max(pause_s, answer.retry_after_s or 0.0)

    async def _settle(self) -> None:
        async with self._settling:
            end: Position | None = None
            while self._under_way and self._under_way[0].done:
                end = self._under_way.popleft().end
            self._freed.set()
            if end is not None:
                await asyncio.to_thread(self._queue.settle, end)


def _joined(blocks: Sequence[bytes]) -> bytes:
    """One snappy block with the bytes of several: requests one after the other are one request."""
    return compressed(b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks))
