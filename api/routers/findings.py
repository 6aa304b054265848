"""Findings: listed, shown, suppressed, reopened, marked fixed; and what a trace would give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api.errors import NotFound
from api.shapes import Json, finding_json
from api.times import parse_time
from detectors.decision import Decision, HistoryEntry
from detectors.finding import Finding, FindingStatus, Priority
from detectors.repository import FindingFilter, FindingRepository
from store.errors import BadInput
from store.timestamps import rfc3339

_MAX_LIMIT = 500


class Listing(BaseModel):
    """Filters of `GET /findings`."""

    model_config = ConfigDict(extra="ignore")

    kind: str = Field("", max_length=64)
    service: str = Field("", max_length=256)
    status: FindingStatus | Literal[""] = ""
    priority: Priority | Literal[""] = ""
    start: str = Field("", max_length=64, alias="from")
    end: str = Field("", max_length=64, alias="to")
    limit: int = Field(100, ge=1, le=_MAX_LIMIT)
    after: str = Field("", max_length=256)


class Suppression(BaseModel):
    """Body of `POST /findings/{id}/suppress`."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=1_000)
    until: str = Field(max_length=64)
    by: str = Field(default="someone", max_length=256)
    max_repetitions: int | None = Field(default=None, ge=1, le=1_000_000)


class Change(BaseModel):
    """Body of `POST /findings/{id}/reopen` and `…/fixed`; it may be left out."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=1_000)
    by: str = Field(default="someone", max_length=256)


def router(
    findings: FindingRepository,
    explain: Callable[[bytes], Json | None],
    now: Callable[[], int],
) -> APIRouter:
    """`/findings…` and `/traces/{id}/explain`; `explain` answers None for an unknown trace."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["findings"])

    @routes.get("/findings")
    async def list_findings(asked: Annotated[Listing, Query()]) -> Json:
        now_ms = now()
        filters = FindingFilter(
            kind=asked.kind or None,
            service=asked.service or None,
            status=asked.status or None,
            priority=asked.priority or None,
            from_ms=parse_time(asked.start, now_ms, 0) or None,
            to_ms=parse_time(asked.end, now_ms, 0) or None,
        )

        def read() -> Json:
            page = findings.list(filters, limit=asked.limit, after=asked.after or None)
            return {"findings": [finding_json(f) for f in page.findings], "next": page.next}

        return await run_in_threadpool(read)

    @routes.get("/findings/{finding_id}")
    async def one(finding_id: str) -> Json:
        found = _known(await run_in_threadpool(findings.get, finding_id), finding_id)
        history = await run_in_threadpool(findings.history, finding_id)
        return {**finding_json(found), "history": [_entry_json(entry) for entry in history]}

    @routes.post("/findings/{finding_id}/suppress")
    async def suppress(finding_id: str, body: Suppression) -> Json:
        now_ms = now()
        until_ms = parse_time(body.until, now_ms, now_ms)
        decision = Decision(now_ms, body.by, body.reason)
        changed = await run_in_threadpool(
            findings.suppress, finding_id, until_ms, decision, budget=body.max_repetitions
        )
        return finding_json(_known(changed, finding_id))

    @routes.post("/findings/{finding_id}/reopen")
    async def reopen(finding_id: str, body: Change | None = None) -> Json:
        changed = await run_in_threadpool(findings.reopen, finding_id, _decision(body, now()))
        return finding_json(_known(changed, finding_id))

    @routes.post("/findings/{finding_id}/fixed")
    async def fixed(finding_id: str, body: Change | None = None) -> Json:
        changed = await run_in_threadpool(findings.mark_fixed, finding_id, _decision(body, now()))
        return finding_json(_known(changed, finding_id))

    @routes.get("/traces/{trace_id}/explain")
    async def why(trace_id: str) -> Json:
        try:
            raw = bytes.fromhex(trace_id.zfill(32))
        except ValueError as exc:
            raise BadInput(f"{trace_id!r} is no trace id", hint="32 hexadecimal digits") from exc
        told = await run_in_threadpool(explain, raw)
        if told is None:
            raise NotFound(f"there is no trace {trace_id}", hint="it may be past retention")
        return told

    return routes


def _decision(body: Change | None, now_ms: int) -> Decision:
    change = body or Change()
    return Decision(now_ms, change.by, change.reason)


def _entry_json(entry: HistoryEntry) -> Json:
    return {
        "at": rfc3339(entry.at_ms),
        "event": entry.event,
        "detail": entry.detail,
        "by": entry.actor,
    }


def _known(finding: Finding | None, finding_id: str) -> Finding:
    if finding is None:
        raise NotFound(f"there is no finding {finding_id!r}")
    return finding
