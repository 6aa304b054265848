"""Prometheus's protobuf format: a run of `MetricFamily` messages, each after its length.

The only format of a scrape that carries native histograms. Series are named as Prometheus names
them from it: `le` and `quantile` as OpenMetrics writes numbers, a missing `+Inf` bucket added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError

from collector.remote_write.messages import fields, read_varint
from collector.scrape.exposition_messages import metric_class
from collector.scrape.text_format import (
    MAX_CACHED,
    MAX_EXEMPLARS,
    MAX_SAMPLES,
    MAX_TIME_MS,
    Page,
    PageExemplar,
    PageHistogram,
)
from store.errors import BadInput, LimitExceeded
from store.histogram_checks import validated
from store.histograms import MIN_SCHEMA, Buckets, HistogramError, NativeHistogram, ResetHint
from store.model import METRIC_NAME, MetricMetadata, MetricType

Series = TypeVar("Series")

# A histogram of the most buckets that a client keeps, with its labels and exemplars, is far below.
MAX_METRIC_BYTES = 1 << 20
_NAME, _HELP, _TYPE, _METRIC, _UNIT = range(1, 6)
_COUNTER, _GAUGE, _SUMMARY, _UNTYPED, _HISTOGRAM, _GAUGE_HISTOGRAM = range(6)
_TYPES = {
    _COUNTER: MetricType.COUNTER,
    _GAUGE: MetricType.GAUGE,
    _SUMMARY: MetricType.SUMMARY,
    _HISTOGRAM: MetricType.HISTOGRAM,
    _GAUGE_HISTOGRAM: MetricType.HISTOGRAM,
}


@dataclass(frozen=True, slots=True)
class HistogramChoice:
    """What is taken of a histogram that is there in both forms, and how fine it may be.

    Attributes:
        native: Take native histograms; otherwise only the classic buckets.
        classic: Take the classic buckets of what has a native form, too.
        most_buckets: Lower the resolution until so few are left; 0 is no bound.
        least_factor: Lower the resolution until a bucket is so many times as wide as the one
            before; 0 is no bound.
    """

    native: bool = False
    classic: bool = False
    most_buckets: int = 0
    least_factor: float = 0.0


@dataclass(slots=True)
class _Family:
    """A family's head, and its metrics as bytes: one that is malformed is named."""

    name: str = ""
    help: str = ""
    unit: str = ""
    type: int = _COUNTER
    metrics: tuple[bytes, ...] = ()


