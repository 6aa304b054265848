"""Search abandonment: visitors who searched and looked at nothing.

The unit is a hunt: the searches of one session that follow each other without a look at an article
in between, and without a pause of the timeout. It succeeds with the first look after it; it is
abandoned when none came within the timeout after its last search. Cohorts, maturity and bounds are
those of checkouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from business_metrics.abandonment import NEVER, Checkouts, codes_of, segment_columns
from business_metrics.events import genuine
from store.model import BoolArray, Int64Array

# The stubs of the compute functions know no chunked columns.
pc: Any = pyarrow.compute

SEARCHES = ("search", "view_search_results")
LOOKS = ("select_item", "view_item", "add_to_cart", "begin_checkout", "purchase")
TYPES = (*SEARCHES, *LOOKS)


def hunts(events: pa.Table, timeout_s: int) -> Checkouts:
    """Hunts of a table of events (`EVENT_SCHEMA`'s columns); a look is its purchase."""
    events = of_searches(events)
    session, _ = codes_of(events["session_id"])
    steps = Steps(session, *times_and_looks(events))
    order = steps.order()
    found, first = follow(steps.take(order), timeout_s)
    coded = {name: codes_of(column) for name, column in segment_columns(events).items()}
    segments = {name: (codes[order][first], values) for name, (codes, values) in coded.items()}
    return Checkouts(found.start_ms, found.last_ms, found.found_ms, segments)


def of_searches(events: pa.Table) -> pa.Table:
    """The genuine searches and looks of sessions that are known."""
    events = genuine(events.filter(pc.is_valid(events["session_id"])))
    return events.filter(pc.is_in(events["type"], value_set=pa.array(TYPES)))


def times_and_looks(events: pa.Table) -> tuple[Int64Array, BoolArray]:
    """When each search or look was, and which are looks."""
    looks = np.asarray(pc.is_in(events["type"], value_set=pa.array(LOOKS)).to_numpy(), np.bool_)
    return np.asarray(events["ts_ms"].to_numpy(), dtype=np.int64), looks


@dataclass(frozen=True, slots=True)
class Steps:
    """Searches and looks: the number of the session, the instant, and whether it is a look."""

    session: Int64Array
    ts_ms: Int64Array
    look: BoolArray

    def order(self) -> Int64Array:
        """By session and time. A look in the same instant came of the search."""
        return np.lexsort((self.look, self.ts_ms, self.session))

    def take(self, chosen: Int64Array | BoolArray) -> Steps:
        """Some of them."""
        return Steps(self.session[chosen], self.ts_ms[chosen], self.look[chosen])


@dataclass(frozen=True, slots=True)
class Hunts:
    """First and last search of each hunt, its session, and the look (`NEVER`: none in time)."""

    session: Int64Array
    start_ms: Int64Array
    last_ms: Int64Array
    found_ms: Int64Array


def follow(steps: Steps, timeout_s: int) -> tuple[Hunts, Int64Array]:
    """The hunts of steps in order, and at which step each begins."""
    session, ts, looks = steps.session, steps.ts_ms, steps.look
    first, last = _runs(steps, timeout_s * 1_000)
    following = np.minimum(last + 1, len(ts) - 1)
    found = (last + 1 < len(ts)) & (session[following] == session[last]) & looks[following]
    found &= ts[following] - ts[last] <= timeout_s * 1_000
    when = np.where(found, ts[following], NEVER)
    return Hunts(session[first], ts[first], ts[last], when), first


def _runs(steps: Steps, timeout_ms: int) -> tuple[Int64Array, Int64Array]:
    """First and last search of each hunt."""
    session, ts, looks = steps.session, steps.ts_ms, steps.look
    goes_on = np.zeros(len(ts), dtype=np.bool_)
    goes_on[1:] = (session[1:] == session[:-1]) & ~looks[:-1] & ~looks[1:]
    goes_on[1:] &= ts[1:] - ts[:-1] <= timeout_ms
    edges = np.append(np.flatnonzero(~goes_on), len(ts))
    hunts_begin = ~looks[edges[:-1]]
    return edges[:-1][hunts_begin], edges[1:][hunts_begin] - 1
