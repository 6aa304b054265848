"""OpenSLO v1 to SLOs.

Each objective is an SLO. Where the objectives have indicators of their own, they are the parts of a
composite. Alert policies cannot express two windows and two factors; the tiers of the windows table
guard the objective instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from slos.definition import CompositeSli, EventSli, Member, RatioSli, Slo
from slos.durations import format_duration
from slos.fields import Fields
from slos.openslo_alerts import KINDS, Others, check_policies, read_others
from slos.openslo_sli import SLI_SPEC, parse_sli, refuse_foreign
from slos.period import read_period
from slos.time_slices import MAX_SLICES, METHODS, OPERATORS, sliced
from slos.window_table import WindowTables, feasible, tiers_for, windows_of
from store.documents import Document

API_VERSION = "openslo/v1"
WINDOWS_ANNOTATION = "warroom.dev/windows"
_ROOT = ("apiVersion", "kind", "metadata", "spec")
_METADATA = ("name", "displayName", "labels", "annotations")
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
_OBJECTIVE = (
    "displayName",
    "op",
    "value",
    "target",
    "targetPercent",
    "timeSliceTarget",
    "timeSliceWindow",
    "indicator",
    "indicatorRef",
    "compositeWeight",
)
_BUDGETING = ("Occurrences", *METHODS)


def parse_openslo(documents: Iterable[Document], tables: WindowTables) -> list[Slo]:
    """The SLOs of a set of OpenSLO documents; `indicatorRef` looks among these.

    Raises:
        ConfigError: A field is unknown, missing or wrong.
    """
    roots = [Fields(document, (), document.data, _ROOT) for document in documents]
    indicators: dict[str, Fields] = {}
    objectives: list[Fields] = []
    others: list[Fields] = []
    for root in roots:
        kind = root.text("kind")
        if kind == "SLI":
            indicators[_metadata(root).text("name")] = root.mapping("spec", SLI_SPEC)
        elif kind == "SLO":
            objectives.append(root)
        elif kind in KINDS:
            others.append(root)
        else:
            root.fail("kind", f"unknown kind {kind!r}", hint="an SLO or an SLI is expected")
    known = _Known(indicators, read_others(others), tables)
    return [slo for root in objectives for slo in _OneSlo(root, known).slos()]


@dataclass(frozen=True, slots=True)
class _Known:
    """What an SLO may refer to."""

    indicators: dict[str, Fields]
    others: Others
    tables: WindowTables


def _metadata(root: Fields) -> Fields:
    return root.mapping("metadata", _METADATA)


class _OneSlo:
    """One document of kind SLO."""

    def __init__(self, root: Fields, known: _Known) -> None:
        self._root = root
        self._spec = root.mapping("spec", _SLO_SPEC)
        self._metadata = _metadata(root)
        self._known = known
        tables = known.tables
        self._annotations = self._metadata.texts("annotations")
        self._table = self._annotations.pop(WINDOWS_ANNOTATION, "")
        if self._table and self._table not in tables:
            self._metadata.fail(
                "annotations",
                f"no windows table {self._table!r}",
                hint=f"known are {', '.join(tables.names)}",
            )
        self._method = self._spec.text("budgetingMethod", default="Occurrences")
        if self._method not in _BUDGETING:
            self._spec.fail(
                "budgetingMethod",
                f"unknown budgetingMethod {self._method!r}",
                hint=f"one of {', '.join(_BUDGETING)}",
            )
        self._period = read_period(self._spec, tables.named(self._table).period_s)

    def slos(self) -> list[Slo]:
        entries = list(self._spec.items("objectives", _OBJECTIVE))
        check_policies(self._spec, self._known.others)
        own = ["indicator" in entry or "indicatorRef" in entry for entry in entries]
        if any(own):
            return self._composite(entries, own)
        indicator = self._indicator(self._spec)
        if len(entries) == 1:
            return [self._slo(entries[0], indicator, self._metadata.text("name"))]
        names = self._names(entries)
        return [
            self._slo(entry, indicator, name) for entry, name in zip(entries, names, strict=True)
        ]

    def _composite(self, entries: list[Fields], own: list[bool]) -> list[Slo]:
        """The parts, which alert nobody, and what they add up to, which does."""
        if not all(own) or len(entries) < 2:
            place = own.index(False) if not all(own) else 0
            entries[place].fail(
                "",
                "in a composite each of at least two objectives has an indicator",
                hint="give each objective indicator or indicatorRef, or none of them",
            )
        if "indicator" in self._spec or "indicatorRef" in self._spec:
            self._spec.fail(
                "indicator" if "indicator" in self._spec else "indicatorRef",
                "a composite's indicators stand in its objectives",
                hint="remove this one",
            )
        parts, members = [], []
        for entry, name in zip(entries, self._names(entries), strict=True):
            part = self._slo(entry, self._indicator(entry), name)
            parts.append(replace(part, tiers=(), refused_tiers=()))
            weight = entry.number("compositeWeight") if "compositeWeight" in entry else 1.0
            if not 0 < weight <= 1e6:
                entry.fail("compositeWeight", "a weight is above 0", hint="write it like 2")
            members.append(Member(part.id, weight))
        total = sum(member.weight for member in members)
        objective = sum(
            part.objective * member.weight for part, member in zip(parts, members, strict=True)
        )
        sli = CompositeSli(tuple(members), "weighted")
        return [*parts, self._made(entries[0], self._metadata.text("name"), objective / total, sli)]

    def _names(self, entries: list[Fields]) -> list[str]:
        """One for each objective; those that would be called alike are numbered."""
        name = self._metadata.text("name")
        names = [f"{name}-{_slug(_own_name(entry))}" for entry in entries]
        alike = Counter(names)
        return [
            f"{one}-{place}" if alike[one] > 1 else one for place, one in enumerate(names, start=1)
        ]

    def _slo(self, entry: Fields, indicator: Fields, name: str) -> Slo:
        refuse_foreign(indicator, self._known.others.sources)
        sli = self._budgeted(parse_sli(indicator, entry), entry)
        return self._made(entry, name, read_objective(entry), sli)

    def _made(
        self, entry: Fields, name: str, objective: float, sli: EventSli | RatioSli | CompositeSli
    ) -> Slo:
        period_s = self._period.window_s
        table = self._known.tables.for_period(self._table, period_s)
        tiers = tiers_for(table, period_s, scaled=not self._table)
        kept, refused = feasible(tiers, objective)
        if not kept:
            entry.fail(
                "target",
                f"no tier can fire: {refused[0]}",
                hint="raise the target, or let the time window fit the windows table",
            )
        return Slo(
            name=name,
            service=self._spec.text("service"),
            objective=objective,
            window_s=period_s,
            calendar=self._period.calendar,
            sli=sli,
            tiers=kept,
            refused_tiers=refused,
            description=self._spec.text(
                "description", default=self._metadata.text("displayName", default="")
            ),
            labels=self._metadata.labels(),
            annotations=self._annotations,
            recorded_s=windows_of(tiers),
            spec=API_VERSION,
            file=self._root.document.file,
            line=entry.line,
        )

    def _budgeted(self, sli: EventSli | RatioSli, entry: Fields) -> EventSli | RatioSli:
        """The indicator, counted as `budgetingMethod` says."""
        if self._method == "Occurrences":
            for key in ("timeSliceTarget", "timeSliceWindow"):
                if key in entry:
                    entry.fail(
                        key, f"{key!r} is of time slices", hint="write budgetingMethod: Timeslices"
                    )
            return sli
        target = None
        if self._method == "Timeslices":
            target = entry.number("timeSliceTarget", hint="good events of a good slice, like 0.99")
            if not 0 < target <= 1:
                entry.fail("timeSliceTarget", "must be above 0 and at most 1", hint="like 0.99")
        # In a threshold's objective op belongs to its value.
        op = "gte" if "value" in entry else entry.text("op", default="gte")
        if op not in OPERATORS:
            entry.fail(
                "op", f"a slice cannot be good by {op!r}", hint=f"one of {', '.join(OPERATORS)}"
            )
        return sliced(sli, self._slice_s(entry), target, op)

    def _slice_s(self, entry: Fields) -> int:
        slice_s = entry.duration_s(
            "timeSliceWindow", plain_unit_s=60, hint="write it like 1m; a bare number is minutes"
        )
        count = self._period.window_s // slice_s
        if not 10 <= count <= MAX_SLICES:
            least = format_duration(-(-self._period.window_s // MAX_SLICES))
            entry.fail(
                "timeSliceWindow",
                f"the period has {count} such slices, not 10 to {MAX_SLICES}",
                hint=f"write {least} or more, and less than a tenth of the period",
            )
        return slice_s

    def _indicator(self, holder: Fields) -> Fields:
        if ("indicator" in holder) == ("indicatorRef" in holder):
            holder.fail("", "an SLO has either indicator or indicatorRef", hint="write one of them")
        if "indicator" in holder:
            return _inline(holder).mapping("spec", SLI_SPEC)
        name = holder.text("indicatorRef")
        if name not in self._known.indicators:
            known = ", ".join(sorted(self._known.indicators)) or "none"
            holder.fail(
                "indicatorRef", f"no SLI {name!r}", hint=f"in these files there are: {known}"
            )
        return self._known.indicators[name]


def _inline(holder: Fields) -> Fields:
    return holder.mapping("indicator", ("metadata", "spec"))


def _own_name(entry: Fields) -> str:
    """What tells an objective from the others: its name, its indicator's, else its target."""
    found = entry.text("displayName", default="").strip() or entry.text("indicatorRef", default="")
    if not found and "indicator" in entry and "metadata" in _inline(entry):
        found = _inline(entry).mapping("metadata", _METADATA).text("name", default="")
    key = "target" if "target" in entry else "targetPercent"
    return found.strip() or entry.text(key, default="")


def read_objective(entry: Fields) -> float:
    """`target` or `targetPercent`, as a ratio."""
    if ("target" in entry) == ("targetPercent" in entry):
        entry.fail(
            "", "an objective has either target or targetPercent", hint="write target: 0.999"
        )
    key = "target" if "target" in entry else "targetPercent"
    value = round(entry.number(key) / (1 if key == "target" else 100), 12)
    if not 0 < value < 1:
        example = "0.999" if key == "target" else "99.9"
        entry.fail(key, f"{key} must lie between nothing and all", hint=f"write it like {example}")
    return value


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "objective"
