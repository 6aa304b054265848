"""Laws of native histograms: their arithmetic, what is read off them, and their bytes."""

import math
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.histogram_checks import validated
from store.histogram_codec import decode, encode
from store.histogram_statistics import fraction_of, mean_of, quantile_of, trim, variance_of
from store.histogram_sums import add, mean, subtract, total
from store.histograms import (
    CUSTOM_SCHEMA,
    MAX_BUCKETS,
    Buckets,
    HistogramError,
    IncompatibleHistogramsError,
    NativeHistogram,
    ResetHint,
    hinted,
)

counts = st.integers(0, 1000).map(float)
sides = st.dictionaries(st.integers(-40, 40), counts, max_size=12).map(Buckets.of)
thresholds = st.sampled_from([0.0, 1e-128, 0.001, 0.3, 1.0])


@st.composite
def exponentials(draw: st.DrawFn) -> NativeHistogram:
    """Histograms of whole counts whose buckets do not reach into the zero bucket."""
    schema, threshold = draw(st.integers(-4, 8)), draw(thresholds)
    found = NativeHistogram(
        schema=schema,
        zero_threshold=threshold,
        zero_count=draw(counts) if threshold else 0.0,
        sum=draw(st.floats(-1e6, 1e6)),
        positive=draw(sides),
        negative=draw(sides),
    )
    outside = [
        Buckets.of({i: c for i, c in side.items() if found.bound(i - 1) >= threshold})
        for side in (found.positive, found.negative)
    ]
    whole = found.zero_count + sum(sum(side.counts) for side in outside)
    return replace(found, positive=outside[0], negative=outside[1], count=whole)


@st.composite
def customs(draw: st.DrawFn) -> NativeHistogram:
    bounds = draw(st.lists(st.integers(-20, 20).map(float), max_size=6, unique=True).map(sorted))
    inside = draw(st.dictionaries(st.integers(0, len(bounds)), counts))
    return NativeHistogram(
        schema=CUSTOM_SCHEMA,
        count=sum(inside.values()),
        sum=draw(st.floats(-1e6, 1e6)),
        positive=Buckets.of(inside),
        custom_values=tuple(bounds),
    )


histograms = st.one_of(exponentials(), customs())


def of_counts(*values: float, **fields: float) -> NativeHistogram:
    side = Buckets(tuple(range(len(values))), values)
    return NativeHistogram(count=sum(values), positive=side, **fields)  # type: ignore[arg-type]


def bucket_total(histogram: NativeHistogram) -> float:
    return sum(bucket.count for bucket in histogram.buckets())


# -- arithmetic -------------------------------------------------------------


@given(exponentials(), exponentials())
def test_a_sum_has_every_observation_in_either_order(
    left: NativeHistogram, right: NativeHistogram
) -> None:
    one, other = add(left, right).histogram, add(right, left).histogram
    assert one.equals(other)
    assert one.count == bucket_total(one) == left.count + right.count
    assert one.schema == min(left.schema, right.schema)
    assert one.zero_threshold >= max(left.zero_threshold, right.zero_threshold)


@given(exponentials(), exponentials())
def test_taking_away_what_was_added_leaves_the_rest(
    left: NativeHistogram, right: NativeHistogram
) -> None:
    whole = add(left, right).histogram
    rest = subtract(whole, right).histogram
    aligned = add(left, NativeHistogram(whole.schema, whole.zero_threshold)).histogram
    assert (rest.count, rest.zero_count) == (aligned.count, aligned.zero_count)
    assert (rest.positive, rest.negative) == (aligned.positive, aligned.negative)
    assert rest.is_gauge


@given(customs(), customs())
def test_custom_buckets_meet_at_the_bounds_that_both_have(
    left: NativeHistogram, right: NativeHistogram
) -> None:
    found = add(left, right)
    both = set(left.custom_values) & set(right.custom_values)
    assert found.histogram.custom_values == tuple(sorted(both))
    assert found.reconciled == (left.custom_values != right.custom_values)
    assert bucket_total(found.histogram) == left.count + right.count


