"""A rule over its group's limit: its alerts end, as in Prometheus, but nobody is told at once.

Prometheus sends nothing for them then; Alertmanager takes them to fire until four minutes after it
heard of them last. States and series are Prometheus's, messages and incidents Alertmanager's.
Kept in memory: after a restart their end is told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from alerts.model import AlertState
from alerts.state import AlertRecord, Step, in_incident

HOLD_MS = 240_000
_MARK = "over limit: "


@dataclass(frozen=True, slots=True)
class Held:
    """An alert as it fired last, and until when it is told as firing."""

    record: AlertRecord
    until_ms: int


def marked(unit: str) -> str:
    """What stands among the unknown units for one that is over its limit."""
    return _MARK + unit


def hold(
    held: Mapping[str, Held],
    before: Mapping[str, AlertRecord],
    records: Mapping[str, AlertRecord],
    unknown: Collection[str],
    now_ms: int,
) -> dict[str, Held]:
    """What is told as firing at this tick though it does not fire, by fingerprint.

    Args:
        held: At the last tick.
        before: States of the last tick.
        records: States of this one.
        unknown: Units, `marked` those over their limit.
        now_ms: The tick.
    """
    units = {unit.removeprefix(_MARK) for unit in unknown if unit.startswith(_MARK)}
    if not units and not held:
        return {}
    left = {
        identity: one
        for identity, one in held.items()
        if _open(one, records.get(identity), units, now_ms)
    }
    for identity, record in before.items():
        if record.firing and record.unit in units and not _fires(records.get(identity)):
            left[identity] = Held(record, now_ms + HOLD_MS)
    return left


def settled(
    records: dict[str, AlertRecord],
    held: Mapping[str, Held],
    known: Mapping[str, Held],
    now_ms: int,
) -> dict[str, AlertRecord]:
    """The states after those that are held no more, of `known`, which were held before.

    One that fires again goes on in its incident; any other ends now, so that its end is told.
    """
    freed = {identity: one.record for identity, one in known.items() if identity not in held}
    if not freed:
        return records
    after = dict(records)
    for identity, last in freed.items():
        record = after.get(identity)
        if record is not None and record.firing:
            after[identity] = in_incident(record, last.incident_id)
        else:
            after[identity] = replace(
                last,
                state=AlertState.RESOLVED,
                resolved_ms=now_ms,
                reason=Step.CONDITION_ENDED,
            )
    return after


def as_told(records: dict[str, AlertRecord], held: Mapping[str, Held]) -> dict[str, AlertRecord]:
    """The states as messages and incidents see them."""
    return records | {identity: one.record for identity, one in held.items()} if held else records


def _fires(record: AlertRecord | None) -> bool:
    return record is not None and record.firing


def _open(one: Held, now: AlertRecord | None, units: Collection[str], now_ms: int) -> bool:
    """Its end is not known: the rule is still over its limit, or the hold runs anew."""
    if now is not None and now.state is AlertState.PENDING:
        return True
    return not _fires(now) and one.record.unit in units and now_ms < one.until_ms
