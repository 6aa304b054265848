"""The closed checkout funnel by session, as GA4's checkout journey counts it.

A session has passed a step when it did it at or after it had passed the step before. A visitor who
logs in on the way is a returning one from the first step on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from business_metrics.abandonment import SEGMENTS, segment_columns
from business_metrics.events import genuine
from store.errors import BadInput
from store.model import Int64Array

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


def funnel(events: pa.Table, segment: tuple[str, str] | None = None) -> tuple[FunnelStep, ...]:
    """The funnel of a table of events (`EVENT_SCHEMA`'s columns)."""
    events = genuine(events.filter(pc.is_valid(events["session_id"])))
    if segment is not None:
        events = events.filter(pc.is_in(events["session_id"], value_set=_of(events, *segment)))
    sessions = events["session_id"].combine_chunks().dictionary_encode()
    code = np.asarray(sessions.indices, dtype=np.int64)
    ts = np.asarray(events["ts_ms"].to_numpy(), dtype=np.int64)
    step = _step_of(events)
    used = [i for i, name in enumerate(STEPS) if name not in _OPTIONAL or bool((step == i).any())]
    return _walk(code, ts, step, used)


def _of(events: pa.Table, segment: str, value: str) -> Any:
    """The sessions of a segment: one value holds for all that a session did."""
    columns = {"session": events["session_id"], "value": segment_columns(events)[segment]}
    which: Any = [("value", SEGMENTS[segment])]
    told = pa.table(columns).group_by("session").aggregate(which)
    mine = pc.equal(told[f"value_{SEGMENTS[segment]}"], value)
    return told.filter(pc.fill_null(mine, fill_value=False))["session"].combine_chunks()


def _step_of(events: pa.Table) -> Int64Array:
    found = pc.fill_null(pc.index_in(events["type"], value_set=pa.array(STEPS)), -1)
    return np.asarray(found.to_numpy(), dtype=np.int64)


def _walk(
    code: Int64Array, ts: Int64Array, step: Int64Array, used: list[int]
) -> tuple[FunnelStep, ...]:
    count = int(code.max()) + 1 if len(code) else 0
    passed = np.full(count, np.iinfo(np.int64).min, dtype=np.int64)
    steps: list[FunnelStep] = []
    for index in used:
        mask = (step == index) & (ts >= passed[code])
        now = np.full(count, _NOT_PASSED, dtype=np.int64)
        np.minimum.at(now, code[mask], ts[mask])
        through = now < _NOT_PASSED
        sessions = int(through.sum())
        share = median = None
        if steps:
            before = steps[-1].sessions
            share = sessions / before if before else None
            median = float(np.median(now[through] - passed[through])) / 1_000 if sessions else None
        steps.append(FunnelStep(STEPS[index], sessions, share, median))
        passed = now
    return tuple(steps)
