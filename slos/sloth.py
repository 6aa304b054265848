"""Sloth v1 (`version: prometheus/v1`) to SLOs. Objectives are written in percent."""

from __future__ import annotations

from slos.burn_rate import Tier
from slos.definition import EventSli, RatioSli, Sli, Slo
from slos.fields import Fields
from slos.window_table import DEFAULT_TABLE, WindowTable, feasible, load_table, table_names
from store.documents import Document

WINDOWS_LABEL = "windows"
_ROOT = ("version", "service", "labels", "slo_plugins", "slos")
_SLO = ("name", "description", "objective", "plugins", "labels", "sli", "alerting")
_ALERTING = ("name", "labels", "annotations", "page_alert", "ticket_alert")
_ALERT = ("disable", "labels", "annotations")


def parse_sloth(document: Document) -> list[Slo]:
    """The SLOs of one Sloth document.

    Raises:
        ConfigError: A field is unknown, missing or wrong.
    """
    root = Fields(document, (), document.data, _ROOT)
    if "slo_plugins" in root:
        root.fail("slo_plugins", "Sloth plugins are not run here", hint="write the queries out")
    service = root.text("service")
    return [_slo(entry, service, root.texts("labels")) for entry in root.items("slos", _SLO)]


def _slo(entry: Fields, service: str, shared: dict[str, str]) -> Slo:
    if "plugins" in entry:
        entry.fail("plugins", "Sloth plugins are not run here", hint="write the queries out")
    objective = _objective(entry)
    labels = shared | entry.texts("labels")
    table = _table(entry, labels.pop(WINDOWS_LABEL, DEFAULT_TABLE))
    alerting = entry.mapping("alerting", _ALERTING) if "alerting" in entry else None
    tiers, severity_labels = _alerts(alerting, table.tiers)
    kept, refused = feasible(tiers, objective)
    if tiers and not kept:
        entry.fail("objective", f"no tier can fire: {refused[0]}", hint="raise the objective")
    return Slo(
        name=entry.text("name"),
        service=service,
        objective=objective,
        window_s=table.period_s,
        sli=_sli(entry.mapping("sli", ("events", "raw", "plugin"))),
        tiers=kept,
        refused_tiers=refused,
        description=entry.text("description", default=""),
        labels=labels | (alerting.texts("labels") if alerting else {}),
        alert_name=alerting.text("name", default="") if alerting else "",
        annotations=alerting.texts("annotations") if alerting else {},
        severity_labels=severity_labels,
        file=entry.document.file,
        line=entry.line,
    )


def _objective(entry: Fields) -> float:
    hint = "write percent of good events, like 99.9"
    percent = entry.number("objective", hint=hint)
    if not 0 < percent < 100:
        entry.fail("objective", f"an objective of {percent:g} % leaves no budget", hint=hint)
    if percent <= 1:
        entry.fail("objective", f"an objective of {percent:g} % looks like a ratio", hint=hint)
    # 99.9 / 100 is not 0.999 in binary; nobody writes more digits than these.
    return round(percent / 100, 12)


def _table(entry: Fields, name: str) -> WindowTable:
    if name not in table_names():
        entry.fail(
            "labels", f"no windows table {name!r}", hint=f"known are {', '.join(table_names())}"
        )
    return load_table(name)


def _sli(fields: Fields) -> Sli:
    if "plugin" in fields:
        fields.fail("plugin", "Sloth plugins are not run here", hint="write events or raw")
    if ("events" in fields) == ("raw" in fields):
        fields.fail("", "an SLI is either events or raw", hint="write exactly one of them")
    if "raw" in fields:
        return RatioSli(fields.mapping("raw", ("error_ratio_query",)).query("error_ratio_query"))
    events = fields.mapping("events", ("error_query", "total_query"))
    return EventSli(events.query("error_query"), events.query("total_query"))


def _alerts(
    alerting: Fields | None, tiers: tuple[Tier, ...]
) -> tuple[tuple[Tier, ...], dict[str, dict[str, str]]]:
    """The tiers whose alert is not disabled, and the labels of each severity."""
    labels: dict[str, dict[str, str]] = {}
    for severity in ("page", "ticket"):
        key = f"{severity}_alert"
        if alerting is None or key not in alerting:
            continue
        alert = alerting.mapping(key, _ALERT)
        if alert.flag("disable"):
            tiers = tuple(tier for tier in tiers if tier.severity != severity)
        labels[severity] = alert.texts("labels")
    return tiers, labels
