"""Sloth's `AlertWindows`: a table of tiers for one period, brought by the files.

Each of `page` and `ticket` has a `quick` and a `slow` tier. A table holds for every SLO whose
period is its `sloPeriod` and that names no other; one of a month is the default of Sloth files.
"""

from __future__ import annotations

from collections.abc import Iterable

from slos.burn_rate import Tier, tier_factor
from slos.durations import format_duration
from slos.fields import Fields
from slos.window_table import WindowTable
from store.documents import Document

KIND = "AlertWindows"
_TIER = ("errorBudgetPercent", "shortWindow", "longWindow")


def parse_alert_windows(documents: Iterable[Document]) -> list[WindowTable]:
    """The tables of these documents; one is called by `metadata.name`, or else by its period.

    Raises:
        ConfigError: A field is unknown, missing or wrong, or two tables are for one period.
    """
    tables: dict[int, WindowTable] = {}
    for document in documents:
        root = Fields(document, (), document.data, ("apiVersion", "kind", "metadata", "spec"))
        table = _table(root)
        if table.period_s in tables:
            root.fail("spec", "two AlertWindows have the same sloPeriod", hint="keep one of them")
        tables[table.period_s] = table
    return list(tables.values())


def _table(root: Fields) -> WindowTable:
    spec = root.mapping("spec", ("sloPeriod", "page", "ticket"))
    period_s = spec.duration_s("sloPeriod", hint="write it like 30d")
    tiers = []
    for severity in ("page", "ticket"):
        pair = spec.mapping(severity, ("quick", "slow"))
        tiers += [_tier(pair.mapping(key, _TIER), severity, period_s) for key in ("quick", "slow")]
    name = format_duration(period_s)
    if "metadata" in root:
        metadata = root.mapping("metadata", ("name", "namespace", "labels", "annotations"))
        name = metadata.text("name", default=name)
    # Some give both tiers of a severity the same figures.
    distinct = tuple(dict.fromkeys(tiers))
    return WindowTable(name, f"{root.document.file}: {KIND}", period_s, distinct)


def _tier(fields: Fields, severity: str, period_s: int) -> Tier:
    percent = fields.number("errorBudgetPercent", hint="percent of the budget, like 2")
    if not 0 < percent <= 100:
        fields.fail("errorBudgetPercent", "must be above 0 and at most 100", hint="like 2")
    long_s = fields.duration_s("longWindow", hint="write it like 1h")
    short_s = fields.duration_s("shortWindow", hint="write it like 5m")
    if not short_s < long_s <= period_s:
        fields.fail(
            "longWindow",
            "the long window must be longer than the short one, and within the period",
            hint="the workbook has 1h and 5m for 2 percent of 30d",
        )
    budget = percent / 100
    return Tier(severity, long_s, short_s, budget, tier_factor(budget, period_s, long_s))
