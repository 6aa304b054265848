"""Compiles the kernels of roll-ups, by one query of each kind over roll-ups of nothing real."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from store.model import Labels, Matcher
from store.ports import ROLLUP_MS, RollupReader, RollupSet, RollupSpan
from store.promql.engine import Engine
from store.promql.testing import MemoryReader

_BUCKETS = 100
_INTEGERS = frozenset({"count", "first_at", "last_at", "stale_at"})
_QUERIES = ("m", "max_over_time(m[5m])", "last_over_time(m[5m])", "rate(m[5m])")


class _Rolled(MemoryReader, RollupReader):
    """One series whose roll-ups are all ones."""

    @override
    def raw_after_ms(self) -> int:
        return 0

    @override
    def rollup_span(self) -> RollupSpan:
        return RollupSpan(_BUCKETS * ROLLUP_MS, 0)

    @override
    def rollups(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        columns: Sequence[str],
        max_samples: int = 50_000_000,
    ) -> RollupSet:
        return RollupSet(
            (Labels.of(__name__="m"),),
            np.array([0, _BUCKETS], dtype=np.int64),
            np.arange(1, _BUCKETS + 1, dtype=np.int64) * ROLLUP_MS,
            {
                name: np.ones(_BUCKETS, dtype=np.int32 if name in _INTEGERS else np.float64)
                for name in columns
            },
        )


def warm_rollups() -> None:
    """The machine code stays on disk, so only the first start after an installation takes long."""
    engine = Engine(_Rolled())
    for query in _QUERIES:
        engine.range(query, ROLLUP_MS, _BUCKETS * ROLLUP_MS, ROLLUP_MS)
