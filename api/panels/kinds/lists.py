"""Panels that are lists: SLOs, alerts, findings, the timeline, the freshness of sources."""

from __future__ import annotations

from api.boards import Panel
from api.panels.view import Json, View

_LIMIT = 50
_TIMELINE_MS = 3_600_000
# An incident opens and closes with its alerts, which are told already.
_TOLD_TWICE = frozenset({"opened", "closed"})


def slo(_panel: Panel, view: View, _previous: Json | None) -> Json:
    """Every SLO; `no_data` only when none is configured or none has data."""
    slos = view.sources.slos()
    known = any(entry["state"] != "no_data" for entry in slos)
    return {"state": "ok" if known else "no_data", "as_of_ms": view.now_ms, "slos": slos}


def alerts(_panel: Panel, view: View, _previous: Json | None) -> Json:
    """Active alerts. None is good news, not missing data."""
    return {"state": "ok", "as_of_ms": view.now_ms, "alerts": view.sources.alerts()[:_LIMIT]}


def findings(_panel: Panel, view: View, _previous: Json | None) -> Json:
    """Open findings, active ones first."""
    return {"state": "ok", "as_of_ms": view.now_ms, "findings": view.sources.findings()[:_LIMIT]}


def timeline(_panel: Panel, view: View, _previous: Json | None) -> Json:
    """What happened within the last hour, newest first."""
    events = view.sources.timeline(view.now_ms - _TIMELINE_MS, view.now_ms)
    told = [event for event in events if event["kind"] not in _TOLD_TWICE]
    return {"state": "ok", "as_of_ms": view.now_ms, "events": _latest_of_each(told)[:_LIMIT]}


def _latest_of_each(events: list[Json]) -> list[Json]:
    """A finding that comes and goes has one line, its latest: it must not push out all else."""
    seen: set[str] = set()
    kept = []
    for event in events:
        if event["kind"] == "finding":
            if event["ref"] in seen:
                continue
            seen.add(event["ref"])
        kept.append(event)
    return kept


def freshness(_panel: Panel, view: View, _previous: Json | None) -> Json:
    """Each source with its state; none at all is missing data."""
    sources = view.sources.sources(view.now_ms)
    return {
        "state": "ok" if sources else "no_data",
        "as_of_ms": view.now_ms,
        "sources": sources,
    }
