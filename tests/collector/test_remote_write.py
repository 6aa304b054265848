"""Remote write 1.0 over HTTP, and its decoder against bytes of every kind."""

import math
import struct
from collections.abc import AsyncIterator

import cramjam
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from collector.receivers.remote_write import routes
from collector.remote_write.decode import Memory, decode, decode_known, decompress
from store.errors import BadInput, LimitExceeded, Overloaded, StoreUnavailable, WarroomError
from store.model import Labels, MetricType
from tests.collector.remote_write_bytes import (
    HistogramBody,
    Sample,
    field,
    labels_bytes,
    sample_bytes,
    series_bytes,
    varint,
)
from tests.collector.remote_write_client import Sink, send

UP = [("__name__", "up"), ("job", "shop")]
REQUEST = series_bytes(UP, [(1_000, 1.0), (2_000, 0.0)])
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
async def client(sink: Sink) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Starlette(routes=routes(sink)))
    async with httpx.AsyncClient(transport=transport, base_url="http://w") as found:
        yield found


@pytest.mark.anyio
async def test_samples_are_taken_and_acknowledged(client: httpx.AsyncClient, sink: Sink) -> None:
    for _ in range(2):  # a series unknown and known
        response = await send(client, REQUEST)
        assert (response.status_code, response.content) == (204, b"")
        batch = sink.batches.pop()
        assert batch.series == (Labels(UP),)
        assert batch.ts_ms.tolist() == [1_000, 2_000]
        assert batch.values.tolist() == [1.0, 0.0]
        assert batch.series_index.tolist() == [0, 0]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("refusal", "status", "retry_after"),
    [
        (Overloaded("full", retry_after_s=3), 429, "3"),
        (StoreUnavailable("closed"), 503, "5"),
        (LimitExceeded("too many series", reason="series"), 400, None),
    ],
)
async def test_a_refusal_tells_the_sender_whether_to_retry(
    client: httpx.AsyncClient, sink: Sink, refusal: WarroomError, status: int, retry_after: str
) -> None:
    sink.refusal = refusal
    response = await send(client, REQUEST)
    assert (response.status_code, response.headers.get("retry-after")) == (status, retry_after)
    assert response.headers["content-type"].startswith("text/plain")


@pytest.mark.anyio
async def test_what_is_no_remote_write_is_refused(client: httpx.AsyncClient, sink: Sink) -> None:
    bad = await client.post("/api/v1/write", content=b"\xff\xff\xff\xff\xff\xff no snappy")
    assert bad.status_code == 400
    assert "snappy" in bad.text
    assert (await send(client, b"\x0a\xff")).status_code == 400
    assert sink.batches == []
    assert "snappy: corrupt input" in sink.failures
    assert (await client.get("/api/v1/write")).status_code == 405


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        {"content-encoding": "gzip"},
        {"content-encoding": "zstd"},
        {"content-type": "application/json"},
        {"content-type": "application/x-protobuf;proto=prometheus.v3.Request"},
    ],
)
async def test_other_media_are_refused_with_415(
    client: httpx.AsyncClient, sink: Sink, headers: dict[str, str]
) -> None:
    response = await send(client, REQUEST, **headers)
    assert response.status_code == 415
    assert "not supported" in response.text
    assert sink.batches == []


@pytest.mark.anyio
async def test_either_name_of_the_message_of_1_0_is_understood(
    client: httpx.AsyncClient, sink: Sink
) -> None:
    for media in ("", "Application/X-Protobuf", 'application/x-protobuf; proto="{}"'):
        named = media.format("prometheus.WriteRequest")
        assert (await send(client, REQUEST, **{"content-type": named})).status_code == 204
    assert len(sink.batches) == 3


@pytest.mark.anyio
async def test_the_good_part_is_stored_and_the_bad_one_is_told(
    client: httpx.AsyncClient, sink: Sink
) -> None:
    twice = series_bytes([("__name__", "x"), ("a", "1"), ("a", "2")], [(1, 1.0), (2, 1.0)])
    nameless = series_bytes([("__name__", "x"), ("", "1")], [(1, 1.0)])
    for _ in range(2):
        response = await send(client, twice + REQUEST + nameless)
        assert response.status_code == 400
        assert "3 refused, for good" in response.text
        assert "label_name_empty: 1 (a label has no name)" in response.text
        assert "label_twice: 2 (a label name stands twice in one series)" in response.text
        assert "the other 2 samples are stored" in response.text
        assert "Retry-After" not in response.headers
        assert sink.batches.pop().ts_ms.tolist() == [1_000, 2_000]
    assert sink.lost == {"label_twice": 4, "label_name_empty": 2}


