"""Prometheus's `scrape_configs`, checked; a mistake names its line and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from collector.config_node import (
    Node,
    count,
    duration,
    flag,
    nodes_at,
    size,
    text,
    texts,
)
from collector.http_client import PLAIN, HttpClientConfig, http_client_config
from collector.relabel import RelabelRule
from collector.relabel_config import relabel_rules
from collector.scrape.discovery_config import (
    FileDiscovery,
    HttpDiscovery,
    TargetGroup,
    file_discovery,
    http_discovery,
    static_group,
)
from store.documents import Document, Path

DEFAULT_INTERVAL_S = 15.0
DEFAULT_TIMEOUT_S = 10.0
DEFAULT_BODY_SIZE = 64 * 1024 * 1024
MAX_TARGETS = 1_000


@dataclass(frozen=True, slots=True)
class ScrapeLimits:
    """Bounds on one scrape; 0 is none, but for the body, which is always bounded."""

    samples: int = 0
    labels: int = 0
    label_name: int = 0
    label_value: int = 0
    body_bytes: int = DEFAULT_BODY_SIZE
    targets: int = 0


@dataclass(frozen=True, slots=True)
class ScrapeConfig:
    """One job. Secrets are kept out of its repr."""

    job_name: str
    interval_s: float
    timeout_s: float
    static: tuple[TargetGroup, ...] = ()
    file_sd: tuple[FileDiscovery, ...] = ()
    http_sd: tuple[HttpDiscovery, ...] = ()
    metrics_path: str = "/metrics"
    scheme: str = "http"
    params: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    honor_labels: bool = False
    honor_timestamps: bool = True
    track_timestamps_staleness: bool = False
    follow_redirects: bool = True
    enable_compression: bool = True
    http: HttpClientConfig = PLAIN
    limits: ScrapeLimits = ScrapeLimits()
    relabel: tuple[RelabelRule, ...] = ()
    metric_relabel: tuple[RelabelRule, ...] = ()


def parse_scrape_configs(
    document: Document, path: Path, environment: Mapping[str, str] | None = None
) -> tuple[ScrapeConfig, ...]:
    """The jobs listed at a path of a document, such as `("scrape_configs",)`.

    Raises:
        ConfigError: With file, line, and what to write instead.
    """
    nodes = nodes_at(document, path, "scrape configurations")
    jobs = tuple(_job(node, environment) for node in nodes)
    names: set[str] = set()
    for place, job in enumerate(jobs):
        if job.job_name in names:
            raise document.error(
                (*path, place, "job_name"), f"the job {job.job_name!r} stands twice"
            )
        names.add(job.job_name)
    return jobs


def _job(node: Node, environment: Mapping[str, str] | None) -> ScrapeConfig:
    interval_s = node.get("scrape_interval", duration, DEFAULT_INTERVAL_S)
    timeout_s = node.get("scrape_timeout", duration, min(DEFAULT_TIMEOUT_S, interval_s))
    config = ScrapeConfig(
        job_name=node.get("job_name", text, ""),
        interval_s=interval_s,
        timeout_s=timeout_s,
        static=tuple(static_group(child) for child in node.children("static_configs")),
        file_sd=tuple(file_discovery(child) for child in node.children("file_sd_configs")),
        http_sd=tuple(
            http_discovery(child, environment) for child in node.children("http_sd_configs")
        ),
        metrics_path=node.get("metrics_path", text, "/metrics"),
        scheme=node.get("scheme", _scheme, "http"),
        params=node.get("params", _params, {}),
        honor_labels=node.get("honor_labels", flag, default=False),
        honor_timestamps=node.get("honor_timestamps", flag, default=True),
        track_timestamps_staleness=node.get("track_timestamps_staleness", flag, default=False),
        follow_redirects=node.get("follow_redirects", flag, default=True),
        enable_compression=node.get("enable_compression", flag, default=True),
        http=http_client_config(node, environment),
        limits=_limits(node),
        relabel=relabel_rules(node, "relabel_configs"),
        metric_relabel=relabel_rules(node, "metric_relabel_configs"),
    )
    _refuse_other_discovery(node)
    node.done()
    if not config.job_name:
        raise node.document.error(node.path, "a scrape configuration needs a job_name")
    if timeout_s > interval_s:
        raise node.document.error(
            (*node.path, "scrape_timeout"), "scrape_timeout is longer than scrape_interval"
        )
    if sum(len(group.addresses) for group in config.static) > MAX_TARGETS:
        raise node.document.error(node.path, f"a job may have at most {MAX_TARGETS} targets")
    return config


def _limits(node: Node) -> ScrapeLimits:
    return ScrapeLimits(
        samples=node.get("sample_limit", count, 0),
        labels=node.get("label_limit", count, 0),
        label_name=node.get("label_name_length_limit", count, 0),
        label_value=node.get("label_value_length_limit", count, 0),
        body_bytes=node.get("body_size_limit", size, DEFAULT_BODY_SIZE) or DEFAULT_BODY_SIZE,
        targets=node.get("target_limit", count, 0),
    )


def _refuse_other_discovery(node: Node) -> None:
    for key in node.data:
        if str(key).endswith("_sd_configs"):
            if key in ("file_sd_configs", "http_sd_configs"):
                continue
            node.refuse(
                key,
                "is not supported",
                hint="let a program write the targets for file_sd_configs or http_sd_configs",
            )


def _params(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise TypeError("a mapping of name to list is expected")
    return {text(key): texts(item) for key, item in value.items()}


def _scheme(value: Any) -> str:
    if value not in ("http", "https"):
        raise ValueError("http or https is expected")
    return str(value)
