"""A queue that comes and goes is served; one that stands turns newcomers away, early."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack

import pytest

from collector.body import BodyReader
from collector.overload import (
    CALM_S,
    MAX_UNANSWERED,
    PROMPT_S,
    STANDING_S,
    Lane,
)
from store.errors import Overloaded


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Crowd:
    """Bodies on their way through a lane with one decoder, which works when it is told."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lane = Lane(1, clock_s=self.clock)
        self._go = threading.Semaphore(0)
        self._tasks: list[asyncio.Task[bool]] = []

    async def arrive(self, count: int = 1) -> None:
        work = self._go.acquire
        self._tasks += [asyncio.create_task(self.lane.run(work)) for _ in range(count)]
        for _ in range(5):
            await asyncio.sleep(0)

    async def decode(self, count: int = 1) -> None:
        for _ in range(count):
            self._go.release()
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            self._tasks = [task for task in self._tasks if not task.done()]
            for _ in range(5):
                await asyncio.sleep(0)

    async def end(self) -> None:
        await self.decode(len(self._tasks))

    def passes(self) -> bool:
        try:
            self.lane.check()
        except Overloaded:
            return False
        return True


def lived(story: Callable[[Crowd], Awaitable[None]]) -> None:
    async def run() -> None:
        crowd = Crowd()
        try:
            await asyncio.wait_for(story(crowd), 60)
        finally:
            await crowd.end()

    asyncio.run(run())


async def overload(crowd: Crowd) -> None:
    await crowd.arrive(80)
    for _ in range(70):
        await crowd.decode()
        crowd.clock.now_s += 0.1
    assert not crowd.passes()


def test_a_burst_is_served_whole() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.arrive(20)
        for _ in range(20):
            crowd.clock.now_s += STANDING_S / 25
            assert crowd.passes()
            await crowd.decode()

    lived(story)


def test_a_queue_that_stands_turns_newcomers_away_while_it_is_not_short() -> None:
    async def story(crowd: Crowd) -> None:
        await overload(crowd)
        assert crowd.lane.overloaded
        await crowd.decode(10)
        # Nobody waits: one more is let in, so that the decoder has work.
        assert crowd.passes()

    lived(story)


def test_bursts_one_after_the_other_are_no_overload() -> None:
    async def story(crowd: Crowd) -> None:
        for _ in range(10):
            await crowd.arrive(4)
            crowd.clock.now_s += STANDING_S - 1
            assert crowd.passes()
            await crowd.decode(4)

    lived(story)


def test_it_does_not_flutter_and_ends_when_few_have_to_wait() -> None:
    async def story(crowd: Crowd) -> None:
        await overload(crowd)
        await crowd.decode(9)
        assert crowd.passes()
        assert crowd.lane.overloaded
        # The one at work keeps the lane from being idle; the others come one by one.
        for _ in range(100):
            await crowd.decode()
            await crowd.arrive()
            assert crowd.passes()
        assert crowd.lane.overloaded
        crowd.clock.now_s += CALM_S + 0.1
        assert crowd.passes()
        assert not crowd.lane.overloaded

    lived(story)


def overlapping(lane: Lane, clock: Clock, half_s: float) -> bool:
    """Requests that overlap for longer than a queue may stand; whether one more is let in then."""
    begin_s = clock.now_s
    with ExitStack() as last:
        last.enter_context(lane.answering())
        while clock.now_s <= begin_s + STANDING_S + 1:
            following = ExitStack()
            following.enter_context(lane.answering())
            clock.now_s += half_s
            last.close()
            clock.now_s += half_s
            last.push(following)
        try:
            lane.check()
        except Overloaded:
            return False
        return True


def test_while_answers_are_prompt_there_is_no_queue() -> None:
    clock = Clock()
    assert overlapping(Lane(clock_s=clock), clock, PROMPT_S / 4)


def test_where_no_answer_is_prompt_a_queue_stands_further_down() -> None:
    clock = Clock()
    lane = Lane(clock_s=clock)
    assert not overlapping(lane, clock, PROMPT_S + 0.1)
    assert lane.overloaded
    # As soon as nobody has waited for long, the next is let in.
    with lane.answering():
        lane.check()


def test_an_idle_lane_is_not_overloaded() -> None:
    async def story(crowd: Crowd) -> None:
        await overload(crowd)
        await crowd.end()
        assert crowd.passes()
        assert not crowd.lane.overloaded

    lived(story)


def test_who_gives_up_waiting_leaves_the_queue() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.arrive()
        waiting = asyncio.create_task(crowd.lane.run(lambda: None))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        crowd.clock.now_s += STANDING_S + 1
        assert crowd.passes()
        assert not crowd.lane.overloaded

    lived(story)


def test_while_nothing_is_answered_nobody_is_let_in() -> None:
    clock = Clock()
    lane = Lane(clock_s=clock)
    with lane.answering():
        clock.now_s += STANDING_S
        lane.check()
        clock.now_s += 1
        with pytest.raises(Overloaded, match="more arrives than can be taken"):
            lane.check()
    lane.check()


def test_one_request_that_takes_long_turns_no_others_away() -> None:
    clock = Clock()
    lane = Lane(clock_s=clock)
    with lane.answering():
        for _ in range(60):
            with lane.answering():
                clock.now_s += PROMPT_S
            lane.check()


def test_requests_without_an_answer_are_bounded_and_those_refused_come_back_apart() -> None:
    lane = Lane()
    held = [lane.answering() for _ in range(MAX_UNANSWERED)]
    for each in held:
        each.__enter__()
    waits = set()
    for _ in range(9):
        with pytest.raises(Overloaded) as refusal:
            lane.check()
        waits.add(refusal.value.retry_after_s)
    assert waits == {1, 2, 3}
    held[0].__exit__(None, None, None)
    lane.check()


def test_a_body_is_refused_before_a_byte_of_it_is_read() -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"x")
        yield b"x"

    async def story(crowd: Crowd) -> None:
        await overload(crowd)
        bodies = BodyReader(lane=crowd.lane)
        with pytest.raises(Overloaded):
            async with bodies.read(body(), "gzip"):
                pass
        assert read == []

    lived(story)


def test_a_body_that_arrived_meanwhile_is_refused_before_it_is_unpacked() -> None:
    async def story(crowd: Crowd) -> None:
        async def body() -> AsyncIterator[bytes]:
            await overload(crowd)
            yield b"not gzip at all"

        with pytest.raises(Overloaded):
            async with BodyReader(lane=crowd.lane).read(body(), "gzip"):
                pass

    lived(story)
