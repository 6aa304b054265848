"""Prometheus rule files to frozen rules, checked as `promtool check rules` would."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from alerts.fields import Fields
from alerts.template_check import check_rule_template
from alerts.template_text import TemplateError
from store.documents import parse_document
from store.errors import QueryError
from store.promql.parse import parse
from store.promql.syntax import ValueType
from store.promql.typecheck import value_type

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
MAX_RULES = 20_000
_LABEL_HINT = "a label has letters, digits and _, does not begin with a digit, and is not __name__"
_GROUP_FIELDS = (
    "name",
    "interval",
    "limit",
    "query_offset",
    "labels",
    "rules",
    "partial_response_strategy",
)
_RULE_FIELDS = ("record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations")


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """`record`: the answer of a query, kept as a series."""

    record: str
    expr: str
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.record


@dataclass(frozen=True, slots=True)
class AlertingRule:
    """`alert`: what a query answers with is wrong."""

    alert: str
    expr: str
    hold_s: float = 0.0
    keep_firing_s: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.alert

    @property
    def texts(self) -> str:
        """Every template of the rule, one a line."""
        return "\n".join((*self.labels.values(), *self.annotations.values()))


Rule = RecordingRule | AlertingRule


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules evaluated in order at one instant.

    Attributes:
        interval_ms: How often; 0 stands for every tick.
        limit: More series or alerts than this of one rule are an error; 0 is no limit.
        query_offset_ms: Queries look this far back, for data that comes late.
    """

    name: str
    file: str
    rules: tuple[Rule, ...]
    interval_ms: int = 0
    limit: int = 0
    query_offset_ms: int = 0


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A file's groups, in order."""

    file: str
    groups: tuple[RuleGroup, ...]


def parse_rule_file(text: str, file: str) -> RuleFile:
    """The groups of a rule file.

    Raises:
        ConfigError: With file, line and what to write instead.
    """
    top = Fields(parse_document(text, file), (), "the rule file")
    groups: list[RuleGroup] = []
    for child in top.children("groups", "a rule group"):
        group = _group(child, file)
        if any(known.name == group.name for known in groups):
            problem = f"the group {group.name!r} stands twice in this file"
            raise child.error("name", problem, hint="rename one of them")
        groups.append(group)
    top.done()
    return RuleFile(file, tuple(groups))


def _group(fields: Fields, file: str) -> RuleGroup:
    fields.only(*_GROUP_FIELDS)
    name = fields.string("name")
    if not name:
        raise fields.error("name", "a rule group needs a name", hint="write name: shop")
    shared = _labels(fields)
    rules: list[Rule] = []
    seen: set[tuple[object, ...]] = set()
    for child in fields.children("rules", "a rule"):
        rule = _rule(child, shared)
        identity = (type(rule), rule.name, rule.expr, tuple(sorted(rule.labels.items())))
        if identity in seen:
            raise child.error(
                "alert" if isinstance(rule, AlertingRule) else "record",
                f"the rule {rule.name!r} with the same labels and expression stands twice",
                hint="remove one of them",
            )
        seen.add(identity)
        rules.append(rule)
    if len(rules) > MAX_RULES:
        problem = f"the group has more than {MAX_RULES} rules"
        raise fields.error("rules", problem, hint="split it into several groups")
    group = RuleGroup(
        name=name,
        file=file,
        rules=tuple(rules),
        interval_ms=fields.duration_ms("interval", 0),
        limit=fields.integer("limit"),
        query_offset_ms=fields.duration_ms("query_offset", 0),
    )
    fields.ignore("partial_response_strategy")
    fields.done()
    return group


def _rule(fields: Fields, shared: dict[str, str]) -> Rule:
    fields.only(*_RULE_FIELDS)
    record, alert = fields.string("record", ""), fields.string("alert", "")
    if bool(record) == bool(alert):
        problem = "only one of 'record' and 'alert' must be set"
        hint = "make two rules of it" if record else "write alert: and its name"
        raise fields.error("record" if record else "expr", problem, hint=hint)
    expr = fields.string("expr")
    _check_expression(fields, record or alert, expr)
    labels = {**shared, **_labels(fields)}
    rule = _recording(fields, record, expr, labels) if record else None
    found = rule or _alerting(fields, alert, expr, labels)
    fields.done()
    return found


def _check_expression(fields: Fields, name: str, expr: str) -> None:
    """Refuse what cannot be parsed, and what a rule can never make series of."""
    try:
        tree = parse(expr)
    except QueryError as exc:
        raise fields.error(
            "expr",
            f"the expression of {name!r} cannot be parsed: {exc.message}",
            hint="the figures are line and column within the expression",
        ) from exc
    if value_type(tree) not in {ValueType.VECTOR, ValueType.SCALAR}:
        raise fields.error(
            "expr",
            f"the expression of {name!r} gives neither an instant vector nor a scalar",
            hint="wrap a range in a function, like rate(x_total[5m])",
        )


def _recording(fields: Fields, record: str, expr: str, labels: dict[str, str]) -> RecordingRule:
    for name in ("for", "keep_firing_for", "annotations"):
        if fields.has(name):
            problem = f"a recording rule must not have {name!r}"
            raise fields.error(name, problem, hint="remove it, or write alert instead of record")
    if not _METRIC.fullmatch(record):
        problem = f"{record!r} is no metric name"
        raise fields.error("record", problem, hint="write it like job:requests:rate5m")
    return RecordingRule(record, expr, labels)


def _alerting(fields: Fields, alert: str, expr: str, labels: dict[str, str]) -> AlertingRule:
    annotations = fields.text_mapping("annotations")
    for section, texts in (("labels", labels), ("annotations", annotations)):
        for name, text in texts.items():
            if not _LABEL.fullmatch(name):
                path = (*fields.path, section, name)
                problem = f"{name!r} is no label name"
                raise fields.document.error(path, problem, hint=_LABEL_HINT)
            try:
                check_rule_template(text)
            except TemplateError as exc:
                raise fields.document.error(
                    (*fields.path, section, name),
                    f"the template of {name!r} is not valid: {exc}",
                    hint="templates are Go's, with Prometheus's functions",
                ) from exc
    return AlertingRule(
        alert=alert,
        expr=expr,
        hold_s=fields.duration_ms("for", 0) / 1000,
        keep_firing_s=fields.duration_ms("keep_firing_for", 0) / 1000,
        labels=labels,
        annotations=annotations,
    )


def _labels(fields: Fields) -> dict[str, str]:
    labels = fields.text_mapping("labels")
    for name in labels:
        if not _LABEL.fullmatch(name) or name == "__name__":
            problem = f"{name!r} is no label that a rule may set"
            path = (*fields.path, "labels", name)
            raise fields.document.error(path, problem, hint=_LABEL_HINT)
    return labels
