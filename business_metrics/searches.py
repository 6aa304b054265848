"""Search abandonment: visitors who searched and looked at nothing.

The unit is a hunt: the searches of one session that follow each other without a look at an article
in between, and without a pause of the timeout. It succeeds with the first look after it; it is
abandoned when none came within the timeout after its last search. Cohorts, maturity and bounds are
those of checkouts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from business_metrics.abandonment import NEVER, Checkouts, codes_of, segment_columns
from business_metrics.events import is_genuine
from business_metrics.funnel import check_room
from business_metrics.keyed_rows import numbers_of
from store.model import BoolArray, Int64Array

# The stubs of the compute functions know no chunked columns.
pc: Any = pyarrow.compute

SEARCHES = ("search", "view_search_results")
LOOKS = ("select_item", "view_item", "add_to_cart", "begin_checkout", "purchase")
TYPES = (*SEARCHES, *LOOKS)
COLUMNS = ("type", "ts_ms", "session_id", "bot", "test")
_NOTHING: Int64Array = np.empty(0, dtype=np.int64)


def hunts(parts: Iterable[pa.Table], timeout_s: int, by: Sequence[str] = ()) -> Checkouts:
    """Hunts of events (`COLUMNS`, and the segments' of `by`); a look is a hunt's purchase.

    The events come in parts, cut anywhere in time and each in any order.

    Raises:
        LimitExceeded: They are of more visitors than memory should hold.
    """
    told: dict[str, dict[str, int]] = {name: {"": 0} for name in by}
    kept: list[Steps] = []
    codes: dict[str, list[Int64Array]] = {name: [] for name in by}
    for part in parts:
        events = of_searches(part)
        if not events.num_rows:
            continue
        place, sessions = numbers_of(events["session_id"])
        steps = Steps(sessions[place], *times_and_looks(events))
        order = steps.order()
        order = order[~_after_a_look(steps.take(order))]
        kept.append(steps.take(order))
        for name, column in segment_columns(events, by).items():
            codes[name].append(_coded(column, told[name])[order])
        check_room(sum(len(one.ts_ms) for one in kept))
    whole = joined(kept)
    order = whole.order()
    found, first = follow(whole.take(order), timeout_s)
    begin = order[first]
    segments = {
        name: (np.concatenate([_NOTHING, *codes[name]])[begin], tuple(told[name])) for name in by
    }
    return Checkouts(found.start_ms, found.last_ms, found.found_ms, segments)


def _after_a_look(steps: Steps) -> BoolArray:
    """Looks that follow a look, which neither end a hunt nor begin one."""
    out = np.zeros(len(steps.ts_ms), dtype=np.bool_)
    same = steps.session[1:] == steps.session[:-1]
    out[1:] = same & steps.look[1:] & steps.look[:-1]
    return out


def _coded(column: Any, known: dict[str, int]) -> Int64Array:
    """A text column by the numbers of `known`, which learns what is new."""
    codes, values = codes_of(column)
    renamed = [known.setdefault(value, len(known)) for value in values]
    return np.asarray(renamed, dtype=np.int64)[codes]


def of_searches(events: pa.Table) -> pa.Table:
    """The genuine searches and looks of sessions that are known."""
    wanted = pc.is_in(events["type"], value_set=pa.array(TYPES))
    known = pc.and_(pc.is_valid(events["session_id"]), is_genuine(events))
    return events.filter(pc.and_(wanted, known))


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


def joined(parts: Sequence[Steps]) -> Steps:
    """Several as one."""
    looks = [part.look for part in parts]
    return Steps(
        np.concatenate([_NOTHING, *(part.session for part in parts)]),
        np.concatenate([_NOTHING, *(part.ts_ms for part in parts)]),
        np.concatenate([np.empty(0, dtype=np.bool_), *looks]),
    )


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
    following = np.minimum(last + 1, max(len(ts) - 1, 0))
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
