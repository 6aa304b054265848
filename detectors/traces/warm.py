"""Compiles the loops over traces before the first tick needs them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

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
    entries(np.ones(1, dtype=np.bool_), parent, 1)
    timing(times, times, times, 1)
    waited_ns(parent, np.zeros(1, dtype=np.int32), times, times)
