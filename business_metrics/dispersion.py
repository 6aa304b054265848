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
    which the median is taken: the edges of a promotion or an outage lie in few of them.
    """
    length = len(counts) // _CLUMP_MIN * _CLUMP_MIN
    if not length:
        return POISSON
    whole: BoolArray = np.all(valid[-length:].reshape(-1, _CLUMP_MIN), axis=1)
    sums = np.where(whole, counts[-length:].reshape(-1, _CLUMP_MIN).sum(axis=1), 0.0)
    known = whole[:-2] & whole[1:-1] & whole[2:]
    bends = _in_pieces(np.where(known, (sums[:-2] - 2 * sums[1:-1] + sums[2:]) ** 2, 0.0))
    orders = _in_pieces(np.where(known, sums[:-2] + 4 * sums[1:-1] + sums[2:], 0.0))
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
    apart = float(np.median(rates[busy]) - np.median(rates[~busy]))
    slope = max(high - low, 0.0) / apart if apart > 0 else 0.0
    return Dispersion(max(low, high) - slope * float(np.median(rates[busy])), slope)


def _in_pieces(values: Float64Array) -> Float64Array:
    whole = len(values) // _CLUMPS_IN_PIECE * _CLUMPS_IN_PIECE
    summed: Float64Array = values[:whole].reshape(-1, _CLUMPS_IN_PIECE).sum(axis=1)
    return summed
