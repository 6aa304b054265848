"""The alert-quality report over a made-up week."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.incidents import Incident, IncidentAlert, IncidentEvent, IncidentState
from alerts.ledger.repository import Delivery
from alerts.on_call.model import OnCall, Rotation, Schedule, User
from alerts.quality import History, assess
from store.model import Labels

NOW_MS = 1_795_766_400_000  # 2026-11-27 08:00 UTC
MINUTE_MS = 60_000
DAY_MS = 86_400_000


def incident(
    name: str, begins_ms: int, lasts_ms: int | None, *, taken_ms: int | None = None
) -> Incident:
    ends_ms = None if lasts_ms is None else begins_ms + lasts_ms
    return Incident(
        id=f"inc-{name}",
        title=name,
        severity="page",
        state=IncidentState.OPEN if ends_ms is None else IncidentState.RESOLVED,
        started_ms=begins_ms,
        detected_ms=begins_ms,
        acknowledged_ms=None if taken_ms is None else begins_ms + taken_ms,
        resolved_ms=ends_ms,
        alerts=(IncidentAlert(f"f-{name}", Labels.of(alertname=name), {}, begins_ms, ends_ms),),
    )


def line(name: str, kind: str, at_ms: int, ref: str = "") -> IncidentEvent:
    return IncidentEvent(f"inc-{name}", at_ms, kind, name, ref)


def page(at_ms: int, receiver: str = "on-call") -> Delivery:
    return Delivery(
        notice_id=f"msg_{at_ms}",
        receiver=receiver,
        kind="pagerduty",
        action="trigger",
        dedup_key="k",
        incident_id="",
        at_ms=at_ms,
        attempt=1,
        ok=True,
        status=202,
        detail="",
    )


def test_it_counts_pages_action_noise_flapping_and_times() -> None:
    taken = incident("Taken", NOW_MS, 30 * MINUTE_MS, taken_ms=2 * MINUTE_MS)
    noted = incident("Noted", NOW_MS, 4 * MINUTE_MS)
    noise = incident("Noise", NOW_MS, 2 * MINUTE_MS)
    slow = incident("Slow", NOW_MS, 60 * MINUTE_MS)
    by_hand = incident("ByHand", NOW_MS, 3 * MINUTE_MS)
    running = incident("Runs", NOW_MS, None)
    events = {
        "inc-Noted": [line("Noted", "note", NOW_MS, "ada")],
        "inc-ByHand": [line("ByHand", "closed", NOW_MS, "ben")],
        "inc-Slow": [line("Slow", "closed", NOW_MS)],
        "inc-Noise": [
            line("Noise", "alert", NOW_MS + n * 10 * MINUTE_MS, "f-Noise") for n in range(4)
        ],
        "inc-Runs": [
            # Three instances at one instant are one beginning, and days apart is no flapping.
            *[line("Runs", "alert", NOW_MS, "f-Runs") for _ in range(3)],
            line("Runs", "alert", NOW_MS + DAY_MS, "f-Runs"),
        ],
    }
    start = datetime.fromisoformat("2026-11-27 00:00")
    rotation = Rotation(("ada", "ben"), start, 1)
    plan = OnCall(
        {name: User(name, (f"{name}-phone",)) for name in ("ada", "ben")},
        {
            "shop": Schedule("shop", "Europe/Berlin", (rotation,)),
            "search": Schedule("search", "Europe/Berlin", (Rotation(("ada",), start, 1),)),
        },
    )
    pages = [
        page(NOW_MS, "ada-phone"),
        page(NOW_MS + 15 * 3_600_000, "ben-phone"),
        # On the other schedule; then told by name, off duty; then to nobody's receiver.
        page(NOW_MS + DAY_MS, "ada-phone"),
        page(NOW_MS, "ben-phone"),
        page(NOW_MS + DAY_MS, "mail"),
    ]
    told = assess(
        History([taken, noted, noise, slow, by_hand, running], events, pages),
        plan,
        NOW_MS - DAY_MS,
        NOW_MS + 2 * DAY_MS,
        time_zone="Europe/Berlin",
    )
    assert told.pages_by_day == {"2026-11-27": 2, "2026-11-28": 3}
    assert told.pages_by_receiver == {"ada-phone": 2, "ben-phone": 2, "mail": 1}
    assert told.pages_by_shift == {
        "shop": {"ada": 1, "ben": 1},
        "search": {"ada": 1},
        "off shift": {"ben": 1},
    }
    assert told.mttd_s == 0.0
    assert (told.actionable, told.noise) == (3 / 5, 1 / 5)
    assert told.mtta_s == 120.0
    assert told.mttr_s == (30 + 4 + 2 + 60 + 3) * 60 / 5
    assert told.noisiest[0][1] == 4
    assert [(one.alert, one.times) for one in told.flapping] == [("Noise", 4)]


def test_an_empty_span_has_no_shares() -> None:
    told = assess(History([], {}, []), OnCall(), 0, DAY_MS, time_zone="UTC")
    assert (told.pages, told.actionable, told.noise, told.mtta_s) == (0, None, None, None)


def test_a_handled_incident_is_never_compared_with_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compared(*_two: object) -> bool:
        raise AssertionError("the report must not grow with the square of the incidents")

    some = [incident(f"n{n}", NOW_MS, MINUTE_MS, taken_ms=n % 2 or None) for n in range(10)]
    monkeypatch.setattr(Incident, "__eq__", compared)
    told = assess(History(some, {}, [], cut=True), OnCall(), 0, DAY_MS, time_zone="UTC")
    assert (told.actionable, told.noise, told.cut) == (0.5, 0.5, True)


@given(st.lists(st.integers(0, 4 * 60), max_size=40))
def test_flapping_is_the_most_beginnings_within_any_hour(minutes: list[int]) -> None:
    events = {"inc-A": [line("A", "alert", NOW_MS + m * MINUTE_MS, "f-A") for m in minutes]}
    history = History([incident("A", NOW_MS, None)], events, [])
    told = assess(history, OnCall(), 0, DAY_MS, time_zone="UTC")
    most = max((len({m for m in minutes if at <= m < at + 60}) for at in minutes), default=0)
    assert [one.times for one in told.flapping] == ([most] if most >= 3 else [])