class ProtobufParser(Generic[Series]):
    """Parses one target's pages. `make` turns a label set into what the columns hold."""

    def __init__(self, make: Callable[[dict[str, str]], Series], choice: HistogramChoice) -> None:
        self._make = make
        self._choice = choice
        self._cache: dict[tuple[str, ...], Series] = {}
        self._metadata: dict[str, MetricMetadata] = {}

    def parse(self, body: bytes, page: Page[Series]) -> None:
        """A whole page; after an error `page` holds what came before it.

        Raises:
            BadInput: A message cannot be read, or a histogram cannot be.
            LimitExceeded: It holds more than any page should.
        """
        if len(self._cache) > MAX_CACHED:
            self._cache.clear()
        place = 0
        while place < len(body):
            size, place = read_varint(body, place)
            if place + size > len(body):
                raise BadInput("the page is cut short: its last message is not whole")
            self._family(_family(body[place : place + size]), page)
            place += size

    def _family(self, family: _Family, page: Page[Series]) -> None:
        told = MetricMetadata(
            family.name, _TYPES.get(family.type, MetricType.UNKNOWN), family.help, family.unit
        )
        if family.metrics and self._metadata.get(family.name) != told:
            if len(self._metadata) > MAX_CACHED:
                self._metadata.clear()
            self._metadata[family.name] = told
            page.metadata.append(told)
        parse = metric_class().FromString
        for encoded in family.metrics:
            if len(encoded) > MAX_METRIC_BYTES or len(page) > MAX_SAMPLES:
                raise LimitExceeded(
                    f"{family.name[:80]} is past {MAX_METRIC_BYTES} bytes a metric"
                    f" or {MAX_SAMPLES} samples a page",
                    reason="page_size",
                )
            try:
                metric = parse(encoded)
            except DecodeError as error:
                raise BadInput(f"a metric of {family.name[:80]} cannot be read") from error
            self._metric(family, metric, page)

    def _metric(self, family: _Family, metric: Any, page: Page[Series]) -> None:
        row = _Row(self, family.name, metric, page)
        if family.type == _COUNTER:
            series = row.add("", metric.counter.value)
            if metric.counter.HasField("exemplar"):
                row.exemplar(series, metric.counter.exemplar)
        elif family.type == _GAUGE:
            row.add("", metric.gauge.value)
        elif family.type == _SUMMARY:
            _summary(row, metric.summary)
        elif family.type in (_HISTOGRAM, _GAUGE_HISTOGRAM):
            self._histogram(row, metric.histogram, gauge=family.type == _GAUGE_HISTOGRAM)
        else:
            row.add("", metric.untyped.value)

    def _histogram(self, row: _Row[Series], told: Any, *, gauge: bool) -> None:
        native = self._choice.native and _is_native(told)
        if native:
            try:
                histogram = _fitted(_native(told, gauge=gauge), self._choice)
            except HistogramError as error:
                raise BadInput(f"the histogram {row.name[:80]}: {error}") from error
            series = row.series("")
            page = row.page
            page.histograms.append(PageHistogram(series, row.ts_ms, histogram))
            for exemplar in told.exemplars or [b.exemplar for b in told.bucket]:
                # Without a time of its own one could not be told from the last scrape's.
                if exemplar.HasField("timestamp"):
                    row.exemplar(series, exemplar)
        # What cannot be native has nothing but its classic form.
        if not native or (self._choice.classic and told.bucket):
            _classic(row, told)

    def series(self, key: tuple[str, ...], labels: Callable[[], dict[str, str]]) -> Series:
        """What `make` made of a label set, remembered by a key of it."""
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = self._make(labels())
        return found


class _Row(Generic[Series]):
    """One metric of a family on its way into the page's columns."""

    def __init__(
        self, parser: ProtobufParser[Series], name: str, metric: Any, page: Page[Series]
    ) -> None:
        self._parser = parser
        self._pairs = tuple(text for pair in metric.label for text in (pair.name, pair.value))
        self.name = name
        self.page = page
        self.ts_ms = metric.timestamp_ms or None

    def series(self, suffix: str, *bound: str) -> Series:
        name = self.name + suffix
        pairs = self._pairs + bound

        def labels() -> dict[str, str]:
            found = dict(zip(pairs[::2], pairs[1::2], strict=True))
            if len(found) * 2 < len(pairs):
                raise BadInput(f"a label of {name[:80]} stands twice")
            _check_named(found, name)
            return {**found, METRIC_NAME: name}

        return self._parser.series((name, *pairs), labels)

    def add(self, suffix: str, value: float, *bound: str) -> Series:
        series = self.series(suffix, *bound)
        self.page.series.append(series)
        self.page.values.append(float(value))
        self.page.ts_ms.append(self.ts_ms)
        return series

    def exemplar(self, series: Series, told: Any) -> None:
        if len(self.page.exemplars) < MAX_EXEMPLARS:
            labels = {pair.name: pair.value for pair in told.label}
            _check_named(labels, self.name)
            at = told.timestamp
            ts_ms = (
                at.seconds * 1000 + at.nanos // 1_000_000 if told.HasField("timestamp") else None
            )
            if ts_ms is not None and abs(ts_ms) >= MAX_TIME_MS:
                raise BadInput(f"an exemplar of {self.name[:80]} has no time that can be")
            self.page.exemplars.append(PageExemplar(series, labels, told.value, ts_ms))


def _check_named(labels: Mapping[str, str], family: str) -> None:
    if "" in labels:
        raise BadInput(f"a label of {family[:80]} has no name")


def _family(encoded: bytes) -> _Family:
    family = _Family()
    metrics: list[bytes] = []
    for number, value in fields(encoded):
        if number == _METRIC and isinstance(value, bytes):
            metrics.append(value)
            if len(metrics) > MAX_SAMPLES:
                raise LimitExceeded(f"more than {MAX_SAMPLES} metrics", reason="page_size")
        elif number == _TYPE and isinstance(value, int):
            family.type = value
        elif number in (_NAME, _HELP, _UNIT) and isinstance(value, bytes):
            _set_text(family, number, value)
    if not family.name:
        raise BadInput("a metric family has no name")
    family.metrics = tuple(metrics)
    return family


