"""Remote write over HTTP, and its decoder against bytes of every kind."""

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
from collector.remote_write.decode import LabelCache, decode, decompress
from store.errors import BadInput, LimitExceeded, Overloaded, StoreUnavailable, WarroomError
from store.model import Batch, Labels, MetricType, SampleBatch
from tests.collector.remote_write_bytes import (
    Sample,
    field,
    labels_bytes,
    sample_bytes,
    series_bytes,
    varint,
)

UP = [("__name__", "up"), ("job", "shop")]
REQUEST = series_bytes(UP, [(1_000, 1.0), (2_000, 0.0)])


class Sink:
    """Keeps what is pushed, or refuses as it is told."""

    def __init__(self) -> None:
        self.batches: list[SampleBatch] = []
        self.lost: list[tuple[str, int]] = []
        self.refusal: WarroomError | None = None

    async def push(self, batch: Batch, source: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        assert isinstance(batch, SampleBatch)
        self.batches.append(batch)

    def dropped(self, source: str, reason: str, count: int) -> None:
        if count:
            self.lost.append((reason, count))


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


async def send(client: httpx.AsyncClient, message: bytes, **headers: str) -> httpx.Response:
    return await client.post(
        "/api/v1/write",
        content=bytes(cramjam.snappy.compress_raw(message)),
        headers={
            "content-encoding": "snappy",
            "content-type": "application/x-protobuf",
            **headers,
        },
    )


@pytest.mark.anyio
async def test_samples_are_taken_and_acknowledged(client: httpx.AsyncClient, sink: Sink) -> None:
    response = await send(client, REQUEST)
    assert (response.status_code, response.content) == (204, b"")
    batch = sink.batches[0]
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
    assert (await send(client, REQUEST, **{"content-encoding": "gzip"})).status_code == 415
    v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    assert (await send(client, REQUEST, **{"content-type": v2})).status_code == 415
    assert sink.batches == []


@pytest.mark.anyio
async def test_a_body_that_would_grow_too_large_is_413(client: httpx.AsyncClient) -> None:
    claim = varint(1 << 31) + b"\x00"
    response = await client.post("/api/v1/write", content=claim)
    assert response.status_code == 413


@pytest.mark.anyio
async def test_native_histograms_are_counted_as_dropped(
    client: httpx.AsyncClient, sink: Sink
) -> None:
    body = field(1, labels_bytes(UP) + field(4, b"\x08\x01") + field(2, sample_bytes(1, 1.0)))
    assert (await send(client, body)).status_code == 204
    assert sink.lost == [("native_histogram", 1)]


def test_metadata_and_exemplars_are_decoded() -> None:
    exemplar = field(1, field(1, b"trace_id") + field(2, b"ab")) + sample_bytes(0, 2.5)[:0]
    exemplar += b"\x11" + struct.pack("<d", 2.5) + b"\x18" + varint(1_234)
    body = field(1, labels_bytes(UP) + field(2, sample_bytes(5, 1.0)) + field(3, exemplar))
    body += field(3, b"\x08\x01" + field(2, b"up") + field(4, b"Is it up?") + field(5, b"ratio"))
    batch = decode(body, LabelCache()).batch
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


def test_a_series_sent_in_two_label_orders_is_one_series() -> None:
    body = REQUEST + series_bytes(UP[::-1], [(3_000, 2.0)])
    batch = decode(body, LabelCache()).batch
    assert batch.series == (Labels(UP),)
    assert batch.series_index.tolist() == [0, 0, 0]


def test_the_bits_of_a_staleness_marker_survive() -> None:
    stale = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
    batch = decode(series_bytes(UP, [(1, stale)]), LabelCache()).batch
    assert batch.values.view("int64").tolist() == [0x7FF0000000000002]


def test_unknown_fields_are_skipped() -> None:
    extra = varint(99 << 3) + varint(7) + field(98, b"x") + varint(97 << 3 | 5) + b"1234"
    batch = decode(extra + REQUEST + extra, LabelCache()).batch
    assert len(batch) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x0a\x05\x0a", "past the end"),
        (b"\x0a" + b"\x80" * 11, "varint"),
        (b"\x08\x01", "wire type"),
        (b"\x0b", "wire type"),
        (field(1, b"\x12\x02\x09\x00"), "past the end"),
        (series_bytes([("", "x")], [(1, 1.0)]), "name is empty"),
        (series_bytes([("a", "1"), ("a", "2")], [(1, 1.0)]), "twice"),
        (series_bytes([], [(1, 1.0)]), "no labels"),
        (series_bytes([("a", "x" * 20_000)], [(1, 1.0)]), "too long"),
        (series_bytes([(f"l{i}", "x") for i in range(200)], [(1, 1.0)]), "200 labels"),
        (field(1, field(1, field(1, b"\xff") + field(2, b"v"))), "no UTF-8"),
        (field(1, labels_bytes(UP[:1]) + field(2, b"") + labels_bytes(UP[1:])), "mixed with"),
    ],
)
def test_a_damaged_message_is_refused_with_its_reason(body: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        decode(body, LabelCache())


def test_the_label_cache_stays_within_its_bound() -> None:
    cache = LabelCache(max_series=2)
    for place in range(5):
        assert cache.labels(labels_bytes([("i", str(place))])).get("i") == str(place)
    assert len(cache._known) <= 2


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
series = st.tuples(
    st.dictionaries(names, st.text(max_size=6).filter(bool), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(-(2**62), 2**62), st.floats(allow_nan=False)), max_size=4),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(series, max_size=5))
def test_what_is_written_is_read_back(
    written: list[tuple[dict[str, str], list[Sample]]],
) -> None:
    body = b"".join(series_bytes(list(pairs.items()), samples) for pairs, samples in written)
    batch = decode(decompress(bytes(cramjam.snappy.compress_raw(body))), LabelCache()).batch
    rows = zip(
        batch.series_index.tolist(), batch.ts_ms.tolist(), batch.values.tolist(), strict=True
    )
    got = [(batch.series[place], ts_ms, value) for place, ts_ms, value in rows]
    assert got == [(Labels.of(p), ts, value) for p, samples in written for ts, value in samples]


@settings(max_examples=400, deadline=None)
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
            batch = decode(data, LabelCache()).batch
        except (BadInput, LimitExceeded):
            continue
        assert len(batch.values) == len(batch.ts_ms) == len(batch.series_index)
        assert all(0 <= place < len(batch.series) for place in batch.series_index.tolist())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_decompressed_or_refused(data: bytes) -> None:
    try:
        assert len(decompress(data, limit=1_000)) <= 1_000
    except (BadInput, LimitExceeded) as error:
        assert str(error)  # noqa: PT017 -- either outcome is right, a crash is not
