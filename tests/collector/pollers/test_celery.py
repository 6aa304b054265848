"""Celery's queues in a real Redis, laid out as kombu lays them."""

from __future__ import annotations

import json

import pytest

from collector.pollers.celery import PRIORITY_SEPARATOR
from store.errors import ConfigError
from tests.collector.pollers.asking import targets_of
from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.servers import RedisServer

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
