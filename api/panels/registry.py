"""Every panel kind: a row each. A new kind is a module, a row here, and a page of the docs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from api.boards import Panel
from api.panels.kinds import golden_signals, lists, stat, table, timeseries
from api.panels.view import Json, View

Compute = Callable[[Panel, View, Json | None], Json]

COMPUTE: Mapping[str, Compute] = {
    "stat": stat.compute,
    "timeseries": timeseries.compute,
    "table": table.compute,
    "golden_signals": golden_signals.compute,
    "slo": lists.slo,
    "alerts": lists.alerts,
    "findings": lists.findings,
    "timeline": lists.timeline,
    "freshness": lists.freshness,
}

# How a kind tells a change in fewer bytes than its whole; None from it means: send the whole.
PATCH: Mapping[str, Callable[[Json, Json], Json | None]] = {"timeseries": timeseries.patch}
