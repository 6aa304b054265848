"""Celery's queues in a real Redis, laid out as kombu lays them, and what a real worker tells."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.pollers.celery import PRIORITY_SEPARATOR
from collector.polling import celery_events
from collector.polling.celery_events import MAX_PLACES, EventTally, decode
from collector.polling.contract import Reading
from store.errors import ConfigError
from tests.collector.pollers.asking import Answer, Asking, targets_of
from tests.collector.pollers.celery_worker import CeleryWorker
from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.servers import RedisServer
from tests.docs.pages import ROOT
from tests.e2e.service import until

MESSAGE = json.dumps({"body": "W10=", "headers": {"task": "mail.send"}, "properties": {}})


def test_waiting_messages_of_every_priority_and_unacknowledged_ones_are_counted(
    ask: Ask, redis_server: RedisServer
) -> None:
    client = redis_server.client
    client.flushall()
    try:
        for _ in range(3):
            client.lpush("celery", MESSAGE)
        client.lpush(f"celery{PRIORITY_SEPARATOR}6", MESSAGE)
        client.hset("unacked", "tag-1", MESSAGE)
        asking = ask(
            f"pollers: [{{type: celery, name: jobs, address: '{redis_server.address}', "
            "queues: [celery, mail]}]"
        )
        answer = asking.poll()
        assert answer.value("celery_queue_length", queue_name="celery") == 4
        assert answer.value("celery_queue_length", queue_name="mail") == 0
        assert answer.value("celery_unacked_messages") == 1
        client.rpop("celery")
        assert asking.poll().value("celery_queue_length", queue_name="celery") == 3
    finally:
        client.flushall()


def test_another_database_and_a_prefix_are_those_of_the_broker(
    ask: Ask, redis_server: RedisServer
) -> None:
    client = redis_server.client
    redis_server.run("SELECT", "3")
    try:
        client.lpush("shop:celery", MESSAGE)
        answer = ask(
            f"pollers: [{{type: celery, name: jobs, address: '{redis_server.address}', "
            "database: 3, prefix: 'shop:'}]"
        ).poll()
        assert answer.value("celery_queue_length", queue_name="celery") == 1
    finally:
        client.flushdb()
        redis_server.run("SELECT", "0")


def test_a_key_that_is_no_queue_is_a_failure(ask: Ask, redis_server: RedisServer) -> None:
    redis_server.client.set("odd", "text")
    try:
        asking = ask(
            f"pollers: [{{type: celery, name: jobs, address: '{redis_server.address}', "
            "queues: [odd]}]"
        )
        assert asking.poll().value("up") == 0
        assert "WRONGTYPE" in asking.status.error
    finally:
        redis_server.client.flushall()


@pytest.mark.parametrize("fields", ["queues: celery", f"queues: [{','.join('q' * 150)}]"])
def test_queues_are_a_bounded_list(fields: str) -> None:
    with pytest.raises(ConfigError, match="at most"):
        targets_of(f"pollers: [{{type: celery, address: a, {fields}}}]")


@pytest.fixture(scope="module")
def worker(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CeleryWorker]:
    """On a database of its own, for other tests flush theirs."""
    directory = tmp_path_factory.mktemp("celery")
    running = CeleryWorker(directory, f"redis://{redis_server.address}/5")
    yield running
    running.stop()


def jobs(server: RedisServer, more: str = "") -> str:
    return (
        f"pollers: [{{type: celery, name: jobs, address: '{server.address}', database: 5, "
        f"queues: [celery, mail]{more}}}]"
    )


def counted(asking: Asking, what: str, /, **labels: str) -> Answer:
    """The answer in which a task has come to this."""
    last: list[Answer] = []

    def holds() -> bool:
        last[:] = [asking.poll()]
        return total(last[0], what, **labels) >= 1

    until(holds, f"{what}: {labels}")
    return last[0]


def total(answer: Answer, what: str, /, **labels: str) -> float:
    """Of every queue: the first event of a worker may come before the producer's."""
    return sum(answer.values(f"celery_task_{what}_total", **labels).values())


