"""Expected orders on a run of minutes, and their sum between any two instants."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from business_metrics.dispersion import POISSON, Dispersion
from business_metrics.reference_days import width_min
from store.model import Float64Array, Int64Array

_MINUTE_MS = 60_000
_GOOD_DAY = 1.25
# Days differ from what is usual by about as much.
_USUAL_CV = 0.07
_MOST_TORN = 0.3
_LEAST_SPAN_MIN = 1 / 60


@dataclass(frozen=True, slots=True)
class Expectation:
    """Expected orders a minute on a run of minutes.

    Attributes:
        start_minute: The first minute since the epoch.
        per_minute: One figure a minute.
        cv: Relative standard deviation of the expectation.
        learned: Orders learned from for each expected one; the fewer, the less sure it is.
        dispersion: How much more the counts around it vary than by chance alone.
        season_cv: As `cv`, before today's level made it less sure.
        torn: How far today's hours disagree on the level, relative to it, beyond chance.
        source: `weeks`, `one_week`, `sale`, `unlike_day`, `unlike_sale`, `own_recent` or `none`.
        level: What last weeks' figures were multiplied with.
        usual: What they would be multiplied with on a day like the last few; infinite when unknown.
        least: The same, brought down to the week in which least was sold.
    """

    start_minute: int
    per_minute: Float64Array
    cv: float
    source: str
    level: float = 1.0
    usual: float = math.inf
    least: float = math.inf
    learned: float = math.inf
    dispersion: Dispersion = POISSON
    season_cv: float = _USUAL_CV
    torn: float = 0.0
    # Plain numbers: a tick asks a score of times for single figures.
    _rates: list[float] = field(init=False, repr=False, compare=False)
    _sums: list[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rates", self.per_minute.tolist())
        object.__setattr__(self, "_sums", [0.0, *np.cumsum(self.per_minute).tolist()])

    def expected(self, start_ms: float, end_ms: float) -> float:
        """Expected orders between two instants; the first and last figure hold beyond the run."""
        if end_ms <= start_ms or not self._rates:
            return 0.0
        return self._until(end_ms) - self._until(start_ms)

    def expected_until(self, start_ms: float, instants_ms: Int64Array) -> Float64Array:
        """Expected orders from one instant to each of those after it."""
        edges = (self.start_minute + np.arange(len(self._sums))) * float(_MINUTE_MS)
        until = np.interp(instants_ms, edges, self._sums)
        # The first and the last figure hold beyond the run.
        until += np.minimum(instants_ms - edges[0], 0.0) * (self._rates[0] / _MINUTE_MS)
        until += np.maximum(instants_ms - edges[-1], 0.0) * (self._rates[-1] / _MINUTE_MS)
        due: Float64Array = until - self._until(start_ms)
        return due

    def cv_over(self, due: float, span_min: float) -> float:
        """How unsure the count of a span is beyond chance, relative to it.

        The level may be off, too few orders may have been learned from, and orders may come in
        clumps or the rate may waver.
        """
        if due <= 0:
            return self.cv
        # Each minute learned from the minutes around it.
        around_min = width_min(due / max(span_min, _LEAST_SPAN_MIN) / max(self.level, 1.0))
        behind = self.learned * due * (1 + around_min / max(span_min, 1.0))
        more = self.dispersion.at(due / max(span_min, _LEAST_SPAN_MIN)) - 1
        return math.sqrt(self.cv**2 + 1 / max(behind, 1.0) + more / due)

    @property
    def raised(self) -> float:
        """How many times the least that is usual is expected; 1 where that is but a good day."""
        least = min(self.usual, self.least)
        return self.level / least if self.level > least * _GOOD_DAY else 1.0

    @property
    def above_least(self) -> float:
        """How many times the least that may be usual, or else a weak hour of today, is expected."""
        return self.raised if self.raised > 1 else 1 + min(self.torn, _MOST_TORN)

    def at_least(self) -> Expectation:
        """The least that may be usual; that today's level is torn makes it no less sure."""
        return replace(
            self,
            per_minute=self.per_minute / self.above_least,
            cv=math.hypot(self.season_cv, _USUAL_CV),
            level=self.level / self.above_least,
        )

    @property
    def above_usual(self) -> float:
        """How many times the usual is expected now, 1 at least."""
        return max(self.level / self.usual, 1.0)

    def _until(self, at_ms: float) -> float:
        place = at_ms / _MINUTE_MS - self.start_minute
        whole = min(max(int(place), 0), len(self._rates) - 1)
        return self._sums[whole] + (place - whole) * self._rates[whole]


NOTHING_EXPECTED = Expectation(0, np.empty(0), 1.0, "none")
