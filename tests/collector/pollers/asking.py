"""Polls as the service does: from the text of a configuration, through the runner, to samples."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from collector.pipeline import Pipeline
from collector.poll_config import parse_pollers
from collector.poll_runner import PollRunner, PollTarget
from collector.polling.contract import Poller
from collector.processors.limit import Limit
from collector.source_health import SourceRegistry, SourceStatus
from store.documents import parse_document
from store.model import Labels
from tests.collector.conftest import NOW_MS, Clock, RecordingAppender

Figures = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def targets_of(text: str, secrets: Mapping[str, str] | None = None) -> tuple[PollTarget, ...]:
    known = secrets or {}
    document = parse_document(text, "warroom.yaml")
    return parse_pollers(document, ("pollers",), read_secret=lambda _source, name: known[name])


@dataclass
class Answer:
    """What one poll stored, without `job` and `instance`."""

    samples: dict[Labels, float]

    def value(self, name: str, /, **labels: str) -> float:
        """The one sample of this name that has at least these labels."""
        found = self.values(name, **labels)
        assert len(found) == 1, (name, labels, found)
        return next(iter(found.values()))

    def values(self, name: str, /, **labels: str) -> dict[Labels, float]:
        return {
            series: value
            for series, value in self.samples.items()
            if series.metric == name and all(series.get(k) == v for k, v in labels.items())
        }

    def names(self) -> set[str]:
        return {series.metric for series in self.samples}


@dataclass
class Asking:
    """One poller between a configuration and a store that remembers."""

    text: str
    secrets: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.appender = RecordingAppender()
        self.sources = SourceRegistry()
        self.pipeline = Pipeline(
            self.appender,
            (Limit(),),
            self.sources,
            now_ms=self.clock,
            registry=CollectorRegistry(),
        )
        self.runner = PollRunner(targets_of(self.text, self.secrets), self.pipeline, self.appender)
        (self.target,) = self.runner.targets()
        self.loop = asyncio.Runner()

    def poll(self, advance_ms: int = 5_000) -> Answer:
        """The next poll, whatever the back-off says when `advance_ms` is long."""
        self.clock.now_ms += advance_ms
        before = len(self.appender.batches)
        self.loop.run(self.runner.poll(self.target, self.clock.now_ms))
        kept, self.appender.batches = self.appender.batches, self.appender.batches[before:]
        found = {
            series.drop(("job", "instance")): rows[-1][1]
            for series, rows in self.appender.samples().items()
        }
        self.appender.batches = kept
        return Answer(found)

    @property
    def poller(self) -> Poller:
        return self.runner._states[self.target.key].poller

    @property
    def status(self) -> SourceStatus:
        (found,) = (s for s in self.sources.list(self.clock.now_ms) if s.kind == "poll")
        return found

    def close(self) -> None:
        # The loop is closed also when a poller cannot be.
        with self.loop:
            self.loop.run(self.runner.aclose())


__all__ = ["NOW_MS", "Answer", "Asking", "targets_of"]
