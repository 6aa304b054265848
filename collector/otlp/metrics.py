"""OTLP metrics to `SampleBatch`, by Prometheus's own translation rules.

Sums become counters (delta ones are accumulated), histograms classic buckets, exponential
histograms native ones, and a resource's other attributes `target_info`. Scope labels are left
out, as Prometheus's OTLP endpoint does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from collector.otlp.attributes import MAX_ATTRIBUTES, label_text, plain, plain_dict
from collector.otlp.delta import DeltaState, HistogramDeltaState
from collector.otlp.exponential import native_histogram
from collector.otlp.names import labels_of, metric_name
from collector.otlp.outcome import Decoded, Rejections, source_of
from collector.otlp.wire import parse_leaf_envelope
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
EARLIEST_MS = 946_684_800_000
MAX_AHEAD_MS = 86_400_000
MAX_BOUNDS = 512
MAX_QUANTILES = 64
MAX_HELP = 1024
_DELTA = 1
_CUMULATIVE = 2
_NO_VALUE = 1  # DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK

_IDENTITY = ("service.name", "service.namespace", "service.instance.id")


class _Refused(Exception):
    """A point that cannot be taken; its text is the reason."""


@dataclass(slots=True)
class _Target:
    """One resource: who sends, and the labels that every series of it carries."""

    source: str
    labels: dict[str, str]
    info: dict[str, str]
    latest_ms: int = 0


@dataclass(slots=True)
class _Rows:
    """Growing columns of one body."""

    place: dict[Labels, int] = field(default_factory=dict)
    index: list[int] = field(default_factory=list)
    ts_ms: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    histograms: list[HistogramSample] = field(default_factory=list)
    exemplars: list[Exemplar] = field(default_factory=list)
    metadata: dict[str, MetricMetadata] = field(default_factory=dict)

    def add(self, series: Labels, ts_ms: int, value: float) -> None:
        self.index.append(self.place.setdefault(series, len(self.place)))
        self.ts_ms.append(ts_ms)
        self.values.append(value)

    def add_histogram(self, series: Labels, ts_ms: int, histogram: NativeHistogram) -> None:
        place = self.place.setdefault(series, len(self.place))
        self.histograms.append(HistogramSample(place, ts_ms, histogram))

    def __len__(self) -> int:
        return len(self.index) + len(self.histograms)

    def batch(self) -> SampleBatch:
        return SampleBatch(
            series=tuple(self.place),
            series_index=np.asarray(self.index, dtype=np.int32),
            ts_ms=np.asarray(self.ts_ms, dtype=np.int64),
            values=np.asarray(self.values, dtype=np.float64),
            metadata=tuple(self.metadata.values()),
            exemplars=tuple(self.exemplars),
            histograms=tuple(self.histograms),
        )


@dataclass(frozen=True, slots=True)
class _Family:
    """What the points of one metric share."""

    name: str
    target: _Target
    delta: bool
    counter: bool


class MetricDecoder:
    """Decodes bodies; keeps the running totals of delta series between them."""

    def __init__(self, deltas: DeltaState | None = None) -> None:
        self._deltas = deltas or DeltaState()
        self._histogram_deltas = HistogramDeltaState()

    def decode(self, body: bytes, now_ms: int) -> Decoded[SampleBatch]:
        """An `ExportMetricsServiceRequest` as columns; bad points are refused one by one.

        Raises:
            BadInput: The body as a whole is no OTLP message.
        """
        request = parse_leaf_envelope(body)
        rows = _Rows()
        rejections = Rejections()
        by_source: Counter[str] = Counter()
        for resource in request.resources:
            leaves = [leaf for scope in resource.scopes for leaf in scope.leaves]
            try:
                target = _target(resource.resource)
            except DecodeError:
                rejections.add(source_of("unknown_service"), "malformed_or_not_utf8", len(leaves))
                continue
            before = len(rows)
            for leaf in leaves:
                self._metric(leaf, target, rows, rejections, now_ms)
            _add_target_info(target, rows)
            by_source[target.source] += len(rows) - before
        return Decoded(rows.batch(), dict(by_source), rejections)

    def _metric(
        self, leaf: bytes, target: _Target, rows: _Rows, rejections: Rejections, now_ms: int
    ) -> None:
        try:
            metric = Metric.FromString(leaf)
        except DecodeError:
            rejections.add(target.source, "malformed_or_not_utf8")
            return
        kind = metric.WhichOneof("data")
        if kind is None:
            rejections.add(target.source, "metric_without_data")
            return
        data = getattr(metric, kind)
        points = data.data_points
        family = _family(metric, kind, data, target)
        reason = _refusal(family, kind, data)
        if reason:
            rejections.add(target.source, reason, len(points))
            return
        rows.metadata[family.name] = MetricMetadata(
            family.name, _prometheus_type(kind, family), metric.description[:MAX_HELP], metric.unit
        )
        for point in points:
            try:
                ts_ms = _time_ms(point, now_ms)
                self._point(kind, point, ts_ms, family, rows)
                target.latest_ms = max(target.latest_ms, ts_ms)
            except _Refused as refused:
                rejections.add(target.source, str(refused))

    def _point(self, kind: str, point: Any, ts_ms: int, family: _Family, rows: _Rows) -> None:
        labels = {**_labels(point.attributes), **family.target.labels}
        stale = bool(point.flags & _NO_VALUE)
        if kind in ("gauge", "sum"):
            series = _series(family.name, labels)
            value = STALE if stale else _number(point)
            rows.add(series, ts_ms, self._total(series, value, ts_ms, family))
            rows.exemplars.extend(_exemplars(series, point.exemplars))
        elif kind == "summary":
            _summary(point, ts_ms, labels, family.name, rows)
        elif kind == "histogram":
            self._histogram(point, ts_ms, labels, family, rows)
        else:
            self._exponential(point, ts_ms, labels, family, rows)

    def _total(self, series: Labels, value: float, ts_ms: int, family: _Family) -> float:
        if not family.delta or np.isnan(value):
            return value
        total = self._deltas.add(series, value, ts_ms)
        if total is None:
            raise _Refused("delta_out_of_order")
        return total

    def _histogram(
        self, point: Any, ts_ms: int, labels: dict[str, str], family: _Family, rows: _Rows
    ) -> None:
        bounds, counts = list(point.explicit_bounds), list(point.bucket_counts)
        if counts and len(counts) != len(bounds) + 1:
            raise _Refused("bucket_counts_do_not_match_bounds")
        if len(bounds) > MAX_BOUNDS or any(b <= a for a, b in pairwise(bounds)):
            raise _Refused("bad_bucket_bounds")
        cumulative = np.cumsum(np.asarray(counts[:-1], dtype=np.float64)).tolist()
        cells = list(zip(map(_bound_text, bounds), cumulative, strict=False))
        added = _histogram_cells(cells, point, labels, family.name)
        stale = bool(point.flags & _NO_VALUE)
        totals = [
            (series, STALE if stale else self._total(series, value, ts_ms, family))
            for series, value in added
        ]
        for series, value in totals:
            rows.add(series, ts_ms, value)
        rows.exemplars.extend(_bucket_exemplars(point.exemplars, bounds, labels, family.name))

    def _exponential(
        self, point: Any, ts_ms: int, labels: dict[str, str], family: _Family, rows: _Rows
    ) -> None:
        series = _series(family.name, labels)
        if point.flags & _NO_VALUE:
            rows.add(series, ts_ms, STALE)
            return
        histogram = native_histogram(point)
        if histogram is None:
            raise _Refused("bad_exponential_buckets")
        if family.delta:
            histogram = self._histogram_deltas.add(series, histogram, ts_ms)
            if histogram is None:
                raise _Refused("delta_out_of_order")
        rows.add_histogram(series, ts_ms, histogram)
        rows.exemplars.extend(_exemplars(series, point.exemplars))


def _target(encoded: bytes) -> _Target:
    attributes = plain_dict(Resource.FromString(encoded).attributes)
    service = label_text(attributes.get("service.name")) or "unknown_service"
    namespace = label_text(attributes.get("service.namespace"))
    instance = label_text(attributes.get("service.instance.id"))
    labels = {"job": f"{namespace}/{service}" if namespace else service}
    if instance:
        labels["instance"] = instance
    rest = [(k, label_text(v)) for k, v in attributes.items() if k not in _IDENTITY]
    return _Target(source_of(service), labels, labels_of(rest))


def _add_target_info(target: _Target, rows: _Rows) -> None:
    if target.info and target.latest_ms:
        rows.add(_series("target_info", {**target.info, **target.labels}), target.latest_ms, 1.0)
        rows.metadata["target_info"] = MetricMetadata(
            "target_info", MetricType.GAUGE, "Target metadata"
        )


def _family(metric: Any, kind: str, data: Any, target: _Target) -> _Family:
    counter = kind == "sum" and data.is_monotonic
    name = metric_name(metric.name, metric.unit, counter=counter, gauge=kind == "gauge")
    counted = kind in ("sum", "histogram", "exponential_histogram")
    delta = counted and data.aggregation_temporality == _DELTA
    return _Family(name, target, delta, counter)


def _refusal(family: _Family, kind: str, data: Any) -> str:
    if not family.name:
        return "no_metric_name"
    if kind in ("gauge", "summary"):
        return ""
    temporality = data.aggregation_temporality
    if temporality not in (_DELTA, _CUMULATIVE):
        return "unspecified_temporality"
    return ""


def _prometheus_type(kind: str, family: _Family) -> MetricType:
    if kind == "sum":
        return MetricType.COUNTER if family.counter else MetricType.GAUGE
    if kind == "gauge":
        return MetricType.GAUGE
    return MetricType.SUMMARY if kind == "summary" else MetricType.HISTOGRAM


def _time_ms(point: Any, now_ms: int) -> int:
    ts_ms: int = point.time_unix_nano // 1_000_000
    if not EARLIEST_MS <= ts_ms <= now_ms + MAX_AHEAD_MS:
        raise _Refused("absurd_time")
    return ts_ms


def _number(point: Any) -> float:
    kind = point.WhichOneof("value")
    if kind is None:
        raise _Refused("point_without_value")
    return float(getattr(point, kind))


def _labels(attributes: Sequence[Any]) -> dict[str, str]:
    if len(attributes) > MAX_ATTRIBUTES:
        raise _Refused("too_many_labels")
    return labels_of((item.key, label_text(plain(item.value))) for item in attributes)


def _series(name: str, labels: dict[str, str], **extra: str) -> Labels:
    return Labels({**labels, **extra, METRIC_NAME: name}.items())


def _bound_text(bound: float) -> str:
    """A bucket bound as Prometheus writes it.

    >>> _bound_text(5.0), _bound_text(0.25)
    ('5', '0.25')
    """
    return label_text(float(bound))


def _histogram_cells(
    cells: Iterable[tuple[str, float]], point: Any, labels: dict[str, str], name: str
) -> list[tuple[Labels, float]]:
    found = [(_series(f"{name}_bucket", labels, le=le), value) for le, value in cells]
    found.append((_series(f"{name}_bucket", labels, le="+Inf"), float(point.count)))
    found.append((_series(f"{name}_count", labels), float(point.count)))
    if point.HasField("sum"):
        found.append((_series(f"{name}_sum", labels), point.sum))
    return found


def _summary(point: Any, ts_ms: int, labels: dict[str, str], name: str, rows: _Rows) -> None:
    if len(point.quantile_values) > MAX_QUANTILES:
        raise _Refused("too_many_quantiles")
    stale = bool(point.flags & _NO_VALUE)
    cells = [
        (_series(name, labels, quantile=_bound_text(item.quantile)), item.value)
        for item in point.quantile_values
    ]
    cells.append((_series(f"{name}_sum", labels), point.sum))
    cells.append((_series(f"{name}_count", labels), float(point.count)))
    for series, value in cells:
        rows.add(series, ts_ms, STALE if stale else value)


def _exemplars(series: Labels, encoded: Iterable[Any]) -> Iterable[Exemplar]:
    for item in encoded:
        kind = item.WhichOneof("value")
        ts_ms = item.time_unix_nano // 1_000_000
        if kind is None or not EARLIEST_MS <= ts_ms < 1 << 45:
            continue
        pairs = labels_of(
            (entry.key, label_text(plain(entry.value))) for entry in item.filtered_attributes
        )
        if item.trace_id:
            pairs["trace_id"] = item.trace_id.hex()
        if item.span_id:
            pairs["span_id"] = item.span_id.hex()
        yield Exemplar(series, Labels(pairs.items()), ts_ms, float(getattr(item, kind)))


def _bucket_exemplars(
    encoded: Iterable[Any], bounds: Sequence[float], labels: dict[str, str], name: str
) -> Iterable[Exemplar]:
    for item in encoded:
        kind = item.WhichOneof("value")
        if kind is None:
            continue
        value = float(getattr(item, kind))
        bound = next((_bound_text(bound) for bound in bounds if value <= bound), "+Inf")
        yield from _exemplars(_series(f"{name}_bucket", labels, le=bound), (item,))
