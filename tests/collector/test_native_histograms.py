"""Remote write's native histograms, byte by byte."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.remote_write.native_histograms import Received, received
from store.errors import BadInput
from store.histograms import MAX_BUCKETS, Buckets, HistogramError, NativeHistogram, ResetHint
from store.model import STALE_NAN_BITS
from tests.collector.remote_write_bytes import double, field, integer, varint, zigzag


def doubles(number: int, *values: float) -> bytes:
    return field(number, struct.pack(f"<{len(values)}d", *values))


def span(number: int, offset: int, length: int) -> bytes:
    return field(number, varint(1 << 3) + zigzag(offset) + integer(2, length))


def deltas(number: int, *values: int) -> bytes:
    return field(number, b"".join(map(zigzag, values)))


WHOLE = (
    integer(1, 10)
    + double(3, 4.5)
    + varint(4 << 3)
    + zigzag(-2)
    + double(5, 0.25)
    + integer(6, 1)
    + span(8, 0, 1)
    + deltas(9, 3)
    + span(11, -1, 2)
    + span(11, 1, 1)
    + deltas(12, 1, 2, -1)
    + integer(14, 3)
    + integer(15, 1234)
)


def test_a_histogram_of_whole_numbers_is_read() -> None:
    assert received(WHOLE) == Received(
        1234,
        NativeHistogram(
            schema=-2,
            zero_threshold=0.25,
            zero_count=1,
            count=10,
            sum=4.5,
            positive=Buckets((-1, 0, 2), (1.0, 3.0, 2.0)),
            negative=Buckets((0,), (3.0,)),
        ),
    )
    histogram = received(WHOLE).histogram
    assert histogram is not None
    assert histogram.reset_hint is ResetHint.GAUGE


def test_a_histogram_of_floats_with_custom_buckets_is_read() -> None:
    body = (
        double(2, 2.5)
        + varint(4 << 3)
        + zigzag(-53)
        + double(7, 0.0)
        + span(11, 0, 2)
        + doubles(13, 0.5, 2.0)
        + doubles(16, 1.0, 4.0)
    )
    wanted = NativeHistogram(
        -53, count=2.5, positive=Buckets((0, 1), (0.5, 2.0)), custom_values=(1.0, 4.0)
    )
    assert received(body) == Received(0, wanted)


def test_a_sum_with_the_bits_of_staleness_ends_the_series() -> None:
    stale = struct.unpack("<d", struct.pack("<Q", STALE_NAN_BITS))[0]
    assert received(double(3, stale) + integer(15, 7)) == Received(7, None)


def test_a_time_before_1970_is_negative() -> None:
    assert received(integer(15, -5)).ts_ms == -5


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (span(11, 0, 3) + deltas(12, 1), "spans name 3 buckets, 1 counts"),
        (span(11, 0, 1 << 31), "more than"),
        (deltas(12, *[1] * (MAX_BUCKETS + 1)), "more than"),
        (doubles(16, *[1.0] * (MAX_BUCKETS + 1)), "custom values"),
        (varint(4 << 3) + zigzag(9), "schema 9 is not known"),
        (span(11, 0, 2) + deltas(12, 1, -2), "negative or not a number"),
    ],
    ids=["counts", "span", "buckets", "bounds", "schema", "negative"],
)
def test_a_histogram_that_cannot_be_is_refused(body: bytes, fault: str) -> None:
    with pytest.raises(HistogramError, match=fault):
        received(body)


@pytest.mark.parametrize(
    "body",
    [field(1, b"x"), integer(3, 1), integer(13, 1), field(13, b"1234567"), field(11, b"\x08")],
    ids=["count", "sum", "counts", "half a double", "half a span"],
)
def test_a_field_of_the_wrong_form_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        received(body)


@given(st.binary(max_size=120), st.integers(0, len(WHOLE)))
def test_any_bytes_are_a_histogram_or_refused(tail: bytes, cut: int) -> None:
    for body in (tail, WHOLE[:cut] + tail, WHOLE + tail):
        try:
            found = received(body)
        except (BadInput, HistogramError):
            continue
        assert isinstance(found, Received)
