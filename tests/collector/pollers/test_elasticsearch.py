"""The Elasticsearch poller against a loopback server that answers as its public API tells."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from collector.pollers.elasticsearch import _node
from collector.polling.contract import Reading
from tests.collector.conftest import Serve
from tests.collector.pollers.conftest import Ask

HEALTH = {
    "cluster_name": "shop",
    "status": "yellow",
    "timed_out": False,
    "number_of_nodes": 2,
    "number_of_data_nodes": 2,
    "active_primary_shards": 5,
    "active_shards": 9,
    "relocating_shards": 0,
    "initializing_shards": 0,
    "unassigned_shards": 1,
    "delayed_unassigned_shards": 0,
    "number_of_pending_tasks": 3,
    "number_of_in_flight_fetch": 0,
    "task_max_waiting_in_queue_millis": 12,
    "active_shards_percent_as_number": 90.0,
}
NODE = {
    "name": "es-1",
    "host": "10.0.0.1",
    "indices": {
        "docs": {"count": 1000, "deleted": 5},
        "store": {"size_in_bytes": 123456},
        "search": {"query_total": 400, "query_time_in_millis": 20_000, "fetch_total": 300},
        "request_cache": {"hit_count": 70, "miss_count": 30, "evictions": 2},
        "query_cache": {"hit_count": 7, "miss_count": 3, "evictions": 0},
    },
    "jvm": {
        "mem": {"heap_used_in_bytes": 500, "heap_max_in_bytes": 1000},
        "gc": {"collectors": {"old": {"collection_count": 1, "collection_time_in_millis": 250}}},
    },
    "thread_pool": {
        "search": {"threads": 7, "queue": 11, "active": 7, "rejected": 4, "completed": 99}
    },
    "breakers": {"parent": {"tripped": 2}},
    "fs": {"total": {"total_in_bytes": 10_000, "available_in_bytes": 4_000}},
    "process": {"cpu": {"percent": 88}, "open_file_descriptors": 300},
}
TASKS = {
    "nodes": {
        "n1": {
            "name": "es-1",
            "tasks": {
                "n1:1": {"action": "indices:data/read/search", "running_time_in_nanos": 9 * 10**9},
                "n1:2": {"action": "indices:data/read/search", "running_time_in_nanos": 10**6},
            },
        }
    }
}


class Cluster:
    """Answers of one cluster; each may be replaced by a test."""

    def __init__(self) -> None:
        self.answers: dict[str, Response] = {
            "/_cluster/health": JSONResponse(HEALTH),
            "/_nodes/stats": JSONResponse({"cluster_name": "shop", "nodes": {"n1": NODE}}),
            "/_tasks": JSONResponse(TASKS),
        }
        self.seen: list[Request] = []

    async def answer(self, request: Request) -> Response:
        self.seen.append(request)
        path = request.url.path
        return next(found for start, found in self.answers.items() if path.startswith(start))

    def routes(self) -> list[Any]:
        return [Route("/{path:path}", self.answer)]


def entry(url: str) -> str:
    return (
        f"pollers: [{{type: elasticsearch, name: search, url: '{url}', api_key_env: KEY, "
        "interval: 5s}]"
    )


SECRETS = {"KEY": "es-s3cret"}


def test_health_searches_caches_pools_and_slow_tasks_are_told(ask: Ask, serve: Serve) -> None:
    cluster = Cluster()
    asking = ask(entry(serve(cluster.routes())), SECRETS)
    answer = asking.poll()
    assert asking.status.error == ""
    prefix = "elasticsearch_"
    assert answer.value(f"{prefix}up") == 1
    assert answer.value(f"{prefix}cluster_health_status", color="yellow") == 1
    assert answer.value(f"{prefix}cluster_health_status", color="green") == 0
    assert answer.value(f"{prefix}cluster_health_unassigned_shards", cluster="shop") == 1
    assert answer.value(f"{prefix}indices_search_query_total", name="es-1") == 400
    assert answer.value(f"{prefix}indices_search_query_time_seconds", name="es-1") == 20
    assert answer.value(f"{prefix}indices_request_cache_count") == 70
    assert answer.value(f"{prefix}indices_request_miss_count") == 30
    assert answer.value(f"{prefix}thread_pool_rejected_count", type="search") == 4
    assert answer.value(f"{prefix}breakers_tripped", breaker="parent") == 2
    assert answer.value(f"{prefix}jvm_gc_collection_seconds_sum", gc="old") == 0.25
    assert answer.value(f"{prefix}search_tasks_slow") == 1
    assert answer.value(f"{prefix}search_tasks_longest_seconds") == 9
    headers = {name: cluster.seen[0].headers.get(name) for name in ("authorization", "accept")}
    assert headers == {"authorization": "ApiKey es-s3cret", "accept": "application/json"}


REJECTED = {
    "error": {"type": "es_rejected_execution_exception", "reason": "rejected execution"},
    "status": 429,
}


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, {"error": {"type": "security_exception"}, "status": 401}, "security_exception"),
        (429, REJECTED, "es_rejected_execution_exception"),
        (503, {"error": {"type": "master_not_discovered_exception"}}, "master_not_discovered"),
        (200, {"tagline": "something else"}, "not one of Elasticsearch"),
        (200, [1], "not one of Elasticsearch"),
    ],
)
def test_a_cluster_that_refuses_is_down_with_its_own_words(
    status: int, body: Any, told: str, ask: Ask, serve: Serve
) -> None:
    cluster = Cluster()
    cluster.answers["/_cluster/health"] = JSONResponse(body, status)
    asking = ask(entry(serve(cluster.routes())), SECRETS)
    assert asking.poll().value("elasticsearch_up") == 0
    assert told in asking.status.error
    assert "es-s3cret" not in f"{asking.status}"


def test_without_the_right_to_see_tasks_the_rest_is_told(ask: Ask, serve: Serve) -> None:
    cluster = Cluster()
    cluster.answers["/_tasks"] = JSONResponse({"error": "forbidden"}, 403)
    asking = ask(entry(serve(cluster.routes())), SECRETS)
    assert asking.poll().value("elasticsearch_up") == 1
    assert "slow tasks" in asking.status.error
    assert "monitor" in asking.status.remedy


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.dictionaries(
            st.sampled_from(["name", "indices", "search", "query_total", "jvm", "mem", "gc", "a"]),
            inner,
            max_size=4,
        )
        | st.lists(inner, max_size=2)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*NODE, "other"]), JSON, max_size=5))
def test_any_node_is_read_without_raising(node: dict[str, Any]) -> None:
    reading = Reading()
    _node(node, "shop", reading)
    assert all(isinstance(sample.value, float) for sample in reading.samples)
