"""Remote write 2.0: symbols, metadata with every series, headers that count what is written."""

import struct
from collections.abc import AsyncIterator
from concurrent.futures import Future

import cramjam
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from collector.pipeline import Pipeline
from collector.processors.limit import Limit, Limits
from collector.receivers.remote_write import routes
from collector.remote_write.decode import Memory, decode, decode_known, decode_v2
from collector.source_health import SourceRegistry
from store.errors import BadInput, LimitExceeded, Overloaded
from store.model import Batch, Exemplar, Labels, MetricMetadata, MetricType, SampleBatch
from tests.collector.remote_write_bytes import (
    HistogramBody,
    RequestV2,
    Sample,
    field,
    integer,
    series_bytes,
    varint,
)
from tests.collector.remote_write_client import Sink, send, send_v2

UP = [("__name__", "up"), ("job", "shop")]
TRACE = [("trace_id", "ab")]
NOW_MS = 1_790_000_000_000
SAMPLES = "X-Prometheus-Remote-Write-Samples-Written"
HISTOGRAMS = "X-Prometheus-Remote-Write-Histograms-Written"
EXEMPLARS = "X-Prometheus-Remote-Write-Exemplars-Written"
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def one(pairs: list[tuple[str, str]] = UP, samples: tuple[Sample, ...] = ((1_000, 1.0),)) -> bytes:
    request = RequestV2()
    request.add(pairs, samples)
    return request.encoded()


def written(response: httpx.Response) -> list[str | None]:
    return [response.headers.get(name) for name in (SAMPLES, HISTOGRAMS, EXEMPLARS)]


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
async def test_what_is_written_is_counted_in_the_answer(
    client: httpx.AsyncClient, sink: Sink
) -> None:
    request = RequestV2()
    request.add(UP, [(1_000, 1.0), (2_000, 2.0)], request.exemplar(TRACE, 1_000, 0.5))
    histogram = HistogramBody(1_000, 3, 1.5, spans=((0, 1),), deltas=(3,)).encoded()
    ended = HistogramBody(2_000, total=STALE).encoded()
    request.add([("__name__", "h")], [], field(3, histogram), field(3, ended))
    for _ in range(2):
        response = await send_v2(client, request.encoded())
        assert (response.status_code, response.content) == (204, b"")
        assert written(response) == ["2", "2", "1"]
        batch = sink.batches.pop()
        assert set(batch.series) == {Labels(UP), Labels.of(__name__="h")}
        assert batch.exemplars == (Exemplar(Labels(UP), Labels(TRACE), 1_000, 0.5),)
        assert [sent.histogram.count for sent in batch.histograms] == [3]


@pytest.mark.anyio
async def test_a_request_of_1_0_gets_no_such_headers(client: httpx.AsyncClient) -> None:
    response = await send(client, series_bytes(UP, [(1, 1.0)]))
    assert (response.status_code, written(response)) == (204, [None, None, None])


@pytest.mark.anyio
async def test_a_partial_write_counts_what_is_stored(client: httpx.AsyncClient, sink: Sink) -> None:
    request = RequestV2()
    request.add(UP, [(1_000, 1.0)])
    request.add([("__name__", "x"), ("a", "1"), ("a", "2")], [(1, 1.0), (2, 1.0)])
    response = await send_v2(client, request.encoded())
    assert response.status_code == 400
    assert "label_twice: 2" in response.text
    assert written(response) == ["1", "0", "0"]
    assert sink.lost == {"label_twice": 2}


@pytest.mark.anyio
async def test_nothing_is_written_of_a_request_that_must_be_sent_again(
    client: httpx.AsyncClient, sink: Sink
) -> None:
    request = RequestV2()
    request.add(UP, [(1_000, 1.0)], request.metadata(1, "Is it up?"))
    sink.refusal = Overloaded("full", retry_after_s=3)
    response = await send_v2(client, request.encoded())
    assert (response.status_code, written(response)) == (429, [None, None, None])
    sink.refusal = None
    assert (await send_v2(client, request.encoded())).status_code == 204
    # Its metadata has not been stored, so it must not pass for known.
    assert sink.batches[0].metadata[0].help == "Is it up?"


