"""Lines over time. After the first look only the new steps are computed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from api.boards import Panel
from api.panels.view import Json, View, newest_value_ms
from store.model import Labels, RangeMatrix

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_MAX_SERIES = 30
_ANNOTATED = frozenset({"deploy", "flag", "promotion", "incident"})
_FRESH_MS = 60_000
_STALE_NOTE = "no line has had a value for the last minute"


def compute(panel: Panel, view: View, previous: Json | None) -> Json:
    """The whole range, re-using the points of `previous` where the lines are still the same."""
    extended = _extended(panel, view, previous) if previous else None
    payload = extended or _whole(panel, view)
    annotations = [
        event
        for event in view.sources.timeline(view.start_ms, view.now_ms)
        if event["kind"] in _ANNOTATED
    ]
    return {**payload, **_freshness(payload, view), "annotations": annotations}


def _whole(panel: Panel, view: View) -> Json:
    steps, lines = _lines(panel, view, view.start_ms)
    return {"unit": panel.unit, "t": steps, "series": lines, "band": None}


def _freshness(payload: Json, view: View) -> Json:
    """Lines that only have old points are not `ok`: what they show has vanished."""
    newest_ms = newest_value_ms(payload["t"], [line["values"] for line in payload["series"]])
    if newest_ms is None:
        return {"state": "no_data", "as_of_ms": view.now_ms, "note": ""}
    if view.now_ms - newest_ms < max(_FRESH_MS, view.step_ms):
        return {"state": "ok", "as_of_ms": view.now_ms, "note": ""}
    return {"state": "stale", "as_of_ms": newest_ms, "note": _STALE_NOTE}


def _extended(panel: Panel, view: View, previous: Json) -> Json | None:
    if not previous.get("t") or not previous.get("series"):
        return None
    last_ms = previous["t"][-1]
    if not 0 <= view.now_ms - last_ms <= view.range_ms // 2:
        return None
    if view.now_ms - last_ms < view.step_ms:
        return previous  # no step has come since
    steps, lines = _lines(panel, view, last_ms + view.step_ms)
    old = {_key(line): line for line in previous["series"]}
    if any(_key(line) not in old for line in lines):
        return None
    new = {_key(line): line["values"] for line in lines}
    cut = _first_kept(previous["t"], view.start_ms)
    gap = [None] * len(steps)
    series = [
        {**line, "values": line["values"][cut:] + new.get(key, gap)} for key, line in old.items()
    ]
    alive = [line for line in series if any(value is not None for value in line["values"])]
    if len(alive) != len(series):
        return None
    return {**previous, "t": previous["t"][cut:] + steps, "series": series}


def _lines(panel: Panel, view: View, start_ms: int) -> tuple[list[int], list[Json]]:
    steps: list[int] = []
    lines: list[Json] = []
    for query in panel.all_queries:
        matrix = view.sources.querier.range(query.expr, start_ms, view.now_ms, view.step_ms)
        steps = matrix.steps_ms.tolist()
        lines.extend(_named(matrix, query.name))
    return steps, lines[:_MAX_SERIES]


def _named(matrix: RangeMatrix, pattern: str) -> Iterator[Json]:
    shown = matrix.present & np.isfinite(matrix.values)
    for index, labels in enumerate(matrix.series):
        row = np.where(shown[index], matrix.values[index], 0.0).tolist()
        values: list[Any] = [v if s else None for v, s in zip(row, shown[index], strict=True)]
        yield {"name": _name(labels, pattern), "labels": labels.to_dict(), "values": values}


def _name(labels: Labels, pattern: str) -> str:
    if pattern:
        return _PLACEHOLDER.sub(lambda match: labels.get(match[1]), pattern)
    inner = ", ".join(f"{name}={value}" for name, value in labels if name != "__name__")
    return inner or labels.metric or "value"


def _key(line: Json) -> tuple[Any, ...]:
    return (line["name"], *sorted(line["labels"].items()))


def _first_kept(times: list[int], start_ms: int) -> int:
    return next((index for index, at_ms in enumerate(times) if at_ms >= start_ms), len(times))


def patch(previous: Json, current: Json) -> Json | None:
    """Only the points that are new, where the lines are the same; None: send it whole."""
    if [_key(line) for line in previous["series"]] != [_key(line) for line in current["series"]]:
        return None
    if not previous["t"] or previous["annotations"] != current["annotations"]:
        return None
    last_ms = previous["t"][-1]
    fresh = sum(1 for at_ms in current["t"] if at_ms > last_ms)
    if not fresh or fresh == len(current["t"]):
        return None
    # Points that were computed anew may differ from what the watchers hold.
    cut, kept = _first_kept(previous["t"], current["t"][0]), len(current["t"]) - fresh
    if previous["t"][cut:] != current["t"][:kept] or any(
        old["values"][cut:] != new["values"][:kept]
        for old, new in zip(previous["series"], current["series"], strict=True)
    ):
        return None
    append: Json = {
        "t": current["t"][-fresh:],
        "values": [line["values"][-fresh:] for line in current["series"]],
    }
    return {"append": append, "as_of_ms": current["as_of_ms"], "state": current["state"]}
