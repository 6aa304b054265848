"""How much more counts vary than those of orders that come by themselves (Poisson)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from store.model import BoolArray, Float64Array

_CLUMP_MIN = 15
_CLUMPS_IN_PIECE = 24
_CLUMPS_LEAST_ORDERS = 15
_CLUMPS_LEAST_PIECES = 6
# By chance alone the figure is seldom above.
_CLUMPED = 1.3
_APART = 0.25
# The median of the square of a standard normal deviate, and one that is seldom passed.
_MEDIAN_SQUARE, _MOST_SQUARE = 0.455, 6.0


@dataclass(frozen=True, slots=True)
class Dispersion:
    """Variance by mean of counts, as it grows with the rate; 1 for orders that come by themselves.

    It is the same at any rate where orders come in clumps, and grows with it where the rate wavers.
    """

    least: float = 1.0
    per_rate: float = 0.0

    def at(self, rate: float) -> float:
        """At so many orders a minute."""
        return max(self.least + self.per_rate * rate, 1.0)


POISSON = Dispersion()


def dispersion(counts: Float64Array, valid: BoolArray) -> Dispersion:
    """Of counts by the minute, in quarters of an hour; that of Poisson where it is within chance.

    From second differences, so that neither a level nor a slope counts, in pieces of six hours of
    which the median is taken, each without what is far beyond the rest of it: the edges of
    promotions and outages.
    """
    length = len(counts) // _CLUMP_MIN * _CLUMP_MIN
    if not length:
        return POISSON
    whole: BoolArray = np.all(valid[-length:].reshape(-1, _CLUMP_MIN), axis=1)
    sums = np.where(whole, counts[-length:].reshape(-1, _CLUMP_MIN).sum(axis=1), 0.0)
    known = whole[:-2] & whole[1:-1] & whole[2:]
    bent = np.where(known, (sums[:-2] - 2 * sums[1:-1] + sums[2:]) ** 2, 0.0)
    weights = np.where(known, sums[:-2] + 4 * sums[1:-1] + sums[2:], 0.0)
    bends, orders = _in_pieces(_without_edges(bent, weights)), _in_pieces(weights)
    minutes = _in_pieces(np.where(known, float(_CLUMP_MIN), 0.0))
    # Each order is counted six times.
    told = orders >= 6 * _CLUMPS_LEAST_ORDERS
    if told.sum() < _CLUMPS_LEAST_PIECES:
        return POISSON
    found, rates = bends[told] / orders[told], orders[told] / minutes[told] / 6
    if np.median(found) <= _CLUMPED:
        return POISSON
    busy = rates >= np.median(rates)
    low, high = float(np.median(found[~busy])), float(np.median(found[busy]))
    most = float(np.median(rates[busy]))
    apart = most - float(np.median(rates[~busy]))
    # Rates that are nearly the same tell of no slope.
    slope = max(high - low, 0.0) / apart if apart > _APART * most else 0.0
    return Dispersion(max(low, high) - slope * most, slope)


def _without_edges(bends: Float64Array, weights: Float64Array) -> Float64Array:
    """Each bend by no more than chance allows, by the median of its piece.

    On a busy sale day most pieces hold an edge, and each edge is hundreds of times a usual bend.
    """
    whole = len(bends) // _CLUMPS_IN_PIECE * _CLUMPS_IN_PIECE
    pieces = np.where(weights > 0, bends / np.maximum(weights, 1.0), np.nan)[:whole]
    pieces = np.sort(pieces.reshape(-1, _CLUMPS_IN_PIECE), axis=1)
    known = (~np.isnan(pieces)).sum(axis=1)
    middle = np.take_along_axis(pieces, np.maximum(known - 1, 0)[:, np.newaxis] // 2, axis=1)
    usual = np.maximum(np.nan_to_num(middle[:, 0]) / _MEDIAN_SQUARE, 1.0)
    bounded = bends.copy()
    most = np.repeat(_MOST_SQUARE * usual, _CLUMPS_IN_PIECE) * weights[:whole]
    bounded[:whole] = np.minimum(bends[:whole], most)
    return bounded


def _in_pieces(values: Float64Array) -> Float64Array:
    whole = len(values) // _CLUMPS_IN_PIECE * _CLUMPS_IN_PIECE
    summed: Float64Array = values[:whole].reshape(-1, _CLUMPS_IN_PIECE).sum(axis=1)
    return summed
