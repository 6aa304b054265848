"""Before and after: any two windows, two deploys, or the two sides of a finding's end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api.comparison_shapes import comparison_json
from api.errors import NotFound
from api.shapes import Json
from api.times import parse_time
from detectors.comparison import compare
from detectors.finding import Finding
from detectors.pivot import (
    SETTLE_MS,
    Pivot,
    began,
    deploy_windows,
    named,
    pivot_of,
    windows_around,
)
from detectors.readings import Window
from detectors.repository import FindingRepository
from detectors.window_reading import Subject, WindowReader
from store.annotations.repository import Annotation, AnnotationRepository
from store.durations import parse_duration_ms
from store.errors import BadInput
from store.timestamps import rfc3339

_LEAST_MS = 10_000
_MOST_MS = 7 * 86_400_000
_DEPLOY = "deploy:"
# The slash between two times, which is none that rounds one of them, as in now-1d/d/now/d.
_FROM_TO = re.compile(r"(.*?)/(?![smhdwMQy](?:[/+-]|$))(.*)")
# Each reads hundreds of traces: more at once would slow the ticks.
_AT_ONCE = 2


class Asked(BaseModel):
    """Parameters of `GET /compare`."""

    model_config = ConfigDict(extra="ignore")

    service: str = Field(min_length=1, max_length=256)
    route: str = Field("", max_length=512)
    before: str = Field("", max_length=256)
    after: str = Field("", max_length=256)
    deploy: str = Field("", max_length=256)
    span: str = Field("30m", max_length=32)


@dataclass(frozen=True, slots=True)
class Sources:
    """What comparisons read."""

    reader: WindowReader
    findings: FindingRepository
    annotations: AnnotationRepository


def router(sources: Sources, now: Callable[[], int]) -> APIRouter:
    """`/compare` and `/findings/{id}/before-after`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["findings"])
    turns = asyncio.Semaphore(_AT_ONCE)

    @routes.get("/compare")
    async def windows(asked: Annotated[Asked, Query()]) -> Json:
        async with turns:
            return await run_in_threadpool(_compare, sources, asked, now())

    @routes.get("/findings/{finding_id}/before-after")
    async def before_after(
        finding_id: str,
        at: Annotated[str, Query(max_length=64)] = "",
        span: Annotated[str, Query(max_length=32)] = "30m",
    ) -> Json:
        now_ms = now()
        at_ms = parse_time(at, now_ms, 0)
        async with turns:
            return await run_in_threadpool(
                _of_finding, sources, finding_id, at_ms, _span_ms(span), now_ms
            )

    return routes


def _compare(sources: Sources, asked: Asked, now_ms: int) -> Json:
    before, after = _windows(sources.annotations, asked, now_ms)
    subject = Subject(asked.service, asked.route)
    read = sources.reader.read
    compared = compare(read(subject, before), read(subject, after))
    return comparison_json(compared, asked.service, asked.route)


def _of_finding(sources: Sources, finding_id: str, at_ms: int, span_ms: int, now_ms: int) -> Json:
    finding = sources.findings.get(finding_id)
    if finding is None:
        raise NotFound(f"there is no finding {finding_id!r}")
    history = sources.findings.history(finding_id)
    around_ms = finding.first_seen_ms if finding.active else finding.last_seen_ms
    deploys = _deploys(sources.annotations, around_ms - _MOST_MS, now_ms)
    asked = Pivot(at_ms, "asked", rfc3339(at_ms)) if at_ms else None
    pivot = asked or pivot_of(finding, history, deploys)
    began_ms = 0 if finding.active else began(finding, history)
    before, after = windows_around(pivot, span_ms, now_ms, began_ms=began_ms)
    subject = subject_of(finding)
    read = sources.reader.read
    compared = compare(read(subject, before), read(subject, after), finding.kind)
    return {
        "finding_id": finding.fingerprint,
        "kind": finding.kind,
        "pivot": {
            "at": rfc3339(pivot.at_ms),
            "reason": pivot.reason,
            "title": pivot.title,
            "ref": pivot.ref,
        },
        **comparison_json(compared, finding.service, finding.route),
    }


