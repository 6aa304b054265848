"""Files of promtool's rule tests to frozen values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime

from alerts.fields import Fields, text_of
from alerts.rule_tests.notation import parse_series, parse_values
from store.documents import parse_document
from store.model import Labels

MAX_EVALUATIONS = 100_000
_DEFAULT_INTERVAL_MS = 60_000
_MAX_CASES = 10_000


@dataclass(frozen=True, slots=True)
class InputSeries:
    """A series with one value, or none, for each interval from the start."""

    labels: Labels
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class ExpectedAlert:
    """An alert that must be firing; `labels` hold its `alertname` too."""

    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class AlertCase:
    """Which alerts of a name fire at `at_ms` after the start. `line` is where the case stands."""

    name: str
    at_ms: int
    expected: tuple[ExpectedAlert, ...]
    line: int | None


@dataclass(frozen=True, slots=True)
class ExpressionCase:
    """What a query answers at `at_ms` after the start."""

    expr: str
    at_ms: int
    expected: tuple[tuple[Labels, float], ...]
    line: int | None


@dataclass(frozen=True, slots=True)
class RuleTest:
    """Input series, and what must come of them. Times count from `start_ms` since the epoch."""

    name: str
    line: int | None
    interval_ms: int
    start_ms: int
    series: tuple[InputSeries, ...]
    alerts: tuple[AlertCase, ...]
    expressions: tuple[ExpressionCase, ...]
    external_url: str = ""
    external_labels: dict[str, str] = field(default_factory=dict)

    @property
    def end_ms(self) -> int:
        """The latest instant that any case asks for."""
        times = [c.at_ms for c in self.alerts] + [c.at_ms for c in self.expressions]
        return max(times, default=0)


@dataclass(frozen=True, slots=True)
class RuleTestFile:
    """A whole file. `rule_files` are patterns relative to it."""

    file: str
    rule_files: tuple[str, ...]
    evaluation_interval_ms: int
    group_order: tuple[str, ...]
    fuzzy_compare: bool
    tests: tuple[RuleTest, ...]


def parse_rule_tests(text: str, file: str) -> RuleTestFile:
    """The tests of a file in promtool's format.

    Raises:
        ConfigError: With file, line and what to write instead.
    """
    top = Fields(parse_document(text, file), (), "the test file")
    interval_ms = top.duration_ms("evaluation_interval", 0) or _DEFAULT_INTERVAL_MS
    order = top.strings("group_eval_order")
    for name in order:
        if order.count(name) > 1:
            raise top.error("group_eval_order", f"group name repeated in evaluation order: {name}")
    found = RuleTestFile(
        file=file,
        rule_files=top.strings("rule_files"),
        evaluation_interval_ms=interval_ms,
        group_order=order,
        fuzzy_compare=top.boolean("fuzzy_compare", default=False),
        tests=tuple(_test(child, interval_ms) for child in top.children("tests", "a test")),
    )
    top.done()
    return found


def _test(fields: Fields, evaluation_interval_ms: int) -> RuleTest:
    test = RuleTest(
        name=fields.string("name", ""),
        line=fields.document.line_of(fields.path),
        interval_ms=fields.duration_ms("interval", 0) or evaluation_interval_ms,
        start_ms=_start_ms(fields),
        series=tuple(_series(c) for c in fields.children("input_series", "an input series")),
        alerts=tuple(_alert(c) for c in fields.children("alert_rule_test", "an alert test")),
        expressions=tuple(
            _expression(c) for c in fields.children("promql_expr_test", "an expression test")
        ),
        external_url=fields.string("external_url", ""),
        external_labels=fields.text_mapping("external_labels"),
    )
    if len(test.alerts) + len(test.expressions) > _MAX_CASES:
        raise fields.error("alert_rule_test", f"the test has more than {_MAX_CASES} cases")
    if test.end_ms // evaluation_interval_ms > MAX_EVALUATIONS:
        raise fields.error(
            "interval",
            f"the last eval_time needs more than {MAX_EVALUATIONS} evaluations",
            hint="use a longer evaluation_interval or an earlier eval_time",
        )
    fields.done()
    return test


def _start_ms(fields: Fields) -> int:
    text = text_of(fields.raw("start_timestamp")) if fields.has("start_timestamp") else "0"
    fields.ignore("start_timestamp")
    try:
        seconds = float(text or "")
        return round(seconds * 1000) if math.isfinite(seconds) else 0
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise fields.error(
            "start_timestamp", f"{text!r} is neither seconds since the epoch nor RFC 3339"
        )
    return round(at.timestamp() * 1000)


def _series(fields: Fields) -> InputSeries:
    name, values = fields.string("series"), fields.string("values")
    try:
        labels = parse_series(name)
    except ValueError as exc:
        raise fields.error("series", str(exc)) from exc
    try:
        parsed = parse_values(values)
    except ValueError as exc:
        raise fields.error("values", f"series {name!r}: {exc}") from exc
    fields.done()
    return InputSeries(labels, tuple(parsed))


def _alert(fields: Fields) -> AlertCase:
    name = fields.string("alertname", "")
    if not name:
        raise fields.error("alertname", "an item under alert_rule_test needs an alertname")
    expected = []
    for child in fields.children("exp_alerts", "an expected alert"):
        labels = child.text_mapping("exp_labels")
        expected.append(
            ExpectedAlert({**labels, "alertname": name}, child.text_mapping("exp_annotations"))
        )
        child.done()
    case = AlertCase(
        name=name,
        at_ms=fields.duration_ms("eval_time", 0),
        expected=tuple(expected),
        line=fields.document.line_of(fields.path),
    )
    fields.done()
    return case


def _expression(fields: Fields) -> ExpressionCase:
    samples = []
    for child in fields.children("exp_samples", "an expected sample"):
        if child.has("histogram"):
            raise child.error("histogram", "native histograms are not part of this version")
        samples.append((_labels(child), _number(child)))
        child.done()
    case = ExpressionCase(
        expr=fields.string("expr"),
        at_ms=fields.duration_ms("eval_time", 0),
        expected=tuple(samples),
        line=fields.document.line_of(fields.path),
    )
    fields.done()
    return case


def _labels(fields: Fields) -> Labels:
    text = fields.string("labels", "{}")
    try:
        return parse_series(text)
    except ValueError as exc:
        raise fields.error("labels", str(exc)) from exc


def _number(fields: Fields) -> float:
    text = fields.string("value", "0")
    try:
        return float(text)
    except ValueError:
        raise fields.error("value", f"{text!r} is no number") from None
