"""The moment that parts before from after."""

from __future__ import annotations

from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.pivot import pivot_of, windows_around
from store.annotations.repository import Annotation

MINUTE_MS = 60_000
BEGAN_MS = 1_795_766_400_000


def ended(after_ms: int) -> Finding:
    """A finding that was seen for so long and is over."""
    return Finding(
        fingerprint="f1",
        kind="n_plus_one_query",
        priority=Priority.P0,
        title="41 queries in a loop",
        service="shop",
        route="products/",
        first_seen_ms=BEGAN_MS,
        last_seen_ms=BEGAN_MS + after_ms,
        evidence=Evidence(trace_id="ab12"),
        impact=Impact(),
        fix="",
        active=False,
    )


def deploy(at_ms: int, version: str) -> Annotation:
    return Annotation(at_ms, "deploy", "shop", "shop", version)


def test_the_deploy_that_brought_a_short_fault_is_not_taken_for_the_one_that_ended_it() -> None:
    brought = deploy(BEGAN_MS - 1_000, "v2")
    pivot = pivot_of(ended(MINUTE_MS), (), [brought])
    assert (pivot.reason, pivot.at_ms) == ("last_seen", BEGAN_MS + MINUTE_MS)
    before, _ = windows_around(pivot, 30 * MINUTE_MS, BEGAN_MS + 9 * MINUTE_MS, began_ms=BEGAN_MS)
    assert (before.start_ms, before.end_ms) == (BEGAN_MS, BEGAN_MS + MINUTE_MS)


def test_the_deploy_after_it_ended_a_short_fault() -> None:
    deploys = [deploy(BEGAN_MS - 1_000, "v2"), deploy(BEGAN_MS + 70_000, "v3")]
    assert pivot_of(ended(MINUTE_MS), (), deploys).title == "shop v3"
