"""Load tests: k6's summary in, records out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.bodies import read_body
from api.errors import NotFound
from api.loadtests.k6_summary import figures_of
from api.loadtests.record import Figures, LoadTest, Stage
from api.loadtests.repository import LoadTestRepository
from api.shapes import Json, is_link, number
from api.times import parse_time
from store.errors import BadInput
from store.timestamps import rfc3339

MAX_SUMMARY_BYTES = 5 * 1024 * 1024
MAX_STAGES = 100
_MAX_AHEAD_MS = 86_400_000
# Beside k6's own fields a script may say more of its test under this name.
_OWN_FIELDS = "warroom"


class _StageFields(BaseModel):
    """A stage: with its times, or with its length, one after the other from the start."""

    model_config = ConfigDict(extra="forbid")

    multiple: float = Field(gt=0, le=10_000)
    start: str | float | None = Field(None, alias="from")
    end: str | float | None = Field(None, alias="to")
    seconds: float | None = Field(None, gt=0, le=31 * 86_400)


class Told(BaseModel):
    """What the sender says of a test: parameters of the request, or `warroom` in the summary."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", max_length=256)
    source: str = Field("", max_length=32)
    started_at: str = Field("", max_length=64)
    ended_at: str = Field("", max_length=64)
    target_multiple: float | None = Field(None, gt=0, le=10_000)
    url: str = Field("", max_length=2048)


class _ToldInside(Told):
    stages: list[_StageFields] = Field([], max_length=MAX_STAGES)


