"""OTLP metrics to `SampleBatch`, by Prometheus's own translation rules.

Sums become counters (delta ones are accumulated), histograms classic buckets, exponential
histograms native ones, and a resource's other attributes `target_info`. Scope labels are left
out, as Prometheus's OTLP endpoint does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from collector.otlp.attributes import MAX_ATTRIBUTES, label_text, plain, plain_dict
from collector.otlp.delta import DeltaState, HistogramDeltaState
from collector.otlp.exemplars import (
    EARLIEST_MS,
    ExemplarBudget,
    bucket_exemplars,
    exemplars_of,
)
from collector.otlp.exponential import native_histogram
from collector.otlp.metric_leaf import (
    MAX_POINT_BYTES,
    MAX_POINTS,
    MetricLeaf,
    metric_leaf,
    parsed_point,
)
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
MAX_AHEAD_MS = 86_400_000
MAX_BOUNDS = 512
MAX_QUANTILES = 64
MAX_HELP = 1024
MALFORMED = "malformed_or_not_utf8"
_ADDED_UP = ("sum", "histogram", "exponential_histogram")
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
    budget: ExemplarBudget = field(default_factory=ExemplarBudget)
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
            LimitExceeded: It holds too many metrics or points.
        """
        request = parse_leaf_envelope(body)
        leaves = _leaves(request.resources)
        rows = _Rows()
        rejections = Rejections()
        by_source: Counter[str] = Counter()
        for resource, found in zip(request.resources, leaves, strict=True):
            try:
                target = _target(resource.resource)
            except DecodeError:
                lost = sum(1 if leaf is None else len(leaf.points) for leaf in found)
                rejections.add(source_of("unknown_service"), MALFORMED, lost)
                continue
            before = len(rows)
            for leaf in found:
                self._metric(leaf, target, rows, rejections, now_ms)
            _add_target_info(target, rows)
            by_source[target.source] += len(rows) - before
        return Decoded(rows.batch(), dict(by_source), rejections)

    def _metric(
        self,
        metric: MetricLeaf | None,
        target: _Target,
        rows: _Rows,
        rejections: Rejections,
        now_ms: int,
    ) -> None:
        if metric is None or not metric.kind:
            rejections.add(target.source, MALFORMED if metric is None else "metric_without_data")
            return
        family = _family(metric, target)
        reason = _refusal(family, metric)
        if reason:
            rejections.add(target.source, reason, len(metric.points))
            return
        rows.metadata[family.name] = MetricMetadata(
            family.name,
            _prometheus_type(metric.kind, family),
            metric.description[:MAX_HELP],
            metric.unit,
        )
        for encoded in metric.points:
            try:
                point = _parsed(metric.kind, encoded)
                ts_ms = _time_ms(point, now_ms)
                self._point(metric.kind, point, ts_ms, family, rows)
                target.latest_ms = max(target.latest_ms, ts_ms)
            except _Refused as refused:
                rejections.add(target.source, str(refused))

    def _point(self, kind: str, point: Any, ts_ms: int, family: _Family, rows: _Rows) -> None:
        labels = {**_labels(point.attributes), **family.target.labels}
        stale = bool(point.flags & _NO_VALUE)
        if kind in ("gauge", "sum"):
            series = _series(family.name, labels)
            value = STALE if stale else _number(point)
            if family.delta and not stale:
                _check_delta(value, counter=family.counter)
            rows.add(series, ts_ms, self._total(series, value, point.time_unix_nano, family))
            rows.exemplars.extend(exemplars_of(series, rows.budget.of(point)))
        elif kind == "summary":
            _summary(point, ts_ms, labels, family.name, rows)
        elif kind == "histogram":
            self._histogram(point, ts_ms, labels, family, rows)
        else:
            self._exponential(point, ts_ms, labels, family, rows)

    def _total(self, series: Labels, value: float, at_ns: int, family: _Family) -> float:
        if not family.delta or np.isnan(value):
            return value
        total = self._deltas.add(series, value, at_ns)
        if total is None:
            raise _Refused("delta_out_of_order")
        return total

    def _histogram(
        self, point: Any, ts_ms: int, labels: dict[str, str], family: _Family, rows: _Rows
    ) -> None:
        bounds, counts = list(point.explicit_bounds), list(point.bucket_counts)
        if family.delta:
            _check_delta(point.sum, counter=False)
        if counts and len(counts) != len(bounds) + 1:
            raise _Refused("bucket_counts_do_not_match_bounds")
        if len(bounds) > MAX_BOUNDS or any(b <= a for a, b in pairwise(bounds)):
            raise _Refused("bad_bucket_bounds")
        cumulative = np.cumsum(np.asarray(counts[:-1], dtype=np.float64)).tolist()
        cells = list(zip(map(_bound_text, bounds), cumulative, strict=False))
        added = _histogram_cells(cells, point, labels, family.name)
        stale = bool(point.flags & _NO_VALUE)
        totals = [
            (series, STALE if stale else self._total(series, value, point.time_unix_nano, family))
            for series, value in added
        ]
        for series, value in totals:
            rows.add(series, ts_ms, value)
        read = rows.budget.of(point)
        rows.exemplars.extend(bucket_exemplars(read, bounds, labels, family.name))

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
            _check_delta(point.sum, counter=False)
            histogram = self._histogram_deltas.add(series, histogram, point.time_unix_nano)
            if histogram is None:
                raise _Refused("delta_out_of_order")
        rows.add_histogram(series, ts_ms, histogram)
        rows.exemplars.extend(exemplars_of(series, rows.budget.of(point)))


def _leaves(resources: Iterable[Any]) -> list[list[MetricLeaf | None]]:
    """The metrics of each resource; points are counted before any total moves."""
    left = MAX_POINTS
    found: list[list[MetricLeaf | None]] = []
    for resource in resources:
        metrics = []
        for leaf in (leaf for scope in resource.scopes for leaf in scope.leaves):
            metric = metric_leaf(leaf, left)
            left -= len(metric.points) if metric else 0
            metrics.append(metric)
        found.append(metrics)
    return found


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


def _family(metric: MetricLeaf, target: _Target) -> _Family:
    counter = metric.kind == "sum" and metric.is_monotonic
    name = metric_name(metric.name, metric.unit, counter=counter, gauge=metric.kind == "gauge")
    return _Family(name, target, metric.kind in _ADDED_UP and metric.temporality == _DELTA, counter)


def _refusal(family: _Family, metric: MetricLeaf) -> str:
    if not family.name:
        return "no_metric_name"
    if metric.kind in _ADDED_UP and metric.temporality not in (_DELTA, _CUMULATIVE):
        return "unspecified_temporality"
    return ""


def _parsed(kind: str, encoded: bytes) -> Any:
    if len(encoded) > MAX_POINT_BYTES:
        raise _Refused("point_too_large")
    try:
        return parsed_point(kind, encoded)
    except (DecodeError, UnicodeDecodeError):
        raise _Refused(MALFORMED) from None


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


def _check_delta(value: float, *, counter: bool) -> None:
    """What would spoil a running total for good, or look like a reset of a counter."""
    if not math.isfinite(value):
        raise _Refused("delta_not_finite")
    if counter and value < 0:
        raise _Refused("negative_delta")


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
