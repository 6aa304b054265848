"""Asks each system at its interval: samples, `up`, staleness, back-off, and its health."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog

from collector.pipeline import Pipeline
from collector.polling.contract import Poller, PollFailed, Reading, Sample
from collector.polling.fields import Secret
from store.errors import WarroomError
from store.model import (
    METRIC_NAME,
    STALE_NAN_BITS,
    Labels,
    MetricMetadata,
    MetricType,
    SampleBatch,
)
from store.ports import Appender

MAX_BACK_OFF_S = 60.0
# A restart is over within it: until then a system is asked at every interval, so that `up` is told
# again as soon as it is true.
EAGER_S = 60.0
MAX_KNOWN_SERIES = 100_000
STALE = float(np.array([STALE_NAN_BITS], dtype=np.uint64).view(np.float64)[0])
_HIDDEN = "<hidden>"
_REPORT = (
    MetricMetadata("up", MetricType.GAUGE, "1 if the last scrape succeeded"),
    MetricMetadata("scrape_duration_seconds", MetricType.GAUGE, "Duration of the last scrape"),
    MetricMetadata("scrape_samples_scraped", MetricType.GAUGE, "Samples the target exposed"),
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PollTarget:
    """One system to ask.

    Attributes:
        type: A key of the table of pollers.
        name: The `instance` label of its series.
        labels: Labels of every series; `job` and `instance` at least.
        interval_s: Seconds between polls.
        timeout_s: Seconds until a poll has failed.
        secrets: What may not be in any error.
        up_metric: The exporter's own name for `up`, such as `mysql_up`; or the empty string.
        make: Makes its poller; nothing is connected yet.
        settings: What the poller was made from: targets of equal settings are equal.
    """

    type: str
    name: str
    labels: Mapping[str, str]
    interval_s: float
    timeout_s: float
    secrets: tuple[Secret, ...]
    up_metric: str
    make: Callable[[], Poller] = field(repr=False, compare=False)
    settings: object = field(repr=False, default=None)

    @property
    def key(self) -> str:
        return f"{self.type}/{self.name}"

    @property
    def source(self) -> str:
        """Its name among the sources."""
        return f"poll:{self.key}"

    @property
    def offset_s(self) -> float:
        """Where in its interval it is asked: pollers of one interval are spread over it."""
        return self.interval_s * (zlib.crc32(self.key.encode()) % 1000) / 1000


@dataclass(frozen=True, slots=True)
class PollChange:
    """What other settings brought: targets to be asked from now on, or otherwise; and no more."""

    added: tuple[PollTarget, ...] = ()
    gone: tuple[PollTarget, ...] = ()


@dataclass(slots=True)
class _State:
    """What is remembered of a target between polls."""

    target: PollTarget
    poller: Poller
    series: dict[tuple[str, tuple[tuple[str, str], ...]], Labels] = field(default_factory=dict)
    seen: frozenset[Labels] = frozenset()
    families: set[str] = field(default_factory=set)
    reported: bool = False
    failures: int = 0
    not_before_ms: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


def back_off_s(target: PollTarget, failures: int, asked_for_s: float | None) -> float:
    """Seconds until a system that failed `failures` times in a row is asked again.

    It is the interval for the first minute, and then doubles up to a minute, spread by a fifth, so
    that a fleet that went down together is not asked together. What the system itself asked for
    comes first.
    """
    longest = max(MAX_BACK_OFF_S, target.interval_s)
    spread = 0.8 + 0.2 * (zlib.crc32(f"{target.key} {failures}".encode()) % 1000) / 1000
    late = max(0, failures - max(1, int(EAGER_S / target.interval_s)))
    own = min(longest, target.interval_s * 2.0 ** min(late, 16)) * spread
    return own if asked_for_s is None else max(own, asked_for_s)


class PollRunner:
    """Every configured poller. The composition root calls `poll` at each target's interval."""

    def __init__(
        self, targets: Sequence[PollTarget], pipeline: Pipeline, appender: Appender
    ) -> None:
        self._pipeline = pipeline
        self._appender = appender
        self._states = {target.key: _State(target, target.make()) for target in targets}

    def targets(self) -> tuple[PollTarget, ...]:
        return tuple(state.target for state in self._states.values())

    async def poll(self, target: PollTarget, now_ms: int) -> None:
        """Ask once. A failure is stored (`up` 0, the source's error), never raised."""
        state = self._states.get(target.key)
        if state is None or state.lock.locked():
            # Gone, or the last poll still runs: a second one would only add to its trouble.
            return
        async with state.lock:
            self._pipeline.sources.expect(target.source, now_ms, interval_s=target.interval_s)
            if now_ms < state.not_before_ms:
                await self._report_down(state, now_ms, 0.0)
                return
            started = time.perf_counter()
            try:
                reading = await self._read(state, now_ms)
            except PollFailed as error:
                await self._failed(state, error, now_ms, time.perf_counter() - started)
            else:
                await self._store(state, reading, now_ms, time.perf_counter() - started)

    async def reconfigure(self, targets: Sequence[PollTarget], now_ms: int) -> PollChange:
        """Take other targets: unchanged ones keep their connections, series of others end."""
        wanted = {target.key: target for target in targets}
        held = {key: state.target for key, state in self._states.items()}
        gone = [target for key, target in held.items() if key not in wanted]
        changed = [target for key, target in wanted.items() if held.get(key, target) != target]
        added = [target for key, target in wanted.items() if key not in held]
        for target in added:
            self._states[target.key] = _State(target, target.make())
        replaced = (self._replace(self._states[t.key], t) for t in changed)
        ended = (self._end(self._states[t.key], now_ms) for t in gone)
        await asyncio.gather(*replaced, *ended)
        return PollChange((*changed, *added), tuple(gone))

    async def aclose(self) -> None:
        """Close every connection; one that fails stops no other."""
        closing = (state.poller.aclose() for state in self._states.values())
        await asyncio.gather(*closing, return_exceptions=True)

    async def _replace(self, state: _State, target: PollTarget) -> None:
        """Ask otherwise from now on. What it had and has no more goes stale at the next poll."""
        async with state.lock:
            await asyncio.gather(state.poller.aclose(), return_exceptions=True)
            self._states[target.key] = _State(target, target.make(), seen=_had(state))

    async def _end(self, state: _State, now_ms: int) -> None:
        """Ask no more: connections are closed, and all that it had ends."""
        async with state.lock:
            await asyncio.gather(state.poller.aclose(), return_exceptions=True)
            del self._states[state.target.key]
            batch = _farewell(state, now_ms)
            try:
                await asyncio.wrap_future(self._appender.append(batch))
            except WarroomError as error:
                log.warning("end of poll not stored", poller=state.target.key, error=str(error))
            self._pipeline.sources.forget(state.target.source)

    async def _read(self, state: _State, now_ms: int) -> Reading:
        target = state.target
        try:
            async with asyncio.timeout(target.timeout_s):
                return await state.poller.poll(now_ms)
        except PollFailed:
            raise
        except TimeoutError as error:
            raise PollFailed(
                f"no answer within {target.timeout_s:g} s",
                hint="check that the system runs and is not overloaded, or raise timeout",
            ) from error
        except WarroomError as error:
            raise PollFailed(error.message, hint=error.hint) from error
        except Exception as error:
            # The loop boundary: drivers raise what they like, and one system must not stop others.
            log.warning("poller failed in an unforeseen way", poller=target.key, exc_info=False)
            raise PollFailed(f"{type(error).__name__}: {error}") from error

    async def _store(self, state: _State, reading: Reading, now_ms: int, duration_s: float) -> None:
        target = state.target
        batch, seen = _batch(state, reading, now_ms, duration_s)
        try:
            await self._pipeline.push(batch, target.source)
        except WarroomError as error:
            log.warning("poll not stored", poller=target.key, error=str(error))
            return
        if state.failures:
            log.info("poller answers again", poller=target.key)
        state.seen, state.reported = seen, True
        state.families.update(reading.families)
        state.failures = state.not_before_ms = 0
        if reading.missing:
            told = "; ".join(f"{part.part}: {part.error}" for part in reading.missing)
            remedy = " ".join(dict.fromkeys(part.remedy for part in reading.missing))
            self._pipeline.failed(
                target.source, _shown(target, f"not everything was read: {told}"), remedy
            )

    async def _failed(
        self, state: _State, error: PollFailed, now_ms: int, duration_s: float
    ) -> None:
        target = state.target
        state.failures += 1
        wait_s = back_off_s(target, state.failures, error.retry_after_s)
        # A tenth less: the grid instant itself must not be missed by a rounding.
        state.not_before_ms = now_ms + round((wait_s - target.interval_s * 0.1) * 1000)
        message = _shown(target, error.message)
        if state.failures == 1:
            log.warning("poller failed", poller=target.key, error=message)
        remedy = error.hint or "See the page of this poller under docs/sources."
        times = "once" if state.failures == 1 else f"{state.failures} times in a row"
        told = f"{message} (failed {times}, asked again in {wait_s:.0f} s)"
        self._pipeline.failed(target.source, told, _shown(target, remedy))
        await self._report_down(state, now_ms, duration_s)

    async def _report_down(self, state: _State, now_ms: int, duration_s: float) -> None:
        """`up` 0, and the end of everything it had. Past the pipeline: it is not data of theirs."""
        batch, seen = _batch(state, None, now_ms, duration_s)
        try:
            await asyncio.wrap_future(self._appender.append(batch))
        except WarroomError as error:
            log.warning("poll not stored", poller=state.target.key, error=str(error))
            return
        state.seen, state.reported = seen, True


