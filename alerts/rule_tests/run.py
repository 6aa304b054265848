"""Runs rule tests: the rules of the files, one after the other at each interval, as promtool does.

Each rule is evaluated by the service's own `RuleEvaluator`, each alert moved by its own
`state.advance`. A rule sees what an earlier rule recorded at the same instant, ALERTS among it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from alerts.matchers import quote
from alerts.model import AlertState
from alerts.rule_evaluation import RuleEvaluator, RuleOptions
from alerts.rule_files import AlertingRule, Rule, RuleFile, RuleGroup
from alerts.rule_tests.memory import TestMemory
from alerts.rule_tests.spec import AlertCase, ExpressionCase, RuleTest, RuleTestFile
from alerts.rule_tests.verdict import alerts_differ, samples_differ
from alerts.state import AlertRecord, advance, fingerprint
from alerts.state_series import AlertSeries
from store.durations import format_duration
from store.errors import QueryError
from store.promql.engine import Engine, EngineOptions


@dataclass(frozen=True, slots=True)
class Failure:
    """What was not as expected: the test's name if it has one, its line, and the text."""

    test: str
    line: int | None
    text: str


def run_rule_tests(tests: RuleTestFile, rules: Sequence[RuleFile]) -> list[Failure]:
    """Every failure of a file's tests over these rules; empty when all hold."""
    ordered = _ordered(tests.group_order, rules)
    failures: list[Failure] = []
    for test in tests.tests:
        run = _Run(tests, test, ordered)
        failures += [Failure(test.name, line, text) for line, text in run.failures()]
    return failures


def _ordered(order: Sequence[str], rules: Sequence[RuleFile]) -> list[RuleGroup]:
    """The groups of all files; those not named come before the second that is."""
    rank = {name: place for place, name in enumerate(order)}
    groups = [group for file in rules for group in file.groups]
    return sorted(groups, key=lambda group: rank.get(group.name, 0))


@dataclass(slots=True)
class _OneRule:
    """A rule of its own evaluator, with the states of its alerts."""

    rule: Rule
    evaluator: RuleEvaluator
    series: AlertSeries
    records: dict[str, AlertRecord] = field(default_factory=dict)

    def step(self, now_ms: int) -> str:
        """Bring it up to an instant; answers with its error, if any."""
        if not isinstance(self.rule, AlertingRule):
            return next(iter(self.evaluator.record(now_ms))).error
        alerts, (health,) = self.evaluator.alerts(now_ms)
        if not health.ok:
            return health.error
        active = {fingerprint(alert.labels): alert for alert in alerts}
        moved = {
            identity: advance(self.records.get(identity), active.get(identity), now_ms)
            for identity in {*self.records, *active}
        }
        self.records = {key: record for key, record in moved.items() if record is not None}
        self.series.append(self.records.values(), now_ms)
        return ""

    def firing(self) -> list[AlertRecord]:
        return [r for r in self.records.values() if r.state is AlertState.FIRING]


class _Run:
    def __init__(self, tests: RuleTestFile, test: RuleTest, groups: Sequence[RuleGroup]) -> None:
        self._tests = tests
        self._test = test
        self._memory = TestMemory(test.series, test.start_ms, test.interval_ms)
        options = EngineOptions(subquery_step_ms=tests.evaluation_interval_ms)
        self._engine = Engine(self._memory, options)
        self._rules = [self._one(group, rule) for group in groups for rule in group.rules]

    def _one(self, group: RuleGroup, rule: Rule) -> _OneRule:
        alone = replace(group, rules=(rule,), interval_ms=0)
        seen = RuleOptions(self._test.external_url, self._test.external_labels)
        file = RuleFile(group.file, (alone,))
        evaluator = RuleEvaluator(self._engine, self._memory, [file], seen)
        return _OneRule(rule, evaluator, AlertSeries(self._memory))

    def failures(self) -> Iterator[tuple[int | None, str]]:
        waiting = sorted(self._test.alerts, key=lambda case: case.at_ms)
        interval_ms = self._tests.evaluation_interval_ms
        for since_ms in range(0, self._test.end_ms + 1, interval_ms):
            errors = list(self._evaluate(since_ms))
            yield from errors
            if errors:
                # As promtool: what could not be evaluated makes the rest meaningless.
                return
            while waiting and waiting[0].at_ms < since_ms + interval_ms:
                yield from self._alert_case(waiting.pop(0))
        for case in self._test.expressions:
            yield from self._expression_case(case)

    def _evaluate(self, since_ms: int) -> Iterator[tuple[int | None, str]]:
        now_ms = self._memory.now_ms = self._test.start_ms + since_ms
        for one in self._rules:
            error = one.step(now_ms)
            if error:
                at = format_duration(since_ms)
                yield self._test.line, f"rule: {one.rule.name}, time: {at}, err: {error}"

    def _alert_case(self, case: AlertCase) -> Iterator[tuple[int | None, str]]:
        found = [
            record for one in self._rules if one.rule.name == case.name for record in one.firing()
        ]
        problem = alerts_differ(case, found)
        if problem:
            yield case.line, problem

    def _expression_case(self, case: ExpressionCase) -> Iterator[tuple[int | None, str]]:
        try:
            vector = self._engine.instant(case.expr, self._test.start_ms + case.at_ms)
        except QueryError as exc:
            at = format_duration(case.at_ms)
            yield case.line, f"expr: {quote(case.expr)}, time: {at}, err: {exc.message}"
            return
        problem = samples_differ(case, list(vector.items()), fuzzy=self._tests.fuzzy_compare)
        if problem:
            yield case.line, problem
