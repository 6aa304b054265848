"""A route that fails more than before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

from detectors.detector import SignalContext
from detectors.episodes import began, outside, steps_since
from detectors.example_trace import ExampleTrace, RequestSearch, failing
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.http_requests import RouteCounts, read_counts
from detectors.settings import require
from detectors.wilson import tail_bound, wilson
from store.ports import Querier, SpanReader

_STEP_MS = 5_000
_LONGEST_S = 300
_LAST = -_LONGEST_S * 1_000 // _STEP_MS
_MIXED = 0.9
# Spans travel apart from counts and may carry another clock.
_SLACK_MS = 15_000


@dataclass(frozen=True, slots=True)
class ErrorRegressionSettings:
    """When a route fails more than before.

    Attributes:
        z: Standard deviations of the Wilson bounds.
        max_chance: Greatest chance that the baseline alone brings so many errors.
        min_rise: Least rise of the error share, from 0 to 1.
        min_errors: Fewest errors in the window.
        baseline_s: Length of the baseline.
        min_baseline_requests: Fewest requests in the baseline.
        recover_s: Window that must be back at the baseline for the regression to end.
        forget_s: A route without requests for so long has ended.
        page: It may page by itself.
    """

    z: float = 4.0
    max_chance: float = 2e-5
    min_rise: float = 0.05
    min_errors: int = 4
    baseline_s: float = 600.0
    min_baseline_requests: int = 50
    recover_s: float = 30.0
    forget_s: float = 900.0
    page: bool = False

    def __post_init__(self) -> None:
        require(self.z >= 1, "z", "1 or more", self.z)
        require(0 < self.max_chance <= 0.01, "max_chance", "from 0 to 0.01", self.max_chance)
        require(0 < self.min_rise < 1, "min_rise", "between 0 and 1", self.min_rise)
        require(self.min_errors >= 1, "min_errors", "1 or more", self.min_errors)
        least = self.min_baseline_requests
        require(least >= 10, "min_baseline_requests", "10 or more", least)
        require(60 <= self.baseline_s <= 3_600, "baseline_s", "from 60 to 3600", self.baseline_s)
        require(5 <= self.recover_s <= _LONGEST_S, "recover_s", "from 5 to 300", self.recover_s)
        require(self.forget_s >= self.recover_s, "forget_s", "recover_s or more", self.forget_s)


@dataclass(frozen=True, slots=True)
class _Rise:
    """Errors and requests of a window, and of the baseline."""

    window_s: float
    errors: float
    requests: float
    base_errors: float
    base_requests: float

    @property
    def now(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    @property
    def base(self) -> float:
        return self.base_errors / self.base_requests if self.base_requests else 0.0


@dataclass(frozen=True)
class ErrorRegression:
    """The share of a route's requests that the server fails (5xx) is proven to have risen.

    Maths: errors `k` of `n` requests in a window, `K` of `N` in the baseline. A rise is proven when
    `wilson(k, n).low > wilson(K, N).high`, the baseline's upper bound would bring `k` errors or
    more with a chance of at most `max_chance` (Chernoff), and the share rose by `min_rise` or more.
    Windows of 5 s, 10 s, 30 s, 1 min and 5 min are tried in this order; the shorter ones ask for a
    rise of 50, 40, 25 and 15 points, unless each of their steps (two or more) holds two failures
    and all together ten. The baseline ends where the window begins and leaves out
    earlier regressions; while one holds, its baseline is the one it was proven against. Where
    nearly all failures of five minutes are of one of several methods, that one is judged first.

    It ends when the last `recover_s` (or 5 minutes, with fewer than 3 requests in there) are back,
    or when the route had no request for `forget_s`. It does not page by itself: it is the cause
    that the burning SLO and the missing orders name. One fault, one page.

    Parameters: `ErrorRegressionSettings`.

    Example: a purchase a second; from now on each answers 502. After 5 s 5 of 5 failed, after none
    of 120: the bounds are 0.24 and 0.12, the chance is 1e-7.

    Reference: E. B. Wilson (1927) and W. Hoeffding (1963), see `detectors.wilson`.
    """

    settings: ErrorRegressionSettings = field(default_factory=ErrorRegressionSettings)

    kinds: ClassVar[tuple[str, ...]] = ("error_regression",)
    # Window in seconds, and the least rise that it may prove: failures come in bursts.
    windows: ClassVar[tuple[tuple[int, float], ...]] = (
        (5, 0.5),
        (10, 0.4),
        (30, 0.25),
        (60, 0.15),
        (_LONGEST_S, 0.0),
    )

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        length_s = self.settings.baseline_s + _LONGEST_S
        start_ms = context.now_ms - (int(length_s * 1_000 // _STEP_MS) + 1) * _STEP_MS
        judged: set[str] = set()
        found: list[Finding | None] = []
        for counts in read_counts(querier, start_ms, context.now_ms, _STEP_MS):
            route = counts.route
            key = fingerprint(self.kinds[0], route.job, route.route, "")
            judged.add(key)
            active = context.active.get(key)
            if active is not None:
                found.append(self._held(_of_method(counts, active), active, context))
            elif counts.errors[_LAST:].any():
                begun = (self._begun(key, part, context) for part in _suspects(counts))
                found.append(next((item for item in begun if item is not None), None))
        holding = (item for item in found if item is not None)
        return (*holding, *context.without_data(judged, self.settings.forget_s))

    def _begun(self, key: str, counts: RouteCounts, context: SignalContext) -> Finding | None:
        # An earlier regression is left out of windows too: what it left behind is no new one.
        learned = outside(counts.steps_ms, _STEP_MS, context.episodes.get(key, ()))
        counts = replace(counts, errors=counts.errors * learned, requests=counts.requests * learned)
        for window_s, burst in self.windows:
            rise = self._rise(counts, window_s)
            # What fails in each step is no burst.
            least = 0.0 if _steady(counts, window_s) else burst
            if self._proven(rise, max(least, self.settings.min_rise)):
                first = began(counts.errors, counts.requests, (rise.now + rise.base) / 2)
                since_ms = int(counts.steps_ms[first]) - _STEP_MS
                return self._finding(key, counts, rise, since_ms, context)
        return None

    def _rise(self, counts: RouteCounts, window_s: int) -> _Rise:
        steps = window_s * 1_000 // _STEP_MS
        length = int(self.settings.baseline_s * 1_000 // _STEP_MS)
        known = len(counts.requests) - steps
        base = slice(max(0, known - length), known)
        return _Rise(
            window_s,
            float(counts.errors[-steps:].sum()),
            float(counts.requests[-steps:].sum()),
            float(counts.errors[base].sum()),
            float(counts.requests[base].sum()),
        )

    def _proven(self, rise: _Rise, least: float) -> bool:
        chosen = self.settings
        if rise.errors < chosen.min_errors or rise.base_requests < chosen.min_baseline_requests:
            return False
        if rise.now - rise.base < least:
            return False
        now = wilson(rise.errors, rise.requests, chosen.z)
        base = wilson(rise.base_errors, rise.base_requests, chosen.z)
        usual = wilson(rise.base_errors, rise.base_requests, 2.0).high
        chance = tail_bound(rise.errors, rise.requests, usual)
        return now.low > base.high and chance <= chosen.max_chance

    def _held(self, counts: RouteCounts, active: Finding, context: SignalContext) -> Finding | None:
        rise = self._since_proven(counts, active, self.settings.recover_s)
        if rise.requests < _FEW_REQUESTS:
            rise = self._since_proven(counts, active, _LONGEST_S)
        if rise.requests < 1:
            return active if context.remembers(active, self.settings.forget_s) else None
        if rise.now - rise.base < self.settings.min_rise:
            return None
        since_ms = active.first_seen_ms
        return self._finding(active.fingerprint, counts, rise, since_ms, context, active)

    def _since_proven(self, counts: RouteCounts, active: Finding, window_s: float) -> _Rise:
        now_ms = int(counts.steps_ms[-1])
        steps = steps_since(active.first_seen_ms, now_ms, _STEP_MS, window_s)
        return _Rise(
            steps * _STEP_MS / 1_000,
            float(counts.errors[-steps:].sum()),
            float(counts.requests[-steps:].sum()),
            float(active.evidence.detail.get("baseline_errors", 0.0)),
            float(active.evidence.detail.get("baseline_requests", 0.0)),
        )

    def _finding(
        self,
        key: str,
        counts: RouteCounts,
        rise: _Rise,
        since_ms: int,
        context: SignalContext,
        active: Finding | None = None,
    ) -> Finding:
        route, status = counts.route, _status(counts, rise.window_s)
        method: dict[str, float | str] = {"method": route.method} if route.method else {}
        finding = Finding(
            fingerprint=key,
            kind=self.kinds[0],
            priority=Priority.P1 if self.settings.page else Priority.P2,
            title=f"{route.name} fails: {rise.now:.0%} of requests answer {status}",
            service=route.service,
            route=route.route,
            first_seen_ms=since_ms,
            last_seen_ms=context.now_ms,
            evidence=Evidence(
                series=route.selector("_count", f'{route.family.status}=~"5.."'),
                window_start_ms=context.now_ms - int(rise.window_s * 1_000),
                window_end_ms=context.now_ms,
                detail={
                    "error_ratio": round(rise.now, 4),
                    "baseline_error_ratio": round(rise.base, 4),
                    "errors": round(rise.errors, 1),
                    "requests": round(rise.requests, 1),
                    "baseline_errors": round(rise.base_errors, 1),
                    "baseline_requests": round(rise.base_requests, 1),
                    "window_seconds": rise.window_s,
                    "status": status,
                    **method,
                },
            ),
            impact=Impact(requests_per_second=round(rise.errors / rise.window_s, 3)),
            fix="",
            confidence=0.95,
            labels={"job": route.job},
        )
        if active is not None and active.evidence.trace_id:
            return _as_before(finding, active)
        return _shown(finding, _example(finding, context.spans))


# Failures that are no handful.
_MANY = 10
_FEW_REQUESTS = 3
_WORDS = ("error", "dependency", "span")


def _suspects(counts: RouteCounts) -> Iterator[RouteCounts]:
    """The one method that nearly all late failures are of, if there are others; then the route."""
    failed, requests = counts.errors[_LAST:].sum(), counts.requests[_LAST:].sum()
    for part in counts.methods:
        others = part.requests[_LAST:].sum() < _MIXED * requests
        if others and part.errors[_LAST:].sum() >= _MIXED * failed:
            yield part
    yield counts


def _of_method(counts: RouteCounts, active: Finding) -> RouteCounts:
    """What the finding was proven by: one method of the route, or all of it."""
    method = active.evidence.detail.get("method")
    return next((part for part in counts.methods if part.route.method == method), counts)


def _status(counts: RouteCounts, window_s: float) -> str:
    """The status code that nearly all errors of the window have, else `5xx`."""
    steps = int(window_s * 1_000 // _STEP_MS)
    sums = {code: float(rows[-steps:].sum()) for code, rows in counts.statuses.items()}
    most = max(sums, key=lambda code: (sums[code], code), default="5xx")
    return most if sums.get(most, 0.0) >= _MIXED * sum(sums.values()) else "5xx"


def _example(finding: Finding, spans: SpanReader | None) -> ExampleTrace:
    status = str(finding.evidence.detail["status"])
    search = RequestSearch(
        finding.service,
        finding.route,
        finding.first_seen_ms - _SLACK_MS,
        finding.last_seen_ms + _SLACK_MS,
        status=status if status.isdecimal() else "",
    )
    return failing(spans, search)


def _shown(finding: Finding, example: ExampleTrace) -> Finding:
    """The finding with a failing request as its proof, in the request's own words."""
    evidence = finding.evidence
    words = zip(_WORDS, (example.message, example.dependency, example.span_name), strict=True)
    told: dict[str, float | str] = {name: text for name, text in words if text}
    return replace(
        finding,
        fix=_fix(example),
        evidence=replace(
            evidence,
            trace_id=example.trace_id,
            span_ids=example.span_ids,
            statement=example.message,
            code=example.code,
            detail={**evidence.detail, **told},
        ),
    )


