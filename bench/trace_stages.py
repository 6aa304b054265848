"""What a span costs from the body to the finding, stage by stage, in one process without HTTP."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.shop_traces import Bodies, bodies
from bench.table import OURS, Row
from collector.otlp.traces import TraceDecoder
from collector.processors.contract import Processor
from collector.processors.limit import Limit, Limits
from collector.processors.redact import Redact
from detectors.repository import FindingRepository
from detectors.runner import DetectorRunner
from store.backends.duckdb import DuckDBStore, StoreLimits
from store.model import Batch
from store.promql.engine import Engine
from store.sql import open_engine, open_sessions, upgrade
from warroom import memory

_TOGETHER = 4  # bodies that become durable together, as those of four connections do
_LATER_MS = 60_000  # by then no span of a round is waited for
_STAGES = (
    "decode",
    "limit and redact",
    "append, durable",
    "detection, statements normalised",
    "flush to the database",
)


def rows(directory: Path, spans: int, rounds: int) -> list[Row]:
    """A row for each stage, and one for all of them; medians of the rounds after the first."""
    memory.settle()  # as the service does when it is up: imports are not looked at again
    decoder = TraceDecoder()
    processors = (Limit(Limits(), now_ms=_now_ms), Redact())
    took = [
        _round(directory / f"stages-{seed}", bodies(spans, seed), decoder, processors)
        for seed in range(rounds + 1)
    ][1:]
    gc.unfreeze()
    each = [median(column) for column in zip(*took, strict=True)]
    found = [
        Row(f"stage: {stage}", "CPU µs/span", "less", {OURS: value * 1e6})
        for stage, value in zip(_STAGES, each, strict=True)
    ]
    total = 1 / max(median(map(sum, took)), 1e-9)
    return [*found, Row("all stages, without HTTP", "spans/CPU s", "more", {OURS: total})]


def _round(
    directory: Path, part: Bodies, decoder: TraceDecoder, processors: Sequence[Processor]
) -> list[float]:
    """CPU seconds a span of each stage; those of the store's own threads count."""
    sent = [request.partition(b"\r\n\r\n")[2] for request in part.requests]
    now_ms = _now_ms()
    clock = _Stages()
    with _opened(directory) as (store, tick):
        tick(now_ms)
        with clock.stage():
            decoded: list[Batch] = [decoder.decode(body, now_ms).batch for body in sent]
        with clock.stage():
            batches = [_processed(batch, processors) for batch in decoded]
        with clock.stage():
            for place in range(0, len(batches), _TOGETHER):
                for durable in [store.append(one) for one in batches[place : place + _TOGETHER]]:
                    durable.result()
        with clock.stage():
            tick(now_ms + _LATER_MS)
        with clock.stage():
            store.close()
    return [took_s / part.spans for took_s in clock.took_s]


@contextmanager
def _opened(directory: Path) -> Iterator[tuple[DuckDBStore, Callable[[int], object]]]:
    """A store on disk, and the trace detectors' tick over it."""
    directory.mkdir(parents=True)
    state = open_engine("sqlite://")
    upgrade(state)
    store = DuckDBStore.open(directory / "telemetry.duckdb", limits=StoreLimits())
    try:
        findings = FindingRepository(open_sessions(state))
        yield store, DetectorRunner(store, Engine(store), findings).tick
    finally:
        store.close()
        state.dispose()


class _Stages:
    """CPU seconds of the process, stage after stage."""

    def __init__(self) -> None:
        self.took_s: list[float] = []

    @contextmanager
    def stage(self) -> Iterator[None]:
        began_s = time.process_time()
        yield
        self.took_s.append(time.process_time() - began_s)


def _processed(batch: Batch, processors: Sequence[Processor]) -> Batch:
    for processor in processors:
        batch = processor(batch).batch
    return batch


def _now_ms() -> int:
    return int(time.time() * 1000)
