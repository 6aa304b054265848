"""Scrapes targets: samples, the five series about the scrape itself, and staleness markers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import httpx
import numpy as np
import structlog

from collector.http_answer import ACCEPTED_ENCODING, answer_of, bounded_body
from collector.pipeline import Pipeline
from collector.scrape.config import ScrapeConfig
from collector.scrape.discovery import HttpWatch
from collector.scrape.job import Job
from collector.scrape.page import (
    Outcome,
    TargetState,
    batch_of,
    continued,
    farewell,
    new_state,
    read_page,
)
from collector.scrape.protocols import accept_header
from collector.scrape.target import Target, shown_labels
from store.durations import format_duration
from store.errors import BadInput, LimitExceeded, WarroomError

THREAD_ABOVE_BYTES = 64 * 1024
# Dropped targets are shown, not kept without end.
MAX_DROPPED_SHOWN = 1_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Change:
    """What a look at the discoveries brought."""

    added: tuple[Target, ...] = ()
    gone: tuple[Target, ...] = ()


class Scraper:
    """Every target of every job. The composition root calls `scrape` at each target's interval."""

    def __init__(self, configs: Sequence[ScrapeConfig], pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._states: dict[str, TargetState] = {}
        self._jobs = [Job(config) for config in configs]
        # By the identity of the configuration: a job that changed asks with its new credentials.
        self._clients: dict[int, httpx.AsyncClient] = {}
        for job in self._jobs:
            for target in job.found():
                self._states[target.key] = new_state(target)

    @property
    def discovers(self) -> bool:
        """Whether `discover` has anything to do."""
        return any(job.watches for job in self._jobs)

    def targets(self) -> tuple[Target, ...]:
        return tuple(state.target for state in self._states.values())

    async def discover(self, now_ms: int) -> Change:
        """Look for new and vanished targets; everything of the vanished ones goes stale.

        What cannot be read is told among the sources, never raised.
        """
        added: list[Target] = []
        gone: list[Target] = []
        for job in self._jobs:
            if not job.watches:
                continue
            before = job.groups
            errors = await job.refresh(now_ms)
            if job.groups != before:
                await self._adopt(job, now_ms, added, gone)
            self._tell_discovery(job, [*errors, *job.errors], now_ms)
        return Change(tuple(added), tuple(gone))

    async def reconfigure(self, configs: Sequence[ScrapeConfig], now_ms: int) -> Change:
        """Take other jobs: unchanged ones go on, targets that are in none end in stale series.

        `added` holds targets that are new or are to be asked otherwise, `gone` those that are not
        to be asked any more. Discoveries that are new are asked before it returns.
        """
        before = {job.config.job_name: job for job in self._jobs}
        jobs = [_job(config, before.get(config.job_name)) for config in configs]
        begun = [job for job in jobs if job not in self._jobs]
        failures = [await job.refresh(now_ms) for job in begun]
        self._jobs, ended = jobs, [job for job in self._jobs if job not in jobs]
        changes = [await self._take_over(job) for job in begun]
        added = [target for change in changes for target in change.added]
        gone = [target for change in changes for target in change.gone]
        gone += [target for job in ended for target in await self._end(job, now_ms)]
        await asyncio.gather(*(self._read_certificates(job) for job in jobs))
        for job, errors in zip(begun, failures, strict=True):
            self._tell_discovery(job, [*errors, *job.errors], now_ms)
        return Change(tuple(added), tuple(gone))

    async def scrape(self, target: Target, now_ms: int) -> None:
        """Scrape once. A failure is stored (`up` 0, the source's error), never raised."""
        state = self._states.get(target.key)
        if state is None or state.lock.locked():
            # Gone, or the last scrape still runs: a second one would only add to its trouble.
            return
        async with state.lock:
            started = time.perf_counter()
            outcome = await self._fetch(state, now_ms)
            state.duration_s = time.perf_counter() - started
            self._pipeline.sources.expect(target.source, now_ms, interval_s=target.interval_s)
            stored = await self._store(state, outcome, now_ms)
            if stored is not None:
                self._remember(state, stored, now_ms)

    def targets_status(self) -> dict[str, Any]:
        """The `data` of Prometheus's `/api/v1/targets`; times are RFC 3339."""
        return {
            "activeTargets": [_status(state) for state in self._states.values()],
            "droppedTargets": [
                {"discoveredLabels": shown_labels(dropped), "scrapePool": job.config.job_name}
                for job in self._jobs
                for dropped in job.dropped[:MAX_DROPPED_SHOWN]
            ],
            "droppedTargetCounts": {job.config.job_name: len(job.dropped) for job in self._jobs},
        }

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()
        for job in self._jobs:
            await job.aclose()

    async def _adopt(self, job: Job, now_ms: int, added: list[Target], gone: list[Target]) -> None:
        """Begin what a job found and end what it found no longer."""
        found = {target.key: target for target in job.found()}
        held = {k: s for k, s in self._states.items() if s.target.config is job.config}
        for key, state in held.items():
            if key not in found:
                await self._retire(state, now_ms)
                gone.append(state.target)
        for key, target in found.items():
            if key not in held:
                self._states[key] = new_state(target)
                added.append(target)

    async def _take_over(self, job: Job) -> Change:
        """Begin a job that is new or changed. What it asks as before goes on without a gap."""
        held = {
            _asked(state.target): state
            for state in self._states.values()
            if state.target.config.job_name == job.config.job_name
        }
        found = job.found()
        replaced = await asyncio.gather(
            *(self._begin(target, held.get(_asked(target))) for target in found)
        )
        return Change(tuple(found), tuple(target for target in replaced if target is not None))

    async def _begin(self, target: Target, before: TargetState | None) -> Target | None:
        """A target from now on; answers with the one that it is instead of, if any."""
        if before is None:
            self._states[target.key] = new_state(target)
            return None
        async with before.lock:
            del self._states[before.target.key]
            self._states[target.key] = continued(before, target)
        return before.target

    async def _end(self, job: Job, now_ms: int) -> list[Target]:
        """End a job that is no more, or stands in another form: what of it nobody took over."""
        held = [state for state in self._states.values() if state.target.config is job.config]
        await asyncio.gather(*(self._retire(state, now_ms) for state in held))
        going_on = {id(watch) for other in self._jobs for watch in other.watches}
        for watch in job.watches:
            if id(watch) not in going_on:
                await watch.aclose()
        if job.config.job_name not in [o.config.job_name for o in self._jobs if o.watches]:
            self._pipeline.sources.forget(_discovery_source(job))
        client = self._clients.pop(id(job.config), None)
        if client is not None:
            await client.aclose()
        return [state.target for state in held]

    async def _read_certificates(self, job: Job) -> None:
        """Have what goes on open new connections: the files may hold other certificates by now."""
        for watch in job.watches:
            if isinstance(watch, HttpWatch) and watch.config.http.tls.has_files:
                await watch.aclose()
        client = self._clients.pop(id(job.config), None) if job.config.http.tls.has_files else None
        if client is None:
            return
        for state in list(self._states.values()):
            if state.target.config is job.config:
                async with state.lock:
                    """No scrape of it uses the old connections any more."""
        await client.aclose()

    def _tell_discovery(self, job: Job, errors: Sequence[str], now_ms: int) -> None:
        if not job.watches:
            return
        source = _discovery_source(job)
        self._pipeline.sources.expect(source, now_ms, interval_s=job.look_s)
        if errors:
            remedy = "Check the files or the server of this job; the targets found before stay."
            self._pipeline.failed(source, "; ".join(errors[:3]), remedy)
        elif job.asked:
            self._pipeline.sources.accepted(source, 0, now_ms)

    async def _retire(self, state: TargetState, now_ms: int) -> None:
        async with state.lock:
            del self._states[state.target.key]
            batch = farewell(state, now_ms)
            try:
                if len(batch):
                    await self._pipeline.push(batch, state.target.source)
            except WarroomError as error:
                log.warning(
                    "end of target not stored", target=state.target.shown_url, error=str(error)
                )
            self._pipeline.sources.forget(state.target.source)

    async def _store(self, state: TargetState, outcome: Outcome, now_ms: int) -> Outcome | None:
        """What was stored: of a page that the store refuses as a whole, that it failed."""
        target = state.target
        try:
            await self._pipeline.push(batch_of(state, outcome, now_ms), target.source)
        except WarroomError as error:
            log.warning("scrape not stored", target=target.shown_url, error=str(error))
            if outcome.error or not _is_refused(error):
                return None
            refused = Outcome(
                exposed=outcome.exposed, left=outcome.left, error=f"not stored: {error}"[:300]
            )
            return await self._store(state, refused, now_ms)
        return outcome

    async def _fetch(self, state: TargetState, now_ms: int) -> Outcome:
        target = state.target
        limit, count = target.config.limits.targets, self._count(target.config)
        if limit and count > limit:
            return Outcome(error=f"the job has {count} targets, target_limit is {limit}")
        try:
            async with asyncio.timeout(target.timeout_s):
                body, content_type = await self._get(target)
            if len(body) > THREAD_ABOVE_BYTES:
                return await anyio.to_thread.run_sync(read_page, state, body, content_type, now_ms)
            return read_page(state, body, content_type, now_ms)
        except TimeoutError:
            return Outcome(error=f"no answer within {target.timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Outcome(error=f"{type(error).__name__}: {error}"[:300])
        except WarroomError as error:
            return Outcome(error=str(error)[:300])

    def _count(self, config: ScrapeConfig) -> int:
        return sum(state.target.config is config for state in self._states.values())

    async def _get(self, target: Target) -> tuple[bytes, str]:
        config = target.config
        headers = {
            **config.http.request_headers(),
            "Accept": accept_header(config.protocols, utf8_names=config.utf8_names),
            "User-Agent": "Warroom",
            "X-Prometheus-Scrape-Timeout-Seconds": f"{target.timeout_s:g}",
        }
        headers["Accept-Encoding"] = ACCEPTED_ENCODING if config.enable_compression else "identity"
        async with answer_of(
            self._client(config),
            target.url,
            headers=headers,
            extensions=config.http.extensions(),
            follow_redirects=config.follow_redirects,
        ) as response:
            if response.status_code != httpx.codes.OK:
                raise BadInput(f"the target answered HTTP status {response.status_code}")
            limit = config.limits.body_bytes
            body = await bounded_body(
                response, limit, what="the page", hint="raise body_size_limit"
            )
            return body, response.headers.get("content-type", "")

    def _client(self, config: ScrapeConfig) -> httpx.AsyncClient:
        client = self._clients.get(id(config))
        if client is None:
            client = self._clients[id(config)] = config.http.client()
        return client

    def _remember(self, state: TargetState, outcome: Outcome, now_ms: int) -> None:
        state.seen = outcome.seen
        state.last_ms = now_ms
        state.error = outcome.error
        state.health = "down" if outcome.error else "up"
        if outcome.error:
            remedy = (
                f"Open {state.target.shown_url} and check that the target runs and serves metrics."
            )
            self._pipeline.failed(state.target.source, outcome.error, remedy)


def _is_refused(error: WarroomError) -> bool:
    """Whether the store takes nothing of the page. Of one with too many series it takes a part."""
    if isinstance(error, LimitExceeded):
        return error.reason != "max_series"
    return isinstance(error, BadInput)


def _job(config: ScrapeConfig, before: Job | None) -> Job:
    """The job as it runs, where its configuration is the same."""
    if before is not None and before.config == config:
        return before
    return Job(config, () if before is None else before.watches)


def _asked(target: Target) -> tuple[str, frozenset[tuple[str, str]]]:
    """What makes a target the same, whatever else of its job changed."""
    return target.url, frozenset(target.labels.items())


def _discovery_source(job: Job) -> str:
    return f"discovery:{job.config.job_name}"


def _status(state: TargetState) -> dict[str, Any]:
    target = state.target
    at = np.datetime64(state.last_ms, "ms")
    return {
        "discoveredLabels": shown_labels(target.discovered),
        "labels": dict(target.labels),
        "scrapePool": target.config.job_name,
        "scrapeUrl": target.shown_url,
        "globalUrl": target.shown_url,
        "lastError": state.error,
        "lastScrape": f"{at}Z" if state.last_ms else "0001-01-01T00:00:00Z",
        "lastScrapeDuration": state.duration_s,
        "health": state.health,
        "scrapeInterval": format_duration(round(target.interval_s * 1000)),
        "scrapeTimeout": format_duration(round(target.timeout_s * 1000)),
    }
