"""Prometheus's `remote_write`, checked; a mistake names its line and what to write instead."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from collector.config_node import Node, duration, flag, nodes_at, positive, size, text
from collector.http_client import (
    PLAIN,
    HttpClientConfig,
    checked_url,
    http_client_config,
)
from collector.relabel import RelabelRule
from collector.relabel_config import relabel_rules
from store.documents import Document, Path
from store.errors import ConfigError

V1 = "prometheus.WriteRequest"
MAX_SHARDS = 16
MAX_SAMPLES_PER_SEND = 50_000
MIN_DISK_BYTES = 1024 * 1024
# A name is a label's value and a directory's name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Prometheus's names; `max_disk_bytes` is Warroom's own.

    Attributes:
        shards: How many requests are under way at once (`max_shards`); order is kept per series.
        capacity: Samples a shard holds in memory, beside those on disk.
        sample_age_limit_s: Older data is dropped instead of sent; 0 is no limit.
    """

    shards: int = 4
    capacity: int = 10_000
    max_samples_per_send: int = 2_000
    batch_send_deadline_s: float = 5.0
    min_backoff_s: float = 0.03
    max_backoff_s: float = 5.0
    retry_on_http_429: bool = True
    sample_age_limit_s: float = 86_400.0
    max_disk_bytes: int = 1024**3


@dataclass(frozen=True, slots=True)
class MetadataConfig:
    """Whether types, helps and units of metrics are sent, how often, and how many at once."""

    send: bool = True
    interval_s: float = 60.0
    max_per_send: int = 2_000


@dataclass(frozen=True, slots=True)
class RemoteWrite:
    """One endpoint. `name` is unique; secrets are kept out of the repr."""

    name: str
    url: str
    timeout_s: float = 30.0
    http: HttpClientConfig = PLAIN
    relabel: tuple[RelabelRule, ...] = ()
    send_exemplars: bool = False
    queue: QueueConfig = QueueConfig()
    metadata: MetadataConfig = MetadataConfig()


def parse_remote_write(
    document: Document, path: Path, environment: Mapping[str, str] | None = None
) -> tuple[RemoteWrite, ...]:
    """The endpoints listed at a path of a document, such as `("remote_write",)`.

    Raises:
        ConfigError: With file, line, and what to write instead.
    """
    found: dict[str, RemoteWrite] = {}
    for node in nodes_at(document, path, "remote write endpoints"):
        endpoint = _endpoint(node, environment)
        if endpoint.name in found:
            raise document.error(
                (*node.path, "name"),
                f"two endpoints are named {endpoint.name!r}",
                hint="give each a name of its own",
            )
        found[endpoint.name] = endpoint
    return tuple(found.values())


def _endpoint(node: Node, environment: Mapping[str, str] | None) -> RemoteWrite:
    _refuse_what_is_not_done(node)
    url = node.get("url", text, "")
    try:
        checked_url(url)
    except ConfigError as error:
        where = (*node.path, "url")
        raise node.document.error(where, f"url: {error.problem}", hint=error.hint) from error
    endpoint = RemoteWrite(
        name=node.get("name", _name, _default_name(url)),
        url=url,
        timeout_s=node.get("remote_timeout", duration, 30.0),
        http=http_client_config(node, environment, headers_key="headers"),
        relabel=relabel_rules(node, "write_relabel_configs"),
        send_exemplars=node.get("send_exemplars", flag, default=False),
        queue=_queue(node.child("queue_config")),
        metadata=_metadata(node.child("metadata_config")),
    )
    node.done()
    return endpoint


def _refuse_what_is_not_done(node: Node) -> None:
    if node.get("protobuf_message", text, V1) != V1:
        raise node.document.error(
            (*node.path, "protobuf_message"),
            "only remote write 1.0 is sent",
            hint=f"write {V1}, or remove the line",
        )
    if node.get("send_native_histograms", flag, default=False):
        raise node.document.error(
            (*node.path, "send_native_histograms"),
            "native histograms are not forwarded",
            hint="remove the line",
        )
    if node.get("follow_redirects", flag, default=False):
        raise node.document.error(
            (*node.path, "follow_redirects"),
            "redirects are never followed",
            hint="write the address that the redirect leads to as url",
        )


def _name(value: object) -> str:
    name = text(value)
    if not _NAME.fullmatch(name):
        raise ValueError("up to 64 letters, digits, dots, dashes and underscores are expected")
    return name


def _default_name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:6]


def _queue(node: Node | None) -> QueueConfig:
    if node is None:
        return QueueConfig()
    default = QueueConfig()
    # Shards are not scaled up and down, so the least number means nothing; it is taken as read.
    node.get("min_shards", positive, 1)
    queue = QueueConfig(
        shards=min(MAX_SHARDS, node.get("max_shards", positive, default.shards)),
        capacity=node.get("capacity", positive, default.capacity),
        max_samples_per_send=node.get(
            "max_samples_per_send", positive, default.max_samples_per_send
        ),
        batch_send_deadline_s=node.get(
            "batch_send_deadline", duration, default.batch_send_deadline_s
        ),
        min_backoff_s=node.get("min_backoff", duration, default.min_backoff_s),
        max_backoff_s=node.get("max_backoff", duration, default.max_backoff_s),
        retry_on_http_429=node.get("retry_on_http_429", flag, default=default.retry_on_http_429),
        sample_age_limit_s=node.get(
            "sample_age_limit", _duration_or_none, default.sample_age_limit_s
        ),
        max_disk_bytes=node.get("max_disk_bytes", size, default.max_disk_bytes),
    )
    node.done()
    _check_queue(node, queue)
    return queue


def _check_queue(node: Node, queue: QueueConfig) -> None:
    if queue.max_samples_per_send > MAX_SAMPLES_PER_SEND:
        raise node.document.error(
            (*node.path, "max_samples_per_send"),
            f"max_samples_per_send may be at most {MAX_SAMPLES_PER_SEND}",
        )
    if queue.min_backoff_s > queue.max_backoff_s:
        raise node.document.error(
            (*node.path, "min_backoff"), "min_backoff is longer than max_backoff"
        )
    if queue.max_disk_bytes < MIN_DISK_BYTES:
        raise node.document.error(
            (*node.path, "max_disk_bytes"), "max_disk_bytes must be 1MB or more"
        )


def _duration_or_none(value: object) -> float:
    return 0.0 if text(value) in ("0", "0s") else duration(value)


def _metadata(node: Node | None) -> MetadataConfig:
    if node is None:
        return MetadataConfig()
    default = MetadataConfig()
    config = MetadataConfig(
        send=node.get("send", flag, default=default.send),
        interval_s=node.get("send_interval", duration, default.interval_s),
        max_per_send=node.get("max_samples_per_send", positive, default.max_per_send),
    )
    node.done()
    return config
