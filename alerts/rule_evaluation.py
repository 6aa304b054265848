"""Evaluates rules: recorded series are appended, active alerts answered. Each rule fails alone."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from alerts import overshoot
from alerts.model import Alert
from alerts.rule_files import AlertingRule, RecordingRule, Rule, RuleFile, RuleGroup
from alerts.template_functions import TemplateContext
from alerts.templates import render_or_explain
from store.errors import QueryError
from store.histograms import NativeHistogram
from store.model import METRIC_NAME, STALE_NAN_BITS, Labels, SampleBatch, UnitHealth
from store.ports import Appender, Querier

STALE_NAN = float(np.array([STALE_NAN_BITS], dtype=np.uint64).view(np.float64)[0])
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
# Functions whose answer depends on more than the series and its value.
_CHANGING = re.compile(r"\b(query|now)\b")
_OVER_LIMIT = "exceeded limit of"
_APPEND_TIMEOUT_S = 30.0
# With more rules than this, groups that have an interval take turns within it, as in Prometheus.
MAX_RULES_AT_ONCE = 1_000

Row = tuple[Labels, int, float | NativeHistogram]


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
    # What was rendered last, by series: with the same value it comes out the same, if `lasting`.
    rendered: dict[Labels, Alert] = field(default_factory=dict)
    lasting: bool = False
    phase_ms: int = 0

    def due(self, now_ms: int) -> bool:
        """The group's interval has turned since the last evaluation."""
        interval_ms = self.group.interval_ms
        if self.last_ms is None or interval_ms <= 0:
            return True
        return (now_ms - self.phase_ms) // interval_ms != (
            self.last_ms - self.phase_ms
        ) // interval_ms


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
        self._querier = querier
        self._appender = appender
        self._options = options
        self._slots: list[_Slot] = []
        self._ended: list[Labels] = []
        self.reload(files)

    def reload(self, files: Sequence[RuleFile]) -> None:
        """Use other rules from the next tick on.

        A rule that stands in the same group of the same file goes on where it was: its health,
        its interval, its series. Series of rules that are gone end at the next tick.
        """
        before: dict[object, list[_Slot]] = {}
        for slot in reversed(self._slots):
            before.setdefault(_identity(slot.group, slot.rule), []).append(slot)
        self.files = tuple(files)
        self._slots = []
        for file in files:
            for group in file.groups:
                for place, rule in enumerate(group.rules):
                    kept = before.get(_identity(group, rule))
                    self._slots.append(_slot(group, rule, place, kept.pop() if kept else None))
        gone = frozenset(s for slots in before.values() for slot in slots for s in slot.series)
        self._ended += gone - {s for slot in self._slots for s in slot.series}
        if len(self._slots) > MAX_RULES_AT_ONCE:
            for slot in self._slots:
                slot.phase_ms = _phase_ms(slot.group)

    def record(self, now_ms: int) -> tuple[UnitHealth, ...]:
        """Evaluate the recording rules that are due, and append what they give.

        A rule that reads what an earlier one records sees it at the same instant. The samples are
        visible to readers when this returns.
        """
        pending: list[Row] = [(labels, now_ms, STALE_NAN) for labels in self._ended]
        self._ended = []
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
        rows: dict[Labels, float | NativeHistogram] = {}
        for labels, value in self._querier.instant(slot.rule.expr, at_ms).samples():
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
            now_ms=now_ms,
            query=lambda expr: self._querier.instant(expr, now_ms),
            external_url=self._options.external_url,
            external_labels=self._options.external_labels,
        )
        found: dict[Labels, Alert] = {}
        before, slot.rendered = slot.rendered, {}
        for labels, value in self._querier.instant(rule.expr, at_ms).items():
            known = before.get(labels) if slot.lasting else None
            if known is None or known.value != value:
                known = _alert_of(slot, rule, labels, value, context)
            alert = slot.rendered[labels] = known
            if alert.labels in found:
                raise QueryError(
                    "vector contains metrics with the same labelset after applying alert labels"
                )
            found[alert.labels] = alert
        self._check_limit(slot, len(found), "alerts")
        slot.alerts = tuple(found.values())

    def _check_limit(self, slot: _Slot, count: int, what: str) -> None:
        if 0 < slot.group.limit < count:
            raise QueryError(f"{_OVER_LIMIT} {slot.group.limit} with {count} {what}")


def unknown_units(health: Iterable[UnitHealth]) -> frozenset[str]:
    """Units (`Alert.unit`) of the rules that failed.

    One over its group's limit is marked: as in Prometheus its alerts end, which is told later.
    """
    return frozenset(
        overshoot.marked(unit.unit) if unit.error.startswith(_OVER_LIMIT) else unit.unit
        for unit in health
        if not unit.ok
    )


def _alert_of(
    slot: _Slot, rule: AlertingRule, labels: Labels, value: float, context: TemplateContext
) -> Alert:
    data = labels.to_dict()
    added = {
        name: render_or_explain(rule.alert, text, data, value, context)
        for name, text in rule.labels.items()
    }
    annotations = {
        name: render_or_explain(rule.alert, text, data, value, context)
        for name, text in rule.annotations.items()
    }
    named = {**data, **added, "alertname": rule.alert}
    if METRIC_NAME not in added:
        named.pop(METRIC_NAME, None)
    return Alert(
        labels=Labels(named.items()),
        annotations=annotations,
        value=value,
        hold_s=rule.hold_s,
        keep_firing_s=rule.keep_firing_s,
        source="rule",
        unit=slot.unit,
    )


def _identity(group: RuleGroup, rule: Rule) -> object:
    labels = tuple(sorted(rule.labels.items()))
    hold = (rule.hold_s, rule.keep_firing_s) if isinstance(rule, AlertingRule) else ()
    return group.file, group.name, type(rule), rule.name, rule.expr, labels, hold


def _phase_ms(group: RuleGroup) -> int:
    if group.interval_ms <= 0:
        return 0
    digest = hashlib.sha256(f"{group.file};{group.name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % group.interval_ms


def _slot(group: RuleGroup, rule: Rule, place: int, kept: _Slot | None) -> _Slot:
    unit = _unit(group, rule, place)
    slot = _Slot(group, rule, unit, frozenset(_WORD.findall(rule.expr)))
    slot.lasting = isinstance(rule, AlertingRule) and not _CHANGING.search(rule.texts)
    if kept is not None:
        slot.last_ms, slot.series = kept.last_ms, kept.series
        slot.health = replace(kept.health, unit=unit) if kept.health else None
        slot.alerts = tuple(replace(alert, unit=unit) for alert in kept.alerts)
    return slot


def _unit(group: RuleGroup, rule: Rule, place: int) -> str:
    return f"rule:{group.file};{group.name};{place};{rule.name}"[:1024]
