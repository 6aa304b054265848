"""Far more samples than a query may hold are counted, not read."""

from pathlib import Path

import numpy as np
import pytest

from store.backends.duckdb import DuckDBStore, StoreLimits
from store.errors import QueryError
from store.model import Labels, Matcher, MatchOp, SampleBatch

SERIES, SCRAPES, STEP_MS = 400, 500, 1_000
EVERY = [Matcher("__name__", MatchOp.EQUAL, "m")]
ODD = [Matcher("i", MatchOp.REGEX, ".*[13579]")]


def test_a_select_beyond_its_limit_is_refused_and_one_at_it_answered(tmp_path: Path) -> None:
    series = tuple(Labels.of(__name__="m", i=str(place)) for place in range(SERIES))
    index = np.arange(SERIES, dtype=np.int32)
    with DuckDBStore.open(tmp_path, limits=StoreLimits(head_window_ms=0)) as store:
        for first in range(0, SCRAPES, 50):
            stamps = np.repeat(np.arange(first, first + 50) * STEP_MS, SERIES).astype(np.int64)
            batch = SampleBatch(series, np.tile(index, 50), stamps, stamps.astype(np.float64))
            store.append(batch).result(timeout=60)
    # Opened anew: everything is in the table, nothing ahead of it.
    with DuckDBStore.open(tmp_path, limits=StoreLimits(head_window_ms=0)) as store:
        for matchers, rows in ((EVERY, SERIES * SCRAPES), (ODD, SERIES * SCRAPES // 2)):
            for end_ms in (SCRAPES * STEP_MS, 2**52):
                found = store.select(matchers, 0, end_ms, max_samples=rows)
                assert len(found.ts_ms) == rows
                with pytest.raises(QueryError, match="too many samples into memory") as failure:
                    store.select(matchers, 0, end_ms, max_samples=rows - 1)
                assert failure.value.kind == "execution"
