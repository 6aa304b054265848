"""The cache of range queries over the real store: what the store tells of changes is enough."""

from pathlib import Path

import numpy as np
import pytest

from store.backends.duckdb import DuckDBStore, StoreLimits
from store.model import Labels, Matcher, MatchOp, RangeMatrix, SampleBatch
from store.promql.cache import RangeCache
from store.promql.engine import Engine

BASE_MS = 1_700_000_000_000
STEP_MS = 15_000
MINUTE_MS = 60_000
QUERIES = (
    "sum by (host) (rate(requests_total[1m]))",
    "requests_total offset 2m",
    "max_over_time(sum(requests_total)[5m:30s])",
    "count(requests_total) or vector(0)",
)


def answer(engine: Engine, query: str, end_ms: int) -> tuple[object, ...]:
    matrix = engine.query_range(query, end_ms - 20 * MINUTE_MS, end_ms, STEP_MS).result
    assert isinstance(matrix, RangeMatrix)
    values = np.where(matrix.present, matrix.values, 0.0)
    return matrix.series, matrix.steps_ms.tolist(), matrix.present.tolist(), values.tolist()


def put(store: DuckDBStore, host: str, ts_ms: int, value: float) -> None:
    labels = Labels.of(__name__="requests_total", host=host)
    store.append(SampleBatch.of_rows([(labels, ts_ms, value)])).result(timeout=60)


@pytest.mark.parametrize("seed", range(2))
def test_cached_answers_follow_appends_late_samples_deletes_and_retention(
    tmp_path: Path, seed: int
) -> None:
    random = np.random.default_rng(seed)
    # A small head, so that answers come from memory and from the file.
    limits = StoreLimits(head_window_ms=4 * MINUTE_MS)
    with DuckDBStore.open(tmp_path, limits=limits) as store:
        cache = RangeCache(store.changes, 1 << 20)
        cached, plain = Engine(store, cache=cache), Engine(store)
        now_ms = BASE_MS
        for step in range(40):
            now_ms += STEP_MS
            for host in "ab":
                put(store, host, now_ms - 3, float(step))
            match int(random.integers(0, 8)):
                case 0:
                    late_ms = now_ms - int(random.integers(1, 20 * MINUTE_MS))
                    put(store, "ac"[int(random.integers(0, 2))], late_ms, 1e3)
                case 1:
                    low_ms = now_ms - int(random.integers(1, 20 * MINUTE_MS))
                    which = [Matcher("host", MatchOp.EQUAL, "a")]
                    store.delete_series(which, low_ms, low_ms + MINUTE_MS)
                case 2 if step % 3 == 0:
                    store.retain(now_ms, 15 * MINUTE_MS)
                case _:
                    pass
            for query in QUERIES:
                assert answer(cached, query, now_ms) == answer(plain, query, now_ms), (step, query)
        stats = cache.stats()
        assert stats.hits > 80
        assert stats.steps_reused > 3 * stats.steps_evaluated


def test_a_write_that_was_acknowledged_is_in_the_next_answer(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path) as store:
        engine = Engine(store, cache=RangeCache(store.changes, 1 << 20))
        for step in range(40):
            put(store, "a", BASE_MS + step * 100, float(step))
            matrix = engine.range("requests_total", BASE_MS, BASE_MS + 60_000, STEP_MS)
            assert matrix.values[0, -1] == step
