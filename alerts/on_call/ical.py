"""A schedule's shifts as an iCalendar file (RFC 5545), for anybody's calendar."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

from alerts.on_call.model import Schedule
from alerts.on_call.who import DAY_MS, MAX_SPAN_MS, Shift, shifts

# Longer than the longest turn: the shift that runs now began in the span.
BACK_MS = 65 * DAY_MS
AHEAD_MS = 180 * DAY_MS
_OCTETS = 75
# A calendar must have a component (RFC 5545, 3.6), also when it has no event.
_NO_EVENTS = (
    "BEGIN:VTIMEZONE",
    "TZID:Etc/UTC",
    "BEGIN:STANDARD",
    "DTSTART:19700101T000000",
    "TZOFFSETFROM:+0000",
    "TZOFFSETTO:+0000",
    "END:STANDARD",
    "END:VTIMEZONE",
)
_ESCAPES = str.maketrans({"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n", "\r": None})


def calendar_of(schedule: Schedule, now_ms: int) -> str:
    """The shifts of the last weeks and the next half-year.

    A shift keeps its UID however often the calendar is asked for: days are cut at midnight UTC, so
    that the span's ends do not move between two requests of a day.
    """
    whole = _shown(schedule, now_ms)
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Warroom//On call//EN",
        "CALSCALE:GREGORIAN",
        f"X-WR-CALNAME:{_text(f'On call: {schedule.name}')}",
        *(line for shift in whole for line in _event(schedule, shift, now_ms)),
        *(() if whole else _NO_EVENTS),
        "END:VCALENDAR",
    ]
    return "".join(f"{folded(line)}\r\n" for line in lines)


def _shown(schedule: Schedule, now_ms: int) -> list[Shift]:
    """Shifts whose beginning is known; one that runs beyond the span is cut at its end."""
    today_ms = now_ms // DAY_MS * DAY_MS
    from_ms, until_ms = today_ms - BACK_MS, today_ms + AHEAD_MS
    # An override may be longer than any turn.
    running = [o.start_ms for o in schedule.overrides if o.start_ms <= now_ms < o.end_ms]
    earliest_ms = min([from_ms, *running]) // DAY_MS * DAY_MS - DAY_MS
    from_ms = max(earliest_ms, until_ms - MAX_SPAN_MS)
    return [
        shift
        for shift in shifts(schedule, from_ms, until_ms)
        if shift.duty.user
        and shift.start_ms > from_ms
        and (shift.end_ms < until_ms or shift.start_ms <= now_ms)
    ]


def uid_of(schedule: Schedule, shift: Shift) -> str:
    """A shift's name for calendars: of the schedule, the person, and when it begins."""
    seed = f"{schedule.name}\n{shift.duty.user}\n{shift.duty.source}\n{shift.start_ms}"
    return f"{hashlib.sha256(seed.encode()).hexdigest()[:32]}@warroom"


def folded(line: str) -> str:
    """The line in pieces of at most 75 octets; no character is cut in two."""
    pieces, piece, room = [], "", _OCTETS
    for character in line:
        size = len(character.encode())
        if size > room:
            pieces.append(piece)
            piece, room = "", _OCTETS - 1
        piece += character
        room -= size
    return "\r\n ".join([*pieces, piece])


def _event(schedule: Schedule, shift: Shift, now_ms: int) -> Iterable[str]:
    return (
        "BEGIN:VEVENT",
        f"UID:{uid_of(schedule, shift)}",
        f"DTSTAMP:{_stamp(now_ms)}",
        f"DTSTART:{_stamp(shift.start_ms)}",
        f"DTEND:{_stamp(shift.end_ms)}",
        f"SUMMARY:{_text(f'{shift.duty.user} on call ({schedule.name})')}",
        f"DESCRIPTION:{_text(f'By {shift.duty.source.value}')}",
        "TRANSP:TRANSPARENT",
        "END:VEVENT",
    )


def _stamp(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms // 1000, tz=UTC):%Y%m%dT%H%M%SZ}"


def _text(text: str) -> str:
    return text.translate(_ESCAPES)
