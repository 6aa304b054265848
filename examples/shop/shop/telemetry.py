"""The shop's link to Warroom: set up once a process, used by every view."""

import uuid
from pathlib import Path

from django.conf import settings

from collector.instrument.django import InstrumentOptions, instrument_django
from collector.instrument.events import EventTracker, Visit
from collector.instrument.posting import BatchPoster, Destination, PostLimits

_NOT_TRACED = "metrics,ops/faults,rum,healthz"


class Telemetry:
    """What was set up; before that, events and beacons go nowhere."""

    def __init__(self):
        self.events = EventTracker("shop", None)
        self.beacons = None

    def start(self, instance):
        """Instrument this process. Call it before Django builds its middleware."""
        warroom = settings.WARROOM_ENDPOINT
        if not warroom:
            return
        found = instrument_django(
            "shop",
            endpoint=warroom,
            events_endpoint=f"{warroom}/events",
            app_roots=[Path(__file__).resolve().parent],
            options=InstrumentOptions(excluded_urls=_NOT_TRACED, instance=instance),
        )
        self.events = found.events
        # The shop forwards beacons, so that browsers need no second origin.
        self.beacons = BatchPoster(
            Destination(f"{warroom}/rum", "application/json", _one_array),
            PostLimits(queue_items=2_000, batch_items=100),
        )


def _one_array(batch):
    inner = (body.strip()[1:-1] if body.lstrip().startswith(b"[") else body for body in batch)
    return b"[" + b",".join(inner) + b"]"


telemetry = Telemetry()


def events():
    """Where business events go."""
    return telemetry.events


def visit_of(request):
    """Who is shopping. The session's own id lives in the signed cookie."""
    session = request.session
    if "id" not in session:
        session["id"] = f"s-{uuid.uuid4().hex[:16]}"
        agent = request.headers.get("User-Agent", "")
        session["device"] = "mobile" if "Mobile" in agent else "desktop"
        session["channel"] = request.GET.get("utm_medium", "direct")[:20]
    return Visit(
        session_id=session["id"],
        checkout_id=session.get("checkout_id", ""),
        device=session["device"],
        channel=session["channel"],
        country=session.get("country", ""),
    )
