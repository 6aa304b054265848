"""Counters that are known beforehand, behind the ports that SLOs read and write."""

from __future__ import annotations

import re
from concurrent.futures import Future

import numpy as np

from store.errors import QueryError
from store.model import Batch, InstantVector, Labels, RangeMatrix, SampleBatch

START_MS = 1_700_000_000_000


class Counters:
    """A Querier over counters sampled each second: it knows `sum(rate(name[range]))` alone."""

    def __init__(self, **per_second: np.ndarray) -> None:
        self.totals = {
            name: np.concatenate([[0.0], np.cumsum(v)]) for name, v in per_second.items()
        }
        self.fail = ""
        self.asked: list[str] = []

    def instant(self, expr: str, ts_ms: int) -> InstantVector:
        self.asked.append(expr)
        match = re.fullmatch(r"sum\(rate\((\w+)\[(\w+)\]\)\)", expr)
        assert match is not None, expr
        name, window = match[1], seconds_of(match[2])
        if name == self.fail:
            raise QueryError("the store is gone")
        end = (ts_ms - START_MS) // 1_000
        totals = self.totals.get(name)
        if totals is None:
            return InstantVector((), np.empty(0))
        first, last = max(end - window, 0), min(end, len(totals) - 1)
        if last <= first:
            return InstantVector((), np.empty(0))
        increase = totals[last] - totals[first]
        return InstantVector((Labels(),), np.asarray([increase / window]))

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> RangeMatrix:
        raise NotImplementedError


class Recorder:
    """An Appender that keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[SampleBatch] = []
        self.error: Exception | None = None

    def append(self, batch: Batch) -> Future[None]:
        assert isinstance(batch, SampleBatch)
        self.batches.append(batch)
        done: Future[None] = Future()
        if self.error:
            done.set_exception(self.error)
        else:
            done.set_result(None)
        return done

    def latest(self) -> dict[Labels, float]:
        batch = self.batches[-1]
        return dict(zip(batch.series, batch.values.tolist(), strict=True))


def seconds_of(text: str) -> int:
    units = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
    return sum(int(n) * units[u] for n, u in re.findall(r"(\d+)([smhd])", text))


def slo_text(objective: float = 99.0, windows: str = "rehearsal-24h", name: str = "api") -> str:
    return f"""
version: prometheus/v1
service: shop
labels: {{windows: {windows}, team: checkout}}
slos:
  - name: {name}
    objective: {objective}
    sli:
      events:
        error_query: sum(rate(errors[{{{{.window}}}}]))
        total_query: sum(rate(requests[{{{{ .window }}}}]))
"""


def at(second: int) -> int:
    return START_MS + second * 1_000


def traffic(seconds: int, rate: float, bad: list[tuple[int, int, float]]) -> Counters:
    """Constant traffic; each (from, to, ratio) of `bad` is a span of failures."""
    requests = np.full(seconds, float(rate))
    errors = np.zeros(seconds)
    for start, end, ratio in bad:
        errors[start:end] = rate * ratio
    return Counters(requests=requests, errors=errors)
