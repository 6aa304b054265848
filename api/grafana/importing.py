"""Makes a board of Grafana's dashboard JSON (the classic model), and says what it left behind.

Taken over: panels of the kinds time series, stat and table, rows, titles, units, widths,
thresholds from good to bad, the range, and variables with the values they were saved with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from api.boards import MAX_QUERIES, Board
from api.grafana.panels import Context, NotTaken, panel_of
from api.grafana.reading import listed, mapping, text_of, whole
from api.grafana.variables import built_in, in_words, saved_values, saved_without_value
from store.errors import BadInput

_RANGE = re.compile(r"now-(\d{1,6})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MAX_PANELS = 400
_ROW_PANELS = 40
_MAX_ROWS = 40
_SHORTEST_S, _LONGEST_S = 10, 400 * 86_400


@dataclass(frozen=True, slots=True)
class Imported:
    """The board, and what it does not hold."""

    board: Board
    not_taken_over: tuple[NotTaken, ...]


def import_dashboard(document: Mapping[str, Any]) -> Imported:
    """A board of a dashboard as Grafana exports it.

    Raises:
        BadInput: It is no dashboard, of a model that is not known, or nothing of it can be drawn.
    """
    dashboard = mapping(document.get("dashboard")) or document
    if "elements" in dashboard or "elements" in mapping(dashboard.get("spec")):
        raise BadInput(
            "this is a dashboard of Grafana's V2 model",
            hint="export it with the classic model",
        )
    if not isinstance(dashboard.get("panels"), list) and "rows" not in dashboard:
        raise BadInput(
            "this is no Grafana dashboard: it has no `panels`",
            hint="in Grafana: Export, As code or Share, Classic JSON",
        )
    title = text_of(dashboard.get("title"))[:200] or "Imported"
    range_text, range_s = _range(text_of(mapping(dashboard.get("time")).get("from")))
    context = Context(saved_values(dashboard), built_in(range_text, range_s))
    rows = _rows(dashboard, context, _library(document))
    _note_dashboard(dashboard, context)
    if not any(panels for _, panels in rows):
        reasons = "; ".join(f"{left.where}: {left.what}" for left in context.left[:5])
        raise BadInput(f"nothing of this dashboard can be drawn here: {reasons}")
    try:
        board = Board.model_validate(
            {
                "name": _slug(title) or "imported",
                "title": title,
                "range": range_text,
                "rows": [{"title": name, "panels": panels} for name, panels in rows if panels],
            }
        )
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"the dashboard gives no valid board: {where}: {first['msg']}") from exc
    return Imported(board, tuple(context.left))


def _range(start: str) -> tuple[str, int]:
    found = _RANGE.fullmatch(start)
    if not found or not int(found[1]):
        return "1h", 3600
    number = int(found[1])
    if not _SHORTEST_S <= number * _UNIT_S[found[2]] <= _LONGEST_S:
        return "1h", 3600
    return f"{number}{found[2]}", number * _UNIT_S[found[2]]


def _library(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Library panels that stand beside a dashboard which was exported to be shared."""
    elements = map(mapping, mapping(document.get("__elements")).values())
    return {text_of(element.get("uid")): mapping(element.get("model")) for element in elements}


def _whole_panel(panel: dict[str, Any], library: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """A panel that only names one of the library, with what it is."""
    named = mapping(panel.get("libraryPanel"))
    if not named:
        return panel
    model = mapping(named.get("model")) or library.get(text_of(named.get("uid")), {})
    return {**model, **{key: value for key, value in panel.items() if value not in (None, "")}}


def _rows(
    dashboard: Mapping[str, Any], context: Context, library: Mapping[str, dict[str, Any]]
) -> list[tuple[str, list[dict[str, Any]]]]:
    rows: list[tuple[str, list[dict[str, Any]]]] = [("", [])]
    ids: set[str] = set()
    queries = 0
    for count, (kind, source) in enumerate(_flat(dashboard)):
        if count >= _MAX_PANELS:
            context.leave("the dashboard", f"everything behind its first {_MAX_PANELS} panels")
            break
        if kind == "row":
            title = in_words(text_of(source.get("title")), context.values)[:200]
            rows.append((title, []))
            if source.get("repeat"):
                context.leave(title, "repetition by a variable")
            continue
        if len(rows[-1][1]) >= _ROW_PANELS:
            rows.append((rows[-1][0], []))
        if len(rows) > _MAX_ROWS:
            context.leave("the dashboard", f"everything behind its first {_MAX_ROWS} rows")
            break
        known = _whole_panel(source, library)
        panel = panel_of(known, _free_id(known, ids), context)
        if panel is not None:
            queries += max(1, len(panel.get("queries", ())))
            if queries > MAX_QUERIES:
                context.leave("the dashboard", f"everything behind its first {MAX_QUERIES} queries")
                break
            ids.add(panel["id"])
            rows[-1][1].append(panel)
    return rows[:_MAX_ROWS]


def _flat(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows and panels in the order in which they are read."""
    for row in map(mapping, listed(dashboard.get("rows"))):  # before Grafana 5
        yield "row", row
        for panel in map(mapping, listed(row.get("panels"))):
            yield "panel", {"gridPos": {"w": whole(panel.get("span"), 6) * 2}, **panel}
    panels = [mapping(panel) for panel in listed(dashboard.get("panels"))]
    for panel in sorted(panels, key=_place):
        if panel.get("type") != "row":
            yield "panel", panel
            continue
        yield "row", panel
        for inner in map(mapping, listed(panel.get("panels"))):
            yield "panel", inner


def _place(panel: Mapping[str, Any]) -> tuple[int, int]:
    place = mapping(panel.get("gridPos"))
    return whole(place.get("y"), 0), whole(place.get("x"), 0)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48].strip("-")


def _free_id(source: Mapping[str, Any], taken: set[str]) -> str:
    base = _slug(text_of(source.get("title"))) or f"panel-{whole(source.get('id'), 0) % 10**6}"
    number = 2
    free = base
    while free in taken:
        free = f"{base}-{number}"
        number += 1
    return free


def _note_dashboard(dashboard: Mapping[str, Any], context: Context) -> None:
    own = [
        entry
        for entry in map(mapping, listed(mapping(dashboard.get("annotations")).get("list")))
        if not entry.get("builtIn")
    ]
    if own:
        names = ", ".join(text_of(entry.get("name")) for entry in own[:5])
        context.leave("the dashboard", f"annotations ({names}): Warroom's own are drawn instead")
    shown = [
        text_of(entry.get("name"))
        for entry in map(mapping, listed(mapping(dashboard.get("templating")).get("list")))
        if entry.get("type") != "datasource"
    ]
    if shown:
        names = ", ".join(shown[:10])
        context.leave("the dashboard", f"choosing {names}: the saved values stand in the queries")
    unset = saved_without_value(dashboard)
    if unset:
        names = ", ".join(unset[:10])
        context.leave("the dashboard", f"values of {names}: it was saved without, so all are shown")
    if listed(dashboard.get("links")):
        context.leave("the dashboard", "links")
