"""OpenSLO v1's service level indicators: ratio and threshold metrics, to queries with a window.

OpenSLO has no placeholder for a window. A query's own ranges (`[5m]`) are therefore replaced by the
window asked for (of a range within a subquery, the subquery's), and a plain counter is wrapped in
`rate`; with `counter: false` each sample is a number of events of its own, and they are summed. A
threshold metric counts measurements, one each 15 s: those at which `query op value` does not hold
are bad.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from slos.definition import WINDOW, EventSli, RatioSli, has_placeholder
from slos.fields import Fields
from store.promql.lexer import Token, tokenize
from store.promql.parse import parse
from store.promql.printer import to_text
from store.promql.syntax import (
    Aggregate,
    Expr,
    MatrixSelector,
    Subquery,
    VectorSelector,
    children,
)

SLI_SPEC = ("description", "ratioMetric", "thresholdMetric")
_RATIO = ("counter", "good", "bad", "total", "raw", "rawType")
# What makes a measurement bad, by the operator that makes it good.
_BAD = {"lte": ">", "gte": "<", "lt": ">=", "gt": "<="}
_MEASURED_EVERY = "15s"
_PROMETHEUS = "Prometheus"


def parse_sli(indicator: Fields, entry: Fields) -> EventSli | RatioSli:
    """The SLI of an indicator's `spec`; a threshold's `op` and `value` stand in the objective.

    Raises:
        ConfigError: A field is unknown, missing or wrong.
    """
    if ("ratioMetric" in indicator) == ("thresholdMetric" in indicator):
        indicator.fail("", "an SLI is either ratioMetric or thresholdMetric", hint="write one")
    if "thresholdMetric" in indicator:
        return _threshold(indicator, entry)
    ratio = indicator.mapping("ratioMetric", _RATIO)
    if "raw" in ratio:
        return _raw(ratio)
    if "good" not in ratio and "bad" not in ratio:
        ratio.fail("", "a ratio has good or bad, beside total", hint="write one of them")
    part = "bad" if "bad" in ratio else "good"
    over = "rate" if ratio.flag("counter", default=True) else "sum_over_time"
    return EventSli(
        _windowed(ratio, part, over), _windowed(ratio, "total", over), counts_good=part == "good"
    )


def _raw(ratio: Fields) -> RatioSli:
    query = _windowed(ratio, "raw", "")
    kind = ratio.text("rawType", default="failure")
    if kind not in {"success", "failure"}:
        ratio.fail("rawType", f"unknown rawType {kind!r}", hint="write success or failure")
    return RatioSli(f"1 - ({query})" if kind == "success" else query)


def _threshold(indicator: Fields, entry: Fields) -> EventSli:
    query = _source(indicator, "thresholdMetric").query("query", placeholder=False)
    operator = entry.text("op", hint=f"write one of {', '.join(_BAD)}")
    if operator not in _BAD:
        entry.fail("op", f"unknown op {operator!r}", hint=f"one of {', '.join(_BAD)}")
    value = entry.number("value", hint="write the threshold that op compares with")
    steps = f"[{WINDOW}:{_MEASURED_EVERY}]"
    # A quantile over no requests is NaN, and no measurement.
    known = f"(({query}) >= -Inf)"
    return EventSli(
        query=f"sum_over_time(({known} {_BAD[operator]} bool {value:.12g}){steps})",
        total_query=f"count_over_time({known}{steps})",
        counted=True,
        noun="measurements",
    )


def refuse_foreign(indicator: Fields, sources: Mapping[str, str]) -> None:
    """Refuse a metric source that refers to a DataSource of a type that is not read here.

    Args:
        indicator: An indicator's `spec`.
        sources: Type by name of the DataSources in these files; others are taken to be Prometheus.
    """
    ratio = "ratioMetric" in indicator
    holder = indicator.mapping("ratioMetric", _RATIO) if ratio else indicator
    parts = ("good", "bad", "total", "raw") if ratio else ("thresholdMetric",)
    for source in (_metric_source(holder, key) for key in parts if key in holder):
        if "metricSourceRef" not in source:
            continue
        # `parse_sli` refuses any other type that is written beside it.
        name = source.text("metricSourceRef")
        if not _is_prometheus(sources.get(name, _PROMETHEUS)):
            source.fail(
                "metricSourceRef",
                f"the data source {name!r} is of type {sources[name]!r}, which is not read here",
                hint="name one of type Prometheus",
            )


def _is_prometheus(kind: str) -> bool:
    return kind.lower() == _PROMETHEUS.lower()


def _metric_source(parent: Fields, key: str) -> Fields:
    return parent.mapping(key, ("metricSource",)).mapping(
        "metricSource", ("metricSourceRef", "type", "spec")
    )


def _source(parent: Fields, key: str) -> Fields:
    source = _metric_source(parent, key)
    kind = source.text("type", default=_PROMETHEUS)
    if not _is_prometheus(kind):
        source.fail("type", f"metric source {kind!r} is not read here", hint="write Prometheus")
    return source.mapping("spec", ("query",))


def _windowed(ratio: Fields, key: str, over: str) -> str:
    """A query whose range is the window's placeholder; `over` wraps one that has no range."""
    source = _source(ratio, key)
    query = source.query("query", placeholder=False)
    if has_placeholder(query):
        return query
    tree = parse(query)
    ranges = list(_ranges(tree, tokenize(query)))
    if ranges:
        for start, end in reversed(ranges):
            query = query[:start] + WINDOW + query[end:]
        return query
    if not over:
        # A recorded ratio is averaged over the window.
        return f"avg_over_time(({query})[{WINDOW}:{_MEASURED_EVERY}])"
    return _summed(source, tree, over)


def _ranges(node: Expr, tokens: list[Token]) -> Iterator[tuple[int, int]]:
    """Where the outermost ranges are written, brackets and steps left out, in order."""
    match node:
        case MatrixSelector(selector=inner) | Subquery(expr=inner):
            after = [token for token in tokens if token.start >= inner.span.end]
            start = next(token.end for token in after if token.kind == "[")
            yield start, next(token.start for token in after if token.kind in {":", "]"})
        case _:
            for child in children(node):
                yield from _ranges(child, tokens)


def _summed(source: Fields, tree: Expr, over: str) -> str:
    """`sum(rate(counter[window]))` of a counter or a sum of one; likewise of gauges."""
    summed = isinstance(tree, Aggregate) and tree.op == "sum"
    inner = tree.expr if isinstance(tree, Aggregate) and summed else tree
    if not isinstance(inner, VectorSelector):
        source.fail(
            "query",
            "the query has no range, and is not a metric or a sum of one",
            hint="write sum(rate(requests_total[5m])); the range is replaced by each window",
        )
    return f"sum({over}({to_text(inner)}[{WINDOW}]))"
