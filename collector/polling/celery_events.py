"""What Celery's workers tell: events of tasks and workers, added up by celery-exporter's names.

An event travels as kombu wraps it: JSON whose `body` is base64 of JSON, one event or a list.
Arguments and results of tasks are in it, too; they are never kept.
"""

from __future__ import annotations

import binascii
import re
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import orjson

from collector.polling.contract import Reading, Sample
from collector.polling.json_shapes import items, mapping, number
from store.model import MetricMetadata, MetricType

MAX_MESSAGE = 1024 * 1024
MAX_TASKS = 50_000
MAX_PLACES = 300  # of a task, a host and a queue: up to 35 series each
MAX_EXCEPTIONS = 10
MAX_WORKERS = 1_000
MAX_TEXT = 200
SILENT_MS = 60_000  # workers send a heartbeat every two seconds
FORGOTTEN_MS = 3_600_000
OTHER, UNKNOWN = "other", "unknown"
# Seconds: the bounds that celery-exporter has.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_OUTCOMES = ("sent", "received", "started", "succeeded", "failed", "rejected", "revoked", "retried")
_ENDED = frozenset({"succeeded", "failed", "rejected", "revoked"})
_EXCEPTION = re.compile(r"\w+(?=\()")
_RUNTIME = MetricMetadata("celery_task_runtime", MetricType.HISTOGRAM, "Seconds a task ran")

Where = tuple[str, str, str]  # name of the task, host, queue


def decode(message: str) -> Iterator[Mapping[str, Any]]:
    """The events of one published message; of anything else, none."""
    if len(message) > MAX_MESSAGE:
        return
    try:
        body = mapping(orjson.loads(message)).get("body")
        event = orjson.loads(binascii.a2b_base64(body)) if isinstance(body, str) else None
    except ValueError:
        # Also what the two decoders raise: both are ValueErrors.
        return
    for each in items(event) or (event,):
        if isinstance(each, dict):
            yield each


@dataclass(slots=True)
class _Place:
    """What came of one task on one host from one queue."""

    outcomes: Counter[str] = field(default_factory=Counter)
    exceptions: Counter[str] = field(default_factory=Counter)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    runtime_s: float = 0.0

    def count(self, outcome: str, event: Mapping[str, Any]) -> None:
        self.outcomes[outcome] += 1
        seconds = number(event.get("runtime"))
        if outcome == "succeeded" and seconds is not None:
            self.buckets[bisect_left(BOUNDS, seconds)] += 1
            self.runtime_s += seconds
        if outcome == "failed":
            found = _EXCEPTION.match(_short(event.get("exception")))
            exception = found[0] if found else UNKNOWN
            full = len(self.exceptions) >= MAX_EXCEPTIONS and exception not in self.exceptions
            self.exceptions[OTHER if full else exception] += 1


@dataclass(frozen=True, slots=True)
class _Worker:
    """What its last heartbeat told."""

    heard_ms: int
    up: bool
    active: float


@dataclass(frozen=True, slots=True)
class _Task:
    """A task that has not ended: what its last event told, and which host sent it when."""

    name: str
    queue: str
    host: str
    heard_ms: int