def router(tests: LoadTestRepository, now: Callable[[], int]) -> APIRouter:
    """`/loadtests`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["loadtests"])

    @routes.post("/loadtests", status_code=201)
    async def add(request: Request, told: Annotated[Told, Query()]) -> Json:
        body = await read_body(request, MAX_SUMMARY_BYTES)

        def keep() -> Json:
            test_id = hashlib.sha256(body).hexdigest()[:32]
            figures, document = figures_of(body)
            test = load_test(test_id, figures, _told(document, told), tests.get(test_id), now())
            # Made first: what cannot be told must not be kept, or no list could be told again.
            answer = load_test_json(test)
            tests.put(test)
            return answer

        return await run_in_threadpool(keep)

    @routes.get("/loadtests")
    async def list_tests(
        limit: Annotated[int, Query(ge=1, le=200)] = 20,
        after: Annotated[str, Query(max_length=128)] = "",
    ) -> Json:
        def read() -> Json:
            found, following = tests.list(limit=limit, after=after)
            return {"loadtests": [load_test_json(test) for test in found], "next": following}

        return await run_in_threadpool(read)

    @routes.get("/loadtests/{loadtest_id}")
    async def one(loadtest_id: str) -> Json:
        found = await run_in_threadpool(tests.get, loadtest_id)
        if found is None:
            raise NotFound(
                f"there is no load test {loadtest_id[:64]!r}", hint="GET /api/warroom/v1/loadtests"
            )
        return load_test_json(found)

    return routes


def load_test(
    test_id: str, figures: Figures, told: _ToldInside, known: LoadTest | None, now_ms: int
) -> LoadTest:
    """The record of a summary. What neither it nor the sender tells stays as it is `known`.

    Raises:
        BadInput: The times make no sense, an address is none, or a text holds a NUL.
    """
    if told.url and not is_link(told.url):
        raise BadInput("url must be a web address, or a path that begins with one slash")
    # PostgreSQL's text has no place for one.
    if any("\0" in text for text in (told.name, told.source, told.url)):
        raise BadInput("name, source and url must not hold a NUL character")
    started_ms, ended_ms = _times(figures, told, known, now_ms)
    return LoadTest(
        id=test_id,
        name=told.name or (known.name if known else "load test"),
        source=told.source or "k6",
        started_ms=started_ms,
        ended_ms=ended_ms,
        target_multiple=told.target_multiple or (known.target_multiple if known else None),
        url=told.url or (known.url if known else ""),
        stages=_stages(told.stages, started_ms, now_ms),
        figures=figures,
    )


def _times(
    figures: Figures, told: _ToldInside, known: LoadTest | None, now_ms: int
) -> tuple[int, int]:
    """When it began and ended: what is told counts, then the summary, then what is known."""
    run_ms = figures.run_ms or 0
    if told.started_at:
        started_ms = parse_time(told.started_at, now_ms, 0)
        ended_ms = parse_time(told.ended_at, now_ms, started_ms + run_ms)
    elif told.ended_at or figures.ended_ms or known is None:
        ended_ms = parse_time(told.ended_at, now_ms, figures.ended_ms or now_ms)
        started_ms = max(ended_ms - run_ms, 0)
    else:
        started_ms, ended_ms = known.started_ms, known.ended_ms
    if not 0 <= started_ms <= ended_ms <= now_ms + _MAX_AHEAD_MS:
        raise BadInput("started_at must not be after ended_at, nor that in the future")
    return started_ms, ended_ms


def _told(document: Mapping[str, Any], parameters: Told) -> _ToldInside:
    """What the summary says of itself, and over it what the request does."""
    inside = document.get(_OWN_FIELDS) or {}
    if not isinstance(inside, dict):
        raise BadInput(f"{_OWN_FIELDS} in the summary must be an object")
    try:
        return _ToldInside.model_validate(
            {**inside, **parameters.model_dump(exclude_defaults=True)}
        )
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{_OWN_FIELDS}.{where}: {first['msg']}") from exc


def _stages(told: list[_StageFields], started_ms: int, now_ms: int) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    at_ms = started_ms
    for stage in told:
        from_ms = _time(stage.start, now_ms, at_ms)
        default_ms = from_ms + round(1000 * (stage.seconds or 0))
        to_ms = _time(stage.end, now_ms, default_ms)
        if to_ms <= from_ms:
            raise BadInput("a stage needs `from` and `to`, or `seconds`")
        if to_ms > now_ms + _MAX_AHEAD_MS:
            raise BadInput("a stage must not end in the future")
        stages.append(Stage(stage.multiple, from_ms, to_ms))
        at_ms = to_ms
    return tuple(stages)


def _time(told: str | float | None, now_ms: int, default_ms: int) -> int:
    return parse_time(None if told is None else str(told), now_ms, default_ms)


def load_test_json(test: LoadTest) -> Json:
    """One load test, as in `GET /loadtests`."""
    figures, durations = test.figures, test.figures.durations
    return {
        "id": test.id,
        "name": test.name,
        "source": test.source,
        "started_at": rfc3339(test.started_ms),
        "ended_at": rfc3339(test.ended_ms),
        "target_multiple": test.target_multiple,
        "stages": [
            {
                "multiple": stage.multiple,
                "from": rfc3339(stage.from_ms),
                "to": rfc3339(stage.to_ms),
            }
            for stage in test.stages
        ],
        "requests": figures.requests,
        "requests_per_second": number(figures.requests_per_second),
        "error_ratio": number(figures.error_ratio),
        "duration_seconds": {
            "p50": number(durations.p50),
            "p95": number(durations.p95),
            "p99": number(durations.p99),
            "max": number(durations.max),
            "mean": number(durations.mean),
        },
        "checks": {"passes": figures.checks_passed, "fails": figures.checks_failed},
        "thresholds": [{"name": one.name, "ok": one.ok} for one in figures.thresholds],
        "ok": figures.ok,
        "virtual_users": figures.virtual_users,
        "url": test.url,
    }


def timeline_of(tests: LoadTestRepository) -> Callable[[int, int], list[Json]]:
    """Load tests as events of the timeline, when they began."""

    def events(start_ms: int, end_ms: int) -> list[Json]:
        return [
            {
                "at": rfc3339(test.started_ms),
                "kind": "loadtest",
                "title": _title(test),
                "ref": test.url or test.id,
            }
            for test in tests.started_between(start_ms, end_ms)
        ]

    return events


def _title(test: LoadTest) -> str:
    """Such as `load test sale: 3x, 1200 requests/s, p95 0.41 s, 1 of 4 thresholds failed`."""
    figures = test.figures
    told = [f"{test.target_multiple:g}x"] if test.target_multiple else []
    if figures.requests_per_second is not None:
        told.append(f"{figures.requests_per_second:.0f} requests/s")
    if figures.durations.p95 is not None:
        told.append(f"p95 {figures.durations.p95:.3g} s")
    failed = sum(not one.ok for one in figures.thresholds)
    if failed:
        told.append(f"{failed} of {len(figures.thresholds)} thresholds failed")
    return f"load test {test.name}: {', '.join(told)}" if told else f"load test {test.name}"
