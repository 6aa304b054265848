"""Which instant of an earlier sale an instant of today is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from api.panels.view import EarlierSale
from business_metrics.calendar import SaleDay, local_day, sale_on, same_sale_before

_MINUTE_MS = 60_000


def earlier_sale(calendar: Sequence[SaleDay], zone: ZoneInfo, now_ms: int) -> EarlierSale | None:
    """On a sale day the same moment of that sale a year before, else the latest sale's first day.

    Both at the shop's wall-clock time. None where the calendar has no earlier sale.
    """
    minute = now_ms // _MINUTE_MS
    today = local_day(minute, zone)
    aligned = same_sale_before(calendar, minute, zone)
    if aligned:
        day = local_day(aligned[0], zone)
        return EarlierSale(f"{sale_on(calendar, day)} {day.year}", aligned[0] * _MINUTE_MS)
    if sale_on(calendar, today):
        return None  # a sale of its own name has no earlier one: another's figures would mislead
    over = [sale for sale in calendar if sale.last < today]
    if not over:
        return None
    sale = max(over, key=lambda sale: sale.first)
    wall = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone)
    then = datetime.combine(sale.first, wall.time(), zone)
    return EarlierSale(f"{sale.name} {sale.first.year}", round(then.timestamp() * 1000))