class EventTally:
    """Counts since it was made. Bounded: tasks, series, and hosts that are silent are forgotten.

    A task may wait for hours at a worker that still has a heartbeat: that one is kept.

    `queue` is that of a task whose producer does not tell it (`task_send_sent_event` is off).
    """

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._places: dict[Where, _Place] = {}
        self._queues: dict[str, str] = {}
        self._workers: dict[str, _Worker] = {}
        self._heard_ms: dict[str, int] = {}
        self._begun: set[tuple[str, ...]] = set()
        self._told_ms: int | None = None

    def observe(self, event: Mapping[str, Any], now_ms: int) -> None:
        """Count one event; one that is no event of Celery's is passed over."""
        kind, _, what = _short(event.get("type")).partition("-")
        node = _short(event.get("hostname"))
        host = node.partition("@")[2] or node
        if kind == "worker" and (host in self._workers or len(self._workers) < MAX_WORKERS):
            active = number(event.get("active")) or 0.0
            self._workers[host] = _Worker(now_ms, what != "offline", active)
        elif kind == "task" and what in _OUTCOMES:
            where = self._where(what, host, event, now_ms)
            self._heard_ms[where[1]] = now_ms
            self._places.setdefault(where, _Place()).count(what, event)

    def tell(self, reading: Reading, now_ms: int) -> None:
        """`celery_task_*{name,hostname,queue_name}` and `celery_worker_*{hostname}`."""
        self._forget(now_ms)
        for where, place in self._places.items():
            labels = dict(zip(("name", "hostname", "queue_name"), where, strict=True))
            for outcome in _OUTCOMES:
                if outcome != "failed":
                    self._count(reading, outcome, place.outcomes[outcome], labels)
            for exception, count in (place.exceptions or {"": 0}).items():
                self._count(reading, "failed", count, {**labels, "exception": exception})
            if place.outcomes["succeeded"]:
                _histogram(reading, labels, place)
        for host, worker in self._workers.items():
            up = worker.up and now_ms - worker.heard_ms <= SILENT_MS
            reading.gauge("celery_worker_up", float(up), {"hostname": host})
            active = worker.active if up else 0.0
            reading.gauge("celery_worker_tasks_active", active, {"hostname": host})
        self._told_ms = now_ms

    def _count(self, reading: Reading, outcome: str, count: int, labels: Mapping[str, str]) -> None:
        """A counter, which was 0 when it was not told yet: one that begins at 1 has no increase."""
        name = f"celery_task_{outcome}_total"
        series = name, *labels.values()
        if series not in self._begun and count and self._told_ms is not None:
            began = Sample(name, labels, 0.0, self._told_ms)
            reading.add(MetricMetadata(name, MetricType.COUNTER), began)
        self._begun.add(series)
        reading.counter(name, count, labels)

    def _where(self, outcome: str, host: str, event: Mapping[str, Any], now_ms: int) -> Where:
        """Only the first events of a task tell its name, and only the producer's its queue.

        The producer's may come after the worker's: then it is where the last of that name went.
        """
        identity = _short(event.get("uuid"))
        known = self._tasks.pop(identity, None)
        name = _short(event.get("name")) or (known.name if known else UNKNOWN)
        queue = _short(event.get("queue")) or (known.queue if known else "")
        if queue and (name in self._queues or len(self._queues) < MAX_PLACES):
            self._queues[name] = queue
        queue = queue or self._queues.get(name, self._queue)
        if outcome not in _ENDED:
            self._tasks[identity] = _Task(name, queue, host, now_ms)
        if len(self._tasks) > MAX_TASKS:
            self._tasks.popitem(last=False)
        where = name, host, queue
        full = len(self._places) >= MAX_PLACES and where not in self._places
        return (OTHER, OTHER, OTHER) if full else where

    def _forget(self, now_ms: int) -> None:
        """Hosts that are gone, such as those of containers, take their series with them."""
        gone = {host for host, at in self._heard_ms.items() if now_ms - at > FORGOTTEN_MS}
        if gone:
            self._heard_ms = {h: at for h, at in self._heard_ms.items() if h not in gone}
            self._places = {w: place for w, place in self._places.items() if w[1] not in gone}
            self._begun = {series for series in self._begun if series[2] not in gone}
        self._workers = {
            host: worker
            for host, worker in self._workers.items()
            if now_ms - worker.heard_ms <= FORGOTTEN_MS
        }
        # The one that was heard of longest ago lies first.
        old = takewhile(lambda e: now_ms - e[1].heard_ms > FORGOTTEN_MS, self._tasks.items())
        for identity, task in list(old):
            if task.host not in self._workers:
                del self._tasks[identity]


def _histogram(reading: Reading, labels: Mapping[str, str], place: _Place) -> None:
    below = 0
    for bound, count in zip((*BOUNDS, None), place.buckets, strict=True):
        below += count
        le = "+Inf" if bound is None else repr(bound)
        reading.add(_RUNTIME, Sample("celery_task_runtime_bucket", {**labels, "le": le}, below))
    reading.add(_RUNTIME, Sample("celery_task_runtime_sum", labels, place.runtime_s))
    reading.add(_RUNTIME, Sample("celery_task_runtime_count", labels, below))


def _short(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""
