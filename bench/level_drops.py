"""Level drops in seasonal series: what is found, how soon, and how often for nothing.

Generated requests a second, a value each five minutes: regular series, and odd ones of families
that the detector was not made with (`bench.seasonal_series`). The last two weeks are judged; drops
are put into them. Peers are a plain 3-sigma over a sliding window,
and a fixed threshold: as they come, and tuned on the very drops to the best recall that costs no
more false alarms than ours. There is no public labelled set on a machine without a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.seasonal_series import DAY, HOUR, LEARNED, WEEK, Floats, odd, regular
from bench.setup import Setup
from bench.table import OURS, Row, Table
from detectors.seasonal import STEP_MS, WINDOWS, forecast, shortfall
from detectors.signals.throughput_drop import ThroughputDropSettings

Make = Callable[[int, np.random.Generator], Floats]
Flags = npt.NDArray[np.bool_]

# What the detector looks at: five to seven hours, the last of which is judged.
LOOKED_AT = 7 * HOUR
MINUTES = STEP_MS / 60_000
PARTS = (0.25, 0.4, 0.6, 0.9)
SIGMA_HOUR = "3-sigma of 1 h"
SIGMA_DAY = "3-sigma of 1 d"
SIGMA_TUNED = "sigma, tuned"
THRESHOLD_TUNED = "threshold, tuned"
_WINDOWS = (HOUR, 12 * HOUR, DAY, WEEK)
_SIGMAS = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0)
_THRESHOLDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True, slots=True)
class Drop:
    """Steps `begin` to `end` of the judged weeks of one series, and the part that is missing."""

    series: int
    begin: int
    end: int
    part: float


@dataclass(frozen=True, slots=True)
class World:
    """Requests a second of all weeks, a row a series, and the drops in the last two weeks."""

    values: Floats
    drops: tuple[Drop, ...]

    @property
    def judged(self) -> int:
        """Steps after those that are only learned from."""
        return int(self.values.shape[1]) - LEARNED

    @property
    def series_weeks(self) -> float:
        return len(self.values) * self.judged / WEEK


@dataclass(frozen=True, slots=True)
class Score:
    """Parts found by what was missing, and all; false alarms of a series and week; a delay."""

    recall: float
    by_part: Mapping[float, float]
    false_alarms: float
    delay_min: float


def run(setup: Setup) -> list[Table]:
    """Judge the same weeks three ways."""
    return [_table(setup, "level_drops", "Level drops in seasonal series", regular, _REGULAR)]


def run_odd(setup: Setup) -> list[Table]:
    """Likewise, with series of families that the detector was not made with."""
    return [_table(setup, "level_drops_odd", "Level drops in odd seasonal series", odd, _ODD)]


def _table(setup: Setup, name: str, title: str, make: Make, what: str) -> Table:
    setup.say(f"{name}: making series")
    world = make_world(*setup.sizes.seasonal, np.random.default_rng(20261123), make)
    setup.say(f"{name}: judging")
    ours = score(world, judged_by_us(world))
    scores = {
        OURS: ours,
        SIGMA_HOUR: score(world, below_sigma(world.values, HOUR, 3.0)),
        SIGMA_DAY: score(world, below_sigma(world.values, DAY, 3.0)),
        SIGMA_TUNED: _best(
            (
                score(world, below_sigma(world.values, window, sigma))
                for window in _WINDOWS
                for sigma in _SIGMAS
            ),
            ours,
        ),
        THRESHOLD_TUNED: _best(
            (score(world, below_part(world.values, part)) for part in _THRESHOLDS), ours
        ),
    }
    rows = [Row("drops found", "%", "more", _each(scores, lambda one: 100 * one.recall))]
    rows += [_row_of(part, scores) for part in PARTS]
    rows += [
        Row("false alarms", "/series/week", "less", _each(scores, lambda one: one.false_alarms)),
        Row("delay, median", "min", "less", _each(scores, lambda one: one.delay_min)),
    ]
    return Table(name, title, rows, _notes(world, what))


def _row_of(part: float, scores: Mapping[str, Score]) -> Row:
    what = f"found of drops by {part:.0%}"
    return Row(what, "%", "more", _each(scores, lambda one: 100 * one.by_part[part]))


def _each(scores: Mapping[str, Score], figure: Callable[[Score], float]) -> dict[str, float]:
    return {name: figure(one) for name, one in scores.items()}


def _best(scores: Iterable[Score], ours: Score) -> Score:
    """The best recall of those with no more false alarms than ours; else the fewest alarms."""
    found = list(scores)
    quiet = [one for one in found if one.false_alarms <= ours.false_alarms]
    if quiet:
        return max(quiet, key=lambda one: one.recall)
    return min(found, key=lambda one: one.false_alarms)


_REGULAR = (
    "a day and a week, correlated noise of 2 to 6 %, a trend, campaigns, outages in the weeks that"
    " are learned from, a holiday in those that are judged"
)
_ODD = (
    "noise of 2 to 10 % that is Gaussian (from independent to nearly a walk), heavy-tailed (t with"
    " 4 degrees) or gamma; days of one wave, two peaks or steep office hours, each weekday its own;"
    " a level that walks by 2 % a day and once jumps; quiet nights; 1 % of the values missing"
)


def _notes(world: World, what: str) -> list[str]:
    chance = ThroughputDropSettings().max_chance
    return [
        f"{len(world.values)} generated series of requests, a value each 5 minutes, six weeks:"
        f" {what}.",
        f"{len(world.drops)} drops of 20 to 120 minutes in the last two weeks, put in at any hour."
        " One that is missed counts in the delay with its whole length.",
        f"Warroom: detectors.seasonal with the defaults of throughput_drop (chance {chance:g}),"
        " whole steps only: a total loss, which the service proves in 10 to 60 s, waits for one.",
        "3-sigma: below the mean of the last hour or day by 3 deviations. Tuned: the window (1 h,"
        " 12 h, 1 d, 7 d) and number of deviations, or the part of the series' mean, that find most"
        " of these very drops with no more false alarms than Warroom; if there is none, the"
        " quietest.",
        "No public labelled set was used: none is at hand without a network.",
    ]


# -- the world -------------------------------------------------------------


def make_world(series: int, days: int, random: np.random.Generator, make: Make = regular) -> World:
    """Series and drops from one source of chance, so many days of which are judged."""
    judged = days * DAY
    values = np.stack([make(judged, random) for _ in range(series)])
    drops = tuple(drop for place in range(series) for drop in _drops(place, judged, random))
    for drop in drops:
        values[drop.series, LEARNED + drop.begin : LEARNED + drop.end] *= 1 - drop.part
    known = np.isfinite(values)
    counted = random.poisson(np.where(known, values, 0.0) * STEP_MS / 1_000) / (STEP_MS / 1_000)
    return World(np.where(known, counted, np.nan), drops)


def _drops(series: int, judged: int, random: np.random.Generator) -> list[Drop]:
    """One each day and a half, hours apart, every depth in turn."""
    found = []
    for number, start in enumerate(range(HOUR, judged - DAY, 3 * DAY // 2)):
        begin = start + int(random.integers(0, DAY))
        length = int(random.integers(4, 2 * HOUR + 1))
        found.append(Drop(series, begin, begin + length, PARTS[(number + series) % len(PARTS)]))
    return found


# -- who judges ------------------------------------------------------------


def judged_by_us(world: World) -> Flags:
    """Each step as the service would judge it: score before learn, found drops left out."""
    values, known = world.values, world.values.copy()
    flags = np.zeros((len(values), world.judged), dtype=np.bool_)
    for step in range(world.judged):
        end = LEARNED + step + 1
        now = slice(end - LOOKED_AT, end)
        weeks = [slice(end - LOOKED_AT - back * WEEK, end - back * WEEK) for back in range(1, 5)]
        references = np.stack([known[:, week] for week in weeks], axis=1)
        today = known[:, now].copy()
        today[:, -HOUR:] = np.nan
        expected = forecast(references, today)
        for place in _candidates(values[:, now], expected.middle):
            drop = shortfall(
                values[place, now][-HOUR:],
                expected.middle[place, -HOUR:],
                float(expected.spread[place]),
                max_chance=ThroughputDropSettings().max_chance,
                min_drop=ThroughputDropSettings().min_drop,
            )
            if drop is not None and expected.seasonal[place]:
                flags[place, step] = True
                known[place, end - int(drop.window_s * 1_000) // STEP_MS : end] = np.nan
    return flags


def _candidates(values: Floats, expected: Floats) -> list[int]:
    """Series with any window that lacks enough to be asked about."""
    short = np.zeros(len(values), dtype=np.bool_)
    for steps, least in WINDOWS:
        came = np.nansum(values[:, -steps:], axis=1)
        short |= came < (1 - least) * np.nansum(expected[:, -steps:], axis=1)
    return np.flatnonzero(short).tolist()


def below_sigma(values: Floats, window: int, sigma: float) -> Flags:
    """Below the mean of the known steps before by so many of their deviations."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    counts, sums, squares = (
        np.cumsum(np.pad(what, ((0, 0), (1, 0))), axis=1) for what in (known, filled, filled**2)
    )
    ends = np.arange(LEARNED, values.shape[1])
    count = np.maximum(counts[:, ends] - counts[:, ends - window], 1)
    mean = (sums[:, ends] - sums[:, ends - window]) / count
    variance = (squares[:, ends] - squares[:, ends - window]) / count - mean**2
    flags: Flags = values[:, ends] < mean - sigma * np.sqrt(np.maximum(variance, 0.0))
    return flags


