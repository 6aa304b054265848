"""What one scrape brought, and the batch that is made of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from collector.relabel import relabelled
from collector.scrape.config import ScrapeConfig, ScrapeLimits
from collector.scrape.protobuf_format import ProtobufParser
from collector.scrape.protocols import Protocol, protocol_of
from collector.scrape.target import Target
from collector.scrape.text_format import Page, PageParser
from store.errors import BadInput, LimitExceeded
from store.histograms import NativeHistogram
from store.model import (
    METRIC_NAME,
    STALE_NAN_BITS,
    Exemplar,
    HistogramSample,
    Labels,
    MetricMetadata,
    MetricType,
    SampleBatch,
)

STALE = float(np.array([STALE_NAN_BITS], dtype=np.uint64).view(np.float64)[0])
_REPORT = (
    ("up", "1 if the last scrape succeeded", ""),
    ("scrape_duration_seconds", "Duration of the last scrape", "seconds"),
    ("scrape_samples_scraped", "Samples the target exposed", ""),
    ("scrape_samples_post_metric_relabeling", "Samples left after metric relabelling", ""),
    ("scrape_series_added", "Series that the scrape before did not have", ""),
)


@dataclass(frozen=True, slots=True)
class Scraped:
    """One line's or message's series: its final labels, or None when relabelling drops it."""

    labels: Labels | None


@dataclass(slots=True)
class TargetState:
    """What is remembered of a target between scrapes. `seen` goes stale when it is not there."""

    target: Target
    text: PageParser[Scraped]
    protobuf: ProtobufParser[Scraped]
    report: tuple[Labels, ...]
    seen: frozenset[Labels] = frozenset()
    last_ms: int = 0
    duration_s: float = 0.0
    health: str = "unknown"
    error: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class _Histogram(NamedTuple):
    series: Labels
    ts_ms: int
    histogram: NativeHistogram


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scrape brought. With an error nothing of the page is stored."""

    series: tuple[Labels, ...] = ()
    values: tuple[float, ...] = ()
    ts_ms: tuple[int, ...] = ()
    seen: frozenset[Labels] = frozenset()
    exposed: int = 0
    left: int = 0
    metadata: tuple[MetricMetadata, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    error: str = ""
    histograms: tuple[_Histogram, ...] = ()


def new_state(target: Target) -> TargetState:
    """A target that has not been scraped yet."""
    config = target.config

    def make(labels: dict[str, str]) -> Scraped:
        merged = _with_target(labels, target, honor=config.honor_labels)
        final = relabelled(merged, config.metric_relabel)
        if not final:
            return Scraped(None)
        if METRIC_NAME not in final:
            raise BadInput("metric_relabel_configs leave a series without a name")
        _check(final, config.limits)
        return Scraped(Labels(final.items()))

    report = tuple(Labels({**target.labels, METRIC_NAME: name}.items()) for name, _, _ in _REPORT)
    protobuf = ProtobufParser(make, config.histograms)
    return TargetState(target, PageParser(make), protobuf, report)


def continued(before: TargetState, target: Target) -> TargetState:
    """A target whose job changed: what it had and has no more goes stale at the next scrape."""
    state = new_state(target)
    state.seen, state.last_ms = before.seen, before.last_ms
    state.duration_s, state.health, state.error = before.duration_s, before.health, before.error
    return state


def read_page(state: TargetState, body: bytes, content_type: str, now_ms: int) -> Outcome:
    """The outcome of a page; what cannot be read or passes a limit is its error.

    What came before that line is counted all the same, as in Prometheus.
    """
    page: Page[Scraped] = Page()
    config = state.target.config
    try:
        protocol = protocol_of(content_type, config.fallback_protocol)
        if protocol is Protocol.PROTO:
            state.protobuf.parse(body, page)
        else:
            openmetrics = protocol.is_openmetrics
            state.text.parse(_decoded(body), openmetrics=openmetrics, page=page)
    except (BadInput, LimitExceeded) as error:
        # A line past a limit was read; one that is no sample was not.
        exposed = len(page) + isinstance(error, LimitExceeded)
        left = sum(scraped.labels is not None for scraped in page.series)
        left += sum(row.series.labels is not None for row in page.histograms)
        return Outcome(exposed=exposed, left=left, error=str(error)[:300])
    return _outcome(page, config, now_ms)


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadInput("the page is not UTF-8") from error


def batch_of(state: TargetState, outcome: Outcome, now_ms: int) -> SampleBatch:
    """The page's samples, a staleness marker for what vanished, and the report."""
    gone = tuple(state.seen - outcome.seen)
    report = (
        0.0 if outcome.error else 1.0,
        state.duration_s,
        float(outcome.exposed),
        float(outcome.left),
        float(len(outcome.seen - state.seen)),
    )
    metadata = outcome.metadata
    if not state.last_ms:
        metadata += tuple(
            MetricMetadata(name, MetricType.GAUGE, text, unit) for name, text, unit in _REPORT
        )
    extra = len(gone) + len(report)
    of_histograms = tuple(row.series for row in outcome.histograms)
    all_series = outcome.series + gone + state.report
    place: dict[Labels, int] = {}
    index = [place.setdefault(labels, len(place)) for labels in all_series]
    owners = [place.setdefault(labels, len(place)) for labels in of_histograms]
    return SampleBatch(
        series=tuple(place),
        series_index=np.asarray(index, dtype=np.int32),
        ts_ms=np.asarray(outcome.ts_ms + (now_ms,) * extra, dtype=np.int64),
        values=np.asarray(outcome.values + (STALE,) * len(gone) + report, dtype=np.float64),
        metadata=metadata,
        exemplars=outcome.exemplars,
        histograms=tuple(
            HistogramSample(owner, row.ts_ms, row.histogram)
            for owner, row in zip(owners, outcome.histograms, strict=True)
        ),
    )


def farewell(state: TargetState, now_ms: int) -> SampleBatch:
    """Staleness markers for everything that a target had, its report among it."""
    gone = (*state.seen, *state.report) if state.last_ms else ()
    # The instant of a look that runs late may lie before the last scrape.
    at_ms = max(now_ms, state.last_ms + 1)
    return SampleBatch.of_rows([(labels, at_ms, STALE) for labels in gone])


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
    """Limits as Prometheus: of the final labels, the target's and the name among them."""
    if limits.labels and len(labels) > limits.labels:
        raise LimitExceeded(
            f"{labels[METRIC_NAME]} has {len(labels)} labels, label_limit is {limits.labels}",
            reason="label_limit",
        )
    for name, value in labels.items():
        if not name:
            raise BadInput("metric_relabel_configs leave a label without a name")
        if limits.label_name and len(name.encode()) > limits.label_name:
            raise LimitExceeded(
                f"the label name {name[:60]!r} is longer than label_name_length_limit",
                reason="label_name_length_limit",
            )
        if limits.label_value and len(value.encode()) > limits.label_value:
            raise LimitExceeded(
                f"the value of {name[:60]!r} is longer than label_value_length_limit",
                reason="label_value_length_limit",
            )


def _outcome(page: Page[Scraped], config: ScrapeConfig, now_ms: int) -> Outcome:
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
        own = own_ms if config.honor_timestamps else None
        times.append(now_ms if own is None else own)
        if own is None or config.track_timestamps_staleness:
            seen.append(labels)
    histograms = _histograms(page, config, now_ms, seen)
    limit = config.limits.samples
    left = len(series) + len(histograms)
    if limit and left > limit:
        error = f"{left} samples are left after relabelling, sample_limit is {limit}"
        return Outcome(exposed=len(page), left=left, error=error)
    distinct = frozenset(seen)
    if len(distinct) < len(seen):
        series, values, times = _first_of_each(series, values, times)
        first = {(row.series, row.ts_ms): row for row in reversed(histograms)}
        histograms = [*first.values()]
    return Outcome(
        tuple(series),
        tuple(values),
        tuple(times),
        distinct,
        exposed=len(page),
        left=left,
        metadata=tuple(page.metadata),
        exemplars=_exemplars(page, now_ms),
        histograms=tuple(histograms),
    )


def _histograms(
    page: Page[Scraped], config: ScrapeConfig, now_ms: int, seen: list[Labels]
) -> list[_Histogram]:
    found: list[_Histogram] = []
    for row in page.histograms:
        labels = row.series.labels
        if labels is None:
            continue
        own = row.ts_ms if config.honor_timestamps else None
        found.append(_Histogram(labels, now_ms if own is None else own, row.histogram))
        if own is None or config.track_timestamps_staleness:
            seen.append(labels)
    return found


def _first_of_each(
    series: list[Labels], values: list[float], times: list[int]
) -> tuple[list[Labels], list[float], list[int]]:
    """Of several samples of one series and time, the first one, as Prometheus."""
    first: dict[tuple[Labels, int], float] = {}
    for labels, value, at in zip(series, values, times, strict=True):
        first.setdefault((labels, at), value)
    return [s for s, _ in first], list(first.values()), [at for _, at in first]


def _exemplars(page: Page[Scraped], now_ms: int) -> tuple[Exemplar, ...]:
    return tuple(
        Exemplar(
            item.series.labels,
            Labels(item.labels.items()),
            now_ms if item.ts_ms is None else item.ts_ms,
            item.value,
        )
        for item in page.exemplars
        if item.series.labels is not None
    )