@pytest.mark.anyio
async def test_what_processors_drop_is_told_as_well(client: httpx.AsyncClient, sink: Sink) -> None:
    sink.drops = {"too_old": 1}
    response = await send(client, REQUEST)
    assert response.status_code == 400
    assert "too_old: 1" in response.text
    # The pipeline has counted it already.
    assert sink.lost == {}


def test_native_histograms_are_decoded() -> None:
    sent = HistogramBody(7, 6, 12.5, 1, 0.001, 1, ((-2, 2), (1, 1)), (2, -1, 1))
    batch = decode(field(1, labels_bytes(UP) + field(4, sent.encoded())), Memory()).batch
    (found,) = batch.histograms
    assert (batch.series[found.series_index], found.ts_ms) == (Labels(UP), 7)
    histogram = found.histogram
    assert (histogram.schema, histogram.count, histogram.sum) == (1, 6, 12.5)
    assert (histogram.zero_threshold, histogram.zero_count) == (0.001, 1)
    assert list(histogram.positive.items()) == [(-2, 2.0), (-1, 1.0), (1, 2.0)]
    assert len(batch.ts_ms) == 0


def test_a_histogram_that_cannot_be_is_dropped_alone() -> None:
    wrong = HistogramBody(7, 6, 12.5, 99)
    body = field(1, labels_bytes(UP) + field(4, wrong.encoded())) + REQUEST
    decoded = decode(body, Memory())
    assert decoded.dropped == {"histogram_invalid": 1}
    assert (decoded.batch.histograms, len(decoded.batch)) == ((), 2)


def test_a_histogram_that_ends_its_series_is_a_staleness_marker() -> None:
    body = field(1, labels_bytes(UP) + field(4, HistogramBody(7, total=STALE).encoded()))
    decoded = decode(body + REQUEST, Memory())
    assert decoded.ended == 1
    assert decoded.batch.ts_ms.tolist() == [1_000, 2_000, 7]
    assert decoded.batch.values.view("int64").tolist()[2] == 0x7FF0000000000002


def test_metadata_and_exemplars_are_decoded() -> None:
    exemplar = field(1, field(1, b"trace_id") + field(2, b"ab"))
    exemplar += b"\x11" + struct.pack("<d", 2.5) + b"\x18" + varint(1_234)
    body = field(1, labels_bytes(UP) + field(2, sample_bytes(5, 1.0)) + field(3, exemplar))
    body += field(3, b"\x08\x01" + field(2, b"up") + field(4, b"Is it up?") + field(5, b"ratio"))
    batch = decode(body, Memory()).batch
    assert batch.metadata[0].family == "up"
    assert batch.metadata[0].type is MetricType.COUNTER
    assert (batch.metadata[0].help, batch.metadata[0].unit) == ("Is it up?", "ratio")
    found = batch.exemplars[0]
    assert (found.series, found.labels, found.ts_ms, found.value) == (
        Labels(UP),
        Labels.of(trace_id="ab"),
        1_234,
        2.5,
    )


def test_an_exemplar_with_labels_that_cannot_be_is_dropped_alone() -> None:
    bad = field(1, field(1, b"\xff") + field(2, b"ab"))
    body = field(1, labels_bytes(UP) + field(2, sample_bytes(5, 1.0)) + field(3, bad))
    decoded = decode(body, Memory())
    assert (decoded.exemplars_dropped, decoded.batch.exemplars, len(decoded.batch)) == (1, (), 1)


def test_a_series_sent_in_two_label_orders_is_one_series() -> None:
    body = REQUEST + series_bytes(UP[::-1], [(3_000, 2.0)])
    memory = Memory()
    for _ in range(2):
        batch = decode(body, memory).batch
        assert batch.series == (Labels(UP),)
        assert batch.series_index.tolist() == [0, 0, 0]


def test_labels_may_stand_among_samples() -> None:
    mixed = labels_bytes(UP[:1]) + field(2, sample_bytes(5, 1.0)) + labels_bytes(UP[1:])
    assert decode(field(1, mixed), Memory()).batch.series == (Labels(UP),)


def test_a_series_with_nothing_in_it_is_no_series() -> None:
    batch = decode(series_bytes(UP, []), Memory()).batch
    assert (batch.series, len(batch)) == ((), 0)


def test_the_bits_of_any_nan_survive() -> None:
    nans = [0x7FF0000000000002, 0x7FF8000000000001, 0xFFF8000000000000]
    values = [struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in nans]
    batch = decode(series_bytes(UP, [(1, value) for value in values]), Memory()).batch
    assert batch.values.view("uint64").tolist() == nans


