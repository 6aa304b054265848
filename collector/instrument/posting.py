"""Small items posted in the background, in batches, from a bounded queue."""

from __future__ import annotations

import atexit
import http.client
import logging
import os
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_log = logging.getLogger(__name__)

TOO_MANY_REQUESTS = 429
SERVER_ERRORS = 500


@dataclass(frozen=True, slots=True)
class PostLimits:
    """Bounds of a poster. Seconds, items.

    Attributes:
        queue_items: More than these wait: the newest is dropped and counted.
        batch_items: At most so many go in one request.
        linger_s: How long the first item waits for others.
        timeout_s: For one request.
        first_retry_s: The first pause after a failure; it doubles up to `last_retry_s`.
        flush_s: How long the end of the process waits for what is queued.
    """

    queue_items: int = 20_000
    batch_items: int = 500
    linger_s: float = 0.5
    timeout_s: float = 5.0
    first_retry_s: float = 0.5
    last_retry_s: float = 30.0
    flush_s: float = 3.0


@dataclass(slots=True)
class PostCounts:
    """What happened so far, in items. `refused` were answered with a 4xx: repeating is no use."""

    sent: int = 0
    dropped: int = 0
    refused: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where items go, and how a batch of them is written as one body."""

    url: str
    content_type: str
    join: Callable[[Sequence[bytes]], bytes]
    headers: Mapping[str, str] = field(default_factory=dict)


class BatchPoster:
    """Posts items in batches on one daemon thread, and repeats them on 429, 5xx and lost networks.

    Delivery is at least once; items carry their own ids. A batch is never given up while the
    process lives: when the receiver stays away, the queue fills and new items are dropped.

    After a fork the child starts with an empty queue and a thread of its own; what was queued is
    sent by the parent.
    """

    def __init__(self, destination: Destination, limits: PostLimits | None = None) -> None:
        self.counts = PostCounts()
        self._closed: bool = False
        self._destination = destination
        self._limits = limits or PostLimits()
        self._start()
        atexit.register(self.close)
        weak_restart = weakref.WeakMethod(self._start)

        def restart_in_child() -> None:
            restart = weak_restart()
            if restart is not None:
                restart()

        os.register_at_fork(after_in_child=restart_in_child)

    def put(self, item: bytes) -> bool:
        """Queue one item; never blocks. False: the queue is full or closed, the item is lost."""
        with self._condition:
            if self._closed or len(self._items) >= self._limits.queue_items:
                self.counts.dropped += 1
                return False
            self._items.append(item)
            if len(self._items) in {1, self._limits.batch_items}:
                self._condition.notify_all()
        return True

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued was sent or refused. False: time ran out."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            self._urgent = True
            self._condition.notify_all()
            while self._items or self._in_flight:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._condition.wait(left)
            self._urgent = False
            return not self._items and not self._in_flight

    def close(self) -> None:
        """Send what is queued, within `flush_s`, and stop."""
        if self._closed:
            return
        if not self.flush(self._limits.flush_s):
            _log.warning("%d items were not posted to %s", len(self._items), self._destination.url)
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        atexit.unregister(self.close)

    def _start(self) -> None:
        self._condition = threading.Condition()
        self._items: deque[bytes] = deque()
        self._in_flight = False
        self._urgent = False
        self._closed = False
        threading.Thread(target=self._run, name="warroom-post", daemon=True).start()

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._deliver(batch)
            with self._condition:
                self._in_flight = False
                self._condition.notify_all()

    def _next_batch(self) -> list[bytes] | None:
        limits = self._limits
        with self._condition:
            while not self._items and not self._closed:
                self._condition.wait()
            if not self._items:
                return None
            deadline = time.monotonic() + limits.linger_s
            while len(self._items) < limits.batch_items and not self._urgent and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._condition.wait(left)
            count = min(len(self._items), limits.batch_items)
            self._in_flight = True
            return [self._items.popleft() for _ in range(count)]

    def _deliver(self, batch: Sequence[bytes]) -> None:
        body = self._destination.join(batch)
        pause_s = self._limits.first_retry_s
        while not self._closed:
            status, retry_after_s = self._post(body)
            if 200 <= status < 300:
                self.counts.sent += len(batch)
                return
            if 0 < status < SERVER_ERRORS and status != TOO_MANY_REQUESTS:
                self.counts.refused += len(batch)
                _log.warning("%s answered %d: %d items", self._destination.url, status, len(batch))
                return
            self.counts.retries += 1
            with self._condition:
                self._condition.wait_for(
                    lambda: self._closed, min(retry_after_s or pause_s, self._limits.last_retry_s)
                )
            pause_s = min(pause_s * 2, self._limits.last_retry_s)
        self.counts.dropped += len(batch)

    def _post(self, body: bytes) -> tuple[int, float | None]:
        """Status and Retry-After in seconds. Status 0: no answer."""
        target = self._destination
        headers = {"Content-Type": target.content_type, **target.headers}
        request = urllib.request.Request(target.url, data=body, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=self._limits.timeout_s) as answer:  # noqa: S310
                return answer.status, None
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, _seconds(exc.headers.get("Retry-After"))
        except (OSError, http.client.HTTPException):
            return 0, None


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
