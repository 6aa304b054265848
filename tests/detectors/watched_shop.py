"""The real store with a simulated shop in it, the shipped rules, and every detector over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import detectors.signals
from alerts.rules import RuleEvaluator, parse_rule_file
from detectors.finding import Finding
from detectors.repository import FindingRepository
from detectors.runner import DetectorRunner
from store.backends.duckdb import DuckDBStore
from store.documents import parse_document
from store.model import METRIC_NAME, Labels, RangeMatrix, SampleBatch
from store.promql.engine import Engine
from store.testing import open_state, open_store
from tests.detectors.simulated_shop import STEP_MS, Shop
from tests.detectors.stored_spans import StoredSpans

# A range query has at most 11,000 steps.
_CHUNK = 5_000
RULES = Path(detectors.signals.__file__).with_name("signals.yml")


class Watch:
    """A store, the rules and the detectors; the test says when."""

    def __init__(self, store: DuckDBStore, start_ms: int, batches: Sequence[SampleBatch]) -> None:
        self.start_ms = start_ms
        for batch in batches:
            store.append(batch).result(60)
        self.engine = Engine(store)
        self.store = store
        self.findings = FindingRepository(open_state())
        self.restart()

    def restart(self) -> None:
        """A new process over the same store and state."""
        self.runner = DetectorRunner(StoredSpans(), self.engine, self.findings)

    def record(self, steps: int) -> None:
        """What the shipped rules record over all steps, each rule in one go."""
        for first in range(0, steps, _CHUNK):
            last = min(first + _CHUNK, steps) - 1
            self._record(self.start_ms + first * STEP_MS, self.start_ms + last * STEP_MS)

    def _record(self, start_ms: int, end_ms: int) -> None:
        for group in parse_document(RULES.read_text(encoding="utf-8"), RULES.name).data["groups"]:
            for rule in group["rules"]:
                matrix = self.engine.range(rule["expr"], start_ms, end_ms, STEP_MS)
                if matrix.series:
                    self.store.append(as_batch(rule["record"], matrix)).result(60)

    def live(self, batch: SampleBatch, first: int, last: int) -> Iterator[tuple[Finding, ...]]:
        """As a service sees it: samples come step by step, the rules run at each, and are judged.

        What is recent is in memory then, so that a step costs a tenth of what it costs here else.
        """
        file = parse_rule_file(RULES.read_text(encoding="utf-8"), RULES.name)
        rules = RuleEvaluator(self.engine, self.store, [file])
        order = np.argsort(batch.ts_ms, kind="stable")
        steps = (batch.ts_ms[order] - self.start_ms) // STEP_MS
        for step in range(last):
            part = order[np.searchsorted(steps, step) : np.searchsorted(steps, step + 1)]
            rows = (batch.series_index[part], batch.ts_ms[part], batch.values[part])
            self.store.append(SampleBatch(batch.series, *rows)).result(60)
            rules.record(self.start_ms + step * STEP_MS)
            if step >= first:
                yield self.tick(step)

    def tick(self, step: int) -> tuple[Finding, ...]:
        tick = self.runner.tick(self.start_ms + step * STEP_MS)
        assert [unit.error for unit in tick.health if not unit.ok] == []
        return tick.findings


def as_batch(record: str, matrix: RangeMatrix) -> SampleBatch:
    """A range answer as the samples of a recording rule."""
    series = tuple(Labels.of({**labels.to_dict(), METRIC_NAME: record}) for labels in matrix.series)
    places, steps = np.nonzero(matrix.present)
    return SampleBatch(
        series, places.astype(np.int32), matrix.steps_ms[steps], matrix.values[places, steps]
    )


@contextmanager
def watched(shop: Shop, batches: Sequence[SampleBatch] = ()) -> Iterator[Watch]:
    """A watch over a shop, its samples arriving in these batches, or in one."""
    with open_store() as store:
        yield Watch(store, shop.start_ms, batches or (shop.batch(),))


@contextmanager
def watched_live(start_ms: int) -> Iterator[Watch]:
    """A watch over a store into which nothing has come yet."""
    with open_store() as store:
        yield Watch(store, start_ms, ())