def test_unknown_fields_are_skipped() -> None:
    extra = varint(99 << 3) + varint(7) + field(98, b"x") + varint(97 << 3 | 5) + b"1234"
    batch = decode(extra + REQUEST + extra, Memory()).batch
    assert len(batch) == 2


def test_long_labels_are_read_as_short_ones_are() -> None:
    pairs = [("__name__", "up"), ("long", "x" * 300), ("z", "y")]
    assert decode(series_bytes(pairs, [(1, 1.0)]), Memory()).batch.series == (Labels(pairs),)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x0a\x05\x0a", "past the end"),
        (b"\x0a" + b"\x80" * 11, "varint"),
        (b"\x08\x01", "wire type"),
        (b"\x0b", "wire type"),
        (field(1, b"\x12\x02\x09\x00"), "past the end"),
        (field(1, b"\x0a\x0a\x0a\x04ab"), "past the end"),
        (field(1, field(1, b"\x0a\x09name") + field(2, sample_bytes(1, 1.0))), "cut short"),
    ],
)
def test_a_damaged_message_is_refused_with_its_reason(body: bytes, message: str) -> None:
    memory = Memory()
    for _ in range(2):
        with pytest.raises(BadInput, match=message):
            decode(body, memory)
    assert len(decode(REQUEST, memory).batch) == 2


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("", "x")], "label_name_empty"),
        ([("a", "1"), ("a", "2")], "label_twice"),
        ([], "no_labels"),
        ([("a", "")], "no_labels"),
        ([("a", "x" * 20_000)], "label_value_too_long"),
        ([("a" * 2_000, "x")], "label_name_too_long"),
        ([(f"l{i}", "x") for i in range(200)], "too_many_labels"),
    ],
)
def test_a_series_that_cannot_be_is_dropped_with_its_reason(
    pairs: list[tuple[str, str]], reason: str
) -> None:
    memory = Memory()
    for _ in range(2):
        decoded = decode(REQUEST + series_bytes(pairs, [(1, 1.0)]), memory)
        assert decoded.dropped == {reason: 1}
        assert decoded.batch.series == (Labels(UP),)


def test_labels_that_are_no_utf8_are_dropped_with_their_reason() -> None:
    label = field(1, field(1, b"\xff") + field(2, b"v"))
    decoded = decode(field(1, label + field(2, sample_bytes(1, 1.0))), Memory())
    assert decoded.dropped == {"label_not_utf8": 1}


def test_a_known_request_needs_no_thread_and_an_unknown_one_teaches_nothing() -> None:
    memory = Memory()
    assert decode_known(REQUEST, memory, 1) is None
    assert decode_known(REQUEST, memory, 1) is None
    decode(REQUEST, memory)
    known = decode_known(REQUEST, memory, 1)
    assert known is not None
    assert known.batch.series == (Labels(UP),)


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
series = st.tuples(
    st.dictionaries(names, st.text(max_size=6).filter(bool), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(-(2**62), 2**62), st.floats(allow_nan=False)), max_size=4),
)


@settings(max_examples=100)
@given(st.lists(series, max_size=5))
def test_what_is_written_is_read_back(
    written: list[tuple[dict[str, str], list[Sample]]],
) -> None:
    body = b"".join(series_bytes(list(pairs.items()), samples) for pairs, samples in written)
    batch = decode(decompress(bytes(cramjam.snappy.compress_raw(body))), Memory()).batch
    rows = zip(
        batch.series_index.tolist(), batch.ts_ms.tolist(), batch.values.tolist(), strict=True
    )
    got = [(batch.series[place], ts_ms, value) for place, ts_ms, value in rows]
    assert got == [(Labels.of(p), ts, value) for p, samples in written for ts, value in samples]


@settings(max_examples=400)
@given(
    edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 80),
    junk=st.binary(max_size=40),
)
def test_any_bytes_are_decoded_or_refused(
    edits: list[tuple[int, int]], cut: int, junk: bytes
) -> None:
    body = bytearray(REQUEST + series_bytes([("a", "b")], [(5, math.pi)]))
    for place, value in edits:
        body[place % len(body)] = value
    for data in (bytes(body[: len(body) - cut]) + junk, junk):
        try:
            batch = decode(data, Memory()).batch
        except (BadInput, LimitExceeded):
            continue
        assert len(batch.values) == len(batch.ts_ms) == len(batch.series_index)
        assert all(0 <= place < len(batch.series) for place in batch.series_index.tolist())


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_decompressed_or_refused(data: bytes) -> None:
    try:
        assert len(decompress(data, limit=1_000)) <= 1_000
    except (BadInput, LimitExceeded) as error:
        assert str(error)  # noqa: PT017 -- either outcome is right, a crash is not