@given(exponentials(), customs())
def test_exponential_and_custom_buckets_do_not_add_up(
    left: NativeHistogram, right: NativeHistogram
) -> None:
    for operation in (add, subtract):
        with pytest.raises(IncompatibleHistogramsError):
            operation(left, right)


@given(exponentials(), st.integers(-4, 8))
def test_a_lower_resolution_loses_no_observation_and_moves_none_out_of_its_bounds(
    histogram: NativeHistogram, schema: int
) -> None:
    found = histogram.to_schema(schema)
    assert found.schema == min(schema, histogram.schema)
    assert bucket_total(found) == histogram.count
    for value in (1.0, 2.0 ** (2 ** max(0, -found.schema))):
        # Bounds of the coarse buckets are bounds of the fine ones.
        assert fraction_of(found, -math.inf, value).value == pytest.approx(
            fraction_of(histogram, -math.inf, value).value, nan_ok=True
        )


@given(exponentials(), st.floats(0, 10))
def test_a_wider_zero_bucket_loses_no_observation(
    histogram: NativeHistogram, threshold: float
) -> None:
    found = histogram.with_zero_threshold(threshold)
    assert found.zero_threshold >= max(histogram.zero_threshold, threshold)
    assert bucket_total(found) == histogram.count
    assert all(
        bucket.upper <= -found.zero_threshold or bucket.lower >= found.zero_threshold
        for bucket in replace(found, zero_count=0.0).buckets()
    )


@given(st.lists(exponentials(), min_size=1, max_size=5), st.floats(0.5, 4))
def test_a_mean_times_the_number_is_the_sum(parts: list[NativeHistogram], factor: float) -> None:
    whole, average = total(parts).histogram, mean(parts).histogram
    assert average.count * len(parts) == pytest.approx(whole.count)
    assert average.times(factor).over(factor).sum == pytest.approx(average.sum)


def test_a_sum_keeps_what_is_small_beside_what_is_huge() -> None:
    parts = [NativeHistogram(count=1, sum=value) for value in (1.0, 1e100, 1.0, -1e100)]
    assert total(parts).histogram.sum == 2.0


def test_a_mean_does_not_overflow_where_the_sum_does() -> None:
    huge = [NativeHistogram(count=1.7e308, sum=1.0)] * 2
    assert total(huge).histogram.count == math.inf
    assert mean(huge).histogram.count == 1.7e308


def test_division_by_zero_leaves_the_zero_bucket_alone() -> None:
    found = of_counts(1.0, 2.0, zero_count=0.0).over(0)
    assert (found.count, found.positive) == (math.inf, Buckets())
    assert math.isnan(found.zero_count)


@pytest.mark.parametrize(
    ("hints", "joint", "conflict"),
    [
        ("NOT_RESET NOT_RESET", "NOT_RESET", False),
        ("NOT_RESET UNKNOWN", "UNKNOWN", False),
        ("RESET NOT_RESET", "UNKNOWN", True),
        ("RESET NOT_RESET GAUGE", "GAUGE", True),
        ("GAUGE UNKNOWN", "GAUGE", False),
    ],
)
def test_hints_of_parts_make_the_hint_of_the_whole(hints: str, joint: str, conflict: bool) -> None:
    parts = [of_counts(1.0).with_hint(ResetHint[name]) for name in hints.split()]
    found = total(parts)
    assert found.histogram.reset_hint is ResetHint[joint]
    assert found.conflicting_resets is conflict


# -- counters ---------------------------------------------------------------


@given(exponentials(), exponentials())
def test_a_counter_that_only_grew_was_not_reset(
    before: NativeHistogram, more: NativeHistogram
) -> None:
    after = add(before, more).histogram
    assert not after.is_reset_of(before)
    assert before.is_reset_of(after) == (not after.equals(before.compact())) or more.count == 0


@given(customs())
def test_a_custom_counter_may_change_its_bounds_without_a_reset(before: NativeHistogram) -> None:
    after = replace(before, custom_values=(*before.custom_values, 99.0))
    assert not after.is_reset_of(before)
    if before.count:
        assert NativeHistogram(schema=CUSTOM_SCHEMA).is_reset_of(before)


