"""Whatever is sent, memory stays bounded and the sender gets one clear sentence."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import AsyncIterator

import anyio
import cramjam
import httpx
import pytest
from starlette.applications import Starlette

from collector.body import BodyReader
from collector.receivers.remote_write import routes
from collector.remote_write import decode as limits
from collector.remote_write.decode import Memory, decode, decode_v2
from collector.remote_write.label_table import LabelTable
from store.errors import BadInput, LimitExceeded
from store.model import Labels
from tests.collector.remote_write_bytes import (
    HistogramBody,
    RequestV2,
    field,
    labels_bytes,
    sample_bytes,
    series_bytes,
    varint,
)
from tests.collector.remote_write_client import V2_TYPE, Sink, send, send_v2

UP = [("__name__", "up"), ("job", "shop")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sink() -> Sink:
    return Sink()


def client_of(sink: Sink, bodies: BodyReader | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Starlette(routes=routes(sink, bodies)))
    return httpx.AsyncClient(transport=transport, base_url="http://w")


@pytest.fixture
async def client(sink: Sink) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(sink) as found:
        yield found


@pytest.mark.anyio
async def test_a_snappy_bomb_is_413_before_it_is_unpacked(
    client: httpx.AsyncClient, sink: Sink
) -> None:
    bomb = bytes(cramjam.snappy.compress_raw(bytes(40 * 1024 * 1024)))
    assert len(bomb) < 3 * 1024 * 1024
    for body in (varint(1 << 31) + b"\x00", bomb):
        tracemalloc.start()
        response = await client.post("/api/v1/write", content=body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert response.status_code == 413
        assert "are allowed" in response.text
        assert peak < len(body) * 4 + 2 * 1024 * 1024
    assert sink.batches == []


@pytest.mark.anyio
async def test_a_large_body_is_413_while_it_is_read(client: httpx.AsyncClient) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield bytes(1024 * 1024)

    assert (await client.post("/api/v1/write", content=endless())).status_code == 413
    assert read == 21


@pytest.mark.anyio
async def test_a_body_that_trickles_is_given_up(sink: Sink) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"\x00"
        await anyio.sleep(60)

    async with client_of(sink, BodyReader(max_read_s=0.05)) as client:
        response = await client.post("/api/v1/write", content=trickle())
    assert (response.status_code, "did not arrive" in response.text) == (400, True)


@pytest.mark.anyio
async def test_unpacked_bodies_share_a_budget(sink: Sink) -> None:
    body = series_bytes(UP, [(ts, 1.0) for ts in range(20_000)])
    async with client_of(sink, BodyReader(max_in_flight_bytes=300_000)) as client:
        response = await send(client, body)
        assert (response.status_code, response.headers["retry-after"] != "") == (429, True)
        assert (await send(client, series_bytes(UP, [(1, 1.0)]))).status_code == 204


@pytest.mark.anyio
async def test_gzip_is_415_however_small_it_packs(client: httpx.AsyncClient) -> None:
    response = await send(client, b"", **{"content-encoding": "gzip"})
    assert response.status_code == 415
    assert "snappy" in response.text


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (field(1, b"\x12\x00") * (limits.MAX_SERIES + 1), "series"),
        (field(1, b"\x12\x00" * (limits.MAX_SAMPLES + 1)), "samples"),
        (field(1, b"\x1a\x00" * (limits.MAX_EXEMPLARS + 1)), "exemplars"),
        (field(1, b"\x22\x00" * (limits.MAX_HISTOGRAMS + 1)), "native histograms"),
        (b"\x1a\x00" * (limits.MAX_METADATA + 1), "metadata entries"),
    ],
    ids=["series", "samples", "exemplars", "histograms", "metadata"],
)
def test_too_many_of_a_kind_are_refused_before_room_is_made(body: bytes, what: str) -> None:
    with pytest.raises(LimitExceeded, match=rf"\d+ {what}, \d+ are allowed"):
        decode(body, Memory())


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"\x22\x00" * (limits.MAX_SYMBOLS + 1), "symbols"),
        (field(5, field(1, bytes(limits.MAX_REFERENCES + 1))), "label references"),
    ],
    ids=["symbols", "references"],
)
def test_too_many_parts_of_2_0_are_refused_as_well(body: bytes, what: str) -> None:
    with pytest.raises(LimitExceeded, match=rf"\d+ {what}, \d+ are allowed"):
        decode_v2(body, Memory())


@pytest.mark.anyio
async def test_a_million_series_in_one_request_are_refused(
    client: httpx.AsyncClient, sink: Sink
) -> None:
    response = await send(client, field(1, b"\x12\x00") * 1_000_000)
    assert response.status_code == 400
    assert "1000000 series, 100000 are allowed" in response.text
    assert sink.batches == []


@pytest.mark.anyio
async def test_a_label_of_ten_megabytes_is_dropped_alone(
    client: httpx.AsyncClient, sink: Sink
) -> None:
    huge = [("__name__", "huge"), ("x", "y" * 10_000_000)]
    response = await send(client, series_bytes(huge, [(1, 1.0)]) + series_bytes(UP, [(1, 1.0)]))
    assert (response.status_code, "label_value_too_long: 1" in response.text) == (400, True)
    request = RequestV2()
    request.add(huge, [(1, 1.0)])
    request.add(UP, [(1, 1.0)])
    assert (await send_v2(client, request.encoded())).status_code == 400
    assert [batch.series for batch in sink.batches] == [(Labels(UP),)] * 2


@pytest.mark.parametrize(
    "body",
    [
        HistogramBody(1, spans=((0, 2**31 - 1),), deltas=(1,)).encoded(),
        HistogramBody(1, spans=((0, 1),) * 9_000).encoded(),
        HistogramBody(1, deltas=(1,) * 600_000).encoded(),
        HistogramBody(1, deltas=(1,) * 9_000).encoded(),
        HistogramBody(1, schema=2**31).encoded(),
    ],
    ids=["long span", "many spans", "large", "many deltas", "schema"],
)
def test_a_histogram_out_of_bounds_is_dropped_alone(body: bytes) -> None:
    message = field(1, labels_bytes(UP) + field(4, body)) + series_bytes(UP, [(1, 1.0)])
    decoded = decode(message, Memory())
    assert sum(decoded.dropped.values()) == 1
    assert decoded.dropped.keys() <= {"histogram_invalid", "histogram_too_large"}
    assert len(decoded.batch) == 1


@pytest.mark.anyio
async def test_no_answer_makes_a_sender_of_nonsense_try_again(client: httpx.AsyncClient) -> None:
    for body in (b"", b"\x00", b"\x01\x00\x00", b"\xff" * 100):
        for media in ("application/x-protobuf", V2_TYPE):
            response = await client.post(
                "/api/v1/write", content=body, headers={"content-type": media}
            )
            assert response.status_code in (204, 400)
            assert "retry-after" not in response.headers


def test_a_full_table_starts_over_and_stays_within_its_bound() -> None:
    memory = Memory(LabelTable(max_series=50))
    spaces = set()
    for place in range(40):
        pairs = [[("__name__", "a"), ("i", f"{place}-{j}")] for j in range(7)]
        body = b"".join(series_bytes(one, [(1, 1.0)]) for one in [*pairs, UP])
        batch = decode(body, memory).batch
        assert batch.series == tuple(Labels(one) for one in [*pairs, UP])
        refs = batch.known_refs
        assert refs is not None
        assert len(set(refs.refs.tolist())) == 8
        assert refs.refs.max() < refs.bound
        spaces.add(id(refs.space))
        assert len(memory.labels) <= 50
    assert len(spaces) > 1


def test_a_table_full_of_long_labels_starts_over_before_it_is_full_of_series() -> None:
    memory = Memory(LabelTable(max_bytes=100_000))
    sizes = []
    for place in range(60):
        pairs = [("__name__", "a"), ("i", f"{place}" + "x" * 5_000)]
        assert decode(series_bytes(pairs, [(1, 1.0)]), memory).batch.series == (Labels(pairs),)
        sizes.append(len(memory.labels))
    assert max(sizes) <= 21


def test_one_request_may_be_larger_than_the_table() -> None:
    memory = Memory(LabelTable(max_series=3))
    body = b"".join(series_bytes([("__name__", f"a{j}")], [(1, 1.0)]) for j in range(9))
    for _ in range(2):
        assert len(decode(body, memory).batch.series) == 9


def test_refused_series_are_not_remembered_and_push_out_nobody() -> None:
    memory = Memory(LabelTable(max_series=20))
    known = series_bytes(UP, [(1, 1.0)])
    refs = decode(known, memory).batch.known_refs
    assert refs is not None
    for place in range(100):
        bad = series_bytes([("a", "1"), ("a", str(place))], [(1, 1.0)])
        for _ in range(2):
            assert decode(bad + known, memory).dropped == {"label_twice": 1}
        assert len(memory.labels) == 1
    again = decode(known, memory).batch.known_refs
    assert again is not None
    assert again.space is refs.space


def test_damage_does_not_fill_the_table_past_its_bound() -> None:
    memory = Memory(LabelTable(max_series=20))
    damaged = field(1, field(1, b"\x0a\x09name") + field(2, sample_bytes(1, 1.0)))
    for place in range(60):
        with pytest.raises(BadInput):
            decode(series_bytes([("__name__", f"a{place}")], [(1, 1.0)]) + damaged, memory)
        assert len(memory.labels) <= 20


def test_a_request_that_ends_in_damage_leaves_the_table_right() -> None:
    memory = Memory()
    damaged = field(1, field(1, b"\x0a\x09name") + field(2, sample_bytes(1, 1.0)))
    for _ in range(3):
        with pytest.raises(BadInput):
            decode(series_bytes(UP, [(1, 1.0)]) + damaged, memory)
    assert decode(series_bytes(UP, [(1, 1.0)]), memory).batch.series == (Labels(UP),)


def test_threads_agree_about_series_while_the_table_starts_over() -> None:
    memory = Memory(LabelTable(max_series=300))
    wrong: list[object] = []

    def write(start: int) -> None:
        for step in range(60):
            pairs = [
                [("__name__", "m"), ("i", str((start * 31 + step * 7 + j) % 400))]
                for j in range(40)
            ]
            batch = decode(b"".join(series_bytes(one, [(1, 1.0)]) for one in pairs), memory).batch
            wanted = tuple(map(Labels, pairs))
            got = tuple(batch.series[place] for place in batch.series_index.tolist())
            if got != wanted:
                wrong.append((got, wanted))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
