"""Times in questions: Grafana's relative ones, rounded as it rounds them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.times import parse_time
from store.errors import BadInput
from store.timestamps import rfc3339
from tests.warroom.world import World

# A Tuesday.
NOW_MS = round(datetime(2026, 3, 31, 14, 13, 20, 250_000, UTC).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-03-31T14:13:20.250Z"),
        ("now-90m", "2026-03-31T12:43:20.250Z"),
        ("now/s", "2026-03-31T14:13:20.000Z"),
        ("now/m", "2026-03-31T14:13:00.000Z"),
        ("now/h", "2026-03-31T14:00:00.000Z"),
        ("now/d", "2026-03-31T00:00:00.000Z"),
        ("now-1d/d", "2026-03-30T00:00:00.000Z"),
        ("now/d+8h", "2026-03-31T08:00:00.000Z"),
        ("now/w", "2026-03-30T00:00:00.000Z"),
        ("now-2d/w", "2026-03-23T00:00:00.000Z"),
        ("now/M", "2026-03-01T00:00:00.000Z"),
        ("now-1M/M", "2026-02-01T00:00:00.000Z"),
        ("now-1M", "2026-02-28T14:13:20.250Z"),
        ("now-5M/Q", "2025-10-01T00:00:00.000Z"),
        ("now/y", "2026-01-01T00:00:00.000Z"),
        ("now-1y/y", "2025-01-01T00:00:00.000Z"),
    ],
)
def test_relative_times_mean_what_they_mean_in_grafana(text: str, expected: str) -> None:
    assert rfc3339(parse_time(text, NOW_MS, 0)) == expected


@pytest.mark.parametrize(
    "text", ["now/", "now/x", "now-d", "now-1d/dd", "now-3000y", "now+9000y/y", "now-999999999M"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_time(text, NOW_MS, 0)


@given(st.from_regex(r"now([+-]\d{1,5}[smhdwMQy]|/[smhdwMQy]){0,3}", fullmatch=True))
def test_rounding_goes_back_and_a_second_time_changes_nothing(text: str) -> None:
    with suppress(BadInput):
        at_ms = parse_time(text, NOW_MS, 0)
        for unit in "smhdwMQy":
            rounded = parse_time(f"{text}/{unit}", NOW_MS, 0)
            assert rounded <= at_ms
            assert parse_time(f"{text}/{unit}/{unit}", NOW_MS, 0) == rounded


def test_windows_may_be_rounded_too(still_world: World) -> None:
    windows = {"before": "now-1d/d/now/d", "after": "now/h/now"}
    answer = still_world.get("/compare", service="shop", **windows)
    assert answer["before"]["from"].endswith("T00:00:00.000Z")
    assert answer["before"]["to"].endswith("T00:00:00.000Z")
    assert answer["after"]["from"].endswith(":00:00.000Z")
