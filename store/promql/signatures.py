"""The functions that PromQL knows: a row a function, in Prometheus 3's order of arguments."""

from __future__ import annotations

from dataclasses import dataclass

from store.promql.syntax import ValueType

_TYPES = {
    "v": ValueType.VECTOR,
    "m": ValueType.MATRIX,
    "s": ValueType.SCALAR,
    "t": ValueType.STRING,
}


@dataclass(frozen=True, slots=True)
class Signature:
    """Arguments and result of a function.

    Attributes:
        variadic: 0 takes exactly `args`; n > 0 lets up to n of the last be left out or, past the
            listed ones, be added; -1 takes any number of the last.
    """

    name: str
    args: tuple[ValueType, ...]
    returns: ValueType
    variadic: int = 0

    @property
    def min_args(self) -> int:
        return len(self.args) if self.variadic == 0 else len(self.args) - 1

    @property
    def max_args(self) -> int | None:
        if self.variadic < 0:
            return None
        return self.min_args + self.variadic if self.variadic else len(self.args)

    def type_at(self, place: int) -> ValueType:
        return self.args[min(place, len(self.args) - 1)]


# name: arguments (v instant vector, m range vector, s scalar, t string), result, variadic
_ROWS = """
abs v v | absent v v | absent_over_time m v | acos v v | acosh v v | asin v v | asinh v v
atan v v | atanh v v | avg_over_time m v | ceil v v | changes m v | clamp vss v | clamp_max vs v
clamp_min vs v | cos v v | cosh v v | count_over_time m v | day_of_month v v 1
day_of_week v v 1 | day_of_year v v 1 | days_in_month v v 1 | deg v v | delta m v | deriv m v
double_exponential_smoothing mss v | end - s | exp v v | first_over_time m v | floor v v
histogram_avg v v | histogram_count v v | histogram_fraction ssv v | histogram_quantile sv v
histogram_quantiles vtss v 9 | histogram_stddev v v | histogram_stdvar v v | histogram_sum v v
hour v v 1 | idelta m v | increase m v | info vv v 1 | irate m v | label_join vttt v -1
label_replace vtttt v | last_over_time m v | ln v v | log10 v v | log2 v v | mad_over_time m v
max_of ss s | max_over_time m v | min_of ss s | min_over_time m v | minute v v 1 | month v v 1
pi - s | predict_linear ms v | present_over_time m v | quantile_over_time sm v | rad v v
range - s | rate m v | resets m v | round vs v 1 | scalar v s | sgn v v | sin v v | sinh v v
sort v v | sort_by_label vt v -1 | sort_by_label_desc vt v -1 | sort_desc v v | sqrt v v
start - s | start_timestamp v v | stddev_over_time m v | stdvar_over_time m v | step - s
sum_over_time m v | tan v v | tanh v v | time - s | timestamp v v | ts_of_first_over_time m v
ts_of_last_over_time m v | ts_of_max_over_time m v | ts_of_min_over_time m v | vector s v
year v v 1
"""


def _read(rows: str) -> dict[str, Signature]:
    table = {}
    for row in rows.replace("\n", "|").split("|"):
        if not row.strip():
            continue
        name, args, returns, *variadic = row.split()
        table[name] = Signature(
            name,
            tuple(_TYPES[letter] for letter in args if letter != "-"),
            _TYPES[returns],
            int(variadic[0]) if variadic else 0,
        )
    return table


SIGNATURES = _read(_ROWS)