def _shown(target: PollTarget, text: str) -> str:
    for secret in target.secrets:
        text = text.replace(secret.value, _HIDDEN)
    return text


def _batch(
    state: _State, reading: Reading | None, now_ms: int, duration_s: float
) -> tuple[SampleBatch, frozenset[Labels]]:
    """The samples of a poll with those about it; and the series that it had at `now_ms`."""
    samples = [] if reading is None else reading.samples
    series = [_labels_of(state, sample) for sample in samples]
    current = frozenset(
        labels for labels, sample in zip(series, samples, strict=True) if sample.ts_ms is None
    )
    about = _report_labels(state)
    gone = sorted(state.seen - current - frozenset(about))
    report = [float(reading is not None), duration_s, float(len(samples))]
    report += report[:1] * (len(about) - len(report))
    every = [*series, *gone, *about]
    place: dict[Labels, int] = {}
    index = [place.setdefault(labels, len(place)) for labels in every]
    times = [now_ms if sample.ts_ms is None else sample.ts_ms for sample in samples]
    values = [sample.value for sample in samples] + [STALE] * len(gone) + report
    known = {} if reading is None else reading.families
    metadata = [known[name] for name in known.keys() - state.families]
    return SampleBatch(
        series=tuple(place),
        series_index=np.asarray(index, dtype=np.int32),
        ts_ms=np.asarray(times + [now_ms] * (len(gone) + len(report)), dtype=np.int64),
        values=np.asarray(values, dtype=np.float64),
        metadata=(*metadata, *(_REPORT if not state.families else ())),
    ), current


def _report_labels(state: _State) -> list[Labels]:
    names = [meta.family for meta in _REPORT]
    names += [state.target.up_metric] * bool(state.target.up_metric)
    return [_labels_of(state, Sample(name, {}, 0.0)) for name in names]


def _had(state: _State) -> frozenset[Labels]:
    """Every series that a target has now, its report among them."""
    return state.seen.union(_report_labels(state) if state.reported else ())


def _farewell(state: _State, now_ms: int) -> SampleBatch:
    """Staleness markers for everything that a target had."""
    return SampleBatch.of_rows([(labels, now_ms, STALE) for labels in sorted(_had(state))])


def _labels_of(state: _State, sample: Sample) -> Labels:
    key = (sample.name, tuple(sample.labels.items()))
    found = state.series.get(key)
    if found is None:
        if len(state.series) >= MAX_KNOWN_SERIES:
            state.series.clear()
        mine = {
            # As a scrape does: the target's own labels win, what collides is kept beside them.
            f"exported_{name}" if name in state.target.labels else name: value
            for name, value in sample.labels.items()
        }
        found = Labels({**mine, **state.target.labels, METRIC_NAME: sample.name}.items())
        state.series[key] = found
    return found