def test_a_real_worker_tells_what_became_of_its_tasks(
    ask: Ask, redis_server: RedisServer, worker: CeleryWorker
) -> None:
    asking = ask(jobs(redis_server))
    assert asking.poll().value("up") == 1
    with worker.producer(task_send_sent_event=True) as app:
        app.send_task("mail.send", ["s3cret-argument"], queue="mail")
        app.send_task("stock.book")
        app.send_task("feed.load")
    here = {"name": "mail.send", "hostname": "box"}
    done = counted(asking, "succeeded", **here)
    assert [total(done, what, **here) for what in ("received", "started", "failed")] == [1, 1, 0]
    (count,) = done.values("celery_task_runtime_count", **here).values()
    (below,) = done.values("celery_task_runtime_bucket", le="+Inf", **here).values()
    assert (count, below) == (1, 1)
    (sum_s,) = done.values("celery_task_runtime_sum", **here).values()
    assert 0 <= sum_s < 60
    counted(asking, "failed", name="stock.book", exception="LookupError")
    failed = counted(asking, "failed", name="feed.load", exception="OSError")
    assert total(failed, "retried", name="feed.load", hostname="box") == 1
    # Whoever sent them is another host than the worker's, and tells the queue.
    counted(asking, "sent", name="mail.send", queue_name="mail")
    with worker.producer() as app:
        app.send_task("mail.send", ["again"], queue="mail")
    again = counted(asking, "succeeded", queue_name="mail", **here)
    assert total(again, "sent", name="mail.send") == 1
    until(lambda: asking.poll().values("celery_worker_up", hostname="box") != {}, "a heartbeat")
    assert asking.poll().value("celery_worker_up", hostname="box") == 1
    assert asking.status.error == ""
    assert "s3cret-argument" not in f"{asking.appender.samples()}{vars(asking.poller)}"


def test_a_worker_that_falls_silent_is_down_and_is_forgotten_in_the_end(
    ask: Ask, redis_server: RedisServer, worker: CeleryWorker
) -> None:
    asking = ask(jobs(redis_server))
    until(lambda: asking.poll().values("celery_worker_up") != {}, "a heartbeat")
    asking.poller._tally._workers["gone"] = celery_events._Worker(  # type: ignore[attr-defined]
        asking.clock.now_ms, up=True, active=3.0
    )
    assert asking.poll().value("celery_worker_up", hostname="gone") == 1
    silent = asking.poll(61_000)
    assert silent.value("celery_worker_up", hostname="gone") == 0
    assert silent.value("celery_worker_tasks_active", hostname="gone") == 0
    asking.poll(3_600_000)
    assert not asking.poll().values("celery_worker_up", hostname="gone")


def test_an_account_that_may_not_subscribe_still_reads_the_queues(
    ask: Ask, redis_server: RedisServer
) -> None:
    rights = "on nopass -@all +llen +hlen +client +select ~*"
    redis_server.run("ACL", "SETUSER", "queues", *rights.split())
    try:
        asking = ask(jobs(redis_server, ", user: queues, password_env: P"), {"P": "any"})
        assert asking.poll().value("celery_queue_length", queue_name="celery") == 0
        assert "events: " in asking.status.error
        assert "psubscribe" in asking.status.remedy
    finally:
        redis_server.run("ACL", "DELUSER", "queues")


