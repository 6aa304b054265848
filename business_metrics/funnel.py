"""The closed checkout funnel by session, as GA4's checkout journey counts it.

A session has passed a step when it did it at or after it had passed the step before. A visitor who
logs in on the way is a returning one from the first step on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from business_metrics.abandonment import SEGMENTS, segment_columns
from business_metrics.keyed_rows import numbers_of
from store.errors import BadInput, LimitExceeded
from store.model import BoolArray, Int64Array

# The stubs of the compute functions know no chunked columns.
pc: Any = pyarrow.compute

STEPS = (
    "view_item",
    "add_to_cart",
    "begin_checkout",
    "add_shipping_info",
    "add_payment_info",
    "purchase",
)
# A shop that never sends one of these has a shorter funnel, not an empty one.
_OPTIONAL = frozenset({"view_item", "add_to_cart", "add_shipping_info", "add_payment_info"})
COLUMNS = ("type", "ts_ms", "session_id", "bot", "test")
# Some 600 MB while they are counted.
_MAX_ROWS = 16_000_000
_NOT_PASSED = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """One step: sessions that passed it, and how they came from the step before."""

    name: str
    sessions: int
    conversion_from_previous: float | None
    median_seconds_from_previous: float | None


def parse_segment(text: str) -> tuple[str, str] | None:
    """`device:mobile` to its parts; nothing to None.

    Raises:
        BadInput: It is written another way, or cannot be segmented by.
    """
    if not text:
        return None
    name, colon, value = text.partition(":")
    if not colon or name not in SEGMENTS:
        raise BadInput(
            f"segment {text!r} is not understood", hint=f"write one of {', '.join(SEGMENTS)}:value"
        )
    return name, value


def funnel(
    parts: Iterable[pa.Table], segment: tuple[str, str] | None = None
) -> tuple[FunnelStep, ...]:
    """The funnel of events (`COLUMNS`, and the segment's) that come in parts, cut anywhere.

    Raises:
        LimitExceeded: They are of more visitors than memory should hold.
    """
    steps: list[_Steps] = []
    values: list[pa.Table] = []
    for part in parts:
        steps.append(_steps_of(part))
        if segment is not None:
            values.append(_values_of(part, segment[0]))
        check_room(sum(len(one.ts_ms) for one in steps) + sum(map(len, values)))
    whole = _joined(steps)
    # What the shop sends is known of all its visitors, also where those of a segment come to less.
    sent = np.bincount(whole.step, minlength=len(STEPS)) > 0
    used = [i for i, name in enumerate(STEPS) if name not in _OPTIONAL or sent[i]]
    if segment is not None and values:
        mine = np.isin(whole.session, _of(values, *segment))
        whole = _Steps(whole.session[mine], whole.step[mine], whole.ts_ms[mine])
    return _walk(whole, used)


def check_room(rows: int) -> None:
    """Refuse to hold more rows.

    Raises:
        LimitExceeded: They are more than memory should hold.
    """
    if rows > _MAX_ROWS:
        raise LimitExceeded(
            f"the range has more than {_MAX_ROWS:,} steps of visitors",
            reason="too_many_steps",
            hint="ask for a shorter range",
        )


@dataclass(frozen=True, slots=True)
class _Steps:
    """One row a step that a session did: its number, the place in `STEPS`, the instant."""

    session: Int64Array
    step: Int64Array
    ts_ms: Int64Array


def _steps_of(events: pa.Table) -> _Steps:
    """The genuine steps that can matter: of the first one the earliest of each session."""
    found = pc.fill_null(pc.index_in(events["type"], value_set=pa.array(STEPS)), -1)
    step = np.asarray(found.to_numpy(), dtype=np.int64)
    place, sessions = numbers_of(events["session_id"])
    step[~_countable(events, place)] = -1
    ts = np.asarray(events["ts_ms"].to_numpy(), dtype=np.int64)
    first, later = step == 0, step > 0
    earliest = np.full(len(sessions), _NOT_PASSED, dtype=np.int64)
    np.minimum.at(earliest, place[first], ts[first])
    begun = earliest < _NOT_PASSED
    return _Steps(
        np.concatenate([sessions[begun], sessions[place[later]]]),
        np.concatenate([np.zeros(int(begun.sum()), dtype=np.int64), step[later]]),
        np.concatenate([earliest[begun], ts[later]]),
    )


def _countable(events: pa.Table, place: Int64Array) -> BoolArray:
    """Which rows are of a session that is known, and of neither a bot nor a test."""
    bot, test = (np.asarray(events[name].to_numpy(), dtype=np.bool_) for name in ("bot", "test"))
    return np.asarray((place >= 0) & ~bot & ~test, dtype=np.bool_)


def _joined(parts: list[_Steps]) -> _Steps:
    nothing = [np.empty(0, dtype=np.int64)]
    return _Steps(
        np.concatenate([part.session for part in parts] or nothing),
        np.concatenate([part.step for part in parts] or nothing),
        np.concatenate([part.ts_ms for part in parts] or nothing),
    )


def _values_of(events: pa.Table, segment: str) -> pa.Table:
    """What each session told of a segment."""
    place, sessions = numbers_of(events["session_id"])
    countable = _countable(events, place)
    columns = {
        "session": pa.array(sessions[place[countable]]),
        "value": segment_columns(events, (segment,))[segment].filter(pa.array(countable)),
    }
    return _one_each(pa.table(columns), segment)


def _one_each(told: pa.Table, segment: str) -> pa.Table:
    which = SEGMENTS[segment]
    wanted: Any = [("value", which)]
    return told.group_by("session").aggregate(wanted).rename_columns(["session", "value"])


def _of(values: list[pa.Table], segment: str, value: str) -> Int64Array:
    """The sessions of a segment: one value holds for all that a session did."""
    told = _one_each(pa.concat_tables(values), segment)
    mine = pc.fill_null(pc.equal(told["value"], value), fill_value=False)
    return np.asarray(told.filter(mine)["session"].to_numpy(), dtype=np.int64)


def _walk(steps: _Steps, used: list[int]) -> tuple[FunnelStep, ...]:
    sessions, code = np.unique(steps.session, return_inverse=True)
    count = len(sessions)
    passed = np.full(count, np.iinfo(np.int64).min, dtype=np.int64)
    found: list[FunnelStep] = []
    for index in used:
        mask = (steps.step == index) & (steps.ts_ms >= passed[code])
        now = np.full(count, _NOT_PASSED, dtype=np.int64)
        np.minimum.at(now, code[mask], steps.ts_ms[mask])
        through = now < _NOT_PASSED
        came = int(through.sum())
        share = median = None
        if found:
            before = found[-1].sessions
            share = came / before if before else None
            median = float(np.median(now[through] - passed[through])) / 1_000 if came else None
        found.append(FunnelStep(STEPS[index], came, share, median))
        passed = now
    return tuple(found)
