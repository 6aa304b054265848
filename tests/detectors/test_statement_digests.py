"""What statements did in their last seconds, against the plain definition, value by value."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.statement_digests import read_digests
from store.model import METRIC_NAME, InstantVector, Labels, RangeMatrix

NOW_MS = 1_700_000_000_000
STEPS = 13
PERF = "mysql_perf_schema_events_statements"
# Names, which figure of a digest each is, and one unit.
CALLS, NO_INDEX, EXAMINED, SENT, SECONDS = range(5)
METRICS = {
    (f"{PERF}_total", ""): (CALLS, 1.0),
    (f"{PERF}_no_index_used_total", ""): (NO_INDEX, 1.0),
    (f"{PERF}_seconds_total", ""): (SECONDS, 1.0),
    ("mysql_statement_event_count", "no_index_used"): (NO_INDEX, 1.0),
    ("mysql_statement_event_count", "rows_examined"): (EXAMINED, 1.0),
    ("mysql_statement_event_wait_time_nanoseconds", ""): (SECONDS, 1e-9),
    ("mysql_statement_event_count", "lock_time"): (-1, 0.0),
}
# A step without a sample is None; NaN is a sample that says nothing.
Row = list[float | None]


class Told:
    """Answers the one range query, and nothing else."""

    def __init__(self, rows: dict[Labels, Row]) -> None:
        self.rows = rows

    def instant(self, _expr: str, _ts_ms: int) -> InstantVector:
        return InstantVector((), np.empty(0))

    def range(self, _expr: str, start_ms: int, end_ms: int, step_ms: int) -> RangeMatrix:
        steps = np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)
        assert len(steps) == STEPS
        some = {labels: row for labels, row in self.rows.items() if set(row) != {None}}
        values = [[0.0 if value is None else value for value in row] for row in some.values()]
        present = [[value is not None for value in row] for row in some.values()]
        shape = (len(some), STEPS)
        return RangeMatrix(
            tuple(some),
            steps,
            np.array(values, dtype=np.float64).reshape(shape),
            np.array(present, dtype=np.bool_).reshape(shape),
        )


def increases(row: Row, server: list[Row]) -> Iterator[float]:
    """By the definition: of each step but the first, what a counter counted in it."""
    before: float | None = None
    for step, value in enumerate(row):
        number = None if value is None or math.isnan(value) else value
        grown = 0.0
        if number is not None and before is not None:
            grown = number if number < 0.9 * before else max(number - before, 0.0)
        elif number is not None and step:
            # It appears: nobody told of it before, and its server told of something just then.
            new = all(earlier is None for earlier in row[:step])
            grown = number if new and any(one[step - 1] is not None for one in server) else 0.0
        before = before if number is None else number
        if step:
            yield grown


def expected(rows: dict[Labels, Row]) -> dict[tuple[Labels, float], list[float]]:
    """Figures a second of each digest whose time is told, for each window in which it ran twice."""
    sums: dict[tuple[Labels, int], list[float]] = {}
    counted, running = set(), set()
    for labels, row in rows.items():
        place, unit = METRICS[labels.metric, labels.get("kind")]
        if place < 0 or set(row) == {None}:
            continue
        name = labels.get("instance")
        server = [one for other, one in rows.items() if other.get("instance") == name]
        grown = list(increases(row, server))
        if place == CALLS:
            counted.add(name)
        for window_s in (10, 30, 60):
            key = labels.keep(("instance", "schema", "digest")), window_s
            figures = sums.setdefault(key, [0.0] * 5)
            figures[place] += sum(grown[-window_s // 5 :]) * unit
        if place == SECONDS and row[-1] is not None:
            running.add(labels.keep(("instance", "schema", "digest")))
    for (labels, _), figures in sums.items():
        if labels.get("instance") not in counted:
            figures[CALLS] = figures[NO_INDEX]
    return {
        (labels, float(window_s)): [figure / window_s for figure in figures]
        for (labels, window_s), figures in sums.items()
        if labels in running and figures[CALLS] >= 2 and figures[SECONDS] <= 100 * window_s
    }


def series(metric: tuple[str, str], server: str, digest: str) -> Labels:
    name, kind = metric
    labels = {METRIC_NAME: name, "instance": server, "schema": "shop", "digest": digest}
    return Labels.of({**labels, "kind": kind} if kind else labels)


VALUES = st.one_of(
    st.none(),
    st.just(math.nan),
    st.integers(0, 60).map(float),
    st.integers(0, 60).map(lambda tenths: 50 + tenths / 10),
)
ROWS = st.one_of(
    st.lists(VALUES, min_size=STEPS, max_size=STEPS),
    # A counter that grows, told of from some step on, with NaN first.
    st.tuples(st.integers(0, STEPS), st.integers(0, 3), st.integers(0, 9)).map(
        lambda drawn: [
            None
            if step < drawn[0]
            else math.nan
            if step < drawn[0] + drawn[1]
            else 5.0 + step * drawn[2]
            for step in range(STEPS)
        ]
    ),
)
SERIES = st.builds(
    series, st.sampled_from(list(METRICS)), st.sampled_from("ab"), st.sampled_from("xy")
)


@settings(max_examples=60, deadline=None)
@given(rows=st.dictionaries(SERIES, ROWS, max_size=8))
def test_the_last_seconds_of_statements_are_by_the_definition(rows: dict[Labels, Row]) -> None:
    told = {
        (digest.labels, digest.window_s): [
            digest.calls, digest.no_index, digest.examined, digest.sent, digest.seconds
        ]
        for times in read_digests(Told(rows), NOW_MS)
        for digest in times
    }  # fmt: skip
    wanted = expected(rows)
    assert told.keys() == wanted.keys()
    for key, figures in wanted.items():
        np.testing.assert_allclose(told[key], figures, rtol=1e-12, atol=1e-12)


def test_a_counter_that_was_not_a_number_before_does_not_appear() -> None:
    before: dict[str, Row] = {"x": [math.nan] * 8, "y": [None] * 8}
    rows: dict[Labels, Row] = {
        series(metric, "a", digest): [*row, *([7.0] * 5)]
        for metric in ((f"{PERF}_total", ""), (f"{PERF}_seconds_total", ""))
        for digest, row in before.items()
    }
    (times,) = read_digests(Told(rows), NOW_MS)
    assert times[0].labels.get("digest") == "y"
