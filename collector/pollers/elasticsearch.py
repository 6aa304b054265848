"""Elasticsearch and OpenSearch, by the names of elasticsearch_exporter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collector.polling.contract import PollFailed, Reading
from collector.polling.fields import Fields, Secret
from collector.polling.http import JsonClient, base_url
from collector.polling.json_shapes import at, mapping, number

MAX_NODES = 500
MAX_SLOW_TASKS = 1_000
_COLOURS = ("green", "yellow", "red")
_HEALTH = "/_cluster/health"
_STATS = "/_nodes/stats/indices,jvm,thread_pool,breaker,fs,process"
_TASKS = "/_tasks"
_HEALTH_FIELDS = (
    "number_of_nodes",
    "number_of_data_nodes",
    "active_primary_shards",
    "active_shards",
    "relocating_shards",
    "initializing_shards",
    "unassigned_shards",
    "delayed_unassigned_shards",
    "number_of_pending_tasks",
    "number_of_in_flight_fetch",
    "task_max_waiting_in_queue_millis",
)
# Path below a node -> the exporter's name, what one is in the series' unit, whether it counts up.
_NODE: Mapping[str, tuple[str, float, bool]] = {
    "indices.docs.count": ("indices_docs", 1, False),
    "indices.docs.deleted": ("indices_docs_deleted", 1, False),
    "indices.store.size_in_bytes": ("indices_store_size_bytes", 1, False),
    "indices.search.query_total": ("indices_search_query_total", 1, True),
    "indices.search.query_time_in_millis": ("indices_search_query_time_seconds", 1e-3, True),
    "indices.search.fetch_total": ("indices_search_fetch_total", 1, True),
    "indices.search.fetch_time_in_millis": ("indices_search_fetch_time_seconds", 1e-3, True),
    "indices.indexing.index_total": ("indices_indexing_index_total", 1, True),
    "indices.indexing.index_time_in_millis": (
        "indices_indexing_index_time_seconds_total",
        1e-3,
        True,
    ),
    "indices.query_cache.hit_count": ("indices_query_cache_count", 1, True),
    "indices.query_cache.miss_count": ("indices_query_miss_count", 1, True),
    "indices.query_cache.evictions": ("indices_query_cache_evictions", 1, True),
    "indices.query_cache.memory_size_in_bytes": (
        "indices_query_cache_memory_size_bytes",
        1,
        False,
    ),
    "indices.request_cache.hit_count": ("indices_request_cache_count", 1, True),
    "indices.request_cache.miss_count": ("indices_request_miss_count", 1, True),
    "indices.request_cache.evictions": ("indices_request_cache_evictions", 1, True),
    "indices.request_cache.memory_size_in_bytes": (
        "indices_request_cache_memory_size_bytes",
        1,
        False,
    ),
    "indices.fielddata.evictions": ("indices_fielddata_evictions", 1, True),
    "indices.fielddata.memory_size_in_bytes": ("indices_fielddata_memory_size_bytes", 1, False),
    "indices.refresh.total": ("indices_refresh_total", 1, True),
    "indices.refresh.total_time_in_millis": ("indices_refresh_time_seconds_total", 1e-3, True),
    "indices.merges.total": ("indices_merges_total", 1, True),
    "indices.merges.total_time_in_millis": ("indices_merges_total_time_seconds_total", 1e-3, True),
    "process.cpu.percent": ("process_cpu_percent", 1, False),
    "process.open_file_descriptors": ("process_open_files_count", 1, False),
    "fs.total.total_in_bytes": ("filesystem_data_size_bytes", 1, False),
    "fs.total.available_in_bytes": ("filesystem_data_available_bytes", 1, False),
}
_POOL = (
    ("active", "thread_pool_active_count", False),
    ("queue", "thread_pool_queue_count", False),
    ("largest", "thread_pool_largest_count", False),
    ("threads", "thread_pool_threads_count", False),
    ("completed", "thread_pool_completed_count", True),
    ("rejected", "thread_pool_rejected_count", True),
)


@dataclass(frozen=True, slots=True)
class ElasticsearchSettings:
    """Where and as whom; `slow_task_s` is from when on a running search is counted as slow."""

    url: str
    user: str = ""
    password: Secret | None = None
    api_key: Secret | None = None
    verify_tls: bool = True
    slow_task_s: float = 5.0


def read_elasticsearch(fields: Fields) -> ElasticsearchSettings:
    """The fields of an `elasticsearch` entry."""
    found = ElasticsearchSettings(
        url=base_url(fields, "url"),
        user=fields.text("user", ""),
        password=fields.secret("password"),
        api_key=fields.secret("api_key"),
        verify_tls=fields.flag("verify_tls", default=True),
        slow_task_s=fields.duration_s("slow_task", 5.0),
    )
    if found.user and found.api_key:
        raise fields.error("user", "either user and password, or an API key")
    return found


class ElasticsearchPoller:
    """Cluster health, every node's figures, and searches that run for long."""

    def __init__(self, settings: ElasticsearchSettings, timeout_s: float) -> None:
        del timeout_s
        self._settings = settings
        headers = {}
        if settings.api_key is not None:
            headers["Authorization"] = f"ApiKey {settings.api_key.value}"
        password = "" if settings.password is None else settings.password.value
        auth = (settings.user, password) if settings.user else None
        # Plain JSON: the media types with a version are refused by servers of another one.
        self._client = JsonClient(
            settings.url, headers=headers, basic_auth=auth, verify_tls=settings.verify_tls
        )

    async def poll(self, now_ms: int) -> Reading:
        del now_ms
        reading = Reading()
        cluster = _health(mapping(await self._client.get(_HEALTH)), reading)
        nodes = mapping(await self._client.get(_STATS, {"level": "node"})).get("nodes")
        for node in list(mapping(nodes).values())[:MAX_NODES]:
            _node(mapping(node), cluster, reading)
        await self._slow_tasks(cluster, reading)
        return reading

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _slow_tasks(self, cluster: str, reading: Reading) -> None:
        """The live ones: a server tells of slow searches that are over in its log alone."""
        asked = {"actions": "*search", "detailed": "false"}
        try:
            answer = mapping(await self._client.get(_TASKS, asked))
        except PollFailed as error:
            remedy = "Grant the cluster privilege monitor: docs/sources/elasticsearch.md."
            reading.lacks("slow tasks", error.message, remedy)
            return
        running = [number(task.get("running_time_in_nanos")) or 0.0 for task in _tasks(answer)]
        longest_s = max(running, default=0.0) / 1e9
        slow = sum(nanos / 1e9 >= self._settings.slow_task_s for nanos in running)
        labels = {"cluster": cluster}
        reading.gauge("elasticsearch_search_tasks_slow", slow, labels)
        reading.gauge("elasticsearch_search_tasks_longest_seconds", longest_s, labels)


