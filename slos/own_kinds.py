"""Warroom's own kinds in SLO files (`apiVersion: warroom.dev/v1`).

`CompositeSLO`: one SLO of several, in the three forms of `slos.composite`.
`ErrorBudgetPolicy`: what is agreed for when a budget runs low.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slos.composite import METHODS
from slos.definition import CompositeSli, Member, Slo
from slos.fields import Fields
from slos.openslo import WINDOWS_ANNOTATION, read_objective
from slos.period import read_period
from slos.policy import ACTIONS, Policy, Step
from slos.window_table import WindowTables, feasible, tiers_for, windows_of
from store.documents import Document

API_VERSION = "warroom.dev/v1"
COMPOSITE, POLICY = "CompositeSLO", "ErrorBudgetPolicy"
_ROOT = ("apiVersion", "kind", "metadata", "spec")
_METADATA = ("name", "displayName", "labels", "annotations")
_COMPOSITE_SPEC = (
    "service",
    "description",
    "method",
    "target",
    "targetPercent",
    "timeWindow",
    "members",
)


def parse_composites(
    documents: Iterable[Document], slos: Sequence[Slo], tables: WindowTables
) -> list[Slo]:
    """The composites of these documents over SLOs of the same set of files.

    Raises:
        ConfigError: A field is unknown, missing or wrong, or a member is not known.
    """
    roots = [Fields(document, (), document.data, _ROOT) for document in documents]
    return [_composite(root, slos, tables) for root in roots]


def _composite(root: Fields, slos: Sequence[Slo], tables: WindowTables) -> Slo:
    metadata, spec = root.mapping("metadata", _METADATA), root.mapping("spec", _COMPOSITE_SPEC)
    annotations = metadata.texts("annotations")
    chosen = annotations.pop(WINDOWS_ANNOTATION, "")
    if chosen and chosen not in tables:
        metadata.fail(
            "annotations",
            f"no windows table {chosen!r}",
            hint=f"known are {', '.join(tables.names)}",
        )
    method = spec.text("method", default="weighted")
    if method not in METHODS:
        spec.fail("method", f"unknown method {method!r}", hint=f"one of {', '.join(METHODS)}")
    period = read_period(spec, tables.named(chosen).period_s)
    objective = read_objective(spec)
    table = tables.for_period(chosen, period.window_s)
    tiers = tiers_for(table, period.window_s, scaled=not chosen)
    kept, refused = feasible(tiers, objective)
    if not kept:
        spec.fail("target", f"no tier can fire: {refused[0]}", hint="raise the target")
    return Slo(
        name=metadata.text("name"),
        service=spec.text("service"),
        objective=objective,
        window_s=period.window_s,
        calendar=period.calendar,
        sli=CompositeSli(tuple(_members(spec, slos)), method),
        tiers=kept,
        refused_tiers=refused,
        description=spec.text("description", default=metadata.text("displayName", default="")),
        labels=metadata.labels(),
        annotations=annotations,
        recorded_s=windows_of(tiers),
        spec=API_VERSION,
        file=root.document.file,
        line=root.line,
    )


def _members(spec: Fields, slos: Sequence[Slo]) -> list[Member]:
    members: list[Member] = []
    for entry in spec.items("members", ("slo", "weight")):
        slo = _known(entry, slos)
        weight = entry.number("weight") if "weight" in entry else 1.0
        if not 0 < weight <= 1e6:
            entry.fail("weight", "a weight is above 0", hint="write it like 2")
        if isinstance(slo.sli, CompositeSli):
            entry.fail("slo", f"{slo.name!r} is a composite itself", hint="name its members")
        if any(member.slo_id == slo.id for member in members):
            entry.fail("slo", f"{slo.name!r} stands twice", hint="give it a weight instead")
        members.append(Member(slo.id, weight))
    if len(members) < 2:
        spec.fail("members", "a composite has at least two members", hint="add another")
    return members


def _known(entry: Fields, slos: Sequence[Slo]) -> Slo:
    """The SLO that `slo:` names by its id (service-name), or by a name that only one has."""
    wanted = entry.text("slo", hint="write an SLO's name")
    exact = [slo for slo in slos if slo.id == wanted]
    found = exact or [slo for slo in slos if slo.name == wanted]
    if len(found) != 1:
        many = "several SLOs are" if found else "no SLO is"
        known = ", ".join(sorted(slo.id for slo in (found or slos))) or "none"
        entry.fail("slo", f"{many} called {wanted!r}", hint=f"in these files there are: {known}")
    return found[0]


def parse_policies(documents: Iterable[Document], slos: Sequence[Slo]) -> list[Policy]:
    """The error-budget policies of these documents.

    Raises:
        ConfigError: A field is unknown, missing or wrong, or an SLO is not known.
    """
    policies: list[Policy] = []
    for document in documents:
        root = Fields(document, (), document.data, _ROOT)
        policy = _policy(root, slos)
        if any(known.name == policy.name for known in policies):
            root.fail("metadata", f"the policy {policy.name!r} stands twice", hint="rename one")
        policies.append(policy)
    return policies


def _policy(root: Fields, slos: Sequence[Slo]) -> Policy:
    metadata = root.mapping("metadata", _METADATA)
    spec = root.mapping("spec", ("description", "slos", "steps"))
    ids = tuple(_known(entry, slos).id for entry in spec.items("slos", ("slo",)))
    steps = [_step(entry) for entry in spec.items("steps", ("remainingBelow", "action", "message"))]
    steps.sort(key=lambda step: step.below)
    if len({step.below for step in steps}) < len(steps):
        spec.fail("steps", "two steps begin at the same figure", hint="keep one of them")
    return Policy(metadata.text("name"), tuple(steps), ids, spec.text("description", default=""))


def _step(entry: Fields) -> Step:
    below = entry.number("remainingBelow", hint="a share of the budget, like 0.25 or 0")
    if not -10 <= below <= 1:
        entry.fail("remainingBelow", "must be at most 1", hint="a share of the budget, like 0.25")
    action = entry.text("action", hint=f"one of {', '.join(ACTIONS)}")
    if action not in ACTIONS:
        entry.fail("action", f"unknown action {action!r}", hint=f"one of {', '.join(ACTIONS)}")
    return Step(below, action, entry.text("message", default=""))
