"""What the engine keeps between ticks, so that it need not read back what it wrote itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alerts.dispatch import Dispatch, Snapshot
from alerts.incidents import Incident
from alerts.places import Places
from alerts.route_tree import Routing
from alerts.state import AlertRecord

# Texts and values that changed are written for this many alerts a tick; states always at once.
MAX_TEXTS_A_TICK = 2_000


@dataclass(frozen=True, slots=True)
class WorkingMemory:
    """The state after a tick. It holds while the database is at the same `generation`.

    Attributes:
        generation: What `AlertTransaction.ticked` noted.
        unsaved: Alerts whose newest text or value is not in the database yet.
        turn: Counts ticks: each alert's text has its turn to be written.
        places: Where alerts go under the routing of the tick.
    """

    generation: int
    snapshot: Snapshot
    incidents: tuple[Incident, ...]
    unsaved: frozenset[str] = frozenset()
    turn: int = 0
    places: Places | None = None

    def places_under(self, routing: Routing) -> Places:
        """Where alerts went, if that was under the same routing; those gone are forgotten."""
        if self.places is None or self.places.routing is not routing:
            return Places(routing)
        records = self.snapshot.records
        return self.places.kept(records, len(records))


def after(before: Snapshot, records: Mapping[str, AlertRecord], outcome: Dispatch) -> Snapshot:
    """The snapshot that a tick leaves."""
    groups = {**before.groups, **outcome.groups}
    for identity in outcome.ended_groups:
        groups.pop(identity, None)
    return Snapshot(records, groups, {**before.entries, **outcome.entries}, before.silences)


def to_write(
    before: Mapping[str, AlertRecord],
    records: Mapping[str, AlertRecord],
    memory: WorkingMemory,
) -> tuple[list[AlertRecord], frozenset[str]]:
    """The records to write at this tick, and those whose text waits for its turn."""
    turns = 1 + len(records) // MAX_TEXTS_A_TICK
    turn = memory.turn % turns
    written, waiting = [], set()
    for identity, record in records.items():
        previous = before.get(identity)
        if previous is record and identity not in memory.unsaved:
            continue
        if previous is not None and not _moved(previous, record):
            if previous == record and identity not in memory.unsaved:
                continue
            if turns > 1 and int(identity[:8], 16) % turns != turn:
                waiting.add(identity)
                continue
        written.append(record)
    return written, frozenset(waiting)


def _moved(previous: AlertRecord, record: AlertRecord) -> bool:
    """More than a text, a value or the last step changed: it must survive a crash."""
    return (
        previous.state is not record.state
        or previous.active_ms != record.active_ms
        or previous.starts_ms != record.starts_ms
        or previous.resolved_ms != record.resolved_ms
        or previous.ended_ms != record.ended_ms
        or previous.incident_id != record.incident_id
        or previous.unit != record.unit
        or previous.keep_firing_s != record.keep_firing_s
    )
