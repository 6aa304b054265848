"""Every PromQL function and what computes it: a row a function."""

from __future__ import annotations

from store.promql.functions import elementwise, histograms, labels, native, presence, ranges
from store.promql.functions.elementwise import Function
from store.promql.functions.info import info

FUNCTIONS: dict[str, Function] = {
    **{name: elementwise.elementwise(maths) for name, maths in elementwise.MATHS.items()},
    **dict.fromkeys(elementwise.CALENDAR, elementwise.calendar),
    **dict.fromkeys(ranges.FOLDS, ranges.fold),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), elementwise.clamp),
    **dict.fromkeys(("pi", "start", "end", "step", "range"), presence.query_constant),
    **dict.fromkeys(("min_of", "max_of"), presence.extreme_of_two),
    **dict.fromkeys(("sort", "sort_desc"), labels.sort_by_value),
    **dict.fromkeys(("sort_by_label", "sort_by_label_desc"), labels.sort_by_label),
    **dict.fromkeys(native.NAMES, native.number_of),
    "absent": presence.absent,
    "absent_over_time": presence.absent_over_time,
    "delta": ranges.rate(is_counter=False, per_second=False),
    "double_exponential_smoothing": ranges.double_exponential_smoothing,
    "histogram_fraction": histograms.histogram_fraction,
    "histogram_quantile": histograms.histogram_quantile,
    "histogram_quantiles": histograms.histogram_quantiles,
    "idelta": ranges.instant_rate(is_rate=False),
    "increase": ranges.rate(is_counter=True, per_second=False),
    "info": info,
    "irate": ranges.instant_rate(is_rate=True),
    "label_join": labels.label_join,
    "label_replace": labels.label_replace,
    "rate": ranges.rate(is_counter=True, per_second=True),
    "round": elementwise.round_to,
    "scalar": presence.scalar,
    "start_timestamp": presence.start_timestamp,
    "time": presence.time,
    "timestamp": presence.timestamp,
    "vector": presence.vector_of,
}
