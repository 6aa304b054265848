"""What is agreed on budgets: maintenance that does not count, and policies with what broke them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api.errors import NotFound
from api.shapes import Json, annotation_json
from api.times import parse_time
from slos.definition import Slo
from slos.policy import Policy, PolicySpan, broke
from slos.repository import EVERY_SLO, Maintenance, MaintenanceRepository, PolicyRepository
from store.annotations.repository import Annotation, AnnotationRepository
from store.errors import BadInput
from store.timestamps import rfc3339

_DAY_MS = 86_400_000
_HISTORY_MS = 90 * _DAY_MS
_MAX_DEPLOYS = 5_000


@dataclass(frozen=True, slots=True)
class Agreements:
    """Where they are kept. `slos` and `policies` are those in force."""

    maintenance: MaintenanceRepository
    spans: PolicyRepository
    annotations: AnnotationRepository
    slos: Callable[[], Sequence[Slo]]
    policies: Callable[[], Sequence[Policy]]
    now: Callable[[], int]

    def timeline(self, start_ms: int, end_ms: int) -> list[Json]:
        """Beginnings and ends of policies' actions, as events of the timeline."""
        events: list[Json] = []
        for span in self.spans.between(start_ms, end_ms):
            said = f"{span.policy}: {span.action} for {span.slo_id}"
            left = f"{span.remaining:.1%} of the error budget left"
            moments = [(span.since_ms, f"{said} begins, {left}")]
            if span.until_ms is not None:
                moments.append((span.until_ms, f"{said} ends"))
            events += [
                {"at": rfc3339(at_ms), "kind": "policy", "title": title, "ref": "/slos"}
                for at_ms, title in moments
                if start_ms <= at_ms <= end_ms
            ]
        return events


class NewMaintenance(BaseModel):
    """Body of `POST /slo-maintenance`; without `slo` it is for every SLO."""

    model_config = ConfigDict(extra="forbid")

    slo: str = Field(default="", max_length=512)
    start: str | float | None = None
    end: str | float
    reason: str = Field(min_length=1, max_length=2_000)


def router(agreed: Agreements) -> APIRouter:
    """`/slo-maintenance` and `/slo-policies`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["slos"])

    @routes.get("/slo-maintenance")
    async def list_maintenance() -> Json:
        found = await run_in_threadpool(agreed.maintenance.list)
        return {"maintenance": [_maintenance_json(span) for span in found]}

    @routes.post("/slo-maintenance", status_code=201)
    async def add_maintenance(body: NewMaintenance) -> Json:
        return await run_in_threadpool(_add, agreed, body)

    @routes.delete("/slo-maintenance/{span_id}", status_code=204)
    async def remove_maintenance(span_id: int) -> None:
        known = 0 < span_id < 2**31
        if not known or not await run_in_threadpool(agreed.maintenance.remove, span_id):
            raise NotFound(f"there is no maintenance {span_id}")

    @routes.get("/slo-policies")
    async def policies() -> Json:
        return await run_in_threadpool(_policies, agreed)

    return routes


def _add(agreed: Agreements, body: NewMaintenance) -> Json:
    slo_id = EVERY_SLO
    if body.slo:
        found = [slo.id for slo in agreed.slos() if body.slo in {slo.id, slo.name}]
        if len(found) != 1:
            problem = "several SLOs are" if found else "no SLO is"
            raise BadInput(f"{problem} called {body.slo!r}", hint="write service-name")
        slo_id = found[0]
    now_ms = agreed.now()
    start_ms = parse_time(None if body.start is None else str(body.start), now_ms, now_ms)
    end_ms = parse_time(str(body.end), now_ms, now_ms)
    span_id = agreed.maintenance.add(slo_id, start_ms, end_ms, body.reason)
    return _maintenance_json(Maintenance(span_id, slo_id, start_ms, end_ms, body.reason))


def _maintenance_json(span: Maintenance) -> Json:
    return {
        "id": span.id,
        "slo": span.slo_id,
        "start": rfc3339(span.start_ms),
        "end": rfc3339(span.end_ms),
        "reason": span.reason,
    }


def _policies(agreed: Agreements) -> Json:
    now_ms = agreed.now()
    spans = agreed.spans.between(now_ms - _HISTORY_MS, now_ms)
    oldest_ms = min((span.since_ms for span in spans), default=now_ms)
    changes = agreed.annotations.between(oldest_ms, now_ms, limit=_MAX_DEPLOYS)
    return {
        "policies": [
            {
                "name": policy.name,
                "description": policy.description,
                "slos": list(policy.slo_ids),
                "steps": [
                    {
                        "remaining_below": step.below,
                        "action": step.action,
                        "message": step.message,
                    }
                    for step in policy.steps
                ],
                "in_force": [
                    _span_json(span, changes)
                    for span in spans
                    if span.policy == policy.name and span.until_ms is None
                ],
            }
            for policy in agreed.policies()
        ],
        "history": [_span_json(span, changes) for span in spans],
    }


def _span_json(span: PolicySpan, changes: Sequence[Annotation]) -> Json:
    broken_by = [a for a in changes if broke(span, a.at_ms, a.kind, a.service)]
    return {
        "policy": span.policy,
        "slo": span.slo_id,
        "action": span.action,
        "message": span.message,
        "since": rfc3339(span.since_ms),
        "until": rfc3339(span.until_ms) if span.until_ms is not None else None,
        "error_budget_remaining": span.remaining,
        "broken_by": [annotation_json(annotation) for annotation in broken_by],
    }