def test_the_account_of_the_documentation_may_do_everything(
    ask: Ask, redis_server: RedisServer
) -> None:
    page = (ROOT / "docs" / "sources" / "celery.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("ACL SETUSER warroom")]
    redis_server.run(*line.replace(">…", ">any").replace("/0.", "/5.").split())
    try:
        asking = ask(jobs(redis_server, ", user: warroom, password_env: P"), {"P": "any"})
        asking.poll()
        assert (asking.status.state, asking.status.error) == ("ok", "")
    finally:
        redis_server.run("ACL", "DELUSER", "warroom")


def test_a_subscription_that_redis_cuts_is_told_and_taken_up_again(
    ask: Ask, redis_server: RedisServer
) -> None:
    asking = ask(jobs(redis_server))
    asking.poll()
    redis_server.run("CLIENT", "KILL", "TYPE", "pubsub")
    assert asking.poll().value("up") == 1
    assert "the subscription ended" in asking.status.error
    asking.poll()
    assert asking.status.error == ""


def wire(*events: Any) -> str:
    body = base64.b64encode(json.dumps(list(events)).encode()).decode()
    return json.dumps({"body": body, "content-type": "application/json", "headers": {}})


def told(tally: EventTally, now_ms: int = 0) -> dict[tuple[str, str], float]:
    reading = Reading()
    tally.tell(reading, now_ms)
    return {
        (sample.name, sample.labels.get("name", "")): sample.value
        for sample in reading.samples
        if "failed" not in sample.name
    }


def test_a_task_keeps_its_name_and_queue_from_event_to_event() -> None:
    tally = EventTally("celery")
    sent = {"type": "task-sent", "uuid": "1", "name": "a", "queue": "mail", "hostname": "gen1@web"}
    done = {"type": "task-succeeded", "uuid": "1", "runtime": 0.2, "hostname": "w@box"}
    for event in (*decode(wire(sent, done)), *decode(wire(done))):
        tally.observe(event, 0)
    reading = Reading()
    tally.tell(reading, 0)
    labels = {
        s.labels["name"]: s.labels
        for s in reading.samples
        if s.value and s.name.endswith("d_total")
    }
    assert labels["a"]["queue_name"] == "mail"
    # What ended is forgotten: a second end has no name.
    assert labels["unknown"]["queue_name"] == "celery"


def test_the_first_failure_is_an_increase_of_a_series_that_was_zero_before() -> None:
    tally = EventTally("celery")
    tally.tell(Reading(), 5_000)
    event = {"type": "task-failed", "uuid": "1", "name": "a", "hostname": "w@b"}
    readings = [Reading(), Reading()]
    for reading, now_ms in zip(readings, (10_000, 15_000), strict=True):
        tally.observe({**event, "exception": "KeyError('x')"}, now_ms)
        tally.tell(reading, now_ms)
    first, second = (
        [(s.value, s.ts_ms) for s in reading.samples if s.labels.get("exception") == "KeyError"]
        for reading in readings
    )
    assert first == [(0.0, 5_000), (1, None)]
    assert second == [(2, None)]


def test_series_are_bounded_whatever_the_names() -> None:
    tally = EventTally("")
    for number in range(3 * MAX_PLACES):
        for kind in ("task-received", "task-failed"):
            event = {"type": kind, "uuid": f"{number}", "name": f"n{number}", "hostname": "w@b"}
            tally.observe({**event, "exception": f"E{number}('x')"}, 0)
    reading = Reading()
    tally.tell(reading, 0)
    places = {tuple(sample.labels.values())[:3] for sample in reading.samples}
    assert len(places) == MAX_PLACES + 1
    received = [s for s in reading.samples if s.name == "celery_task_received_total"]
    assert sum(sample.value for sample in received) == 3 * MAX_PLACES
    assert len(reading.samples) < 20_000


def test_hosts_that_are_gone_take_their_series_with_them() -> None:
    tally = EventTally("")
    tally.observe({"type": "task-received", "uuid": "1", "name": "a", "hostname": "w@old"}, 0)
    assert ("celery_task_received_total", "a") in told(tally)
    tally.observe(
        {"type": "task-received", "uuid": "2", "name": "b", "hostname": "w@new"}, 3_601_000
    )
    assert {name for _, name in told(tally, 3_601_000)} == {"b"}


@pytest.mark.parametrize(("heartbeats", "name"), [(False, "unknown"), (True, "a")])
def test_a_task_is_forgotten_with_its_host_but_not_while_its_worker_is_there(
    heartbeats: bool, name: str
) -> None:
    """A task with a countdown waits at its worker without any event."""
    hour_ms, tally = 3_600_000, EventTally("")
    tally.observe({"type": "task-received", "uuid": "1", "name": "a", "hostname": "w@box"}, 0)
    if heartbeats:
        tally.observe({"type": "worker-heartbeat", "hostname": "w@box"}, hour_ms)
    tally.tell(Reading(), hour_ms + 1)
    tally.observe({"type": "task-started", "uuid": "1", "hostname": "w@box"}, hour_ms + 2)
    assert told(tally, hour_ms + 2)["celery_task_started_total", name] == 1


EVENT = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "uuid", "name", "hostname", "runtime", "exception", "body"]),
            inner
            | st.sampled_from(["task-succeeded", "task-failed", "worker-heartbeat", "@", "e30="]),
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(EVENT, st.text(max_size=20))
def test_any_message_is_read_without_raising(event: Any, text: str) -> None:
    tally = EventTally("")
    for message in (text, json.dumps(event), wire(event), wire(event)[:-2]):
        for found in decode(message):
            tally.observe(found, 0)
    tally.tell(Reading(), 0)
