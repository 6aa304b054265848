"""Who is on call: laws over changes of clocks, the calendar, and the section of the file."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.fields import Fields
from alerts.on_call.ical import calendar_of, folded
from alerts.on_call.model import OnCall, Override, Rotation, Schedule
from alerts.on_call.who import DAY_MS, Duty, Source, current, instant_ms, shifts, who_is_on_call
from alerts.on_call_file import MAX_TURN_DAYS, parse_on_call
from alerts.route_tree import Receiver
from alerts.time_intervals import TimeInterval
from store.documents import parse_document
from store.errors import ConfigError


def clock(text: str) -> datetime:
    """A time by some wall clock: naive on purpose."""
    return datetime.fromisoformat(text)


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]
START_MS = instant_ms(clock("2026-01-01"), "UTC")
RESTRICTIONS = [
    (),
    (TimeInterval(times=((540, 1020),), weekdays=((1, 5),), location="Europe/Berlin"),),
    (TimeInterval(times=((90, 150), (1380, 1440)), location="America/New_York"),),
    (TimeInterval(weekdays=((0, 0), (6, 6)), location="Australia/Lord_Howe"),),
]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    def rotation() -> Rotation:
        starts = clock("2025-12-01") + timedelta(
            days=draw(st.integers(0, 60)), minutes=draw(st.sampled_from([0, 90, 120, 150, 540]))
        )
        users = tuple(draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4)))
        turn_days = draw(st.sampled_from([1, 2, 7, 14]))
        return Rotation(users, starts, turn_days, draw(st.sampled_from(RESTRICTIONS)))

    overrides = [
        Override(draw(st.sampled_from("xy")), START_MS + begin, START_MS + begin + length)
        for begin, length in draw(
            st.lists(
                st.tuples(st.integers(0, 300 * DAY_MS), st.integers(1, 3 * DAY_MS)), max_size=3
            )
        )
    ]
    rotations = tuple(rotation() for _ in range(draw(st.integers(1, 2))))
    return Schedule("s", draw(st.sampled_from(ZONES)), rotations, tuple(overrides))


@settings(max_examples=60, deadline=None)
@given(schedules(), st.integers(0, 330), st.integers(0, DAY_MS - 1), st.data())
def test_the_shifts_of_a_span_have_no_gaps_and_agree_with_who_is_on_call(
    schedule: Schedule, day: int, offset_ms: int, data: st.DataObject
) -> None:
    from_ms = START_MS + day * DAY_MS + offset_ms
    until_ms = from_ms + 5 * DAY_MS
    found = shifts(schedule, from_ms, until_ms)
    assert found[0].start_ms == from_ms
    assert found[-1].end_ms == until_ms
    assert all(one.end_ms == two.start_ms for one, two in pairwise(found))
    for shift in found:
        assert shift.start_ms < shift.end_ms
        at_ms = data.draw(st.integers(shift.start_ms, shift.end_ms - 1))
        assert who_is_on_call(schedule, at_ms) == shift.duty
        assert who_is_on_call(schedule, shift.end_ms - 1) == shift.duty


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sampled_from([0, 90, 120, 150, 540]),
    st.integers(0, 360),
    st.sampled_from([1, 7]),
)
def test_hand_overs_keep_the_wall_clock_and_happen_once_each(
    zone: str, minute: int, day: int, turn_days: int
) -> None:
    starts = clock("2026-01-01") + timedelta(days=day, minutes=minute)
    schedule = Schedule("s", zone, (Rotation(("a", "b"), starts, turn_days),))
    from_ms = instant_ms(starts, zone)
    found = shifts(schedule, from_ms, from_ms + 30 * DAY_MS)
    users = [shift.duty.user for shift in found]
    assert users == ["ab"[turn % 2] for turn in range(len(users))]
    for turn, shift in enumerate(found):
        wanted = starts + timedelta(days=turn * turn_days)
        local = datetime.fromtimestamp(shift.start_ms / 1000, ZoneInfo(zone)).replace(tzinfo=None)
        # A time that the clocks leave out is the only one that may be shown otherwise.
        skipped = datetime.fromtimestamp(instant_ms(wanted, zone) / 1000, ZoneInfo(zone))
        assert local == wanted or skipped.replace(tzinfo=None) != wanted


def test_the_night_on_which_an_hour_comes_twice_has_one_hand_over() -> None:
    rotation = Rotation(("ada", "ben"), clock("2026-10-24 02:30"), 1)
    schedule = Schedule("s", "Europe/Berlin", (rotation,))
    first_ms = instant_ms(clock("2026-10-25 02:30"), "Europe/Berlin")
    assert who_is_on_call(schedule, first_ms - 1).user == "ada"
    assert who_is_on_call(schedule, first_ms).user == "ben"
    assert who_is_on_call(schedule, first_ms + 3_600_000 - 1).user == "ben"
    assert who_is_on_call(schedule, first_ms + 3_600_000).user == "ben"


def test_an_override_comes_before_a_rotation_and_a_rotation_before_those_below() -> None:
    at = clock("2026-11-23")
    work = TimeInterval(times=((540, 1020),))
    schedule = Schedule(
        "s",
        "UTC",
        (Rotation(("day",), at, 7, (work,)), Rotation(("night",), at, 7)),
        (Override("boss", instant_ms(at, "UTC") + 36_000_000, instant_ms(at, "UTC") + 39_600_000),),
    )
    hours = {8: "night", 9: "day", 10: "boss", 11: "day", 17: "night"}
    for hour, user in hours.items():
        assert who_is_on_call(schedule, instant_ms(at, "UTC") + hour * 3_600_000).user == user
    before = who_is_on_call(schedule, instant_ms(at, "UTC") - 1)
    assert before == Duty("", Source.NOBODY)
    assert current(schedule, instant_ms(at, "UTC")).duty.user == "night"


def _events(text: str) -> list[dict[str, str]]:
    """A reader of RFC 5545 of its own: unfolds, then splits names from values."""
    assert text.endswith("\r\n")
    assert "\n" not in text.replace("\r\n", "")
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
    lines = text.replace("\r\n ", "").split("\r\n")[:-1]
    assert lines[0] == "BEGIN:VCALENDAR"
    assert lines[-1] == "END:VCALENDAR"
    assert {"VERSION:2.0"} < set(lines)
    events: list[dict[str, str]] = []
    for line in lines[1:-1]:
        name, _, value = line.partition(":")
        if line == "BEGIN:VEVENT":
            events.append({})
        elif events and line != "END:VEVENT":
            assert name not in events[-1]
            events[-1][name] = value
    return events


def test_the_calendar_is_valid_and_shifts_keep_their_uids() -> None:
    starts = clock("2026-01-05 09:00")
    name = "Läden; Kasse, Lager\\Süd mit einem sehr langen Namen, der gefaltet werden muss ☎"
    schedule = Schedule(name, "Europe/Berlin", (Rotation(("ada", "ben"), starts, 7),))
    now_ms = instant_ms(clock("2026-11-23 12:00"), "UTC")
    events = _events(calendar_of(schedule, now_ms))
    assert len(events) > 20
    assert len({event["UID"] for event in events}) == len(events)
    assert all(event["DTSTART"] < event["DTEND"] for event in events)
    assert all(re.fullmatch(r"\d{8}T\d{6}Z", event["DTSTAMP"]) for event in events)
    assert "Läden\\; Kasse\\, Lager\\\\Süd" in events[0]["SUMMARY"]
    later = _events(calendar_of(schedule, now_ms + 5 * DAY_MS))
    uids = {event["DTSTART"]: event["UID"] for event in events}
    both = [event for event in later if event["DTSTART"] in uids]
    assert len(both) > 15
    assert all(uids[event["DTSTART"]] == event["UID"] for event in both)


def test_the_calendar_has_the_shift_that_runs_now_however_long_turns_are() -> None:
    rotation = Rotation(("ada", "ben"), clock("2026-10-10 09:00"), MAX_TURN_DAYS)
    now_ms = instant_ms(clock("2026-12-09 08:00"), "UTC")
    events = _events(calendar_of(Schedule("shop", "UTC", (rotation,)), now_ms))
    assert "ada" in events[0]["SUMMARY"]
    assert events[0]["DTSTART"] == "20261010T090000Z"


def test_the_calendar_has_an_override_that_runs_however_long_it_is() -> None:
    now_ms = instant_ms(clock("2026-11-23"), "UTC")
    stand_in = Override("ben", now_ms - 120 * DAY_MS, now_ms + 300 * DAY_MS)
    rotation = Rotation(("ada",), clock("2026-01-01"), 7)
    (event,) = _events(calendar_of(Schedule("shop", "UTC", (rotation,), (stand_in,)), now_ms))
    assert event["SUMMARY"] == "ben on call (shop)"
    assert event["DTSTART"] == "20260726T000000Z"


def test_the_shift_of_an_instant_is_told_from_its_true_beginning() -> None:
    now_ms = instant_ms(clock("2026-11-25 12:00"), "UTC")
    schedule = Schedule("shop", "UTC", (Rotation(("ada", "ben"), clock("2026-11-02"), 7),))
    shift = current(schedule, now_ms)
    assert shift.start_ms == instant_ms(clock("2026-11-23"), "UTC")
    assert shift.end_ms == instant_ms(clock("2026-11-30"), "UTC")


def test_a_calendar_without_events_still_has_a_component() -> None:
    later = Rotation(("ada",), clock("2030-01-01"), 7)
    now_ms = instant_ms(clock("2026-12-09 08:00"), "UTC")
    text = calendar_of(Schedule("shop", "UTC", (later,)), now_ms)
    assert _events(text) == []
    assert "BEGIN:VTIMEZONE\r\n" in text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=400))
def test_folding_keeps_the_text_and_the_bound(text: str) -> None:
    told = folded(text)
    assert told.replace("\r\n ", "") == text
    assert all(len(line.encode()) <= 75 for line in told.split("\r\n"))


FILE = """
on_call:
  users:
    - {name: ada, receivers: [ada-phone]}
    - {name: ben, receivers: [ben-phone]}
  schedules:
    - name: shop
      time_zone: Europe/Berlin
      rotations:
        - {users: [ada, ben], every: week, starts: 2026-11-03, hand_over: monday 09:00}
      overrides: [{user: ben, from: 2026-11-27 00:00, until: 2026-11-28}]
  escalation_policies:
    - {name: shop, repeat: 1, steps: [{schedules: [shop]}, {delay: 10m, users: [ben]}]}
