"""The live board: delivery latency to many watchers, and what they cost the server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from bench.server import BenchFailed, Server
from bench.setup import Setup
from bench.shop_traces import bodies
from bench.table import OURS, Row, Table
from bench.watchers import Watcher, arrivals, connect, watch
from bench.wire import Sender, post

_BOARD = "war-room"
_CONFIG = "evaluation_interval: 1s\n"
_SPANS_A_SECOND = 200
_ORDERS_A_SECOND = 10
_CONNECT_AT_ONCE = 50
_FIRST_S = 2.0


def run(setup: Setup) -> list[Table]:
    """One watcher, then many, on a board that changes each tick."""
    setup.say("live stream: one watcher")
    with setup.server(setup.ours, "live", _CONFIG) as server, _shop(server):
        alone_cpu, _, _ = _watched(setup, server, 1)
        setup.say(f"live stream: {setup.watchers} watchers")
        cpu, whole, spread = _watched(setup, server, setup.watchers)
    rows = [
        Row("server CPU, 1 watcher", "% of a core", "less", {OURS: alone_cpu}),
        Row(f"server CPU, {setup.watchers} watchers", "% of a core", "less", {OURS: cpu}),
    ]
    for name, values in (("from the tick", whole), ("after the first watcher", spread)):
        for percent in (50, 99):
            value = float(np.percentile(values, percent)) * 1000
            rows.append(Row(f"{name}, p{percent}", "ms", "less", {OURS: value}))
    rows.append(Row("deltas received", "messages", "more", {OURS: float(len(whole))}))
    notes = [
        f"Board {_BOARD}, one tick a second, gzipped; {setup.watchers} watchers for"
        f" {setup.sizes.watch_s:g} s while {_SPANS_A_SECOND} spans and {_ORDERS_A_SECOND} orders"
        " arrive each second.",
        "From the tick: from the tick's instant, so rules, detectors and the board's queries are"
        " in it. After the first watcher: what the fan-out adds.",
        "The watchers share the machine and one thread; their own reading is in these figures.",
    ]
    return [Table("live_stream", "Live board", rows, notes)]


def _watched(
    setup: Setup, server: Server, count: int
) -> tuple[float, Sequence[float], Sequence[float]]:
    """CPU in percent, and the latencies of all deltas from the tick and after the first watcher."""
    watchers: list[Watcher] = []
    try:
        while len(watchers) < count:
            more = min(_CONNECT_AT_ONCE, count - len(watchers))
            watchers += [connect(server.port, _BOARD) for _ in range(more)]
            watch(watchers, 0.05)
        watch(watchers, _FIRST_S)
        before_s, started_ms = server.cpu_s(), time.time() * 1000
        watch(watchers, setup.sizes.watch_s)
        cpu = 100 * (server.cpu_s() - before_s) / setup.sizes.watch_s
        until_ms = time.time() * 1000 - 1000  # a delta that only some have got is not judged
        ticks = [_between(arrivals(watcher), started_ms, until_ms) for watcher in watchers]
        lost = sum(watcher.ended for watcher in watchers)
    finally:
        for watcher in watchers:
            watcher.socket.close()
    if lost:
        raise BenchFailed(f"the server ended {lost} of {count} streams")
    first: dict[int, float] = {}
    for mine in ticks:
        for tick, at in mine.items():
            first[tick] = min(at, first.get(tick, at))
    if not first:
        raise BenchFailed("no delta came: the board does not change")
    whole = [at - tick / 1000 for mine in ticks for tick, at in mine.items()]
    spread = [at - first[tick] for mine in ticks for tick, at in mine.items()]
    return cpu, whole, spread


def _between(ticks: dict[int, float], start_ms: float, end_ms: float) -> dict[int, float]:
    return {tick: at for tick, at in ticks.items() if start_ms <= tick <= end_ms}


@contextmanager
def _shop(server: Server) -> Iterator[None]:
    """A shop that sends spans and orders once a second until the block ends."""
    stop = threading.Event()
    errors: list[Exception] = []

    def work() -> None:
        sender = Sender(server.port)
        number = 0
        try:
            while not stop.wait(1.0):
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
