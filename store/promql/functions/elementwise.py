"""Functions of each sample's value alone, and of the calendar."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from store.model import Float64Array, Int64Array
from store.promql.context import Run
from store.promql.syntax import Call
from store.promql.values import Scalars, Value, Vector, bare_vector, empty_vector

Elementwise = Callable[[Float64Array], Float64Array]
Function = Callable[[Run, Call, Int64Array], Value]


def _sign(values: Float64Array) -> Float64Array:
    return np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))


MATHS: dict[str, Elementwise] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "deg": lambda values: values * 180 / np.pi,
    "exp": np.exp,
    "floor": np.floor,
    "ln": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "rad": lambda values: values * np.pi / 180,
    "sgn": _sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
}


def elementwise(operation: Elementwise) -> Function:
    """A function of one vector's values."""

    def apply(run: Run, call: Call, times_ms: Int64Array) -> Value:
        vector = cast(Vector, run.eval(call.args[0], times_ms))
        with np.errstate(all="ignore"):
            return vector.with_values(operation(vector.values))

    return apply


def scalar_at(run: Run, call: Call, place: int, times_ms: Int64Array) -> Float64Array:
    """A scalar argument's number at each step."""
    return cast(Scalars, run.eval(call.args[place], times_ms)).values


def round_to(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """round(v, to): ties go up."""
    vector = cast(Vector, run.eval(call.args[0], times_ms))
    nearest = scalar_at(run, call, 1, times_ms) if len(call.args) > 1 else np.ones(len(times_ms))
    with np.errstate(all="ignore"):
        inverse = 1.0 / nearest
        return vector.with_values(np.floor(vector.values * inverse + 0.5) / inverse)


def clamp(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """clamp, clamp_min and clamp_max; nothing is left where the minimum is above the maximum."""
    vector = cast(Vector, run.eval(call.args[0], times_ms))
    low, high = np.full(len(times_ms), -np.inf), np.full(len(times_ms), np.inf)
    if call.name in ("clamp", "clamp_min"):
        low = scalar_at(run, call, 1, times_ms)
    if call.name in ("clamp", "clamp_max"):
        high = scalar_at(run, call, len(call.args) - 1, times_ms)
    clamped = np.maximum(low, np.minimum(high, vector.values))
    drop = np.ones(len(vector), dtype=np.bool_)
    return Vector(vector.series, clamped, vector.floats & ~(high < low), drop)


# -- the calendar -----------------------------------------------------------


def _civil(days: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Year, month, day of days since 1970 (Howard Hinnant, "chrono-compatible algorithms")."""
    shifted = days + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = np.where(shifted_month < 10, shifted_month + 3, shifted_month - 9)
    year = year_of_era + era * 400 + (month <= 2)
    return year, month, day


def _leap(year: Int64Array) -> Int64Array:
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return np.asarray(leap, dtype=np.int64)


_BEFORE_MONTH = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365])


def _part(name: str, seconds: Int64Array) -> Int64Array:
    days = seconds // 86_400
    year, month, day = _civil(days)
    after_february = _leap(year) * (month > 2)
    parts: dict[str, Callable[[], Int64Array]] = {
        "minute": lambda: seconds % 3600 // 60,
        "hour": lambda: seconds % 86_400 // 3600,
        "day_of_week": lambda: (days + 4) % 7,
        "day_of_month": lambda: day,
        "day_of_year": lambda: _BEFORE_MONTH[month] + after_february + day,
        "days_in_month": lambda: (
            _BEFORE_MONTH[month + 1] - _BEFORE_MONTH[month] + _leap(year) * (month == 2)
        ),
        "month": lambda: month,
        "year": lambda: year,
    }
    return np.asarray(parts[name](), dtype=np.int64)


CALENDAR = (
    "minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"
)  # fmt: skip


def calendar(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """minute() … year(): of each value as seconds since 1970, or of the step itself. UTC."""
    if not call.args:
        parts = _part(call.name, times_ms // 1000).astype(np.float64)
        return bare_vector(parts, np.ones(len(times_ms), dtype=np.bool_))
    vector = cast(Vector, run.eval(call.args[0], times_ms))
    if not len(vector):
        return empty_vector(len(times_ms))
    # What an int64 cannot hold is no instant: it stays not a number.
    sane = np.abs(vector.values) < 2.0**53
    whole = np.trunc(np.where(sane, vector.values, 0.0)).astype(np.int64)
    return vector.with_values(np.where(sane, _part(call.name, whole), np.nan))
