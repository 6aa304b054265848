"""The moment that parts before from after: a deploy, a finding's end, or its beginning. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from detectors.decision import HistoryEntry
from detectors.finding import Finding
from detectors.readings import Window
from store.annotations.repository import Annotation

# A roll-out takes a while, and so does the last faulty request.
SETTLE_MS = 30_000
_DEPLOY_BEFORE_MS = 15 * 60_000
_DEPLOY_AFTER_MS = 5 * 60_000
_BEGINS = frozenset({"opened", "returned", "regressed"})


@dataclass(frozen=True, slots=True)
class Pivot:
    """A moment and why it was taken.

    Attributes:
        reason: `asked`, `deploy`, `marked_fixed`, `last_seen` or `began`.
        title: What happened then, in words.
        ref: The id of the deploy, where it was one.
    """

    at_ms: int
    reason: str
    title: str
    ref: str = ""


def pivot_of(
    finding: Finding, history: Sequence[HistoryEntry], deploys: Iterable[Annotation]
) -> Pivot:
    """What most likely changed a finding: ended it, or, while it holds, brought it.

    A deploy of its service close to that moment is named; else the moment itself.
    """
    mine = [one for one in deploys if one.service in {"", finding.service}]
    if finding.active:
        began_ms = began(finding, history)
        deploy = _nearest(mine, began_ms - _DEPLOY_BEFORE_MS, began_ms + SETTLE_MS, began_ms)
        return _at_deploy(deploy) if deploy else Pivot(began_ms, "began", "it began")
    seen_ms = finding.last_seen_ms
    # What brought it cannot have ended it, however short it was.
    earliest_ms = max(seen_ms - _DEPLOY_AFTER_MS, began(finding, history) + SETTLE_MS)
    deploy = _nearest(mine, earliest_ms, seen_ms + _DEPLOY_BEFORE_MS, seen_ms)
    if deploy is not None:
        return _at_deploy(deploy)
    marked = [entry.at_ms for entry in history if entry.event == "fixed"]
    if marked and marked[-1] <= seen_ms + _DEPLOY_BEFORE_MS:
        return Pivot(marked[-1], "marked_fixed", "it was marked as fixed")
    return Pivot(seen_ms, "last_seen", "it was seen for the last time")


def began(finding: Finding, history: Sequence[HistoryEntry]) -> int:
    """When the last episode began."""
    begun = [entry for entry in history if entry.event in _BEGINS]
    if not begun or begun[-1].event == "opened":
        return finding.first_seen_ms
    return begun[-1].at_ms


def windows_around(
    pivot: Pivot, span_ms: int, now_ms: int, *, began_ms: int = 0
) -> tuple[Window, Window]:
    """At most `span_ms` on either side of the pivot; not before `began_ms`, not after now."""
    start_ms = max(pivot.at_ms - span_ms, min(began_ms, pivot.at_ms))
    settle_ms = SETTLE_MS if pivot.reason == "deploy" else 0
    after_ms = min(pivot.at_ms + settle_ms, now_ms)
    end_ms = max(after_ms, min(pivot.at_ms + settle_ms + span_ms, now_ms))
    return (
        Window(start_ms, pivot.at_ms, f"before {pivot.title}"),
        Window(after_ms, end_ms, f"after {pivot.title}"),
    )


def deploy_windows(
    deploy: Annotation, deploys: Iterable[Annotation], span_ms: int, now_ms: int
) -> tuple[Window, Window]:
    """Before and after one deploy, cut off at the deploys next to it."""
    others = [one.at_ms for one in deploys if one.at_ms != deploy.at_ms and _same(one, deploy)]
    earlier = max((at for at in others if at < deploy.at_ms), default=0)
    later = min((at for at in others if at > deploy.at_ms), default=now_ms)
    name = named(deploy)
    start_ms = max(deploy.at_ms - span_ms, min(earlier + SETTLE_MS, deploy.at_ms))
    after_ms = min(deploy.at_ms + SETTLE_MS, now_ms)
    end_ms = max(after_ms, min(after_ms + span_ms, later, now_ms))
    return (
        Window(start_ms, deploy.at_ms, f"before {name}"),
        Window(after_ms, end_ms, f"after {name}"),
    )


def named(deploy: Annotation) -> str:
    """A deploy in words, with its version once."""
    known = not deploy.version or deploy.version in deploy.title
    return deploy.title if known else f"{deploy.title} {deploy.version}"


def _at_deploy(deploy: Annotation) -> Pivot:
    return Pivot(deploy.at_ms, "deploy", named(deploy), deploy.id)


def _same(one: Annotation, other: Annotation) -> bool:
    return not one.service or not other.service or one.service == other.service


def _nearest(
    deploys: Iterable[Annotation], start_ms: int, end_ms: int, at_ms: int
) -> Annotation | None:
    """The deploy closest to a moment, of the service itself before one of nobody's."""
    close = [one for one in deploys if start_ms <= one.at_ms <= end_ms]
    return min(close, key=lambda one: (not one.service, abs(one.at_ms - at_ms)), default=None)
