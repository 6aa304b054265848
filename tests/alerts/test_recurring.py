"""Recurring silences: when the window that is open now closes."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from typing_extensions import override

import alerts.recurring.silences as recurring
from alerts.recurring.silences import MAX_WINDOW_MS, MINUTE_MS, RecurringSilence, windows_of
from store.model import Matcher, MatchOp

# The clocks of Berlin go back on the first of these days and forward on the last.
DAYS_MS = [1_792_886_400_000, 1_795_766_400_000, 1_798_675_200_000, 1_806_192_000_000]
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])


def silence_of(windows: list[dict[str, Any]]) -> RecurringSilence:
    matcher = Matcher("service", MatchOp.EQUAL, "shop")
    return RecurringSilence("r", (matcher,), windows_of(windows), (), "ada", "cleaning")


@st.composite
def window(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(st.integers(0, 1438))
    end = draw(st.integers(start + 1, 1440))
    times = [{"start_time": _clock(start), "end_time": _clock(end)}]
    parts = {"times": times, "weekdays": ["monday:friday"], "months": ["october:december"]}
    names = draw(st.sets(st.sampled_from(sorted(parts)), min_size=1))
    return {"location": draw(ZONES), **{name: parts[name] for name in sorted(names)}}


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


@given(
    st.lists(window(), min_size=1, max_size=2),
    st.sampled_from(DAYS_MS),
    st.integers(0, 3 * 1440 * 60_000),
)
@example([{"months": ["november"], "location": "Europe/Berlin"}], DAYS_MS[1], 0)
def test_a_window_closes_at_the_first_minute_at_which_it_is_not_open(
    windows: list[dict[str, Any]], day_ms: int, offset_ms: int
) -> None:
    silence, now_ms = silence_of(windows), day_ms + offset_ms
    if not silence.open_at(now_ms):
        return
    ends_ms = recurring.closes_ms(silence, now_ms)
    cut_ms = (now_ms // MAX_WINDOW_MS + 1) * MAX_WINDOW_MS
    assert now_ms < ends_ms <= cut_ms
    assert ends_ms == cut_ms or not silence.open_at(ends_ms)
    minutes = range((now_ms // MINUTE_MS + 1) * MINUTE_MS, ends_ms, 7 * MINUTE_MS)
    assert all(silence.open_at(minute) for minute in (*minutes, ends_ms - MINUTE_MS))


def test_the_end_is_found_without_asking_every_minute() -> None:
    asked: list[int] = []

    class Counted(RecurringSilence):
        @override
        def open_at(self, at_ms: int) -> bool:
            asked.append(at_ms)
            return super().open_at(at_ms)

    plain = silence_of([{"months": ["november"], "location": "Europe/Berlin"}])
    counted = Counted("r", plain.matchers, plain.windows, (), "ada", "cleaning")
    recurring.closes_ms(counted, DAYS_MS[1])
    assert len(asked) < 10
