"""Sloth v1 to SLOs: `version: prometheus/v1`, and the same as a Kubernetes resource.

Objectives are written in percent. The resource (`sloth.slok.dev/v1`, PrometheusServiceLevel) holds
the same fields under `spec`, in camelCase.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from slos.burn_rate import Tier
from slos.definition import EventSli, RatioSli, Slo
from slos.fields import Fields
from slos.sloth_plugins import read_chain
from slos.window_table import WindowTable, WindowTables, feasible, windows_of
from store.documents import Document

VERSION = "prometheus/v1"
K8S_API_VERSION = "sloth.slok.dev/v1"
WINDOWS_LABEL = "windows"


@dataclass(frozen=True, slots=True)
class _Names:
    """How the two forms spell what differs."""

    spec: str
    plugins: str
    raw_query: str
    error_query: str
    total_query: str
    page_alert: str
    ticket_alert: str


_FILE = _Names(
    VERSION,
    "slo_plugins",
    "error_ratio_query",
    "error_query",
    "total_query",
    "page_alert",
    "ticket_alert",
)
_RESOURCE = _Names(
    K8S_API_VERSION,
    "sloPlugins",
    "errorRatioQuery",
    "errorQuery",
    "totalQuery",
    "pageAlert",
    "ticketAlert",
)


def parse_sloth(document: Document, tables: WindowTables) -> list[Slo]:
    """The SLOs of one Sloth document, of either form.

    Raises:
        ConfigError: A field is unknown, missing or wrong.
    """
    data = document.data
    if isinstance(data, dict) and data.get("apiVersion") == K8S_API_VERSION:
        top = Fields(document, (), data, ("apiVersion", "kind", "metadata", "spec", "status"))
        root = top.mapping("spec", ("service", "labels", "sloPlugins", "slos"))
        names = _RESOURCE
    else:
        root = Fields(document, (), data, ("version", "service", "labels", "slo_plugins", "slos"))
        names = _FILE
    service, shared = root.text("service"), root.texts("labels")
    info = read_chain(root, names.plugins)
    known = ("name", "description", "objective", "plugins", "labels", "sli", "alerting")
    return [
        _OneSlo(entry, names, tables).slo(service, shared, info)
        for entry in root.items("slos", known)
    ]


@dataclass(frozen=True, slots=True)
class _Alerts:
    """What is wished for the alerts."""

    tiers: tuple[Tier, ...]
    name: str
    annotations: dict[str, str]
    severity_labels: dict[str, dict[str, str]]
    severity_annotations: dict[str, dict[str, str]]


class _OneSlo:
    """One entry of `slos`."""

    def __init__(self, entry: Fields, names: _Names, tables: WindowTables) -> None:
        self._entry = entry
        self._names = names
        self._tables = tables

    def slo(self, service: str, shared: dict[str, str], info: dict[str, str]) -> Slo:
        entry = self._entry
        objective = self._objective()
        labels = shared | entry.texts("labels")
        table = self._table(labels.pop(WINDOWS_LABEL, ""))
        alerts = self._alerts(table.tiers)
        kept, refused = feasible(alerts.tiers, objective)
        if alerts.tiers and not kept:
            entry.fail("objective", f"no tier can fire: {refused[0]}", hint="raise the objective")
        slo = Slo(
            name=entry.text("name"),
            service=service,
            objective=objective,
            window_s=table.period_s,
            sli=self._sli(entry.mapping("sli", ("events", "raw", "plugin"))),
            tiers=kept,
            refused_tiers=refused,
            description=entry.text("description", default=""),
            labels=labels,
            alert_name=alerts.name,
            annotations=alerts.annotations,
            severity_labels=alerts.severity_labels,
            severity_annotations=alerts.severity_annotations,
            recorded_s=windows_of(table.tiers),
            spec=self._names.spec,
            info_labels=info | read_chain(entry, "plugins"),
            file=entry.document.file,
            line=entry.line,
        )
        return replace(slo, severity_labels=_as_sloth(slo))

    def _objective(self) -> float:
        hint = "write percent of good events, like 99.9"
        percent = self._entry.number("objective", hint=hint)
        if not 0 < percent < 100:
            self._entry.fail(
                "objective", f"an objective of {percent:g} % leaves no budget", hint=hint
            )
        if percent <= 1:
            self._entry.fail(
                "objective", f"an objective of {percent:g} % looks like a ratio", hint=hint
            )
        # 99.9 / 100 is not 0.999 in binary; nobody writes more digits than these.
        return round(percent / 100, 12)

    def _table(self, name: str) -> WindowTable:
        if name and name not in self._tables:
            self._entry.fail(
                "labels",
                f"no windows table {name!r}",
                hint=f"known are {', '.join(self._tables.names)}",
            )
        return self._tables.named(name)

    def _sli(self, fields: Fields) -> EventSli | RatioSli:
        names = self._names
        if "plugin" in fields:
            fields.fail(
                "plugin",
                "an SLI plugin is a Go program, and is not run here",
                hint=f"write events: {{{names.error_query}, {names.total_query}}} as it makes them",
            )
        if ("events" in fields) == ("raw" in fields):
            fields.fail("", "an SLI is either events or raw", hint="write exactly one of them")
        if "raw" in fields:
            return RatioSli(fields.mapping("raw", (names.raw_query,)).query(names.raw_query))
        events = fields.mapping("events", (names.error_query, names.total_query))
        return EventSli(events.query(names.error_query), events.query(names.total_query))

    def _alerts(self, tiers: tuple[Tier, ...]) -> _Alerts:
        names = self._names
        if "alerting" not in self._entry:
            return _Alerts(tiers, "", {}, {"page": {}, "ticket": {}}, {})
        known = ("name", "labels", "annotations", names.page_alert, names.ticket_alert)
        alerting = self._entry.mapping("alerting", known)
        shared = alerting.texts("labels")
        labels = {"page": shared, "ticket": shared}
        annotations: dict[str, dict[str, str]] = {}
        for severity, key in (("page", names.page_alert), ("ticket", names.ticket_alert)):
            if key not in alerting:
                continue
            alert = alerting.mapping(key, ("disable", "labels", "annotations"))
            if alert.flag("disable"):
                tiers = tuple(tier for tier in tiers if tier.severity != severity)
            labels[severity] = shared | alert.texts("labels")
            annotations[severity] = alert.texts("annotations")
        return _Alerts(
            tiers,
            alerting.text("name", default=""),
            alerting.texts("annotations"),
            labels,
            annotations,
        )


def _as_sloth(slo: Slo) -> dict[str, dict[str, str]]:
    """The labels that Sloth's alerts have, so that routes and silences over them go on working."""
    identity = {"sloth_id": slo.id, "sloth_service": slo.service, "sloth_slo": slo.name}
    return {
        severity: {**identity, "sloth_severity": severity, **labels}
        for severity, labels in slo.severity_labels.items()
    }
