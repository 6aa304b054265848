"""Scrapes targets: samples, the five series about the scrape itself, and staleness markers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import httpx
import numpy as np
import structlog

from collector.pipeline import Pipeline
from collector.scrape.config import ScrapeConfig, ScrapeLimits
from collector.scrape.relabel import relabelled
from collector.scrape.target import DroppedTarget, Target, targets_of
from collector.scrape.text_format import Page, PageParser
from store.errors import BadInput, LimitExceeded, WarroomError
from store.model import (
    METRIC_NAME,
    STALE_NAN_BITS,
    Exemplar,
    Labels,
    MetricMetadata,
    MetricType,
    SampleBatch,
)

ACCEPT = (
    "application/openmetrics-text;version=1.0.0;q=0.6,"
    "text/plain;version=0.0.4;q=0.5,text/plain;q=0.4,*/*;q=0.1"
)
THREAD_ABOVE_BYTES = 64 * 1024
STALE = float(np.array([STALE_NAN_BITS], dtype=np.uint64).view(np.float64)[0])
_REPORT = (
    ("up", "1 if the last scrape succeeded", ""),
    ("scrape_duration_seconds", "Duration of the last scrape", "seconds"),
    ("scrape_samples_scraped", "Samples the target exposed", ""),
    ("scrape_samples_post_metric_relabeling", "Samples left after metric relabelling", ""),
    ("scrape_series_added", "Series that the scrape before did not have", ""),
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Scraped:
    """One line's series: its final labels, or None when relabelling drops it."""

    labels: Labels | None


