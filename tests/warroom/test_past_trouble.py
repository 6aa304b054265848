"""What the detectors' baselines leave out: grave incidents that are over, and sale days."""

from __future__ import annotations

from datetime import date

from alerts.incidents import Incident, IncidentState
from business_metrics.calendar import SaleDay
from business_metrics.settings import BusinessSettings
from warroom.past_trouble import past_trouble

HOUR_MS = 3_600_000
# 2026-11-30 12:00 UTC.
NOW_MS = 1_796_040_000_000


class Log:
    def __init__(self, *incidents: Incident) -> None:
        self._incidents = list(incidents)
        self.asked = 0

    def incidents(self, *, state: str = "", limit: int = 100) -> list[Incident]:
        self.asked += 1
        return [item for item in self._incidents if str(item.state) == state][:limit]


def incident(severity: str, begin_ms: int, end_ms: int | None) -> Incident:
    state = IncidentState.RESOLVED if end_ms is not None else IncidentState.OPEN
    return Incident(
        f"{severity}{begin_ms}", "t", severity, state, begin_ms, begin_ms, resolved_ms=end_ms
    )


def test_only_grave_incidents_that_are_over_and_were_short_are_left_out() -> None:
    day_ago = NOW_MS - 24 * HOUR_MS
    log = Log(
        incident("page", day_ago, day_ago + HOUR_MS),
        incident("ticket", day_ago, day_ago + HOUR_MS),
        incident("page", day_ago, None),
        incident("page", day_ago - 90 * HOUR_MS, day_ago),
        incident("page", NOW_MS - 90 * 24 * HOUR_MS, NOW_MS - 89 * 24 * HOUR_MS),
    )
    calendar = past_trouble(BusinessSettings(), log)(NOW_MS)
    assert calendar.incidents == ((day_ago, day_ago + HOUR_MS),)


def test_sale_days_are_those_of_the_shops_own_clock() -> None:
    sale = SaleDay("Black Friday", date(2026, 11, 27), date(2026, 11, 28))
    later = SaleDay("Christmas", date(2026, 12, 20), date(2026, 12, 26))
    settings = BusinessSettings(time_zone="Europe/Berlin", calendar=(sale, later))
    calendar = past_trouble(settings, Log())(NOW_MS)
    ((start_ms, end_ms),) = calendar.sales
    # 2026-11-27 00:00 in Berlin is 23:00 UTC of the day before.
    assert start_ms == 1_795_734_000_000
    assert end_ms - start_ms == 48 * HOUR_MS
    assert str(calendar.zone) == "Europe/Berlin"


def test_the_log_is_asked_once_in_five_minutes() -> None:
    log = Log()
    calendar = past_trouble(BusinessSettings(), log)
    for tick in range(60):
        calendar(NOW_MS + tick * 5_000)
    assert log.asked == 1
    calendar(NOW_MS + 300_000)
    assert log.asked == 2