"""
RECEIVERS = {name: Receiver(name) for name in ("ada-phone", "ben-phone")}


def _parsed(text: str) -> OnCall:
    fields = Fields(parse_document(text, "warroom.yaml"), ("on_call",), "on_call")
    return parse_on_call(fields, RECEIVERS)


def test_the_section_is_read_by_the_wall_clock_of_its_zone() -> None:
    plan = _parsed(FILE)
    (rotation,) = plan.schedules["shop"].rotations
    assert rotation.starts == clock("2026-11-09 09:00")
    assert plan.schedules["shop"].overrides[0].start_ms == instant_ms(
        clock("2026-11-27"), "Europe/Berlin"
    )
    assert [step.delay_ms for step in plan.policies["shop"].steps] == [0, 600_000]


@pytest.mark.parametrize(
    ("wrong", "right", "told"),
    [
        ("[ada-phone]", "[nowhere]", "the receiver 'nowhere' is not defined"),
        ("users: [ada, ben]", "users: [eve]", "the user 'eve' is not defined"),
        ("schedules: [shop]", "schedules: [stop]", "the schedule 'stop' is not defined"),
        ("every: week", "every: fortnight", "'fortnight' is no length of a turn"),
        ("monday 09:00", "moonday 09:00", "moonday"),
        ("Europe/Berlin", "Berlin", "'Berlin' is no time zone"),
        ("until: 2026-11-28", "until: 2026-11-26", "until must be after from"),
        ("2026-11-27 00:00", "2026-11-27T00:00:00+01:00", "needs a date and time"),
        ("delay: 10m", "delay: soon", "delay"),
        ("{name: ben,", "{name: ada,", "stands twice"),
        ("repeat: 1,", "repeats: 1,", "did you mean 'repeat'?"),
        ("{users: [ada, ben]", "{user: [ada, ben]", "a rotation needs users"),
    ],
)
def test_a_mistake_is_told_with_its_line(wrong: str, right: str, told: str) -> None:
    assert wrong in FILE
    with pytest.raises(ConfigError) as refused:
        _parsed(FILE.replace(wrong, right))
    assert told in str(refused.value)
    assert refused.value.line is not None
