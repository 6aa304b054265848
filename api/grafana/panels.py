"""One panel of Grafana as one of ours, and what of it was left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api.boards import PanelKind
from api.grafana.reading import listed, mapping, text_of, whole
from api.grafana.variables import Unresolved, in_words, replaced
from store.errors import QueryError
from store.promql.parse import parse

KINDS: Mapping[str, PanelKind] = {
    "timeseries": "timeseries",
    "graph": "timeseries",
    "stat": "stat",
    "singlestat": "stat",
    "gauge": "stat",
    "table": "table",
    "table-old": "table",
}
_REDRAWN = {"gauge": "a gauge is shown as a figure"}
_UNITS = {
    "percentunit": "ratio",
    "percent": "%",
    "s": "s",
    "bytes": "bytes",
    "decbytes": "bytes",
    "reqps": "req/s",
    "ops": "ops/s",
    "short": "",
    "none": "",
    "string": "",
}
_CURRENCY = "currency"
_GOOD = ("green", "#73BF69", "#56A64B", "#299c46")
_BAD = ("red", "#F2495C", "#E02F44", "#d44a3a")
_LEFT = {
    "transformations": "transformations",
    "repeat": "repetition by a variable",
    "alert": "its alert: write a rule file",
    "links": "links",
}
_MAX_QUERIES = 20
_SOURCES = frozenset({"", "prometheus", "datasource"})
_OTHER_SOURCES = frozenset({"-- Mixed --", "-- Grafana --"})


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Something of a dashboard that a board cannot hold."""

    where: str
    what: str


@dataclass(slots=True)
class Context:
    """What all panels of one dashboard share."""

    values: Mapping[str, tuple[str, ...]]
    fixed: Mapping[str, str]
    left: list[NotTaken] = field(default_factory=list)

    def leave(self, where: str, what: str) -> None:
        self.left.append(NotTaken(where, what))


def panel_of(source: Mapping[str, Any], panel_id: str, context: Context) -> dict[str, Any] | None:
    """The fields of a board's panel; None where it cannot be drawn here."""
    title = in_words(text_of(source.get("title")), context.values)[:200]
    where = title or panel_id
    kind_there = text_of(source.get("type"))
    if not kind_there and source.get("libraryPanel"):
        name = text_of(mapping(source.get("libraryPanel")).get("name"))
        context.leave(where, f"the library panel {name}: export the dashboard with it, to share")
        return None
    kind = KINDS.get(kind_there)
    if kind is None:
        context.leave(where, f"a panel of the kind {kind_there or 'unknown'}")
        return None
    if not _of_prometheus(source.get("datasource")):
        context.leave(where, "its data source is not Prometheus")
        return None
    queries = _queries(source, where, context)
    if not queries:
        context.leave(where, "the panel: none of its queries could be read")
        return None
    defaults = mapping(mapping(source.get("fieldConfig")).get("defaults"))
    panel: dict[str, Any] = {
        "id": panel_id,
        "kind": kind,
        "title": title,
        "unit": _unit(text_of(defaults.get("unit")) or _older_unit(source)),
        "span": min(12, max(1, round(whole(mapping(source.get("gridPos")).get("w"), 8) / 2))),
    }
    if kind == "stat":
        panel["query"] = queries[0]["expr"]
        panel["options"] = _thresholds(defaults, where, context)
        if len(queries) > 1:
            context.leave(where, f"{len(queries) - 1} more queries: a stat shows one")
    else:
        panel["queries"] = queries[:_MAX_QUERIES]
    _note_rest(source, kind_there, where, context)
    return panel


def _of_prometheus(source: Any) -> bool:
    """A name or a variable may be any source; only a named type tells it is another."""
    kind = text_of(mapping(source).get("type"))
    return kind in _SOURCES and text_of(source) not in _OTHER_SOURCES


def _queries(source: Mapping[str, Any], where: str, context: Context) -> list[dict[str, str]]:
    found = []
    for target in map(mapping, listed(source.get("targets"))):
        name = f"{where}, query {text_of(target.get('refId')) or '?'}"
        expr = text_of(target.get("expr")).strip()
        if target.get("hide") is True:
            context.leave(name, "it is hidden")
        elif not expr:
            context.leave(name, "it is not PromQL")
        elif not _of_prometheus(target.get("datasource")):
            context.leave(name, "its data source is not Prometheus")
        else:
            query = _query(expr, target, name, context)
            if query is not None:
                found.append(query)
    return found


def _query(
    expr: str, target: Mapping[str, Any], name: str, context: Context
) -> dict[str, str] | None:
    try:
        text = replaced(expr, context.values, context.fixed)
        parse(text)
    except Unresolved as exc:
        context.leave(name, f"the variable ${exc.name} has no single value")
        return None
    except QueryError as exc:
        context.leave(name, f"it is no PromQL: {exc.message}"[:300])
        return None
    if len(text) > 10_000:
        context.leave(name, "it is longer than 10,000 characters")
        return None
    legend = in_words(text_of(target.get("legendFormat")), context.values)
    return {"expr": text, "name": "" if legend == "__auto" else legend[:200]}


def _older_unit(source: Mapping[str, Any]) -> str:
    """Where `graph` and `singlestat` kept it."""
    left = [mapping(axis) for axis in listed(source.get("yaxes"))[:1]]
    return text_of(left[0].get("format")) if left else text_of(source.get("format"))


def _unit(unit: str) -> str:
    if unit.startswith(_CURRENCY):
        return unit.removeprefix(_CURRENCY)[:16]
    return _UNITS.get(unit, unit)[:32]


def _thresholds(defaults: Mapping[str, Any], where: str, context: Context) -> dict[str, float]:
    """Steps from good to bad, upwards or downwards; anything else has no equal here."""
    thresholds = mapping(defaults.get("thresholds"))
    steps = [mapping(step) for step in listed(thresholds.get("steps"))]
    if len(steps) < 2:
        return {}
    colours = [text_of(step.get("color")) for step in steps]
    limits = [step.get("value") for step in steps[1:]]
    numbers = [float(v) for v in limits if isinstance(v, int | float) and not isinstance(v, bool)]
    if thresholds.get("mode") == "percentage" or len(numbers) != len(limits):
        context.leave(where, "its thresholds")
        return {}
    if colours[0] in _GOOD:
        options = {"warn_above": numbers[0]} if colours[1] not in _BAD else {}
        bad = [limit for limit, colour in zip(numbers, colours[1:], strict=True) if colour in _BAD]
        return options | ({"crit_above": bad[0]} if bad else {})
    if colours[0] in _BAD:
        last = numbers[-1] if len(numbers) > 1 and colours[-1] in _GOOD else None
        return {"crit_below": numbers[0]} | ({"warn_below": last} if last is not None else {})
    context.leave(where, "its thresholds")
    return {}


def _note_rest(source: Mapping[str, Any], kind: str, where: str, context: Context) -> None:
    if kind in _REDRAWN:
        context.leave(where, _REDRAWN[kind])
    for key, what in _LEFT.items():
        if source.get(key):
            context.leave(where, what)
    config = mapping(source.get("fieldConfig"))
    if listed(config.get("overrides")):
        context.leave(where, "overrides of single fields")
    if listed(mapping(config.get("defaults")).get("mappings")):
        context.leave(where, "value mappings")