@dataclass(slots=True)
class _State:
    """What is remembered of a target between scrapes."""

    target: Target
    parser: PageParser[_Scraped]
    report: tuple[Labels, ...]
    seen: frozenset[Labels] = frozenset()
    last_ms: int = 0
    duration_s: float = 0.0
    health: str = "unknown"
    error: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one scrape brought."""

    series: tuple[Labels, ...] = ()
    values: tuple[float, ...] = ()
    ts_ms: tuple[int, ...] = ()
    seen: frozenset[Labels] = frozenset()
    exposed: int = 0
    metadata: tuple[MetricMetadata, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    error: str = ""


class Scraper:
    """Every target of every job. The composition root calls `scrape` at each target's interval."""

    def __init__(self, configs: Sequence[ScrapeConfig], pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._states: dict[str, _State] = {}
        self._dropped: list[DroppedTarget] = []
        self._clients: dict[str, httpx.AsyncClient] = {}
        for config in configs:
            kept, dropped = targets_of(config)
            self._dropped += dropped
            for target in kept:
                self._states[target.key] = _new_state(target)

    def targets(self) -> tuple[Target, ...]:
        return tuple(state.target for state in self._states.values())

    async def scrape(self, target: Target, now_ms: int) -> None:
        """Scrape once. A failure is stored (`up` 0, the source's error), never raised."""
        state = self._states[target.key]
        if state.lock.locked():
            # The last scrape still runs: a second one would only add to the target's trouble.
            return
        async with state.lock:
            started = time.perf_counter()
            outcome = await self._fetch(state, now_ms)
            state.duration_s = time.perf_counter() - started
            batch = _batch(state, outcome, now_ms)
            self._pipeline.sources.expect(target.source, now_ms, interval_s=target.interval_s)
            try:
                await self._pipeline.push(batch, target.source)
            except WarroomError as error:
                log.warning("scrape not stored", target=target.url, error=str(error))
                return
            self._remember(state, outcome, now_ms)

    def targets_status(self) -> dict[str, Any]:
        """The `data` of Prometheus's `/api/v1/targets`; times are RFC 3339."""
        return {
            "activeTargets": [_status(state) for state in self._states.values()],
            "droppedTargets": [
                {"discoveredLabels": dict(target.discovered), "scrapePool": target.config.job_name}
                for target in self._dropped
            ],
            "droppedTargetCounts": {
                target.config.job_name: sum(d.config is target.config for d in self._dropped)
                for target in self._dropped
            },
        }

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def _fetch(self, state: _State, now_ms: int) -> _Outcome:
        target = state.target
        try:
            async with asyncio.timeout(target.timeout_s):
                body, content_type = await self._get(target)
            if len(body) > THREAD_ABOVE_BYTES:
                return await anyio.to_thread.run_sync(_read, state, body, content_type, now_ms)
            return _read(state, body, content_type, now_ms)
        except TimeoutError:
            return _Outcome(error=f"no answer within {target.timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return _Outcome(error=f"{type(error).__name__}: {error}"[:300])
        except WarroomError as error:
            return _Outcome(error=str(error)[:300])

    async def _get(self, target: Target) -> tuple[bytes, str]:
        config = target.config
        headers = {
            "Accept": ACCEPT,
            "User-Agent": "Warroom",
            "X-Prometheus-Scrape-Timeout-Seconds": f"{target.timeout_s:g}",
        }
        if config.authorization:
            headers["Authorization"] = config.authorization
        limit = config.limits.body_bytes
        received = bytearray()
        async with self._client(config).stream(
            "GET", target.url, headers=headers, auth=config.basic_auth
        ) as response:
            if response.status_code != httpx.codes.OK:
                raise BadInput(f"the target answered HTTP status {response.status_code}")
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > limit:
                    raise LimitExceeded(
                        f"the page is larger than {limit} bytes",
                        reason="body_size",
                        hint="raise body_size_limit",
                    )
            return bytes(received), response.headers.get("content-type", "")

    def _client(self, config: ScrapeConfig) -> httpx.AsyncClient:
        client = self._clients.get(config.job_name)
        if client is None:
            client = self._clients[config.job_name] = httpx.AsyncClient(
                verify=config.verify_tls,
                follow_redirects=config.follow_redirects,
                timeout=httpx.Timeout(None),  # asyncio.timeout bounds the whole scrape
                trust_env=False,
            )
        return client

    def _remember(self, state: _State, outcome: _Outcome, now_ms: int) -> None:
        state.seen = outcome.seen
        state.last_ms = now_ms
        state.error = outcome.error
        state.health = "down" if outcome.error else "up"
        if outcome.error:
            remedy = f"Open {state.target.url} and check that the target runs and serves metrics."
            self._pipeline.failed(state.target.source, outcome.error, remedy)


def _new_state(target: Target) -> _State:
    config = target.config

    def make(labels: dict[str, str]) -> _Scraped:
        _check(labels, config.limits)
        final = relabelled(
            _with_target(labels, target, honor=config.honor_labels), config.metric_relabel
        )
        return _Scraped(Labels(final.items()) if final and METRIC_NAME in final else None)

    report = tuple(Labels({**target.labels, METRIC_NAME: name}.items()) for name, _, _ in _REPORT)
    return _State(target, PageParser(make), report)


def _with_target(labels: dict[str, str], target: Target, *, honor: bool) -> dict[str, str]:
    merged = dict(labels)
    for name, value in target.labels.items():
        own = labels.get(name)
        if own and honor:
            continue
        if own:
            exported = f"exported_{name}"
            while exported in labels:
                exported = f"exported_{exported}"
            merged[exported] = own
        merged[name] = value
    return merged


def _check(labels: dict[str, str], limits: ScrapeLimits) -> None:
    if limits.labels and len(labels) > limits.labels:
        raise LimitExceeded(
            f"{labels[METRIC_NAME]} has {len(labels)} labels, label_limit is {limits.labels}",
            reason="label_limit",
        )
    for name, value in labels.items():
        if limits.label_name and len(name) > limits.label_name:
            raise LimitExceeded(
                f"the label name {name[:60]!r} is longer than label_name_length_limit",
                reason="label_name_length_limit",
            )
        if limits.label_value and len(value) > limits.label_value:
            raise LimitExceeded(
                f"the value of {name[:60]!r} is longer than label_value_length_limit",
                reason="label_value_length_limit",
            )


def _read(state: _State, body: bytes, content_type: str, now_ms: int) -> _Outcome:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadInput("the page is not UTF-8") from error
    openmetrics = content_type.startswith("application/openmetrics-text")
    page = state.parser.parse(text, openmetrics=openmetrics)
    return _outcome(page, state.target.config, now_ms)


def _outcome(page: Page[_Scraped], config: ScrapeConfig, now_ms: int) -> _Outcome:
    series: list[Labels] = []
    values: list[float] = []
    times: list[int] = []
    seen: list[Labels] = []
    for scraped, value, own_ms in zip(page.series, page.values, page.ts_ms, strict=True):
        labels = scraped.labels
        if labels is None:
            continue
        series.append(labels)
        values.append(value)
        if own_ms is not None and config.honor_timestamps:
            times.append(own_ms)
        else:
            times.append(now_ms)
            seen.append(labels)
    limit = config.limits.samples
    if limit and len(series) > limit:
        raise LimitExceeded(
            f"{len(series)} samples are left after relabelling, sample_limit is {limit}",
            reason="sample_limit",
        )
    return _Outcome(
        tuple(series),
        tuple(values),
        tuple(times),
        frozenset(seen),
        exposed=len(page.series),
        metadata=tuple(page.metadata),
        exemplars=tuple(
            Exemplar(
                item.series.labels,
                Labels(item.labels.items()),
                now_ms if item.ts_ms is None else item.ts_ms,
                item.value,
            )
            for item in page.exemplars
            if item.series.labels is not None
        ),
    )


def _batch(state: _State, outcome: _Outcome, now_ms: int) -> SampleBatch:
    gone = tuple(state.seen - outcome.seen)
    report = (
        0.0 if outcome.error else 1.0,
        state.duration_s,
        float(outcome.exposed),
        float(len(outcome.series)),
        float(len(outcome.seen - state.seen)),
    )
    all_series = outcome.series + gone + state.report
    place: dict[Labels, int] = {}
    index = [place.setdefault(labels, len(place)) for labels in all_series]
    extra = len(gone) + len(report)
    metadata = outcome.metadata
    if not state.last_ms:
        metadata += tuple(
            MetricMetadata(name, MetricType.GAUGE, text, unit) for name, text, unit in _REPORT
        )
    return SampleBatch(
        series=tuple(place),
        series_index=np.asarray(index, dtype=np.int32),
        ts_ms=np.asarray(outcome.ts_ms + (now_ms,) * extra, dtype=np.int64),
        values=np.asarray(outcome.values + (STALE,) * len(gone) + report, dtype=np.float64),
        metadata=metadata,
        exemplars=outcome.exemplars,
    )


def _status(state: _State) -> dict[str, Any]:
    target = state.target
    at = np.datetime64(state.last_ms, "ms")
    return {
        "discoveredLabels": dict(target.discovered),
        "labels": dict(target.labels),
        "scrapePool": target.config.job_name,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": state.error,
        "lastScrape": f"{at}Z" if state.last_ms else "0001-01-01T00:00:00Z",
        "lastScrapeDuration": state.duration_s,
        "health": state.health,
        "scrapeInterval": f"{target.interval_s:g}s",
        "scrapeTimeout": f"{target.timeout_s:g}s",
    }