@pytest.mark.anyio
async def test_limits_of_the_pipeline_are_counted_in_the_answer() -> None:
    stored: list[Batch] = []

    class Store:
        def append(self, batch: Batch) -> Future[None]:
            stored.append(batch)
            done: Future[None] = Future()
            done.set_result(None)
            return done

    pipeline = Pipeline(
        Store(),
        (Limit(Limits(max_age_ms=60_000), now_ms=lambda: NOW_MS),),
        SourceRegistry(),
        now_ms=lambda: NOW_MS,
        registry=CollectorRegistry(),
    )
    request = RequestV2()
    times = (NOW_MS - 60_001, NOW_MS, NOW_MS + 3_600_001)
    request.add(
        UP, [(ts, 1.0) for ts in times], *[request.exemplar(TRACE, ts, 1.0) for ts in times]
    )
    for ts in times:
        request.add([("__name__", "h")], [], field(3, HistogramBody(ts).encoded()))
    transport = httpx.ASGITransport(Starlette(routes=routes(pipeline)))
    async with httpx.AsyncClient(transport=transport, base_url="http://w") as client:
        response = await send_v2(client, request.encoded())
    assert response.status_code == 400
    assert written(response) == ["1", "1", "1"]
    for told in ("exemplar: 2 (", "timestamp_in_future: 2 (", "too_old: 2 ("):
        assert told in response.text
    (batch,) = stored
    assert isinstance(batch, SampleBatch)
    assert batch.ts_ms.tolist() == [NOW_MS]
    assert [sent.ts_ms for sent in batch.histograms] == [NOW_MS]


@pytest.mark.parametrize(
    ("request_bytes", "message"),
    [
        (b"".join([field(5, field(1, b"\x01\x02") + field(2, b""))]), "not there"),
        (field(4, b"") + field(5, field(1, b"\x01\x02") + field(2, b"")), "not there"),
        (field(4, b"") + field(4, b"a") + field(5, field(1, b"\x01") + field(2, b"")), "lacks"),
        (field(4, b"a") + field(5, b""), "first symbol"),
        (field(4, b"") + field(5, field(1, varint(1 << 63)) + field(2, b"")), "refers"),
        (field(4, b"") + field(5, field(5, integer(3, 9))), "not there"),
        (field(4, b"") + field(5, field(5, b"\x08\xff")), "not there"),
        (field(4, b"") + field(5, b"\x0a\x05\x01"), "past the end"),
        (field(4, b"") + field(5, b"\x08\x80"), "past the end"),
        (b"\x20\x01", "wire type"),
    ],
)
def test_a_message_that_breaks_the_rules_is_refused(request_bytes: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        decode_v2(request_bytes, Memory())


def test_an_exemplar_that_refers_to_no_symbol_is_refused() -> None:
    request = RequestV2()
    request.add(UP, [(1, 1.0)], field(4, field(1, b"\x09\x09")))
    with pytest.raises(BadInput, match="refers to a symbol"):
        decode_v2(request.encoded(), Memory())


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("", "x")], "label_name_empty"),
        ([("a", "")], "no_labels"),
        ([("a", "1"), ("a", "2")], "label_twice"),
    ],
)
def test_a_series_that_cannot_be_is_dropped_alone(
    pairs: list[tuple[str, str]], reason: str
) -> None:
    request = RequestV2()
    request.add(pairs, [(1, 1.0)])
    request.add(UP, [(2, 1.0)])
    decoded = decode_v2(request.encoded(), Memory())
    assert decoded.dropped == {reason: 1}
    assert decoded.batch.ts_ms.tolist() == [2]


def test_a_symbol_that_is_no_utf8_drops_its_series() -> None:
    body = field(4, b"") + field(4, b"__name__") + field(4, b"\xff")
    body += field(5, field(1, b"\x01\x02") + field(2, b""))
    assert decode_v2(body, Memory()).dropped == {"label_not_utf8": 1}


def test_references_may_be_sent_one_by_one() -> None:
    body = field(4, b"") + field(4, b"__name__") + field(4, b"up")
    body += field(5, integer(1, 1) + field(2, b"") + integer(1, 2))
    assert decode_v2(body, Memory()).batch.series == (Labels.of(__name__="up"),)


