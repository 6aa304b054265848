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
from collector.scrape.protobuf_format import HistogramChoice
from collector.scrape.protocols import ALL_PROTOCOLS, TEXT_PROTOCOLS, Protocol
from store.documents import Document, Path

DEFAULT_INTERVAL_S = 15.0
DEFAULT_TIMEOUT_S = 10.0
DEFAULT_BODY_SIZE = 64 * 1024 * 1024
MAX_TARGETS = 1_000
# The width of the coarsest schema's buckets.
MAX_BUCKET_FACTOR = 65536


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
    protocols: tuple[Protocol, ...] = TEXT_PROTOCOLS
    fallback_protocol: Protocol = Protocol.TEXT_0
    utf8_names: bool = True
    histograms: HistogramChoice = HistogramChoice()  # noqa: RUF009 -- frozen value


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
    histograms = _histograms(node)
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
        protocols=node.get(
            "scrape_protocols", _protocols, ALL_PROTOCOLS if histograms.native else TEXT_PROTOCOLS
        ),
        fallback_protocol=node.get("fallback_scrape_protocol", Protocol, Protocol.TEXT_0),
        utf8_names=node.get("metric_name_validation_scheme", _scheme_of_names, default=True),
        histograms=histograms,
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


def _histograms(node: Node) -> HistogramChoice:
    # Prometheus 2's name, and 3's.
    older = node.get("scrape_classic_histograms", flag, default=False)
    return HistogramChoice(
        native=node.get("scrape_native_histograms", flag, default=False),
        classic=node.get("always_scrape_classic_histograms", flag, default=older),
        most_buckets=node.get("native_histogram_bucket_limit", count, 0),
        least_factor=node.get("native_histogram_min_bucket_factor", _factor, 0.0),
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


def _protocols(value: Any) -> tuple[Protocol, ...]:
    found = tuple(Protocol(name) for name in texts(value))
    if not found or len(set(found)) < len(found):
        raise ValueError("each protocol once, and at least one, is expected")
    return found


def _factor(value: Any) -> float:
    found = float(text(value))
    if not 0 <= found < MAX_BUCKET_FACTOR:
        raise ValueError(f"a number from 0 to {MAX_BUCKET_FACTOR} is expected")
    return found


def _scheme_of_names(value: Any) -> bool:
    if value not in ("utf8", "legacy"):
        raise ValueError("utf8 or legacy is expected")
    return bool(value == "utf8")


def _scheme(value: Any) -> str:
    if value not in ("http", "https"):
        raise ValueError("http or https is expected")
    return str(value)