def _as_before(finding: Finding, active: Finding) -> Finding:
    """With the example that was shown before: what is linked in a page must stay."""
    before = active.evidence
    told: dict[str, float | str] = {
        name: before.detail[name] for name in _WORDS if name in before.detail
    }
    return replace(
        finding,
        fix=active.fix,
        evidence=replace(
            finding.evidence,
            trace_id=before.trace_id,
            span_ids=before.span_ids,
            statement=before.statement,
            code=before.code,
            detail={**finding.evidence.detail, **told},
        ),
    )


def _steady(counts: RouteCounts, window_s: int) -> bool:
    """Requests failed all the time, as far as a window of two steps and ten failures can tell."""
    errors = counts.errors[-window_s * 1_000 // _STEP_MS :]
    return len(errors) > 1 and bool((errors >= 2).all()) and float(errors.sum()) >= _MANY


def _fix(example: ExampleTrace) -> str:
    if example.dependency:
        return (
            f"The call to {example.dependency} fails ({example.span_name}): look at its status, "
            "its limits and its credentials; switch to a fallback or turn the feature off until "
            "it answers again. If a deploy came just before, roll it back."
        )
    where = ""
    if example.code is not None:
        where = f" in {example.code.function}"
    return (
        f"Look at the failing request{where}, then at what changed just before it began: roll "
        "back the last deploy or flag of this service, and look at what the route depends on."
    )