def _health(answer: Mapping[str, Any], reading: Reading) -> str:
    cluster = str(answer.get("cluster_name", ""))
    if not cluster:
        raise PollFailed("the answer is not one of Elasticsearch", hint="check the url")
    labels = {"cluster": cluster}
    for colour in _COLOURS:
        value = float(answer.get("status") == colour)
        reading.gauge("elasticsearch_cluster_health_status", value, {**labels, "color": colour})
    for name in _HEALTH_FIELDS:
        found = number(answer.get(name))
        if found is not None:
            reading.gauge(f"elasticsearch_cluster_health_{name}", found, labels)
    return cluster


def _node(node: Mapping[str, Any], cluster: str, reading: Reading) -> None:
    labels = {
        "cluster": cluster,
        "name": str(node.get("name", "")),
        "host": str(node.get("host", "")),
    }
    for path, (name, scale, counts) in _NODE.items():
        found = number(at(node, path))
        if found is not None:
            _add(reading, name, found * scale, labels, counts=counts)
    _jvm(node, labels, reading)
    for pool, figures in mapping(node.get("thread_pool")).items():
        for field, name, counts in _POOL:
            found = number(mapping(figures).get(field))
            if found is not None:
                _add(reading, name, found, {**labels, "type": pool}, counts=counts)
    for breaker, figures in mapping(node.get("breakers")).items():
        tripped = number(mapping(figures).get("tripped"))
        if tripped is not None:
            _add(reading, "breakers_tripped", tripped, {**labels, "breaker": breaker}, counts=True)


def _jvm(node: Mapping[str, Any], labels: Mapping[str, str], reading: Reading) -> None:
    for field, name in (
        ("heap_used_in_bytes", "jvm_memory_used_bytes"),
        ("heap_max_in_bytes", "jvm_memory_max_bytes"),
    ):
        found = number(at(node, f"jvm.mem.{field}"))
        if found is not None:
            _add(reading, name, found, {**labels, "area": "heap"}, counts=False)
    for collector, figures in mapping(at(node, "jvm.gc.collectors")).items():
        seconds = number(mapping(figures).get("collection_time_in_millis"))
        if seconds is not None:
            name = "jvm_gc_collection_seconds_sum"
            _add(reading, name, seconds / 1e3, {**labels, "gc": collector}, counts=True)


def _add(
    reading: Reading, name: str, value: float, labels: Mapping[str, str], *, counts: bool
) -> None:
    (reading.counter if counts else reading.gauge)(f"elasticsearch_{name}", value, labels)


def _tasks(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    told = 0
    for node in mapping(answer.get("nodes")).values():
        for task in mapping(mapping(node).get("tasks")).values():
            told += 1
            if told > MAX_SLOW_TASKS:
                return
            yield mapping(task)
