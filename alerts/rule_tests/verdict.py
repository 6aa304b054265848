"""Compares what a rule test expects with what came, and says the difference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from alerts.matchers import quote
from alerts.rule_tests.spec import AlertCase, ExpressionCase
from alerts.state import AlertRecord
from alerts.template_text import go_float
from store.durations import format_duration
from store.model import METRIC_NAME, Labels

_Pairs = tuple[tuple[str, str], ...]
_Alert = tuple[_Pairs, _Pairs]
_Sample = tuple[Labels, float]
_MAX_LISTED = 50


def alerts_differ(case: AlertCase, found: Iterable[AlertRecord]) -> str:
    """The difference in words; empty when just the expected alerts fire."""
    expected = sorted((_pairs(a.labels), _pairs(a.annotations)) for a in case.expected)
    got = sorted((_pairs(dict(r.labels)), _pairs(r.annotations)) for r in found)
    if expected == got:
        return ""
    lines = [
        f"alertname: {case.name}, time: {format_duration(case.at_ms)},",
        f"    exp:{_alerts(expected)},",
        f"    got:{_alerts(got)}",
        *_differences(expected, got),
    ]
    return "\n".join(lines)


def samples_differ(case: ExpressionCase, found: Sequence[_Sample], *, fuzzy: bool) -> str:
    """The difference in words; empty when just the expected samples were answered."""
    expected = sorted(case.expected, key=lambda sample: sample[0])
    got = sorted(found, key=lambda sample: sample[0])
    same = len(expected) == len(got) and all(
        one[0] == other[0] and _equal(one[1], other[1], fuzzy=fuzzy)
        for one, other in zip(expected, got, strict=True)
    )
    if same:
        return ""
    lines = [
        f"expr: {quote(case.expr)}, time: {format_duration(case.at_ms)},",
        f"    exp: {_samples(expected)}",
        f"    got: {_samples(got)}",
    ]
    return "\n".join(lines)


def _equal(one: float, other: float, *, fuzzy: bool) -> bool:
    """As promtool: NaN equals nothing; fuzzily, the neighbouring floats are equal too."""
    if one == other:
        return True
    return fuzzy and other in {math.nextafter(one, -math.inf), math.nextafter(one, math.inf)}


def _pairs(texts: dict[str, str]) -> _Pairs:
    return tuple(sorted(texts.items()))


def _alerts(alerts: Sequence[_Alert]) -> str:
    if not alerts:
        return "[]"
    shown = [
        f"        {place}: Labels:{_braces(labels)}\n           Annotations:{_braces(annotations)}"
        for place, (labels, annotations) in enumerate(alerts[:_MAX_LISTED])
    ]
    return "[\n" + ",\n".join(shown) + "\n        ]"


def _braces(pairs: _Pairs) -> str:
    return "{" + ", ".join(f"{name}={quote(value)}" for name, value in pairs) + "}"


def _samples(samples: Sequence[_Sample]) -> str:
    shown = [f"{_series(labels)} {go_float(value)}" for labels, value in samples[:_MAX_LISTED]]
    return ", ".join(shown) or "nil"


def _series(labels: Labels) -> str:
    return labels.metric + _braces(labels.drop((METRIC_NAME,)).pairs)


def _differences(expected: Sequence[_Alert], got: Sequence[_Alert]) -> list[str]:
    """What a reader looks for in the two lists above."""
    lines = []
    there = dict(got)
    for labels, texts in expected:
        if labels not in there:
            lines.append(f"    missing: {_braces(labels)}")
            continue
        mine, other = dict(texts), dict(there[labels])
        lines += [
            f"    annotation {name} of {_braces(labels)}:\n"
            f"        exp: {quote(mine[name]) if name in mine else 'none'}\n"
            f"        got: {quote(other[name]) if name in other else 'none'}"
            for name in sorted({*mine, *other})
            if mine.get(name) != other.get(name)
        ]
    wanted = {labels for labels, _ in expected}
    lines += [f"    not expected: {_braces(labels)}" for labels, _ in got if labels not in wanted]
    return lines[:_MAX_LISTED]
