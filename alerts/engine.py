"""One tick of alerting: states, incidents, routing and outbox rows, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from alerts import ack_timeout, overshoot, posted, silence_reminder, tick_rows
from alerts import incidents as incident_rules
from alerts.dispatch import Snapshot, dispatch, with_incidents
from alerts.drill import Drill, plan
from alerts.escalation import steps as escalation
from alerts.escalation.steps import Escalation
from alerts.incident_messages import IncidentMessage, incident_messages
from alerts.incidents import Incident, IncidentEvent
from alerts.model import Alert
from alerts.notification import EventAction, Notice
from alerts.on_call.stand_ins import StandIn, check
from alerts.recurring_silences import occurrences
from alerts.repository import AlertRepository, AlertTransaction
from alerts.route_tree import Routing
from alerts.routing_now import RoutingNow
from alerts.silences import Silence, checked, expired, updated
from alerts.state import (
    OUTAGE_TOLERANCE_MS,
    AlertRecord,
    advance_all,
    fingerprint,
)
from alerts.state_series import AlertSeries
from alerts.tick_result import TickResult, result_of
from alerts.working_memory import WorkingMemory, after
from detectors.topology import NO_CALLS, Topology
from store.errors import BadInput, LimitExceeded

MAX_ALERTS = 50_000
_Change = Callable[[Incident, Mapping[str, AlertRecord]], Incident]


class AlertEngine:
    """Keeps alert states and decides who must know. All truth is in the database.

    `series`, when given, keeps ALERTS and ALERTS_FOR_STATE.

    Safe to run in several replicas: a tick holds a lock from its first read to its last write.
    """

    def __init__(
        self,
        repository: AlertRepository,
        routing: Routing,
        *,
        external_url: str = "",
        series: AlertSeries | None = None,
    ) -> None:
        self.repository = repository
        self.external_url = external_url
        self._series = series
        self._routing = RoutingNow(routing)
        self._memory: WorkingMemory | None = None
        self._held: dict[str, overshoot.Held] = {}

    @property
    def routing(self) -> Routing:
        """The configuration in force, with the overrides on call."""
        return self._routing.current

    def reload(self, routing: Routing) -> None:
        """Use another configuration from the next tick on."""
        self._routing.reload(routing)

    def tick(
        self,
        now_ms: int,
        alerts: Sequence[Alert],
        *,
        unknown_sources: Collection[str] = frozenset(),
        topology: Topology = NO_CALLS,
    ) -> TickResult:
        """Bring everything up to `now_ms`.

        Args:
            now_ms: The tick's instant.
            alerts: Every alert whose condition holds now, from all sources.
            unknown_sources: Units or sources (see `Alert`) that could not be evaluated: their
                alerts keep their state; those `overshoot.marked` end, and are told so later.
            topology: Who calls whom: what belongs together becomes one incident.

        Raises:
            LimitExceeded: There are more than `MAX_ALERTS` alerts; nothing was changed.
        """
        if len(alerts) > MAX_ALERTS:
            raise LimitExceeded(
                f"{len(alerts)} alerts are active at once, at most {MAX_ALERTS} are kept",
                reason="alerts",
                hint="an alerting rule lacks an aggregation",
            )
        with self.repository.begin() as transaction:
            last_ms = transaction.lock()
            routing = self._routing.know(transaction.stand_ins())
            transaction.save_silences(occurrences(transaction, now_ms))
            memory = self._recalled(transaction, last_ms)
            before = memory.snapshot
            posts = transaction.posted(now_ms)
            active = posted.active(posts, now_ms)
            active |= {fingerprint(alert.labels): alert for alert in alerts}
            outage = 0 < last_ms < now_ms - OUTAGE_TOLERANCE_MS
            records = advance_all(
                before.records, active, now_ms, unknown=unknown_sources, outage=outage
            )
            records = posted.with_last_words(records, posts, now_ms)
            held = overshoot.hold(self._held, before.records, records, unknown_sources, now_ms)
            records = overshoot.settled(records, held, self._held, now_ms)
            told = overshoot.as_told(records, held)
            changes = incident_rules.follow(
                told, memory.incidents, now_ms, turn=memory.turn, topology=topology
            )
            late = ack_timeout.expire(changes, now_ms, routing.ack_timeout_ms)
            records = with_incidents(records, changes.incident_of)
            told = overshoot.as_told(records, held)
            places = memory.places_under(routing)
            outcome = dispatch(
                replace(before, records=told),
                routing,
                now_ms,
                external_url=self.external_url,
                places=places,
            )
            look = replace(before, records=told)
            outcome.notices += self._unsolicited(transaction, look, late, now_ms)
            look = replace(look, entries={**before.entries, **outcome.entries})
            outcome.notices = tick_rows.escalated(
                transaction, look, outcome.notices, changes.unresolved, routing, now_ms
            )
            transaction.save_incidents(
                list(changes.incidents.values()),
                [*changes.events, *tick_rows.page_events(outcome.notices, now_ms)],
                changes.parts,
            )
            records = tick_rows.retained(records, outcome, now_ms)
            unsaved = tick_rows.save(transaction, memory, records, outcome)
            forgotten = tick_rows.sweep(transaction, before, routing, now_ms)
            left = after(before, records, outcome)
            entries = {k: v for k, v in left.entries.items() if k not in forgotten}
            kept = WorkingMemory(
                generation=transaction.ticked(now_ms),
                snapshot=replace(left, entries=entries),
                incidents=changes.unresolved,
                unsaved=unsaved,
                turn=memory.turn + 1,
                places=places,
            )
        self._memory, self._held = kept, held
        if self._series is not None:
            self._series.append(records.values(), now_ms)
        return result_of(now_ms, tuple(records.values()), outcome)

    def _unsolicited(
        self,
        transaction: AlertTransaction,
        look: Snapshot,
        late: Sequence[Incident],
        now_ms: int,
    ) -> list[Notice]:
        """What no alert asks for: pages whose acknowledgement ran out, silences that end soon."""
        routing, found = self.routing, []
        for incident in late:
            about = self._message(EventAction.TRIGGER, incident.id, "", now_ms)
            members = frozenset(part.fingerprint for part in incident.alerts)
            found += incident_messages(about, look, routing, members)
        for silence in silence_reminder.ending(look.silences, now_ms, routing.silence_reminder_ms):
            known = transaction.lanes(silence_reminder.lane_of(silence.id))
            told = silence_reminder.reminders(
                silence, look.records, routing, now_ms, self.external_url
            )
            found += silence_reminder.new_only(told, known)
        return found

    def _recalled(self, transaction: AlertTransaction, generation: int) -> WorkingMemory:
        """What the last tick left, or what the database holds when another process wrote since."""
        memory = self._memory
        if memory is None or memory.generation != generation:
            return WorkingMemory(
                generation, transaction.snapshot(), tuple(transaction.unresolved_incidents())
            )
        silences = tuple(transaction.silences())
        return replace(memory, snapshot=replace(memory.snapshot, silences=silences))

    def acknowledge(
        self, incident_id: str, who: str, now_ms: int, at_ms: int | None = None
    ) -> None:
        """Someone takes an incident; paging services that were told of it are told that too.

        `at_ms`: when it was done, where that is told late; so for what follows.

        Raises:
            BadInput: There is no such incident.
        """
        who = who.strip()[:256] or "someone"
        self._change(
            IncidentEvent(incident_id, at_ms or now_ms, "ack", f"acknowledged by {who}", who),
            self._message(EventAction.ACKNOWLEDGE, incident_id, who, now_ms),
            lambda incident, _: incident_rules.acknowledged(incident, who, at_ms or now_ms),
        )

    def resolve(self, incident_id: str, who: str, now_ms: int, at_ms: int | None = None) -> None:
        """Someone ends an incident by hand; receivers that were told of it are told that too.

        Its alerts go on as they are: one that still fires is told again after `repeat_interval`.

        Raises:
            BadInput: There is no such incident.
        """
        who = who.strip()[:256] or "someone"
        self._change(
            IncidentEvent(incident_id, at_ms or now_ms, "closed", f"resolved by {who}", who),
            self._message(EventAction.RESOLVE, incident_id, who, now_ms),
            lambda incident, _: incident_rules.resolved(incident, at_ms or now_ms),
        )

    def reopen(self, incident_id: str, who: str, now_ms: int, at_ms: int | None = None) -> None:
        """Someone gives an incident back, or takes back its end while alerts still fire.

        Receivers that were told of it are told again, and escalations begin anew.

        Raises:
            BadInput: There is no such incident.
        """
        who = who.strip()[:256] or "someone"
        self._change(
            IncidentEvent(incident_id, at_ms or now_ms, "reopened", f"reopened by {who}", who),
            self._message(EventAction.TRIGGER, incident_id, who, now_ms),
            incident_rules.reopened,
        )

    def _message(
        self, action: EventAction, incident_id: str, who: str, now_ms: int
    ) -> IncidentMessage:
        return IncidentMessage(action, incident_id, who, now_ms, self.external_url)

    def _change(self, event: IncidentEvent, about: IncidentMessage, change: _Change) -> None:
        """Keep a change by hand and its event, and tell who was told; no change, no event."""
        with self.repository.begin() as transaction:
            transaction.lock()
            incident = transaction.incident(event.incident_id)
            if incident is None:
                raise BadInput(f"there is no incident {event.incident_id!r}")
            snapshot = transaction.snapshot()
            changed = change(incident, snapshot.records)
            if changed is incident:
                return
            transaction.save_incidents([changed], [event])
            transaction.ticked(0)
            members = frozenset(part.fingerprint for part in incident.alerts)
            notices = incident_messages(about, snapshot, self.routing, members)
            if about.action is EventAction.TRIGGER:
                notices = [replace(one, reason="reopened") for one in notices]
            told = escalation.by_hand(transaction.escalations(), notices, self.routing)
            transaction.save_escalations(told)
            transaction.enqueue(told.notices)

    def drill(self, labels: Mapping[str, str], now_ms: int) -> Drill:
        """Send a marked page through the routes that an alert with these labels would take.

        Raises:
            BadInput: Nobody is behind the route.
        """
        with self.repository.begin() as transaction:
            silences = transaction.silences()
            routing = self.routing
            drill = plan(labels, routing, silences, now_ms, external_url=self.external_url)
            drill = replace(drill, notices=escalation.drilled(drill.notices, routing, now_ms))
            transaction.enqueue(drill.notices)
        return drill

    def note(self, incident_id: str, text: str, who: str, now_ms: int) -> None:
        """Add a line to an incident's timeline.

        Raises:
            BadInput: There is no such incident, or the text is empty.
        """
        if not text.strip():
            raise BadInput("a note needs a text")
        with self.repository.begin() as transaction:
            if transaction.incident(incident_id) is None:
                raise BadInput(f"there is no incident {incident_id!r}")
            line = IncidentEvent(incident_id, now_ms, "note", text.strip()[:10_000], who[:256])
            transaction.save_incidents([], [line])

    def post(self, alerts: Sequence[tuple[Alert, int | None, int | None]], now_ms: int) -> None:
        """Take alerts that another program posts, each with its start and end if given.

        As Alertmanager: without an end it ends after `resolve_timeout` unless posted again.
        """
        timeout_ms = self.routing.resolve_timeout_ms
        with self.repository.begin() as transaction:
            transaction.lock()
            known = transaction.posted_times([fingerprint(one.labels) for one, _, _ in alerts])
            spans: dict[str, tuple[Alert, int, int]] = {}
            for alert, starts_ms, ends_ms in alerts:
                identity = fingerprint(alert.labels)
                # Of two posts of one alert in a message, the later one knows of the earlier.
                before = spans[identity][1:] if identity in spans else known.get(identity)
                begin_ms, until_ms = posted.span(
                    starts_ms, ends_ms, before, now_ms, timeout_ms=timeout_ms
                )
                spans[identity] = alert, begin_ms, until_ms
            transaction.post(spans)

    def set_silence(self, silence: Silence, now_ms: int) -> str:
        """Keep a silence, new or changed; answers with its id.

        Raises:
            BadInput: It is not valid, or it names a silence that does not exist.
        """
        with self.repository.begin() as transaction:
            transaction.lock()
            kept = {known.id: known for known in transaction.silences()}
            if silence.id and silence.id not in kept:
                raise BadInput(f"silence {silence.id} not found")
            ended, new = updated(kept.get(silence.id), silence, now_ms)
            checked(new, now_ms)
            transaction.save_silences([new] if ended is None else [ended, new])
        return new.id

    def expire_silence(self, silence_id: str, now_ms: int) -> bool:
        """End a silence now; False when there is none of that id."""
        with self.repository.begin() as transaction:
            transaction.lock()
            for silence in transaction.silences():
                if silence.id == silence_id:
                    if silence.ends_ms > now_ms:
                        transaction.save_silences([expired(silence, now_ms)])
                    return True
        return False

    def stand_in(self, stand_in: StandIn) -> None:
        """Somebody stands in on call, from now on also for this process's readers.

        Raises:
            BadInput: Another schedule has that id.
            LimitExceeded: There are too many already.
        """
        with self.repository.begin() as transaction:
            transaction.lock()
            check(stand_in, transaction.stand_ins())
            transaction.save_stand_in(stand_in)
            known = transaction.stand_ins()
        self._routing.know(known)

    def end_stand_in(self, schedule: str, stand_in_id: str) -> bool:
        """Take back an override of a schedule; False when it has none of that id."""
        with self.repository.begin() as transaction:
            transaction.lock()
            known = transaction.stand_ins()
            left = [s for s in known if (s.schedule, s.id) != (schedule, stand_in_id)]
            if len(left) < len(known):
                transaction.delete_stand_in(stand_in_id)
        self._routing.know(left)
        return len(left) < len(known)

    def stand_ins(self) -> tuple[StandIn, ...]:
        """Overrides that people made."""
        with self.repository.begin() as transaction:
            return transaction.stand_ins()

    def silences(self) -> list[Silence]:
        """Every silence that is kept."""
        with self.repository.begin() as transaction:
            return transaction.silences()

    def escalations(self) -> list[Escalation]:
        """Escalations that have not ended."""
        with self.repository.begin() as transaction:
            return list(transaction.escalations().values())

    def snapshot(self) -> Snapshot:
        """States, groups, notification log and silences as they are now."""
        with self.repository.begin() as transaction:
            return self._recalled(transaction, transaction.generation()).snapshot