def subject_of(finding: Finding) -> Subject:
    """What a finding is about, as something that can be read again."""
    evidence = finding.evidence
    is_cache = finding.kind == "hit_rate_drop"
    # Of counters and histograms the values say nothing; those of a signal do.
    signal = evidence.series if evidence.series.startswith("sig:") and not is_cache else ""
    of_traces = bool(evidence.trace_id) and not evidence.series
    return Subject(
        service=finding.service,
        route=finding.route,
        fingerprint=finding.fingerprint if of_traces else "",
        cache=finding.labels if is_cache else {},
        signal=signal,
        signal_labels=finding.labels,
    )


def _windows(annotations: AnnotationRepository, asked: Asked, now_ms: int) -> tuple[Window, Window]:
    span_ms = _span_ms(asked.span)
    if asked.deploy:
        if asked.before or asked.after:
            raise BadInput("either `deploy`, or `before` and `after`")
        deploy = _deploy(annotations, asked.deploy)
        around = _deploys(annotations, deploy.at_ms - span_ms, deploy.at_ms + 2 * span_ms)
        pair = deploy_windows(deploy, around, span_ms, now_ms)
    elif asked.before and asked.after:
        pair = (
            _window(annotations, asked.before, span_ms, now_ms),
            _window(annotations, asked.after, span_ms, now_ms),
        )
    else:
        raise BadInput(
            "nothing to compare", hint="before=FROM/TO&after=FROM/TO, or deploy=ID_OR_VERSION"
        )
    for name, window in zip(("before", "after"), pair, strict=True):
        _check(name, window)
    return pair


def _window(annotations: AnnotationRepository, text: str, span_ms: int, now_ms: int) -> Window:
    """`FROM/TO`, or `deploy:ID`: the time in which that deploy was live, `span_ms` of it."""
    if text.startswith(_DEPLOY):
        deploy = _deploy(annotations, text.removeprefix(_DEPLOY))
        around = _deploys(annotations, deploy.at_ms, deploy.at_ms + 2 * span_ms)
        _, live = deploy_windows(deploy, around, span_ms, now_ms)
        return Window(live.start_ms, live.end_ms, named(deploy))
    found = _FROM_TO.fullmatch(text)
    if found is None:
        raise BadInput(f"{text!r} is no window", hint="write FROM/TO, such as now-2h/now-1h")
    start, end = found.groups()
    return Window(parse_time(start, now_ms, now_ms), parse_time(end, now_ms, now_ms))


def _check(name: str, window: Window) -> None:
    length_ms = window.end_ms - window.start_ms
    if length_ms < _LEAST_MS:
        raise BadInput(
            f"the window {name!r} is {max(length_ms, 0) / 1_000:g} s long",
            hint=f"at least {_LEAST_MS // 1_000} s; after a deploy the first {SETTLE_MS // 1_000} s"
            " are left out",
        )
    if length_ms > _MOST_MS:
        raise BadInput(f"the window {name!r} is longer than seven days")


def _span_ms(text: str) -> int:
    try:
        span_ms = parse_duration_ms(text)
    except ValueError as exc:
        raise BadInput(f"{text!r} is no duration", hint="write it like 30m or 2h") from exc
    if not _LEAST_MS <= span_ms <= _MOST_MS:
        raise BadInput(f"span={text} is out of bounds", hint="from 10s to 7d")
    return span_ms


def _deploy(annotations: AnnotationRepository, name: str) -> Annotation:
    deploy = annotations.deploy(name)
    if deploy is None:
        raise NotFound(f"there is no deploy {name!r}", hint="its id or version, see GET /timeline")
    return deploy


def _deploys(annotations: AnnotationRepository, start_ms: int, end_ms: int) -> list[Annotation]:
    return [one for one in annotations.between(start_ms, end_ms) if one.kind == "deploy"]
