"""Staleness markers keep their bits on disk, also where nothing else stands beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from store.backends.duckdb import DuckDBStore
from store.model import STALE_NAN_BITS, Labels, Matcher, MatchOp, SampleBatch

NOW_MS = 1_700_000_000_000
STALE = float(np.array([STALE_NAN_BITS], dtype=np.int64).view(np.float64)[0])
SERIES = Labels.of(__name__="m")


@pytest.mark.parametrize("others", [0, 5])
def test_a_marker_is_one_after_a_restart(tmp_path: Path, others: int) -> None:
    rows = [(SERIES, NOW_MS + 1_000 * at, float(at)) for at in range(others)]
    rows.append((SERIES, NOW_MS + 60_000, STALE))
    store = DuckDBStore.open(tmp_path)
    store.append(SampleBatch.of_rows(rows)).result(30)
    store.close()
    again = DuckDBStore.open(tmp_path)
    try:
        # Far later samples push the marker out of the head: the table must answer.
        late = [(SERIES, NOW_MS + 3_600_000 * hour, 1.0) for hour in range(1, 3)]
        again.append(SampleBatch.of_rows(late)).result(30)
        matchers = [Matcher("__name__", MatchOp.EQUAL, "m")]
        found = again.select(matchers, NOW_MS, NOW_MS + 60_000)
        assert found.values.view(np.int64)[-1] == STALE_NAN_BITS
        assert found.values[:-1].tolist() == [float(at) for at in range(others)]
    finally:
        again.close()
