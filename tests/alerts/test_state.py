"""The life of one alert."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerts.model import Alert, AlertState
from alerts.state import AlertRecord, Step, advance, fingerprint
from store.model import Labels

LABELS = Labels.of(alertname="Lag", severity="page")


def test_an_alert_without_hold_fires_at_once() -> None:
    record = advance(None, Alert(LABELS), 1_000)
    assert record is not None
    assert (record.state, record.reason) == (AlertState.FIRING, Step.FIRES_AT_ONCE)


def test_a_hold_runs_from_the_first_tick_and_ends_on_the_second() -> None:
    alert = Alert(LABELS, hold_s=10)
    first = advance(None, alert, 0)
    half = advance(first, alert, 9_999)
    full = advance(half, alert, 10_000)
    assert first is not None
    assert half is not None
    assert full is not None
    assert [r.state for r in (first, half, full)] == ["pending", "pending", "firing"]
    assert (full.active_ms, full.starts_ms) == (0, 10_000)


def test_an_unknown_source_neither_resolves_nor_ends_a_pending_clock() -> None:
    firing = advance(None, Alert(LABELS), 0)
    pending = advance(None, Alert(LABELS, hold_s=60), 0)
    for before in (firing, pending):
        after = advance(before, None, 5_000, unknown=True)
        assert before is not None
        assert after is not None
        assert after.state is before.state
        assert after.reason is Step.SOURCE_UNKNOWN


def test_keep_firing_holds_an_ended_alert_and_a_return_resets_it() -> None:
    alert = Alert(LABELS, keep_firing_s=30)
    record = advance(None, alert, 0)
    kept = advance(record, None, 10_000)
    back = advance(kept, alert, 35_000)
    ended = advance(advance(back, None, 40_000), None, 70_000)
    assert kept is not None
    assert back is not None
    assert ended is not None
    assert kept.reason is Step.KEEP_FIRING
    assert back.ended_ms is None
    assert ended.state is AlertState.RESOLVED


def test_a_hold_starts_anew_after_a_long_outage() -> None:
    alert = Alert(LABELS, hold_s=10)
    pending = advance(None, alert, 0)
    after = advance(pending, alert, 7_200_000, outage=True)
    assert after is not None
    assert (after.state, after.active_ms) == (AlertState.PENDING, 7_200_000)


Tick = st.tuples(st.booleans(), st.booleans())


@given(st.lists(Tick, max_size=60), st.integers(0, 40), st.integers(0, 40))
def test_firing_needs_the_whole_hold_and_resolving_needs_a_look(
    ticks: list[tuple[bool, bool]], hold_s: int, keep_s: int
) -> None:
    alert = Alert(LABELS, hold_s=hold_s, keep_firing_s=keep_s)
    record: AlertRecord | None = None
    held_since_ms: int | None = None
    for index, (holds, unknown) in enumerate(ticks):
        now_ms = index * 5_000
        before = record
        record = advance(before, alert if holds else None, now_ms, unknown=unknown)
        if holds and (held_since_ms is None):
            held_since_ms = now_ms
        elif not holds and not unknown:
            held_since_ms = None
        newly = record and record.firing and not (before and before.firing)
        if newly:
            assert held_since_ms is not None
            assert now_ms - held_since_ms >= hold_s * 1000
        if before and before.firing and record and not record.firing:
            assert not holds
            assert not unknown


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
)
def test_fingerprints_are_equal_only_for_equal_labels(
    one: dict[str, str], other: dict[str, str]
) -> None:
    first, second = Labels.of(one), Labels.of(other)
    assert (fingerprint(first) == fingerprint(second)) == (first == second)
