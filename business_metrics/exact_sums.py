"""Sums of money units that no 64 bits hold: kept as two halves, of which neither can overflow."""

from __future__ import annotations

import numpy as np

from store.model import Int64Array

_LOW_BITS = 32
_LOW = (1 << _LOW_BITS) - 1


def halves(units: Int64Array) -> Int64Array:
    """Two rows, the high and the low half of each amount; they may be added up apart."""
    return np.stack([units >> _LOW_BITS, units & _LOW])


def whole(high: int, low: int) -> int:
    """What halves that were added up stand for."""
    return (high << _LOW_BITS) + low


def total(units: Int64Array) -> int:
    """The exact sum."""
    return whole(*halves(units).sum(axis=1).tolist())
