"""Search abandonment: visitors who searched and looked at nothing.

The unit is a hunt: the searches of one session that follow each other without a look at an article
in between, and without a pause of the timeout. It succeeds with the first look after it; it is
abandoned when none came within the timeout after its last search. Cohorts, maturity and bounds are
those of checkouts.
"""

from __future__ import annotations

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
    events = genuine(events.filter(pc.is_valid(events["session_id"])))
    events = events.filter(pc.is_in(events["type"], value_set=pa.array(TYPES)))
    session, _ = codes_of(events["session_id"])
    ts = np.asarray(events["ts_ms"].to_numpy(), dtype=np.int64)
    looks = np.asarray(pc.is_in(events["type"], value_set=pa.array(LOOKS)).to_numpy(), np.bool_)
    # A look in the same instant came of the search.
    order = np.lexsort((looks, ts, session))
    session, ts, looks = session[order], ts[order], looks[order]
    first, last = _runs(session, ts, looks, timeout_s * 1_000)
    following = np.minimum(last + 1, len(ts) - 1)
    found = (last + 1 < len(ts)) & (session[following] == session[last]) & looks[following]
    found &= ts[following] - ts[last] <= timeout_s * 1_000
    coded = {name: codes_of(column) for name, column in segment_columns(events).items()}
    return Checkouts(
        start_ms=ts[first],
        last_ms=ts[last],
        purchased_ms=np.where(found, ts[following], NEVER),
        segments={name: (codes[order][first], values) for name, (codes, values) in coded.items()},
    )


def _runs(
    session: Int64Array, ts: Int64Array, looks: BoolArray, timeout_ms: int
) -> tuple[Int64Array, Int64Array]:
    """First and last search of each hunt, in rows sorted by session and time."""
    goes_on = np.zeros(len(ts), dtype=np.bool_)
    goes_on[1:] = (session[1:] == session[:-1]) & ~looks[:-1] & ~looks[1:]
    goes_on[1:] &= ts[1:] - ts[:-1] <= timeout_ms
    edges = np.append(np.flatnonzero(~goes_on), len(ts))
    hunts_begin = ~looks[edges[:-1]]
    return edges[:-1][hunts_begin], edges[1:][hunts_begin] - 1
