"""What the story proved: a table, and a line for each promise."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from warroom.demo.witness import PageEvent


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong in the story.

    Attributes:
        switch: The shop's name of it.
        title: What is said on the screen.
        on_s: How long it stays on.
        pages: A pattern of the classes of the pages it must cause.
        shown: A pattern of the findings and alerts it must cause.
        within_s: From the fault to its first page.
        deploy: The version that brings it, where a deploy does.
        least_s: What is left of `on_s` in a hurried story: enough to be found and paged.
    """

    switch: str
    title: str
    on_s: float
    pages: str
    shown: str
    within_s: float
    deploy: str = ""
    least_s: float = 25.0


@dataclass(frozen=True, slots=True)
class Played:
    """When a fault was on, in unix seconds."""

    fault: Fault
    on_at: float
    off_at: float


@dataclass(frozen=True, slots=True)
class PageRecord:
    """One page that belongs to a fault. Times are unix seconds."""

    dedup_key: str
    kind: str
    summary: str
    triggered_at: float
    resolved_at: float | None
    triggers: int
    resolves: int


@dataclass(frozen=True, slots=True)
class FaultResult:
    """One row of the table."""

    fault: str
    on_at: float
    seconds_on: float
    seconds_to_shown: float | None
    seconds_to_page: float | None
    pages: tuple[PageRecord, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, kept or not."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole result."""

    faults: tuple[FaultResult, ...]
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def as_json(self) -> str:
        """Machine-readable."""
        return json.dumps({"ok": self.ok, **asdict(self)}, indent=2)


def judge(
    played: Sequence[Played],
    events: Sequence[PageEvent],
    first_seen: Mapping[str, float],
    incidents: Mapping[str, Mapping[str, Any]],
) -> Verdict:
    """Compare what was received with what was promised."""
    results = [_result(item, events, first_seen, incidents) for item in played]
    checks: list[Check] = []
    for item, result in zip(played, results, strict=True):
        checks.extend(_checks(item.fault, result))
    explained = {page.dedup_key for result in results for page in result.pages}
    others = sorted(set(incidents) - explained)
    detail = ", ".join(str(incidents[key]["summary"]) for key in others)
    checks.append(Check("no other page", not others, detail or "none"))
    return Verdict(tuple(results), tuple(checks))


def _result(
    played: Played,
    events: Sequence[PageEvent],
    first_seen: Mapping[str, float],
    incidents: Mapping[str, Mapping[str, Any]],
) -> FaultResult:
    fault = played.fault
    pages: dict[str, PageRecord] = {}
    for event in events:
        late = event.received_at < played.on_at
        if event.action != "trigger" or late or event.dedup_key in pages:
            continue
        if re.search(fault.pages, event.kind):
            pages[event.dedup_key] = _record(event, incidents[event.dedup_key])
    shown = [
        at - played.on_at
        for name, at in first_seen.items()
        if re.search(fault.shown, name) and at >= played.on_at
    ]
    paged = [page.triggered_at - played.on_at for page in pages.values()]
    return FaultResult(
        fault=fault.switch,
        on_at=played.on_at,
        seconds_on=round(played.off_at - played.on_at, 1),
        seconds_to_shown=round(min(shown), 1) if shown else None,
        seconds_to_page=round(min(paged), 1) if paged else None,
        pages=tuple(pages.values()),
    )


def _record(event: PageEvent, incident: Mapping[str, Any]) -> PageRecord:
    return PageRecord(
        dedup_key=event.dedup_key,
        kind=event.kind,
        summary=event.summary,
        triggered_at=event.received_at,
        resolved_at=incident["last_resolve_at"],
        triggers=int(incident["triggers"]),
        resolves=int(incident["resolves"]),
    )


def _checks(fault: Fault, result: FaultResult) -> list[Check]:
    to_page = result.seconds_to_page
    paged = to_page is not None and to_page <= fault.within_s
    text = "no page" if to_page is None else f"{to_page:.1f} s"
    once = [page for page in result.pages if page.triggers == 1 and page.resolves == 1]
    counts = ", ".join(
        f"{page.kind} {page.triggers} trigger {page.resolves} resolve" for page in result.pages
    )
    return [
        Check(f"{fault.switch}: paged within {fault.within_s:g} s", paged, text),
        Check(
            f"{fault.switch}: one trigger, one resolve for each page",
            bool(result.pages) and len(once) == len(result.pages),
            counts or "no page",
        ),
    ]


def table(verdict: Verdict) -> list[str]:
    """The result as lines of text."""
    head = ("fault", "on", "shown", "page", "resolved", "dedup key", "t/r", "page's first line")
    rows = [head]
    for result in verdict.faults:
        first = (
            result.fault,
            f"{result.seconds_on:.0f} s",
            _seconds(result.seconds_to_shown),
        )
        if not result.pages:
            rows.append((*first, "none", "", "", "", ""))
        for page in result.pages:
            resolved = None if page.resolved_at is None else page.resolved_at - result.on_at
            cells = (
                _seconds(page.triggered_at - result.on_at),
                _seconds(resolved),
                page.dedup_key[:16],
                f"{page.triggers}/{page.resolves}",
                page.summary[:70],
            )
            rows.append((*first, *cells))
            first = ("", "", "")
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in rows]  # fmt: skip
    lines.append("")
    for check in verdict.checks:
        lines.append(f"{'PASS' if check.ok else 'FAIL'}  {check.name}  ({check.detail})")  # noqa: PERF401
    return lines


def _seconds(value: float | None) -> str:
    return "" if value is None else f"+{value:.1f} s"
