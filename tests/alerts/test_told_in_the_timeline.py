"""What the timeline of an incident says of a message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alerts.notification import EventAction, Notice, NoticeAlert
from alerts.tick_rows import page_events
from store.model import Labels


def about(*names: str) -> Notice:
    """A page about alerts of these names."""
    alerts = tuple(
        NoticeAlert(f"f{n}", True, Labels.of(alertname=name), {}, 1, None)
        for n, name in enumerate(names)
    )
    return Notice(
        id="n",
        lane="l",
        action=EventAction.TRIGGER,
        receiver="on-call",
        integration=0,
        group_key="g",
        dedup_key="d",
        group_labels=Labels.of({}),
        alerts=alerts,
        reason="first_notification",
        created_ms=1,
        incident_id="inc-1",
    )


@pytest.mark.parametrize(
    ("notice", "title"),
    [
        (about("OrderRateDrop"), "on-call paged: OrderRateDrop (first notification)"),
        (about("B", "A", "B"), "on-call paged: A and 1 more (first notification)"),
        (
            replace(about("A"), action=EventAction.RESOLVE, reason="all_alerts_resolved"),
            "on-call told that it ended: A (all alerts resolved)",
        ),
        (about(), "on-call paged (first notification)"),
    ],
)
def test_a_message_is_told_with_the_alerts_it_is_about(notice: Notice, title: str) -> None:
    (event,) = page_events([notice], 5)
    assert (event.kind, event.title, event.at_ms) == ("page", title, 5)


def test_a_message_of_no_incident_has_no_timeline() -> None:
    assert page_events([replace(about("A"), incident_id="")], 5) == []
