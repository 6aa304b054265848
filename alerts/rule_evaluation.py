"""Evaluates rules: recorded series are appended, active alerts answered. Each rule fails alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from alerts.model import Alert
from alerts.rule_files import AlertingRule, RecordingRule, Rule, RuleFile, RuleGroup
from alerts.template_functions import TemplateContext
from alerts.templates import render_or_explain
from store.errors import QueryError
from store.model import METRIC_NAME, STALE_NAN_BITS, Labels, SampleBatch, UnitHealth
from store.ports import Appender, Querier

STALE_NAN = float(np.array([STALE_NAN_BITS], dtype=np.uint64).view(np.float64)[0])
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_APPEND_TIMEOUT_S = 30.0

Row = tuple[Labels, int, float]


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """What templates see beside the alert."""

    external_url: str = ""
    external_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Slot:
    """A rule with what its last evaluation came to."""

    group: RuleGroup
    rule: Rule
    unit: str
    words: frozenset[str]
    last_ms: int | None = None
    health: UnitHealth | None = None
    series: frozenset[Labels] = frozenset()
    alerts: tuple[Alert, ...] = ()

    def due(self, now_ms: int) -> bool:
        """The group's interval has turned since the last evaluation."""
        interval_ms = self.group.interval_ms
        if self.last_ms is None or interval_ms <= 0:
            return True
        return now_ms // interval_ms != self.last_ms // interval_ms


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """A rule and how it fared last; health is None before its first evaluation."""

    group: RuleGroup
    rule: Rule
    unit: str
    health: UnitHealth | None


class RuleEvaluator:
    """Evaluates the rules of some files. Not thread-safe: one tick at a time."""

    def __init__(
        self,
        querier: Querier,
        appender: Appender,
        files: Sequence[RuleFile],
        options: RuleOptions = RuleOptions(),
    ) -> None:
        self.files = tuple(files)
        self._querier = querier
        self._appender = appender
        self._options = options
        self._slots = [
            _Slot(group, rule, _unit(group, rule, place), frozenset(_WORD.findall(rule.expr)))
            for file in files
            for group in file.groups
            for place, rule in enumerate(group.rules)
        ]

    def record(self, now_ms: int) -> tuple[UnitHealth, ...]:
        """Evaluate the recording rules that are due, and append what they give.

        A rule that reads what an earlier one records sees it at the same instant. The samples are
        visible to readers when this returns.
        """
        pending: list[Row] = []
        names: set[str] = set()
        due = [s for s in self._slots if isinstance(s.rule, RecordingRule) and s.due(now_ms)]
        for slot in due:
            if not names.isdisjoint(slot.words):
                self._flush(pending, names)
            self._run(slot, now_ms, partial(self._record, slot, now_ms, pending))
            names.add(slot.rule.name)
        self._flush(pending, names)
        return tuple(s.health for s in self._of(RecordingRule) if s.health is not None)

    def alerts(self, now_ms: int) -> tuple[list[Alert], tuple[UnitHealth, ...]]:
        """The alerts whose condition holds, and how every alerting rule fared last.

        A rule that is not due answers as it did last. One that failed answers with nothing and
        an unhealthy unit; the engine then keeps the states of that unit.
        """
        for slot in self._of(AlertingRule):
            if slot.due(now_ms):
                slot.alerts = ()
                self._run(slot, now_ms, partial(self._alert, slot, now_ms))
        slots = list(self._of(AlertingRule))
        health = tuple(slot.health for slot in slots if slot.health is not None)
        return [alert for slot in slots for alert in slot.alerts], health

    def statuses(self) -> list[RuleStatus]:
        """Every rule with its last health, in the order of the files."""
        return [RuleStatus(s.group, s.rule, s.unit, s.health) for s in self._slots]

    def _of(self, kind: type[RecordingRule | AlertingRule]) -> Iterable[_Slot]:
        return (slot for slot in self._slots if isinstance(slot.rule, kind))

    def _run(self, slot: _Slot, now_ms: int, action: Callable[[], None]) -> None:
        began = time.perf_counter()
        error = ""
        try:
            action()
        except Exception as exc:  # noqa: BLE001 - the boundary at which one rule fails alone
            error = str(exc) or type(exc).__name__
        slot.last_ms = now_ms
        took_s = time.perf_counter() - began
        slot.health = UnitHealth(slot.unit, not error, now_ms, took_s, error)

    def _flush(self, pending: list[Row], names: set[str]) -> None:
        if pending:
            batch = SampleBatch.of_rows(pending)
            self._appender.append(batch).result(timeout=_APPEND_TIMEOUT_S)
        pending.clear()
        names.clear()

    def _record(self, slot: _Slot, now_ms: int, pending: list[Row]) -> None:
        at_ms = now_ms - slot.group.query_offset_ms
        rows: dict[Labels, float] = {}
        for labels, value in self._querier.instant(slot.rule.expr, at_ms).items():
            named = labels.replace(**{**slot.rule.labels, METRIC_NAME: slot.rule.name})
            if named in rows:
                raise QueryError(
                    "vector contains metrics with the same labelset after applying rule labels"
                )
            rows[named] = value
        self._check_limit(slot, len(rows), "series")
        current = frozenset(rows)
        ended = [(labels, at_ms, STALE_NAN) for labels in slot.series - current]
        slot.series = current
        pending.extend((labels, at_ms, value) for labels, value in rows.items())
        pending.extend(ended)

    def _alert(self, slot: _Slot, now_ms: int) -> None:
        rule = slot.rule
        assert isinstance(rule, AlertingRule)  # `alerts` picks these only
        at_ms = now_ms - slot.group.query_offset_ms
        context = TemplateContext(
            now_ms=at_ms,
            query=lambda expr: self._querier.instant(expr, at_ms),
            external_url=self._options.external_url,
            external_labels=self._options.external_labels,
        )
        found: dict[Labels, Alert] = {}
        for labels, value in self._querier.instant(rule.expr, at_ms).items():
            alert = _alert_of(slot, rule, labels, value, context)
            if alert.labels in found:
                raise QueryError(
                    "vector contains metrics with the same labelset after applying alert labels"
                )
            found[alert.labels] = alert
        self._check_limit(slot, len(found), "alerts")
        slot.alerts = tuple(found.values())

    def _check_limit(self, slot: _Slot, count: int, what: str) -> None:
        if 0 < slot.group.limit < count:
            raise QueryError(f"exceeded limit of {slot.group.limit} with {count} {what}")


def unknown_units(health: Iterable[UnitHealth]) -> frozenset[str]:
    """Units (`Alert.unit`) of the rules that failed."""
    return frozenset(unit.unit for unit in health if not unit.ok)


def _alert_of(
    slot: _Slot, rule: AlertingRule, labels: Labels, value: float, context: TemplateContext
) -> Alert:
    seen = labels.drop((METRIC_NAME,))
    data = seen.to_dict()
    added = {
        name: render_or_explain(rule.alert, text, data, value, context)
        for name, text in rule.labels.items()
    }
    annotations = {
        name: render_or_explain(rule.alert, text, data, value, context)
        for name, text in rule.annotations.items()
    }
    return Alert(
        labels=seen.replace(**{**added, "alertname": rule.alert}),
        annotations=annotations,
        value=value,
        hold_s=rule.hold_s,
        keep_firing_s=rule.keep_firing_s,
        source="rule",
        unit=slot.unit,
    )


def _unit(group: RuleGroup, rule: Rule, place: int) -> str:
    return f"rule:{group.file};{group.name};{place};{rule.name}"[:1024]