def test_both_versions_give_a_series_the_same_ref() -> None:
    memory = Memory()
    old = decode(series_bytes(UP, [(1, 1.0)]), memory).batch.known_refs
    new = decode_v2(one(UP[::-1]), memory).batch.known_refs
    assert old is not None
    assert new is not None
    assert old.space is new.space
    assert old.refs.tolist() == new.refs.tolist()


def test_metadata_is_handed_on_once_and_again_when_it_changes() -> None:
    memory = Memory()

    def told(text: str, *filler: str) -> tuple[MetricMetadata, ...]:
        request = RequestV2()
        for word in filler:
            request.symbol(word)
        for le in ("1", "+Inf"):
            request.add(
                [("__name__", "wait_seconds_bucket"), ("le", le)],
                [(1, 1.0)],
                request.metadata(3, text, "seconds"),
            )
        request.add([("__name__", "plain")], [(1, 1.0)], field(5, b""))
        return decode_v2(request.encoded(), memory).batch.metadata

    wanted = MetricMetadata("wait_seconds", MetricType.HISTOGRAM, "How long.", "seconds")
    assert told("How long.") == (wanted,)
    assert told("How long.", "other", "numbers", "of symbols") == ()
    assert [found.help for found in told("How very long.")] == ["How very long."]


def test_a_known_request_needs_no_thread() -> None:
    memory = Memory()
    assert decode_known(one(), memory, 2) is None
    decode_v2(one(), memory)
    known = decode_known(one(), memory, 2)
    assert known is not None
    assert known.batch.series == (Labels(UP),)


def test_a_message_of_the_other_version_is_empty() -> None:
    assert len(decode(one(), Memory()).batch) == 0
    assert len(decode_v2(series_bytes(UP, [(1, 1.0)]), Memory()).batch) == 0


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
series = st.tuples(
    st.dictionaries(names, st.text(max_size=6).filter(bool), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(-(2**62), 2**62), st.floats(allow_nan=False)), max_size=4),
)


@settings(max_examples=100)
@given(st.lists(series, max_size=5))
def test_what_is_written_is_read_back(wanted: list[tuple[dict[str, str], list[Sample]]]) -> None:
    request = RequestV2()
    for pairs, samples in wanted:
        request.add(list(pairs.items()), samples, request.metadata(1, "text"))
    memory = Memory()
    for _ in range(2):
        batch = decode_v2(request.encoded(), memory).batch
        rows = zip(
            batch.series_index.tolist(), batch.ts_ms.tolist(), batch.values.tolist(), strict=True
        )
        got = [(batch.series[place], ts_ms, value) for place, ts_ms, value in rows]
        assert got == [(Labels.of(p), ts, value) for p, samples in wanted for ts, value in samples]


@settings(max_examples=300)
@given(
    edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 80),
    junk=st.binary(max_size=40),
)
def test_any_bytes_are_decoded_or_refused(
    edits: list[tuple[int, int]], cut: int, junk: bytes
) -> None:
    request = RequestV2()
    request.add(UP, [(1, 1.0)], request.exemplar(TRACE, 1, 1.0), request.metadata(1, "a", "b"))
    histogram = HistogramBody(1, 3, 1.5, spans=((0, 1),), deltas=(3,)).encoded()
    request.add([("__name__", "h")], [], field(3, histogram))
    body = bytearray(request.encoded())
    for place, value in edits:
        body[place % len(body)] = value
    for data in (bytes(body[: len(body) - cut]) + junk, junk):
        try:
            batch = decode_v2(data, Memory()).batch
        except (BadInput, LimitExceeded):
            continue
        assert len(batch.values) == len(batch.ts_ms) == len(batch.series_index)
        assert all(0 <= place < len(batch.series) for place in batch.series_index.tolist())


@pytest.mark.anyio
async def test_a_sender_learns_that_snappy_frames_are_not_understood(
    client: httpx.AsyncClient,
) -> None:
    framed = bytes(cramjam.snappy.compress(one()))
    response = await client.post("/api/v1/write", content=framed)
    assert response.status_code == 400
    assert "block format" in response.text
