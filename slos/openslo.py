"""OpenSLO v1 to SLOs.

OpenSLO has no placeholder for a window. A query's own ranges (`[5m]`) are therefore replaced by the
window asked for, and a plain counter is wrapped in `rate`. A threshold metric counts measurements:
the share of instants at which `query op value` holds. Alert policies cannot express two windows and
two factors; the tiers of the windows table guard the objective instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from slos.definition import WINDOW, EventSli, RatioSli, Sli, Slo, has_placeholder
from slos.durations import parse_duration_s
from slos.fields import Fields
from slos.window_table import DEFAULT_TABLE, feasible, load_table, table_names, tiers_for
from store.documents import Document
from store.promql.parse import parse
from store.promql.printer import to_text
from store.promql.syntax import Aggregate, Expr, VectorSelector

API_VERSION = "openslo/v1"
WINDOWS_ANNOTATION = "warroom.dev/windows"
_ROOT = ("apiVersion", "kind", "metadata", "spec")
_METADATA = ("name", "displayName", "labels", "annotations")
_WITHOUT_EFFECT = {
    "DataSource",
    "Service",
    "AlertPolicy",
    "AlertCondition",
    "AlertNotificationTarget",
}
_SLO_SPEC = (
    "description",
    "service",
    "indicator",
    "indicatorRef",
    "timeWindow",
    "budgetingMethod",
    "objectives",
    "alertPolicies",
)
_OBJECTIVE = ("displayName", "op", "value", "target", "targetPercent")
_SLI_SPEC = ("description", "ratioMetric", "thresholdMetric")
_RATIO = ("counter", "good", "bad", "total", "raw", "rawType")
_OPERATORS = {"lte": "<=", "gte": ">=", "lt": "<", "gt": ">"}
_RANGE = re.compile(r"\[\s*[0-9smhdwy]+\s*\]")
_MEASURED_EVERY = "15s"


def parse_openslo(documents: Iterable[Document]) -> list[Slo]:
    """The SLOs of a set of OpenSLO documents; `indicatorRef` looks among these.

    Raises:
        ConfigError: A field is unknown, missing or wrong.
    """
    roots = [Fields(document, (), document.data, _ROOT) for document in documents]
    indicators: dict[str, Fields] = {}
    objectives: list[Fields] = []
    for root in roots:
        kind = root.text("kind")
        if kind == "SLI":
            indicators[_metadata(root).text("name")] = root.mapping("spec", _SLI_SPEC)
        elif kind == "SLO":
            objectives.append(root)
        elif kind not in _WITHOUT_EFFECT:
            root.fail("kind", f"unknown kind {kind!r}", hint="an SLO or an SLI is expected")
    return [slo for root in objectives for slo in _slos(root, indicators)]


def _metadata(root: Fields) -> Fields:
    return root.mapping("metadata", _METADATA)


def _slos(root: Fields, indicators: dict[str, Fields]) -> list[Slo]:
    spec = root.mapping("spec", _SLO_SPEC)
    method = spec.text("budgetingMethod", default="Occurrences")
    if method != "Occurrences":
        spec.fail("budgetingMethod", f"{method!r} is not supported", hint="write Occurrences")
    indicator = _indicator(spec, indicators)
    entries = list(spec.items("objectives", _OBJECTIVE))
    return [_slo(root, spec, entry, indicator, alone=len(entries) == 1) for entry in entries]


def _slo(root: Fields, spec: Fields, entry: Fields, indicator: Fields, *, alone: bool) -> Slo:
    metadata = _metadata(root)
    annotations = metadata.texts("annotations")
    chosen = annotations.pop(WINDOWS_ANNOTATION, "")
    if chosen and chosen not in table_names():
        metadata.fail(
            "annotations",
            f"no windows table {chosen!r}",
            hint=f"known are {', '.join(table_names())}",
        )
    table = load_table(chosen or DEFAULT_TABLE)
    window_s = _window_s(spec, table.period_s)
    objective = _objective(entry)
    kept, refused = feasible(tiers_for(table, window_s, scaled=not chosen), objective)
    if not kept:
        entry.fail(
            "target",
            f"no tier can fire: {refused[0]}",
            hint="raise the target, or let the time window fit the windows table",
        )
    suffix = entry.text("displayName", default=entry.text("target", default="")).strip()
    return Slo(
        name=metadata.text("name") if alone else f"{metadata.text('name')}-{_slug(suffix)}",
        service=spec.text("service"),
        objective=objective,
        window_s=window_s,
        sli=_sli(indicator, entry),
        tiers=kept,
        refused_tiers=refused,
        description=spec.text("description", default=metadata.text("displayName", default="")),
        labels=metadata.texts("labels"),
        annotations=annotations,
        file=root.document.file,
        line=entry.line,
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "objective"


def _indicator(spec: Fields, indicators: dict[str, Fields]) -> Fields:
    if ("indicator" in spec) == ("indicatorRef" in spec):
        spec.fail("", "an SLO has either indicator or indicatorRef", hint="write one of them")
    if "indicator" in spec:
        inline = spec.mapping("indicator", ("metadata", "spec"))
        return inline.mapping("spec", _SLI_SPEC)
    name = spec.text("indicatorRef")
    if name not in indicators:
        known = ", ".join(sorted(indicators)) or "none"
        spec.fail("indicatorRef", f"no SLI {name!r}", hint=f"in these files there are: {known}")
    return indicators[name]


def _window_s(spec: Fields, default_s: int) -> int:
    if "timeWindow" not in spec:
        return default_s
    windows = list(spec.items("timeWindow", ("duration", "isRolling", "calendar")))
    if len(windows) != 1:
        spec.fail("timeWindow", "exactly one time window is expected", hint="keep one")
    window = windows[0]
    if "calendar" in window or not window.flag("isRolling", default=True):
        window.fail("", "calendar windows are not supported", hint="write isRolling: true")
    try:
        return parse_duration_s(window.text("duration"))
    except ValueError as exc:
        window.fail("duration", str(exc), hint="durations are in s, m, h, d or w")


def _objective(entry: Fields) -> float:
    if ("target" in entry) == ("targetPercent" in entry):
        entry.fail(
            "", "an objective has either target or targetPercent", hint="write target: 0.999"
        )
    key = "target" if "target" in entry else "targetPercent"
    value = entry.number(key) / (1 if key == "target" else 100)
    if not 0 < value < 1:
        example = "0.999" if key == "target" else "99.9"
        entry.fail(key, f"{key} must lie between nothing and all", hint=f"write it like {example}")
    return value


def _sli(indicator: Fields, entry: Fields) -> Sli:
    if ("ratioMetric" in indicator) == ("thresholdMetric" in indicator):
        indicator.fail("", "an SLI is either ratioMetric or thresholdMetric", hint="write one")
    if "thresholdMetric" in indicator:
        return _threshold(indicator, entry)
    ratio = indicator.mapping("ratioMetric", _RATIO)
    if "raw" in ratio:
        query = _windowed(ratio, "raw")
        good = ratio.text("rawType", default="failure") == "success"
        return RatioSli(f"1 - ({query})" if good else query)
    if ("good" in ratio) == ("bad" in ratio):
        ratio.fail("", "a ratio has either good or bad, beside total", hint="write one of them")
    part = "good" if "good" in ratio else "bad"
    return EventSli(_windowed(ratio, part), _windowed(ratio, "total"), counts_good=part == "good")


def _threshold(indicator: Fields, entry: Fields) -> Sli:
    query = _source(indicator, "thresholdMetric").query("query", placeholder=False)
    operator = entry.text("op", hint=f"write one of {', '.join(_OPERATORS)}")
    if operator not in _OPERATORS:
        entry.fail("op", f"unknown op {operator!r}", hint=f"one of {', '.join(_OPERATORS)}")
    value = entry.number("value", hint="write the threshold that op compares with")
    good = f"(({query}) {_OPERATORS[operator]} bool {value:.12g})"
    return RatioSli(f"1 - avg_over_time({good}[{WINDOW}:{_MEASURED_EVERY}])")


def _source(parent: Fields, key: str) -> Fields:
    source = parent.mapping(key, ("metricSource",)).mapping(
        "metricSource", ("metricSourceRef", "type", "spec")
    )
    kind = source.text("type", default="Prometheus")
    if kind.lower() != "prometheus":
        source.fail("type", f"metric source {kind!r} is not read here", hint="write Prometheus")
    return source.mapping("spec", ("query",))


def _windowed(ratio: Fields, key: str) -> str:
    """A query whose range is the window's placeholder."""
    source = _source(ratio, key)
    query = source.query("query", placeholder=False)
    if has_placeholder(query):
        return query
    if _RANGE.search(query):
        return _RANGE.sub(f"[{WINDOW}]", query)
    return _rate_of(source, parse(query))


def _rate_of(source: Fields, tree: Expr) -> str:
    """`sum(rate(counter[window]))` of a counter or a sum of one."""
    summed = isinstance(tree, Aggregate) and tree.op == "sum"
    inner = tree.expr if isinstance(tree, Aggregate) and summed else tree
    if not isinstance(inner, VectorSelector):
        source.fail(
            "query",
            "the query has no range, and is not a counter or a sum of one",
            hint="write sum(rate(requests_total[5m])); the range is replaced by each window",
        )
    return f"sum(rate({to_text(inner)}[{WINDOW}]))"