def test_a_finer_or_narrower_successor_is_a_reset() -> None:
    before = of_counts(2.0, 2.0, zero_threshold=0.1)
    assert replace(before, schema=1).is_reset_of(before)
    assert replace(before, zero_threshold=0.01).is_reset_of(before)
    assert not before.to_schema(-1).is_reset_of(before)
    assert replace(before, positive=Buckets((0, 1), (1.0, 3.0))).is_reset_of(before)


def test_what_is_read_after_a_histogram_of_the_same_layout_is_no_reset() -> None:
    first, second = of_counts(1.0), of_counts(2.0)
    assert hinted(first, None).reset_hint is ResetHint.UNKNOWN
    assert hinted(second, first).reset_hint is ResetHint.NOT_RESET
    assert hinted(first, second).reset_hint is ResetHint.UNKNOWN
    assert hinted(replace(second, schema=1), first).reset_hint is ResetHint.UNKNOWN
    gauge = second.with_hint(ResetHint.GAUGE)
    assert hinted(gauge, first).is_gauge
    assert hinted(second, gauge).reset_hint is ResetHint.UNKNOWN
    assert hinted(second.with_hint(ResetHint.RESET), first).reset_hint is ResetHint.UNKNOWN


# -- what is read off -------------------------------------------------------


@given(histograms, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_quantile_is_no_lower(histogram: NativeHistogram, one: float, two: float) -> None:
    low, high = (quantile_of(histogram, q).value for q in sorted((one, two)))
    assert low <= high + 1e-9 * abs(high) or math.isnan(low)
    assert math.isnan(low) == (histogram.count == 0)


@given(histograms, st.floats(-50, 50), st.floats(-50, 50))
def test_fractions_below_and_above_a_value_are_a_whole(
    histogram: NativeHistogram, one: float, two: float
) -> None:
    low, high = sorted((one, two))
    parts = [(-math.inf, low), (low, high), (high, math.inf)]
    shares = [fraction_of(histogram, *part).value for part in parts]
    if histogram.count == 0:
        assert all(math.isnan(share) or share == 0 for share in shares)
    else:
        assert all(-1e-12 <= share <= 1 + 1e-12 for share in shares)
        assert sum(shares) == pytest.approx(1)


@given(exponentials(), st.floats(0.01, 0.99))
def test_a_quantile_has_its_share_below_it(histogram: NativeHistogram, q: float) -> None:
    if histogram.count == 0 or not histogram.positive or histogram.negative:
        return
    value = quantile_of(replace(histogram, sum=1.0), q).value
    assert fraction_of(histogram, -math.inf, value).value == pytest.approx(q, abs=1e-6)


@given(exponentials(), st.floats(-50, 50))
def test_what_is_trimmed_below_and_above_is_everything(
    histogram: NativeHistogram, cutoff: float
) -> None:
    parts = [trim(histogram, cutoff, keep_below=below) for below in (True, False)]
    assert sum(part.count for part in parts) == pytest.approx(histogram.count)
    assert all(bucket_total(part) == pytest.approx(part.count) for part in parts)
    share = fraction_of(histogram, -math.inf, cutoff).value
    if histogram.count:
        assert parts[0].count / histogram.count == pytest.approx(share, abs=1e-9)


@given(histograms)
def test_trimming_nothing_changes_nothing(histogram: NativeHistogram) -> None:
    assert trim(histogram, math.inf, keep_below=True) is histogram
    assert trim(histogram, -math.inf, keep_below=False) is histogram


@given(exponentials())
def test_the_spread_is_never_negative(histogram: NativeHistogram) -> None:
    spread = variance_of(histogram)
    assert math.isnan(spread) if histogram.count == 0 else spread >= 0


def test_mean_and_spread_of_extremes() -> None:
    assert math.isnan(mean_of(NativeHistogram()))
    assert mean_of(NativeHistogram(sum=-2.0)) == -math.inf
    assert variance_of(of_counts(1.0, sum=math.inf)) == math.inf
    assert math.isnan(variance_of(of_counts(1.0, sum=math.nan)))


def test_the_highest_finite_bucket_ends_at_the_greatest_float() -> None:
    bounds = [NativeHistogram(schema=schema).bound(1024 << schema) for schema in (0, 8)]
    assert bounds == [1.7976931348623157e308] * 2
    assert NativeHistogram(schema=3).bound((1024 << 3) + 1) == math.inf
    assert NativeHistogram(schema=-4).bound(64) == 1.7976931348623157e308


# -- from outside -----------------------------------------------------------


@given(histograms, st.sampled_from(ResetHint))
def test_bytes_bring_back_the_same_histogram(histogram: NativeHistogram, hint: ResetHint) -> None:
    for one in (histogram, histogram.over(3.0)):
        found = decode(encode(one.with_hint(hint)))
        assert found.equals(one)
        assert found.reset_hint is hint


def decoded(payload: bytes) -> NativeHistogram | None:
    """The histogram, or None where it is refused as it should be."""
    with suppress(HistogramError):
        return decode(payload)
    return None


@given(histograms, st.data())
def test_spoilt_bytes_are_a_histogram_or_refused(
    histogram: NativeHistogram, data: st.DataObject
) -> None:
    whole = bytearray(encode(histogram))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for payload in (bytes(whole), bytes(whole[:cut])):
        found = decoded(payload)
        assert found is None or validated(found) is found


@given(st.binary(max_size=80))
def test_any_bytes_are_a_histogram_or_refused(payload: bytes) -> None:
    for data in (payload, b"\x01\x00" + payload):
        found = decoded(data)
        assert found is None or decode(encode(found)).equals(found)


@given(sides)
def test_spans_bring_back_the_same_buckets(side: Buckets) -> None:
    assert Buckets.of_spans(side.spans(), side.counts) == side
    deltas = [now - before for before, now in zip((0.0, *side.counts), side.counts, strict=False)]
    assert Buckets.of_spans(side.spans(), deltas, deltas=True) == side


@pytest.mark.parametrize(
    ("spans", "values", "fault"),
    [
        ([(0, 2)], [1.0], "spans name 2 buckets, 1 counts"),
        ([(0, 1), (-1, 1)], [1.0, 1.0], "span 1 has offset -1"),
        ([(0, -1)], [], "length -1"),
        ([(0, MAX_BUCKETS + 1)], [], "more than"),
    ],
)
def test_spans_that_cannot_be_are_refused(
    spans: list[tuple[int, int]], values: list[float], fault: str
) -> None:
    with pytest.raises(HistogramError, match=fault):
        Buckets.of_spans(spans, values)


@pytest.mark.parametrize(
    ("histogram", "fault"),
    [
        (NativeHistogram(schema=9), "schema 9 is not known"),
        (NativeHistogram(custom_values=(1.0,)), "belong to custom buckets"),
        (NativeHistogram(schema=-53, custom_values=(2.0, 1.0)), "finite and ascending"),
        (NativeHistogram(schema=-53, custom_values=(math.inf,)), "finite and ascending"),
        (NativeHistogram(schema=-53, zero_count=1.0), "neither a zero bucket"),
        (NativeHistogram(schema=-53, positive=Buckets((1,), (1.0,))), "outside 0 custom values"),
        (NativeHistogram(zero_threshold=-1.0), "no finite width"),
        (NativeHistogram(zero_threshold=math.nan), "no finite width"),
        (NativeHistogram(count=-1.0), "count is -1.0"),
        (NativeHistogram(zero_count=math.nan), "zero count is nan"),
        (of_counts(1.0, -1.0), "negative or not a number"),
        (NativeHistogram(positive=Buckets((1, 1), (1.0, 1.0))), "not in ascending order"),
        (NativeHistogram(positive=Buckets((2**40,), (1.0,))), "does not fit 32 bits"),
        (NativeHistogram(negative=Buckets((1,), ())), "0 negative counts for 1 buckets"),
    ],
)
def test_a_histogram_that_cannot_be_says_why(histogram: NativeHistogram, fault: str) -> None:
    with pytest.raises(HistogramError, match=fault):
        validated(histogram)
