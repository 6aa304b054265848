"""What keeps one sender, or all of them together, from taking the service down.

A guard is asked before a batch is processed, and raises `Overloaded` with the reason under which
the refusal is counted; the sender is told when to try again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from store.errors import Overloaded

# A sender that was down catches up with what it kept; so much of it may come at once.
BURST_S = 30.0
LOOK_EVERY_S = 0.25
# Giving back walks every object of the process: a second and more of a large one.
RELEASE_EVERY_S = 10.0
_RESUME_BELOW = 0.95
# So far above the limit nothing is waited for.
_AT_ONCE_ABOVE = 1.1
_MEMORY_RETRY_S = 5
_LONGEST_WAIT_S = 60


class Guard(Protocol):
    """Looks at a batch before anything is done with it."""

    def check(self, signal: str, share: Mapping[str, int]) -> None:
        """Pass a batch of `signal` with so many items by source.

        Raises:
            Overloaded: It must wait; `reason` names why.
        """
        ...


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float


class RateGuard:
    """Items a second that one source may send, by signal. A signal without a rate is not looked at.

    A bucket holds `BURST_S` seconds of the rate. A batch passes while it holds anything, and may
    overdraw it: so a batch of any size passes some time, and the rate holds over time.
    """

    def __init__(
        self,
        rates: Mapping[str, float],
        name_of: Callable[[str], str],
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name_of` bounds the number of sources that are told apart."""
        self._rates = {signal: rate for signal, rate in rates.items() if rate > 0}
        self._name_of = name_of
        self._clock_s = clock_s
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._lock = threading.Lock()

    def check(self, signal: str, share: Mapping[str, int]) -> None:
        """Charge each source of the batch, or none of them when one has to wait."""
        rate = self._rates.get(signal)
        if rate is None:
            return
        with self._lock:
            charged = [
                (self._filled((self._name_of(source), signal), rate), count)
                for source, count in share.items()
            ]
            for (bucket, _), source in zip(charged, share, strict=True):
                if bucket.tokens <= 0:
                    raise _too_fast(source, signal, rate, bucket.tokens)
            for bucket, count in charged:
                bucket.tokens -= count

    def _filled(self, key: tuple[str, str], rate: float) -> _Bucket:
        now_s, full = self._clock_s(), rate * BURST_S
        bucket = self._buckets.setdefault(key, _Bucket(full, now_s))
        bucket.tokens = min(full, bucket.tokens + (now_s - bucket.filled_s) * rate)
        bucket.filled_s = now_s
        return bucket


def _too_fast(source: str, signal: str, rate: float, tokens: float) -> Overloaded:
    wait_s = min(_LONGEST_WAIT_S, math.floor(-tokens / rate) + 1)
    return Overloaded(
        f"{source} sends more than {rate:g} {signal} a second",
        retry_after_s=wait_s,
        reason="rate_limited",
        hint=f"Let it send less, or raise limits.per_source.{signal}_per_second.",
    )


def _in_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="memory-release", daemon=True).start()


@dataclass(slots=True)
class MemoryGuard:
    """Refuses while the process holds more than `limit_bytes`.

    Before it refuses, what allocators keep for later is given back: it is no need of ours. That
    takes long, so it happens aside and seldom, and meanwhile a guard that did not refuse goes on.
    It takes again a little below the limit, so that it does not flutter.

    Attributes:
        resident_bytes: What the process holds now.
        release: Gives back what allocators keep.
        aside: Runs it without making the caller wait.
    """

    limit_bytes: int
    resident_bytes: Callable[[], int]
    release: Callable[[], None]
    clock_s: Callable[[], float] = time.monotonic
    aside: Callable[[Callable[[], None]], None] = _in_a_thread
    _looked_s: float = -math.inf
    _released_s: float = -math.inf
    _releasing: bool = False
    _held: int = 0
    _refusing: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, signal: str, share: Mapping[str, int]) -> None:
        """Every batch alike: what it weighs is not known yet."""
        del signal, share
        with self._lock:
            if self.clock_s() - self._looked_s >= LOOK_EVERY_S:
                self._look()
                self._looked_s = self.clock_s()
            if self._refusing:
                raise self._refusal()

    def _look(self) -> None:
        below = self.limit_bytes * (_RESUME_BELOW if self._refusing else 1.0)
        self._held = self.resident_bytes()
        if self._held > below and self._may_release():
            self._releasing = True
            self.aside(self._release)
            self._held = self.resident_bytes()
        waits = self._releasing and not self._refusing
        self._refusing = self._held > below * (_AT_ONCE_ABOVE if waits else 1.0)

    def _may_release(self) -> bool:
        return not self._releasing and self.clock_s() - self._released_s >= RELEASE_EVERY_S

    def _release(self) -> None:
        try:
            self.release()
        finally:
            self._released_s = self.clock_s()
            self._releasing = False

    def _refusal(self) -> Overloaded:
        held, limit = (round(n / 1e6) for n in (self._held, self.limit_bytes))
        return Overloaded(
            f"the service holds {held} MB of memory, {limit} MB are allowed",
            retry_after_s=_MEMORY_RETRY_S,
            reason="memory",
            hint="Send less, ask for shorter ranges, or raise limits.memory.",
        )
