"""Figures of CloudWatch, by the names of cloudwatch_exporter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from collector.config_node import Node, text, text_map
from collector.polling.aws_client import AwsClient
from collector.polling.contract import Reading, Sample
from collector.polling.fields import Fields
from collector.polling.json_shapes import items, mapping, number
from store.durations import parse_duration_ms
from store.model import MetricMetadata

MAX_METRICS = 100
MAX_PAGES = 5
MAX_DIMENSIONS = 30
# The newest periods are asked for again: CloudWatch completes them later.
PERIODS = 5
_STATISTICS = {
    "Average": "average",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "SampleCount": "sample_count",
    "Sum": "sum",
}
_PERCENTILE = re.compile(r"p\d{1,2}(\.\d{1,2})?|p100")
_HUMP = re.compile(r"([a-z0-9])([A-Z])")
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9:]+")


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric with one statistic.

    Attributes:
        namespace: Such as `AWS/ApplicationELB`.
        metric: Such as `RequestCount`.
        statistic: `Average`, `Sum`, `Minimum`, `Maximum`, `SampleCount`, or a percentile `p99`.
        dimensions: Every dimension of the metric: CloudWatch adds none up.
        period_s: Seconds that one point stands for.
    """

    namespace: str
    metric: str
    statistic: str
    dimensions: Mapping[str, str]
    period_s: int = 60

    @property
    def name(self) -> str:
        """As cloudwatch_exporter calls it.

        >>> Figure("AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "Sum", {}).name
        'aws_applicationelb_httpcode_elb_5_xx_count_sum'
        """
        statistic = _STATISTICS.get(self.statistic, self.statistic)
        return _safe(f"{self.namespace.lower()}_{_snake(self.metric)}_{statistic}")

    @property
    def labels(self) -> dict[str, str]:
        """Its dimensions.

        >>> Figure("AWS/RDS", "CPUUtilization", "Average", {"DBInstanceIdentifier": "a"}).labels
        {'dbinstance_identifier': 'a'}
        """
        return {_safe(_snake(name)): value for name, value in self.dimensions.items()}


def read_figures(fields: Fields) -> tuple[Figure, ...]:
    """The field `metrics`.

    Raises:
        ConfigError: Too many, or a mistake in one.
    """
    nodes = fields.children("metrics")
    if len(nodes) > MAX_METRICS:
        raise fields.error("metrics", f"at most {MAX_METRICS} are expected")
    return tuple(_figure(node) for node in nodes)


def _figure(node: Node) -> Figure:
    found = Figure(
        namespace=node.get("namespace", text, ""),
        metric=node.get("metric", text, ""),
        statistic=node.get("statistic", _statistic, "Average"),
        dimensions=node.get("dimensions", _dimensions, {}),
        period_s=node.get("period", _period_s, 60),
    )
    node.done()
    for key, value in (("namespace", found.namespace), ("metric", found.metric)):
        if not 0 < len(value) <= 255 or not value[0].isascii() or not value[0].isalpha():
            raise node.document.error(
                (*node.path, key), f"{key}: a metric needs it", hint="AWS/ApplicationELB"
            )
    return found


def ask(client: AwsClient, figures: Sequence[Figure], now_ms: int, reading: Reading) -> None:
    """The newest points of each figure, at their own times.

    Raises:
        PollFailed: The API refuses.
    """
    longest_s = max(figure.period_s for figure in figures)
    until_s = now_ms // 1000
    asked = {
        "MetricDataQueries": [_query(place, each) for place, each in enumerate(figures)],
        "StartTime": (until_s // longest_s - PERIODS) * longest_s,
        "EndTime": until_s,
        "ScanBy": "TimestampAscending",
    }
    more = False
    for page in client.pages("get_metric_data", asked, most=MAX_PAGES):
        more = bool(page.get("NextToken"))
        for message in map(mapping, items(page.get("Messages"))):
            reading.lacks("CloudWatch", str(message.get("Value")), "Ask for fewer metrics.")
        for result in map(mapping, items(page.get("MetricDataResults"))):
            _result(figures, result, reading)
    if more:
        reading.lacks("CloudWatch", f"only {MAX_PAGES} pages are read", "Ask for fewer metrics.")


def _query(place: int, figure: Figure) -> dict[str, Any]:
    metric = {
        "Namespace": figure.namespace,
        "MetricName": figure.metric,
        "Dimensions": [
            {"Name": name, "Value": value} for name, value in sorted(figure.dimensions.items())
        ],
    }
    stat = {"Metric": metric, "Period": figure.period_s, "Stat": figure.statistic}
    return {"Id": f"m{place}", "MetricStat": stat, "ReturnData": True}


def _result(figures: Sequence[Figure], result: Mapping[str, Any], reading: Reading) -> None:
    place = str(result.get("Id", "")).removeprefix("m")
    if not place.isdecimal() or int(place) >= len(figures):
        return
    figure = figures[int(place)]
    if result.get("StatusCode") not in ("Complete", "PartialData"):
        reading.lacks(figure.name, f"CloudWatch says {result.get('StatusCode')}", _FORBIDDEN)
    points = zip(items(result.get("Timestamps")), items(result.get("Values")), strict=False)
    for at, value in points:
        found = number(value)
        if isinstance(at, datetime) and found is not None:
            at_ms = round(at.timestamp() * 1000)
            sample = Sample(figure.name, figure.labels, found, at_ms)
            reading.add(MetricMetadata(figure.name), sample)


_FORBIDDEN = "Allow cloudwatch:GetMetricData: docs/sources/aws.md."


def _snake(name: str) -> str:
    return _HUMP.sub(r"\1_\2", name).lower()


def _safe(name: str) -> str:
    return _NOT_IN_A_NAME.sub("_", name)


def _statistic(value: Any) -> str:
    found = text(value)
    if found not in _STATISTICS and not _PERCENTILE.fullmatch(found):
        raise ValueError(f"one of {', '.join(_STATISTICS)}, or a percentile such as p99")
    return found


def _dimensions(value: Any) -> Mapping[str, str]:
    found = text_map(value)
    if len(found) > MAX_DIMENSIONS:
        raise ValueError(f"at most {MAX_DIMENSIONS}")
    return found


def _period_s(value: Any) -> int:
    found = parse_duration_ms(text(value)) // 1000
    if found <= 0 or found % 60 or found > 86_400:
        raise ValueError("whole minutes are expected, such as 1m or 5m")
    return found
