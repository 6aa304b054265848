"""Prometheus rules: parsing, evaluation, the answers of `/api/v1/rules` and `/api/v1/alerts`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from alerts.model import AlertState
from alerts.rule_evaluation import (
    RuleEvaluator,
    RuleOptions,
    RuleStatus,
    unknown_units,
)
from alerts.rule_files import (
    AlertingRule,
    RecordingRule,
    RuleFile,
    RuleGroup,
    parse_rule_file,
)
from alerts.state import AlertRecord
from store.model import UnitHealth
from store.timestamps import rfc3339

__all__ = [
    "AlertingRule",
    "RecordingRule",
    "RuleEvaluator",
    "RuleFile",
    "RuleGroup",
    "RuleOptions",
    "alerts_answer",
    "parse_rule_file",
    "rules_answer",
    "unknown_units",
]

_NEVER = "0001-01-01T00:00:00Z"


def rules_answer(
    statuses: Sequence[RuleStatus], records: Iterable[AlertRecord], *, interval_ms: int = 0
) -> dict[str, Any]:
    """The `data` of `/api/v1/rules`: Prometheus's shape, every rule; the router narrows it.

    `interval_ms`: of groups that have none of their own.
    """
    by_unit: dict[str, list[AlertRecord]] = {}
    for record in records:
        if record.state is not AlertState.RESOLVED:
            by_unit.setdefault(record.unit, []).append(record)
    groups = (list(members) for _, members in groupby(statuses, key=_place))
    return {"groups": [_group(members, by_unit, interval_ms) for members in groups]}


def alerts_answer(records: Iterable[AlertRecord]) -> dict[str, Any]:
    """The `data` of `/api/v1/alerts`: what is pending or firing, from every source."""
    active = [record for record in records if record.state is not AlertState.RESOLVED]
    return {"alerts": [_alert(record) for record in active]}


def _place(status: RuleStatus) -> tuple[str, str]:
    return status.group.file, status.group.name


def _group(
    statuses: list[RuleStatus], by_unit: dict[str, list[AlertRecord]], interval_ms: int
) -> dict[str, Any]:
    group = statuses[0].group
    ran = [status.health for status in statuses if status.health is not None]
    return {
        "name": group.name,
        "file": group.file,
        "interval": (group.interval_ms or interval_ms) / 1000,
        "limit": group.limit,
        "evaluationTime": sum(health.duration_s for health in ran),
        "lastEvaluation": rfc3339(max(h.at_ms for h in ran)) if ran else _NEVER,
        "rules": [_rule(status, by_unit.get(status.unit, [])) for status in statuses],
    }


def _rule(status: RuleStatus, records: list[AlertRecord]) -> dict[str, Any]:
    rule = status.rule
    answer: dict[str, Any] = {
        "name": rule.name,
        "query": rule.expr,
        "labels": rule.labels,
        **_health(status.health),
        "type": "recording",
    }
    if isinstance(rule, AlertingRule):
        answer |= {
            "type": "alerting",
            "state": _worst(records),
            "duration": rule.hold_s,
            "keepFiringFor": rule.keep_firing_s,
            "annotations": rule.annotations,
            "alerts": [_alert(record) for record in records],
        }
    return answer


def _health(health: UnitHealth | None) -> dict[str, Any]:
    if health is None:
        return {"health": "unknown", "evaluationTime": 0.0, "lastEvaluation": _NEVER}
    answer: dict[str, Any] = {
        "health": "ok" if health.ok else "err",
        "evaluationTime": health.duration_s,
        "lastEvaluation": rfc3339(health.at_ms),
    }
    return answer if health.ok else {**answer, "lastError": health.error}


def _worst(records: list[AlertRecord]) -> str:
    states = {record.state for record in records}
    if AlertState.FIRING in states:
        return "firing"
    return "pending" if AlertState.PENDING in states else "inactive"


def _alert(record: AlertRecord) -> dict[str, Any]:
    answer = {
        "labels": record.labels.to_dict(),
        "annotations": record.annotations,
        "state": str(record.state),
        "activeAt": rfc3339(record.active_ms),
        "value": _scientific(record.value),
    }
    if record.ended_ms is not None:
        answer["keepFiringSince"] = rfc3339(record.ended_ms)
    return answer


def _scientific(value: float) -> str:
    """As Go's `FormatFloat(v, 'e', -1, 64)`.

    >>> _scientific(1.0), _scientific(1234.5)
    ('1e+00', '1.2345e+03')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    return next(text for p in range(18) if float(text := f"{value:.{p}e}") == value)