def _set_text(family: _Family, number: int, value: bytes) -> None:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise BadInput("a metric family has a text that is not UTF-8") from error
    if number == _NAME:
        family.name = text
    elif number == _HELP:
        family.help = text[:1024]
    else:
        family.unit = text[:64]


def _summary(row: _Row[Any], told: Any) -> None:
    for quantile in told.quantile:
        row.add("", quantile.value, "quantile", _openmetrics_number(quantile.quantile))
    row.add("_sum", told.sample_sum)
    row.add("_count", told.sample_count)


def _classic(row: _Row[Any], told: Any) -> None:
    total = told.sample_count_float or told.sample_count
    infinite = False
    for bucket in told.bucket:
        bound = bucket.upper_bound
        infinite = infinite or bound == math.inf
        count = bucket.cumulative_count_float or bucket.cumulative_count
        series = row.add("_bucket", count, "le", _openmetrics_number(bound))
        if bucket.HasField("exemplar"):
            row.exemplar(series, bucket.exemplar)
    if not infinite:
        row.add("_bucket", total, "le", "+Inf")
    row.add("_sum", told.sample_sum)
    row.add("_count", total)


def _is_native(told: Any) -> bool:
    """One without an observation yet tells by an empty span that it is native."""
    return bool(
        told.positive_span or told.negative_span or told.zero_threshold > 0 or told.zero_count
    )


def _native(told: Any, *, gauge: bool) -> NativeHistogram:
    floats = told.sample_count_float > 0 or told.zero_count_float > 0
    return validated(
        NativeHistogram(
            schema=told.schema,
            zero_threshold=told.zero_threshold,
            zero_count=told.zero_count_float if floats else float(told.zero_count),
            count=told.sample_count_float if floats else float(told.sample_count),
            sum=told.sample_sum,
            positive=_buckets(
                told.positive_span,
                told.positive_count if floats else told.positive_delta,
                deltas=not floats,
            ),
            negative=_buckets(
                told.negative_span,
                told.negative_count if floats else told.negative_delta,
                deltas=not floats,
            ),
            reset_hint=ResetHint.GAUGE if gauge else ResetHint.UNKNOWN,
        )
    )


def _buckets(spans: Iterable[Any], values: Any, *, deltas: bool) -> Buckets:
    return Buckets.of_spans(
        [(span.offset, span.length) for span in spans], list(values), deltas=deltas
    )


def _fitted(histogram: NativeHistogram, choice: HistogramChoice) -> NativeHistogram:
    """At a resolution that the job's bounds allow.

    Raises:
        HistogramError: It has too many buckets at the lowest resolution, too.
    """
    if choice.least_factor > 1:
        # A bucket of schema n is 2^(2^-n) times as wide as the one before.
        finest = math.floor(-math.log2(math.log2(choice.least_factor)))
        histogram = histogram.to_schema(max(MIN_SCHEMA, finest))
    while 0 < choice.most_buckets < len(histogram.positive) + len(histogram.negative):
        if histogram.schema <= MIN_SCHEMA:
            raise HistogramError(
                f"it has more buckets than native_histogram_bucket_limit {choice.most_buckets}"
            )
        histogram = histogram.to_schema(histogram.schema - 1)
    return histogram


@lru_cache(4096)
def _openmetrics_number(value: float) -> str:
    """A bound as Prometheus writes it: Go's shortest form, with a dot or an exponent.

    >>> [_openmetrics_number(value) for value in (1.0, 0.005, 1e6, 123456.0, 0.00001)]
    ['1.0', '0.005', '1e+06', '123456.0', '1e-05']
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{value:+}".replace("inf", "Inf")
    number = Decimal(repr(value)).normalize()
    sign, digits, _ = number.as_tuple()
    power = number.adjusted()
    if value and not -4 <= power < 6:
        first, *rest = map(str, digits)
        point = "." if rest else ""
        return f"{'-' * sign}{first}{point}{''.join(rest)}e{power:+03d}"
    text = f"{number:f}"
    return text if "." in text else f"{text}.0"