def below_part(values: Floats, part: float) -> Flags:
    """Below a fixed part of what the series had on average in the weeks before."""
    usual = np.nanmean(values[:, :LEARNED], axis=1, keepdims=True)
    flags: Flags = values[:, LEARNED:] < part * usual
    return flags


# -- how well --------------------------------------------------------------


def score(world: World, flags: Flags) -> Score:
    """Alarms an hour apart are one; those up to an hour after a drop's end belong to it."""
    delays = []
    free = flags.copy()
    for drop in world.drops:
        hits = np.flatnonzero(flags[drop.series, drop.begin : drop.end])
        delays.append(int(hits[0]) + 1 if len(hits) else None)
        free[drop.series, drop.begin : drop.end + HOUR] = False
    found = [delay is not None for delay in delays]
    by_part = {
        part: float(
            np.mean(
                [hit for hit, drop in zip(found, world.drops, strict=True) if drop.part == part]
            )
        )
        for part in PARTS
    }
    waited = [
        drop.end - drop.begin if delay is None else delay
        for delay, drop in zip(delays, world.drops, strict=True)
    ]
    return Score(
        float(np.mean(found)),
        by_part,
        _episodes(free) / world.series_weeks,
        float(np.median(waited)) * MINUTES,
    )


def _episodes(flags: Flags) -> int:
    count = 0
    for row in flags:
        at = np.flatnonzero(row)
        count += int(len(at) > 0) + int((np.diff(at) > HOUR).sum())
    return count
