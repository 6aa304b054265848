"""What the rooms know, as the JSON that the API and the boards show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from api.shapes import finding_json
from detectors.explain import explain
from detectors.finding import Finding
from detectors.history.repository import began
from detectors.repository import FindingRepository
from store.backends.duckdb import DuckDBStore
from store.sql import SessionFactory
from store.timestamps import rfc3339
from warroom.intake import Intake

Json = dict[str, Any]
_PRIORITY_RANK = {"P0": 0, "P1": 1, "P2": 2}


def explainer(store: DuckDBStore) -> Callable[[bytes], Json | None]:
    """Why a trace holds findings, and what it holds that is none."""

    def tell(trace_id: bytes) -> Json | None:
        answer = explain(store, trace_id)
        if answer is None:
            return None
        return {
            "findings": [finding_json(finding) for finding in answer.findings],
            "not_reported": [dataclasses.asdict(entry) for entry in answer.not_reported],
        }

    return tell


def open_findings(active: tuple[Finding, ...], repository: FindingRepository) -> list[Json]:
    """Active ones first, then what ended within the last listing."""
    holding = {finding.fingerprint for finding in active}
    ended = [f for f in repository.list(limit=20).findings if f.fingerprint not in holding]
    ordered = sorted(active, key=lambda f: (_PRIORITY_RANK[f.priority.value], -f.last_seen_ms))
    return [finding_json(finding) for finding in (*ordered, *ended)]


def finding_events(sessions: SessionFactory) -> Callable[[int, int], list[Json]]:
    """What began and ended among the findings, for the timeline."""

    def events(start_ms: int, end_ms: int) -> list[Json]:
        return [
            {
                "at": rfc3339(entry.at_ms),
                "kind": "finding",
                "title": f"{entry.event}: {entry.detail}",
                "ref": f"/findings/{entry.finding_id}",
            }
            for entry in began(sessions, start_ms, end_ms)
        ]

    return events


def source_states(intake: Intake, now_ms: int) -> list[Json]:
    """How fresh each source is, and what helps where it is not."""
    return [
        {
            "name": status.name,
            "kind": status.kind,
            "state": status.state.value,
            "last_success_at": rfc3339(status.last_success_at_ms)
            if status.last_success_at_ms
            else None,
            "delay_seconds": status.delay_seconds,
            "rate_per_second": status.rate_per_second,
            "dropped": dict(status.dropped),
            "error": status.error,
            "remedy": status.remedy,
        }
        for status in intake.sources.list(now_ms)
    ]
