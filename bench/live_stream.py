"""The live board: delivery latency to many watchers, and what they cost the server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from bench.series import counters, mixed_values, requests
from bench.server import ANSWER_S, BenchFailed, Server
from bench.setup import Setup
from bench.shop_traces import bodies
from bench.table import OURS, Row, Table
from bench.watchers import Arrival, Watcher, arrivals, connect, watch
from bench.wire import Sender, post

_BOARD = "war-room"
_CONFIG = "evaluation_interval: 1s\n"
_SPANS_A_SECOND = 200
_SAMPLES_A_SECOND = 2_000
_ORDERS_A_SECOND = 10
_CONNECT_AT_ONCE = 50
_FIRST_S = 2.0
_LAST_S = 1.0
_SCRAPES = 60


@dataclass(frozen=True, slots=True)
class _Watched:
    """What so many watchers saw, and the server's CPU meanwhile, in percent of a core."""

    cpu: float
    ticks: int
    deltas: list[Arrival]


def run(setup: Setup) -> list[Table]:
    """One watcher, then many, on a board that changes each tick."""
    setup.say("live stream: one watcher")
    with setup.server(setup.ours, "live", _CONFIG) as server, _shop(server):
        alone = _watched(setup, server, 1)
        setup.say(f"live stream: {setup.watchers} watchers")
        many = _watched(setup, server, setup.watchers)
    rows = [
        Row("server CPU, 1 watcher", "% of a core", "less", {OURS: alone.cpu}),
        Row(f"server CPU, {setup.watchers} watchers", "% of a core", "less", {OURS: many.cpu}),
    ]
    waits = {
        "delivery": [delta.came_s - delta.sent_s for delta in many.deltas],
        "from the tick": [delta.came_s - delta.tick_s for delta in many.deltas],
    }
    for name, values in waits.items():
        for percent in (50, 99):
            value = float(np.percentile(values, percent)) * 1000
            rows.append(Row(f"{name}, p{percent}", "ms", "less", {OURS: value}))
    rows.append(Row("ticks", "ticks", "more", {OURS: float(many.ticks)}))
    # A watcher too far behind gets the newest state in the place of what it missed.
    missed = float(many.ticks * setup.watchers - len(many.deltas))
    rows.append(Row("deltas received", "messages", "more", {OURS: float(len(many.deltas))}))
    rows.append(Row("deltas missed", "messages", "less", {OURS: missed}))
    notes = [
        f"Board {_BOARD}, one tick a second, gzipped; {setup.watchers} watchers for"
        f" {setup.sizes.watch_s:g} s while {_SPANS_A_SECOND} spans, {_SAMPLES_A_SECOND:,} samples"
        f" and {_ORDERS_A_SECOND} orders arrive each second.",
        "Delivery: from the end of a tick's work, which each message carries (`sent_ms`), until a"
        " watcher has read its last byte. From the tick: from the tick's instant, so rules,"
        " detectors and the board's queries are in it.",
        "The watchers share the machine and one thread; their own reading is in these figures.",
    ]
    return [Table("live_stream", "Live board", rows, notes)]


def _watched(setup: Setup, server: Server, count: int) -> _Watched:
    watchers: list[Watcher] = []
    try:
        while len(watchers) < count:
            more = min(_CONNECT_AT_ONCE, count - len(watchers))
            watchers += [connect(server.port, _BOARD) for _ in range(more)]
            watch(watchers, 0.05)
        deadline = time.monotonic() + ANSWER_S
        # One that is let in late gets a snapshot in the place of what is counted.
        while not all(watcher.came for watcher in watchers) and time.monotonic() < deadline:
            watch(watchers, 0.2)
        watch(watchers, _FIRST_S)
        before_s, started_s = server.cpu_s(), time.time()
        watch(watchers, setup.sizes.watch_s)
        cpu = 100 * (server.cpu_s() - before_s) / setup.sizes.watch_s
        until_s = time.time()
        watch(watchers, _LAST_S)  # what was sent shortly before the end may still be on its way
        seen = [arrivals(watcher) for watcher in watchers]
        lost = sum(watcher.ended for watcher in watchers)
    finally:
        for watcher in watchers:
            watcher.socket.close()
    if lost:
        raise BenchFailed(f"the server ended {lost} of {count} streams")
    deltas = [one for mine in seen for one in mine if started_s <= one.sent_s <= until_s]
    ticks = len({one.tick_s for one in deltas})
    if not ticks:
        raise BenchFailed("no delta came: the board does not change")
    return _Watched(cpu, ticks, deltas)


@contextmanager
def _shop(server: Server) -> Iterator[None]:
    """A shop that sends spans, samples and orders once a second until the block ends."""
    stop = threading.Event()
    errors: list[Exception] = []

    def work() -> None:
        sender = Sender(server.port)
        number = 0
        series = counters(_SAMPLES_A_SECOND)
        values = mixed_values(_SAMPLES_A_SECOND, _SCRAPES, seed=1)
        try:
            while not stop.wait(1.0):
                scrape = values[number % _SCRAPES][None, :]
                for request in requests(series, scrape, int(time.time() * 1000), 1)[0]:
                    sender.send(request)
                for request in bodies(_SPANS_A_SECOND, number).requests:
                    sender.send(request)
                sender.send(_orders(number))
                number += 1
        except (BenchFailed, OSError) as exc:
            errors.append(exc)
        finally:
            sender.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    if errors:
        raise BenchFailed(f"the shop's telemetry was refused: {errors[0]}") from errors[0]


def _orders(number: int) -> bytes:
    events = [
        {
            "specversion": "1.0",
            "id": f"order-{number}-{place}",
            "source": "bench",
            "type": "purchase",
            "data": {
                "transaction_id": f"{number}-{place}",
                "checkout_id": f"checkout-{number}-{place}",
                "value": "19.90",
                "currency": "EUR",
            },
        }
        for place in range(_ORDERS_A_SECOND)
    ]
    return post("/events", json.dumps(events).encode(), "application/cloudevents-batch+json")
