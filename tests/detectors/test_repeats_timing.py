"""The compiled times of repeats are those that plain arithmetic over the spans gives."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.traces.survey import GAP_NS
from detectors.traces.waiting import timing

_SPANS = st.lists(
    st.tuples(st.integers(0, 10_000_000), st.integers(0, 3_000_000)), min_size=1, max_size=12
)


@settings(deadline=None)
@given(_SPANS)
def test_the_compiled_times_of_repeats_are_those_of_plain_arithmetic(
    drawn: list[tuple[int, int]],
) -> None:
    spans = sorted((start, start + took) for start, took in drawn)
    starts, ends = (np.array(column, dtype=np.int64) for column in zip(*spans, strict=True))
    rows = np.arange(len(spans), dtype=np.int64)
    covered, between, last, longest, low, high = timing(starts, ends, rows, GAP_NS)
    latest = [max(end for _, end in spans[: place + 1]) for place in range(len(spans))]
    durations = [end - start for start, end in spans]
    gaps = [max(0, start - until) for until, (start, _) in zip(latest, spans[1:], strict=False)]
    edges = sorted({edge for span in spans for edge in span})
    assert covered == sum(
        until - since
        for since, until in pairwise(edges)
        if any(start <= since and until <= end for start, end in spans)
    )
    assert between == sum(min(gap, GAP_NS) for gap in gaps)
    assert (last, longest) == (latest[-1], max(durations))
    assert (low + high) / 2 == median(durations)


def test_only_the_rows_that_are_named_count() -> None:
    starts = np.array([0, 1_000_000, 2_000_000], dtype=np.int64)
    ends = np.array([100_000, 9_000_000, 2_300_000], dtype=np.int64)
    found = timing(starts, ends, np.array([0, 2], dtype=np.int64), GAP_NS)
    assert tuple(found) == (400_000, GAP_NS, 2_300_000, 300_000, 100_000, 300_000)
