"""A board's panels at one instant: each panel fails alone, and shows it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from api.boards import Board, Panel
from api.panels.registry import COMPUTE
from api.panels.view import Json, NotRecorded, PanelSources, View
from store.errors import WarroomError

log = structlog.get_logger()

_MAX_POINTS = 360
_ALERTS = Panel(id="alerts", kind="alerts", title="Alerts")
# States in which a panel has points that the next tick may extend.
SHOWN = frozenset({"ok", "stale"})


@dataclass(frozen=True, slots=True)
class Computed:
    """A board's panels, and the ids of those whose turn did not come in time.

    `alerts_active` counts alerts that nobody silenced, whatever the board shows; None: not known.
    """

    panels: dict[str, Json]
    late: frozenset[str]
    alerts_active: int | None


def _never() -> bool:
    return False


def view_at(sources: PanelSources, now_ms: int, range_ms: int, interval_ms: int) -> View:
    """The look at a range that ends now, on a grid of whole intervals with few enough points.

    It ends on the grid, so that the points of one tick are points of the next.
    """
    step_ms = _step_ms(range_ms, interval_ms)
    return View(sources, now_ms // step_ms * step_ms, range_ms, step_ms)


def view_once(sources: PanelSources, at_ms: int, range_ms: int, interval_ms: int) -> View:
    """The same for one look: it ends at the tick that was asked for, however coarse its grid."""
    step_ms = _step_ms(range_ms, interval_ms)
    return View(sources, at_ms // interval_ms * interval_ms, range_ms, step_ms)


def _step_ms(range_ms: int, interval_ms: int) -> int:
    return max(1, -(-range_ms // (_MAX_POINTS * interval_ms))) * interval_ms


def compute_panels(
    board: Board,
    view: View,
    before: Mapping[str, Json],
    *,
    first: Collection[str] = (),
    out_of_time: Callable[[], bool] = _never,
) -> Computed:
    """Every panel's data; points of `before` are used again where they still hold.

    Args:
        board: The panels.
        view: What they look at.
        before: What they showed last.
        first: Ids whose turn did not come last time: now it comes before the others'.
        out_of_time: Asked before each panel but the first; from then on panels stay as they were.
    """
    done: dict[str, Json] = {}
    late: dict[str, Json] = {}
    for panel in sorted(board.panels, key=lambda one: one.id not in first):
        previous = before.get(panel.id)
        if done and (late or out_of_time()):
            late[panel.id] = _late(view, previous)
        else:
            done[panel.id] = _compute_panel(panel, view, previous)
    found = {**done, **late}
    panels = {panel.id: found[panel.id] for panel in board.panels}
    return Computed(panels, frozenset(late), _alerts_active(view))


def _alerts_active(view: View) -> int | None:
    told = _compute_panel(_ALERTS, view, None)
    if told["state"] != "ok":
        return None
    return sum(not alert.get("silenced") for alert in told["alerts"])


def _late(view: View, previous: Json | None) -> Json:
    """What it showed before, marked as old; an error where it never showed anything."""
    if previous and previous["state"] in SHOWN:
        return {**previous, "state": "stale"}
    return {
        "state": "error",
        "as_of_ms": view.now_ms,
        "error": "the board took too long: this panel's turn did not come",
        "remedy": "fewer panels, a shorter range, or recording rules for slow queries",
    }


def _compute_panel(panel: Panel, view: View, before: Json | None) -> Json:
    previous = before if before and before["state"] in SHOWN else None
    try:
        return COMPUTE[panel.kind](panel, view, previous)
    except NotRecorded as exc:
        return {"state": "no_data", "as_of_ms": view.now_ms, "note": exc.message}
    except WarroomError as exc:
        return {"state": "error", "as_of_ms": view.now_ms, "error": exc.message, "remedy": exc.hint}
    except Exception as exc:  # one panel fails alone, and shows it
        log.exception("panel failed", panel=panel.id, kind=panel.kind)
        error = f"{type(exc).__name__}: {exc}"
        return {"state": "error", "as_of_ms": view.now_ms, "error": error, "remedy": "see the log"}


def snapshot_json(
    board: Board, panels: Mapping[str, Json], tick: int, now_ms: int, **frame: Any
) -> Json:
    """A board with its data: the first message of a stream, and the answer of a replay."""
    return {
        "board": board.model_dump(include={"name", "title", "rows"}),
        "tick": tick,
        "now_ms": now_ms,
        "range_ms": board.range_ms,
        "panels": panels,
        **frame,
    }
