"""Compiles the loops over traces before the first tick needs them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from detectors.traces.survey import Rows, census, repeating, survey
from detectors.traces.tree import Tree
from detectors.traces.waiting import entries, timing, waited_ns


def warm() -> None:
    """Load every loop into this process: a moment where they are compiled, else some seconds."""
    ids = pa.array([bytes(8)], pa.binary())
    spans = pa.table(
        {
            "trace_id": pa.array([bytes(16)], pa.binary()),
            "span_id": ids,
            "parent_span_id": ids,
            "seq": pa.array([1], pa.int64()),
        }
    )
    times, parent = np.zeros(1, dtype=np.int64), np.full(1, -1, dtype=np.int64)
    Tree.of(spans).order(times)
    marked, codes = np.ones(1, dtype=np.bool_), np.zeros(1, dtype=np.int32)
    entries(marked, parent, 1)
    rows = Rows(
        start_ns=times, end_ns=times, parent=parent, entry=times, parent_key=times, orphan=marked,
        odd=marked, kind=codes, service=codes, category=codes, shape=codes, form=codes,
        family=codes, server=times,
    )  # fmt: skip
    offsets = np.array([0, 1], dtype=np.int64)
    census(offsets, rows, survey(offsets, rows, marked, 1), (2, 1))
    repeating(offsets, codes, marked, times, 1)
    timing(times, times, times, 1)
    waited_ns(parent, np.zeros(1, dtype=np.int32), times, times)
