"""Sale days: days on which the shop is expected to behave unlike the same weekday before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

# Zones change their offset on a half hour of UTC at the finest that is still in use.
BLOCK_MIN = 30


@dataclass(frozen=True, slots=True)
class SaleDay:
    """A sale, first to last day in the shop's own time zone; the name ties the years."""

    name: str
    first: date
    last: date


def sale_on(calendar: Sequence[SaleDay], day: date) -> str:
    """The sale of a day, or the empty string."""
    return next((sale.name for sale in calendar if sale.first <= day <= sale.last), "")


def local_day(minute: int, zone: ZoneInfo) -> date:
    """The shop's calendar day of a minute since the epoch."""
    return datetime.fromtimestamp(minute * 60, UTC).astimezone(zone).date()


def weeks_before(minute: int, weeks: int, zone: ZoneInfo) -> int:
    """The minute with the same wall-clock time some weeks before."""
    return days_before(minute, 7 * weeks, zone)


def days_before(minute: int, days: int, zone: ZoneInfo) -> int:
    """The minute with the same wall-clock time some days before.

    Shoppers keep to the clock on the wall, so the hour that a change of summer time adds or takes
    is followed. A wall-clock time that did not exist is read with the offset before the change.
    """
    moment = datetime.fromtimestamp(minute * 60, UTC).astimezone(zone)
    wall = moment.replace(tzinfo=None) - timedelta(days=days)
    return round(wall.replace(tzinfo=zone, fold=moment.fold).timestamp()) // 60


def same_sale_before(calendar: Sequence[SaleDay], minute: int, zone: ZoneInfo) -> list[int]:
    """The minutes that matched this one in earlier sales of the same name, latest first.

    The first day of a sale is compared with the first day of the one before, at the same time.
    """
    moment = datetime.fromtimestamp(minute * 60, UTC).astimezone(zone)
    today = next((s for s in calendar if s.first <= moment.date() <= s.last), None)
    if today is None:
        return []
    into = moment.replace(tzinfo=None) - datetime.combine(today.first, datetime.min.time())
    earlier = sorted(
        (s for s in calendar if s.name == today.name and s.last < today.first),
        key=lambda s: s.first,
        reverse=True,
    )
    found = []
    for sale in earlier:
        wall = datetime.combine(sale.first, datetime.min.time()) + into
        if wall.date() <= sale.last:
            found.append(round(wall.replace(tzinfo=zone).timestamp()) // 60)
    return found
