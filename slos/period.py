"""`timeWindow` of OpenSLO and of composites: how long a budget lasts, and when it begins anew."""

from __future__ import annotations

from dataclasses import dataclass

from slos.calendar_window import CalendarMistake, CalendarWindow, parse_calendar, usual_length_s
from slos.fields import Fields


@dataclass(frozen=True, slots=True)
class Period:
    """Rolling, or by a calendar; then `window_s` is its usual length."""

    window_s: int
    calendar: CalendarWindow | None = None


def read_period(spec: Fields, default_s: int) -> Period:
    """The one entry of `timeWindow`, or a rolling window of the default length.

    Raises:
        ConfigError: A field is unknown, missing or wrong.
    """
    if "timeWindow" not in spec:
        return Period(default_s)
    windows = list(spec.items("timeWindow", ("duration", "isRolling", "calendar")))
    if len(windows) != 1:
        spec.fail("timeWindow", "exactly one time window is expected", hint="keep one")
    window = windows[0]
    rolling = window.flag("isRolling", default="calendar" not in window)
    if rolling == ("calendar" in window):
        window.fail(
            "isRolling",
            "a time window is either rolling or has a calendar",
            hint="write isRolling: true, or isRolling: false and calendar: {startTime, timeZone}",
        )
    if rolling:
        # A rolling month has no fixed length either; it is taken to have its usual one.
        usual_s = usual_length_s(window.text("duration", hint="write it like 30d"))
        hint = "durations are in s, m, h, d, w, M, Q or Y"
        return Period(usual_s or window.duration_s("duration", hint=hint))
    calendar = window.mapping("calendar", ("startTime", "timeZone"))
    try:
        parsed = parse_calendar(
            window.text("duration"),
            calendar.moment("startTime"),
            calendar.text("timeZone", hint="write an IANA name like Europe/Berlin"),
        )
    except CalendarMistake as exc:
        holder = window if exc.part == "duration" else calendar
        holder.fail(exc.part, str(exc), hint=exc.hint)
    return Period(parsed.usual_s, parsed)
