"""Refusing early: who cannot be served soon is told so before any work is done for it.

One `Lane` a receiver, so that a flood of one kind does not turn the others away. The rule is
CoDel's idea (RFC 8289): a queue that comes and goes is a burst and is served; one that stands is
overload, and serving it late helps nobody. While it stands no more are let in than keep the
decoders busy, so that throughput stays at capacity and the wait stays short.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

import anyio
import anyio.to_thread

from store.errors import Overloaded

# Decoded columns are several times the size of a body: more bodies wait as bytes.
MAX_DECODING_AT_ONCE = 2
# How long a queue must have stood: a restart of the senders makes a burst of a second or two.
# It is half of what exporters give a request (10 s); who is answered later is gone by then.
STANDING_S = 5.0
# One request that is answered this soon shows that there is no queue, wherever it might be.
PROMPT_S = 0.5
MAX_UNANSWERED = 1024
# Overload is over once nobody was refused for a while, and fewer than half of the last bodies,
# about so many, had to wait.
CALM_S = 2.0
_REMEMBERED = 64
_OVER_BELOW = 0.5
_LONGEST_RETRY_S = 3

Result = TypeVar("Result")


class Lane:
    """The way of a receiver's requests through its decoders. Used on one event loop."""

    def __init__(
        self,
        slots: int = MAX_DECODING_AT_ONCE,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`slots` is how many bodies are decoded at once, in threads."""
        self._slots = slots
        self._turns = anyio.CapacityLimiter(slots)
        self._threads = anyio.CapacityLimiter(slots)
        self._clock_s = clock_s
        self._waiting = 0
        self._standing_since_s: float | None = None
        self._had_to_wait = 0.0
        self._overloaded = False
        self._prompt_s = clock_s()
        self._refused_s = -math.inf
        self._unanswered: dict[int, float] = {}
        self._numbers = count()
        self._refused = 0

    @property
    def overloaded(self) -> bool:
        """Whether the queue stands, and newcomers are turned away while it is not short."""
        return self._overloaded

    def check(self) -> None:
        """Let a request pass on, or refuse it while that costs next to nothing.

        Raises:
            Overloaded: The sender should try again a little later.
        """
        now_s = self._clock_s()
        self._judge(now_s)
        oldest_waits_s = now_s - next(iter(self._unanswered.values()), now_s)
        queued = self._waiting >= self._slots or oldest_waits_s > PROMPT_S
        if self._overloaded and queued:
            self._refused_s = now_s
            raise self._refusal("more arrives than can be taken")
        if len(self._unanswered) >= MAX_UNANSWERED:
            raise self._refusal(f"{MAX_UNANSWERED} requests wait for their answer")

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Around all that is done for a body that was received."""
        number, begun_s = next(self._numbers), self._clock_s()
        if not self._unanswered:
            self._prompt_s = begun_s
        self._unanswered[number] = begun_s
        try:
            yield
        finally:
            del self._unanswered[number]
            now_s = self._clock_s()
            if now_s - begun_s <= PROMPT_S:
                self._prompt_s = now_s

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do CPU work in a thread, when its turn comes."""
        busy = self._all_at_work()
        self._had_to_wait += (busy - self._had_to_wait) / _REMEMBERED
        self.join(must_wait=busy)
        try:
            await self._turns.acquire()
        finally:
            self.leave()
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._turns.release()

    def _all_at_work(self) -> bool:
        return self._turns.available_tokens == 0

    def join(self, *, must_wait: bool = True) -> None:
        """Begin to wait for a turn, as long as until `leave`."""
        self._waiting += 1
        if self._standing_since_s is None and must_wait:
            self._standing_since_s = self._clock_s()

    def leave(self) -> None:
        """The turn has come, or is no longer waited for."""
        self._waiting -= 1
        if not self._waiting:
            self._standing_since_s = None

    def _judge(self, now_s: float) -> None:
        idle = not self._unanswered and not self._turns.borrowed_tokens
        if idle:
            self._overloaded = False
        elif self._stands(now_s):
            self._overloaded = True
        elif self._overloaded and now_s - self._refused_s > CALM_S:
            self._overloaded = self._had_to_wait >= _OVER_BELOW

    def _stands(self, now_s: float) -> bool:
        since_s = self._standing_since_s
        decoding = since_s is not None and now_s - since_s > STANDING_S
        return decoding or (bool(self._unanswered) and now_s - self._prompt_s > STANDING_S)

    def _refusal(self, why: str) -> Overloaded:
        # Those who are refused together should not all come back together.
        self._refused += 1
        return Overloaded(
            f"the service is overloaded: {why}",
            retry_after_s=1 + self._refused % _LONGEST_RETRY_S,
            hint="Lower the export rate, or give Warroom more CPU.",
        )
