"""Findings to JSON text and back, for the rows of the repository."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

from detectors.finding import CodeLocation, Evidence, Finding, FindingStatus, Impact, Priority

# What changes apart from the evidence has columns of its own.
_IN_COLUMNS = ("suppression", "fixed_ms")


def encode(finding: Finding) -> str:
    """The finding as one JSON object, without its suppression and the time of its fix."""
    data = dataclasses.asdict(finding)
    for name in _IN_COLUMNS:
        del data[name]
    return orjson.dumps(data).decode()


def decode(text: str) -> Finding:
    """What `encode` wrote."""
    data: dict[str, Any] = orjson.loads(text)
    evidence = dict(data["evidence"])
    code = evidence["code"]
    evidence["code"] = CodeLocation(**code) if code is not None else None
    evidence["span_ids"] = tuple(evidence["span_ids"])
    evidence["statements"] = tuple(evidence["statements"])
    evidence["users"] = tuple(evidence.get("users", ()))
    return Finding(
        **{
            **data,
            "priority": Priority(data["priority"]),
            "status": FindingStatus(data["status"]),
            "evidence": Evidence(**evidence),
            "impact": Impact(**data["impact"]),
        }
    )
