"""A table of what queries answer now: a row for each set of labels, a column for each query."""

from __future__ import annotations

import math
from typing import Any

from api.boards import Panel
from api.panel_options import MAX_ROWS
from api.panels.view import Json, View

_HIDDEN = frozenset({"__name__"})
Key = tuple[tuple[str, str], ...]


def compute(panel: Panel, view: View, _previous: Json | None) -> Json:
    """Rows sorted by the first column of values, the largest first.

    `options.columns` names the labels to show, in their order; rows that are alike in those are
    told apart by no label and so the larger value stands. `options.limit` bounds the rows.
    """
    wanted = tuple(str(name) for name in panel.options.get("columns", ()))
    rows: dict[Key, list[float | None]] = {}
    names = []
    for place, query in enumerate(panel.all_queries):
        names.append(query.name or "value")
        vector = view.sources.querier.instant(query.expr, view.now_ms)
        for labels, value in zip(vector.series, vector.values.tolist(), strict=True):
            _put(rows, _key(labels.to_dict(), wanted), place, value, len(panel.all_queries))
    ordered = sorted(rows.items(), key=lambda item: (-_order(item[1][0]), item[0]))
    columns = list(wanted) or sorted({name for key in rows for name, _ in key})
    limit = min(MAX_ROWS, int(panel.options.get("limit", 50)))
    return {
        "state": "ok" if rows else "no_data",
        "as_of_ms": view.now_ms,
        "unit": panel.unit,
        "columns": columns,
        "values": names,
        "rows": [_row(dict(key), columns, values) for key, values in ordered[:limit]],
        "total": len(rows),
        "note": "",
    }


def _key(labels: dict[str, str], wanted: tuple[str, ...]) -> Key:
    names = wanted or tuple(sorted(set(labels) - _HIDDEN))
    return tuple((name, labels.get(name, "")) for name in names)


def _put(
    rows: dict[Key, list[float | None]], key: Key, place: int, value: float, width: int
) -> None:
    if not math.isfinite(value):
        return
    row = rows.setdefault(key, [None] * width)
    known = row[place]
    row[place] = value if known is None else max(known, value)


def _order(value: float | None) -> float:
    return -math.inf if value is None else value


def _row(labels: dict[str, str], columns: list[str], values: list[float | None]) -> Json:
    cells: list[Any] = [labels.get(name, "") for name in columns]
    return {"labels": cells, "values": values}
