"""Business events leave the shop once, or again until they are taken."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from typing_extensions import override

from collector.instrument.events import EventTracker, Money, Visit
from collector.instrument.posting import BatchPoster, Destination, PostLimits

QUICK = PostLimits(
    linger_s=0.02, first_retry_s=0.01, last_retry_s=0.05, timeout_s=2, flush_s=0.2, queue_items=50,
    batch_items=10,
)  # fmt: skip
MONEY = Money(Decimal("12.50"), "EUR")


@dataclass
class Receiver:
    """Answers with the given statuses in turn, then with 202."""

    url: str
    statuses: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    refused: int = 0

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for body in self.bodies for line in body.splitlines()]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.tokens.append(self.headers.get("Authorization", ""))
            status = found.statuses.pop(0) if found.statuses else 202
            if status == 202:
                found.bodies.append(body)
            else:
                found.refused += 1
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}/events")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def tracker(receiver: Receiver) -> Iterator[EventTracker]:
    tracker = EventTracker("shop", receiver.url, QUICK)
    yield tracker
    tracker.close()


def test_an_event_is_a_cloudevent_with_what_is_known(
    tracker: EventTracker, receiver: Receiver
) -> None:
    visit = Visit(session_id="s", checkout_id="c", device="mobile")
    assert tracker.track_checkout("payment_failed", visit, MONEY, "declined")
    assert tracker.flush()
    (event,) = receiver.events()
    assert event["type"] == "payment_failed"
    assert event["data"] == {
        "session_id": "s",
        "checkout_id": "c",
        "device": "mobile",
        "value": "12.50",
        "currency": "EUR",
        "reason": "declined",
    }


def test_an_order_told_twice_has_one_id(tracker: EventTracker, receiver: Receiver) -> None:
    for order in ("o-1", "o-1", "o-2"):
        tracker.track_order(order, Visit(), MONEY)
    tracker.flush()
    first, again, other = receiver.events()
    assert first["id"] == again["id"] != other["id"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_events_are_sent_again_until_they_are_taken(
    tracker: EventTracker, receiver: Receiver, status: int
) -> None:
    receiver.statuses[:] = [status] * 3
    tracker.track("view_item", Visit())
    assert tracker.flush(10)
    assert receiver.refused == 3
    assert len(receiver.events()) == 1


def test_a_refused_batch_is_not_sent_again(receiver: Receiver) -> None:
    receiver.statuses[:] = [400]
    poster = BatchPoster(Destination(receiver.url, "text/plain", b"\n".join), QUICK)
    poster.put(b"1")
    assert poster.flush(10)
    poster.put(b"2")
    assert poster.flush(10)
    poster.close()
    assert receiver.bodies == [b"2"]
    assert (poster.counts.refused, poster.counts.sent, poster.counts.retries) == (1, 1, 0)


def test_batches_are_bounded_and_in_order(receiver: Receiver) -> None:
    poster = BatchPoster(Destination(receiver.url, "text/plain", b"\n".join), QUICK)
    for number in range(35):
        assert poster.put(str(number).encode())
    assert poster.flush(10)
    poster.close()
    sizes = [len(body.splitlines()) for body in receiver.bodies]
    assert max(sizes) <= 10
    assert b"\n".join(receiver.bodies).split() == [str(n).encode() for n in range(35)]


def test_a_full_queue_drops_and_counts_and_never_blocks() -> None:
    gone = Destination("http://127.0.0.1:9/events", "text/plain", b"\n".join)
    poster = BatchPoster(gone, QUICK)
    begun = time.monotonic()
    taken = sum(poster.put(b"x") for _ in range(200))
    assert time.monotonic() - begun < 1
    assert 50 <= taken <= 60
    assert poster.counts.dropped == 200 - taken
    assert not poster.flush(0.05)
    poster.close()
    assert not poster.put(b"late")


def test_without_an_endpoint_nothing_is_kept() -> None:
    tracker = EventTracker("shop", None)
    assert not tracker.track("view_item", Visit())
    assert tracker.flush()
    tracker.close()


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_money_is_a_number(value: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        Money(Decimal(value), "EUR")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_worker_sends_its_own_events(receiver: Receiver) -> None:
    tracker = EventTracker("shop", receiver.url, QUICK)
    tracker.track_order("of the parent", Visit(), MONEY)
    pid = os.fork()
    if pid == 0:
        tracker.track_order("of the child", Visit(), MONEY)
        os._exit(0 if tracker.flush(10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert tracker.flush(10)
    tracker.close()
    orders = sorted(event["data"]["order_id"] for event in receiver.events())
    assert orders == ["of the child", "of the parent"]


def test_a_token_goes_with_every_batch(receiver: Receiver) -> None:
    headers = {"Authorization": "Bearer wr_1"}
    tracker = EventTracker("shop", receiver.url, QUICK, headers=headers)
    assert tracker.track("view_item", Visit(session_id="s-1"))
    tracker.close()
    assert receiver.tokens == ["Bearer wr_1"]
