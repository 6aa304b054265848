"""The story's history and its verdict."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from warroom.demo.history import (
    SOURCE,
    Traffic,
    events_of_minute,
    minutes_of_history,
    minutes_of_sale,
)
from warroom.demo.story import FAULTS
from warroom.demo.verdict import Fault, Played, Verdict, judge, table
from warroom.demo.witness import PageEvent

NOW_S = 1_795_000_000.0
FAULT = Fault("n_plus_one", "a loop", 60, r"^n_plus_one_query$", r"^n_plus_one_query$", 10)


def test_history_gives_each_recent_minute_its_counterpart_in_every_week() -> None:
    minutes = minutes_of_history(NOW_S)
    now = int(NOW_S // 60)
    recent = set(range(now - 180, now + 1))
    for week in range(5):
        assert {minute - week * 7 * 24 * 60 for minute in recent} <= set(minutes)
    assert len(minutes) == len(set(minutes)) == 181 + 4 * 270


def test_today_is_filled_before_the_weeks_and_the_oldest_week_first() -> None:
    minutes = minutes_of_history(NOW_S)
    assert min(minutes[:181]) == int(NOW_S // 60) - 180
    assert minutes[181:] == sorted(minutes[181:])


def test_the_last_sale_is_filled_around_the_same_time_of_the_stores_day() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first = date(2025, 11, 28)
    minutes = minutes_of_sale(NOW_S, first, berlin)
    today, then = (datetime.fromtimestamp(at_s, berlin) for at_s in (NOW_S, minutes[10] * 60))
    assert then.date() == first
    assert (then.hour, then.minute) == (today.hour, today.minute)
    assert minutes == list(range(minutes[0], minutes[0] + 70))


def test_a_minute_has_the_same_events_each_time_at_the_expected_rate() -> None:
    traffic = Traffic()
    minutes = range(29_000_000, 29_000_100)
    first = [list(events_of_minute(minute, traffic)) for minute in minutes]
    assert first == [list(events_of_minute(minute, traffic)) for minute in minutes]
    events = [event for minute in first for event in minute]
    kinds = Counter(event["type"] for event in events)
    # Five standard deviations around 6,000 orders and 8,000 checkouts.
    assert 5_600 < kinds["purchase"] < 6_400
    assert 7_550 < kinds["begin_checkout"] < 8_450
    assert len({event["id"] for event in events}) == len(events)
    assert {event["source"] for event in events} == {SOURCE}


def test_a_purchase_of_history_follows_its_checkout_with_the_same_value() -> None:
    begun: dict[str, tuple[datetime, str]] = {}
    for event in events_of_minute(29_000_000, Traffic()):
        data = event["data"]
        assert isinstance(data, dict)
        at = datetime.fromisoformat(str(event["time"]))
        if event["type"] == "begin_checkout":
            begun[data["checkout_id"]] = (at, data["value"])
        else:
            start, value = begun[data["checkout_id"]]
            assert at > start
            assert Decimal(data["value"]) == Decimal(value) > 0


def _judged(events: list[PageEvent], **incidents: tuple[int, int]) -> Verdict:
    account = {
        key: {
            "state": "resolved",
            "summary": key,
            "triggers": triggers,
            "resolves": resolves,
            "last_resolve_at": 1_100.0 if resolves else None,
        }
        for key, (triggers, resolves) in incidents.items()
    }
    return judge([Played(FAULT, 1_000.0, 1_060.0)], events, {"n_plus_one_query": 1_004.0}, account)


def _page(at: float, key: str = "a", kind: str = "n_plus_one_query") -> PageEvent:
    return PageEvent(at, "trigger", key, kind, f"summary of {key}")


def test_one_timely_page_with_one_resolve_keeps_every_promise() -> None:
    verdict = _judged([_page(1_006.5)], a=(1, 1))
    assert verdict.ok
    assert verdict.faults[0].seconds_to_page == 6.5
    assert verdict.faults[0].seconds_to_shown == 4.0
    assert json.loads(verdict.as_json())["ok"] is True
    text = "\n".join(table(verdict))
    assert "+6.5 s" in text
    assert "FAIL" not in text


def test_every_broken_promise_is_named() -> None:
    broken = {
        "late": _judged([_page(1_011.0)], a=(1, 1)),
        "before the fault": _judged([_page(999.0)], a=(1, 1)),
        "twice": _judged([_page(1_006.0)], a=(2, 1)),
        "never resolved": _judged([_page(1_006.0)], a=(1, 0)),
        "another page": _judged([_page(1_006.0), _page(1_007.0, "b", "other")], a=(1, 1), b=(1, 1)),
        "silence": _judged([]),
    }
    assert [name for name, verdict in broken.items() if verdict.ok] == []
    assert all("FAIL" in "\n".join(table(verdict)) for verdict in broken.values())


def test_the_faults_of_the_story_have_different_pages() -> None:
    kinds = ["n_plus_one_query", "hit_rate_drop", "ErrorBudgetBurn", "OrderRateDrop"]

    owners = [[f.switch for f in FAULTS if re.search(f.pages, kind)] for kind in kinds]
    assert owners == [["n_plus_one"], ["cache_keys"], ["payment_failures"], ["payment_failures"]]
