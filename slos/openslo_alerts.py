"""OpenSLO v1's kinds beside SLO and SLI: read strictly, though only data sources have an effect.

An alert policy has one condition of one window and one factor. Warroom's tiers have two windows
each, so policies have no effect; but a name that refers to nothing is a mistake all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from slos.fields import Fields

# The fields of each kind's `spec`.
_SPECS: Mapping[str, tuple[str, ...]] = {
    "Service": ("description",),
    "DataSource": ("description", "type", "connectionDetails"),
    "AlertPolicy": (
        "description",
        "alertWhenNoData",
        "alertWhenBreaching",
        "alertWhenResolved",
        "conditions",
        "notificationTargets",
    ),
    "AlertCondition": ("description", "severity", "condition"),
    "AlertNotificationTarget": ("description", "target"),
}
KINDS = tuple(_SPECS)
_CONDITION = ("kind", "op", "threshold", "lookbackWindow", "alertAfter")
_OPERATORS = ("lte", "gte", "lt", "gt")
_METADATA = ("name", "displayName", "labels", "annotations")
_INLINE = ("kind", "metadata", "spec")


@dataclass(slots=True)
class Others:
    """What the documents of these kinds are called; of data sources also their type."""

    sources: dict[str, str] = field(default_factory=dict)
    policies: set[str] = field(default_factory=set)
    conditions: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)


def read_others(roots: Iterable[Fields]) -> Others:
    """The documents of these kinds; references among them are looked up.

    Raises:
        ConfigError: A field is unknown or wrong, or a reference finds nothing.
    """
    found = Others()
    policies: list[Fields] = []
    for root in roots:
        kind, name = root.text("kind"), root.mapping("metadata", _METADATA).text("name")
        if "spec" not in root:
            continue
        spec = root.mapping("spec", _SPECS[kind])
        if kind == "DataSource" and "type" in spec:
            found.sources[name] = spec.text("type")
        elif kind == "AlertCondition":
            _condition(spec)
            found.conditions.add(name)
        elif kind == "AlertNotificationTarget":
            found.targets.add(name)
        elif kind == "AlertPolicy":
            found.policies.add(name)
            policies.append(spec)
    for spec in policies:
        _policy(spec, found)
    return found


def check_policies(spec: Fields, found: Others) -> None:
    """An SLO's `alertPolicies`: names, `{alertPolicyRef: name}`, or policies that stand there.

    A name is looked up where the files hold any policy; else they are kept elsewhere.
    """
    for place, entry in enumerate(spec.entries("alertPolicies")):
        if isinstance(entry, dict) and "alertPolicyRef" not in entry:
            inline = spec.entry("alertPolicies", place, _INLINE)
            _policy(inline.mapping("spec", _SPECS["AlertPolicy"]), found)
            continue
        name = entry.get("alertPolicyRef") if isinstance(entry, dict) else entry
        _look_up(spec, ("alertPolicies", place), "AlertPolicy", str(name), found.policies)


def _policy(spec: Fields, found: Others) -> None:
    for key, ref, known in (
        ("conditions", "conditionRef", found.conditions),
        ("notificationTargets", "targetRef", found.targets),
    ):
        for place, entry in enumerate(spec.entries(key)):
            kind = "AlertCondition" if key == "conditions" else "AlertNotificationTarget"
            one = spec.entry(key, place, (ref, *_INLINE))
            if ref in one:
                _look_up(spec, (key, place, ref), kind, one.text(ref), known)
            elif isinstance(entry, dict) and kind == "AlertCondition":
                _condition(one.mapping("spec", _SPECS[kind]))


def _condition(spec: Fields) -> None:
    if "condition" not in spec:
        return
    condition = spec.mapping("condition", _CONDITION)
    kind = condition.text("kind", default="burnrate")
    if kind != "burnrate":
        condition.fail("kind", f"unknown kind of condition {kind!r}", hint="write burnrate")
    if "op" in condition and condition.text("op") not in _OPERATORS:
        condition.fail("op", "unknown op", hint=f"one of {', '.join(_OPERATORS)}")


def _look_up(
    spec: Fields, place: tuple[str | int, ...], kind: str, name: str, known: set[str]
) -> None:
    if known and name not in known:
        hint = f"in these files there are: {', '.join(sorted(known))}"
        spec.document_fail(place, f"no {kind} {name!r}", hint=hint)
