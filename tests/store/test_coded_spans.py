"""Spans with their texts by number: what is refused, and that a round's bytes keep them."""

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store.backends.duckdb import spans
from store.backends.duckdb.coded import check_dictionaries
from store.backends.duckdb.rounds import Room, Round, decode, encode
from store.errors import BadInput
from store.model import SPAN_CODED_READ_SCHEMA, SPAN_CODED_SCHEMA


def of_services(texts: list[str | None]) -> pa.Table:
    column = pa.DictionaryArray.from_arrays(
        pa.array(range(len(texts)), pa.int32()), pa.array(texts, pa.string())
    )
    return pa.table({"kind": pa.array([1] * len(texts), pa.int8()), "service": column})


@given(st.lists(st.none() | st.text(max_size=3), max_size=6))
@example([str(n) for n in range(200)])
@example([*(str(n) for n in range(200)), "7"])
@example([*(str(n) for n in range(200)), None])
def test_texts_are_refused_that_are_there_twice_or_not_at_all(texts: list[str | None]) -> None:
    table = of_services(texts)
    if None not in texts and len(set(texts)) == len(texts):
        check_dictionaries(table)
    else:
        with pytest.raises(BadInput, match="column service"):
            check_dictionaries(table)


def test_a_dictionary_in_any_chunk_is_looked_at() -> None:
    table = pa.concat_tables([of_services(["a", "b"]), of_services(["c", "c"])])
    with pytest.raises(BadInput, match="a text twice"):
        check_dictionaries(table)


def test_an_empty_chunk_whose_texts_make_no_sense_is_left_out() -> None:
    good = span_table(2, "GET").select(SPAN_CODED_SCHEMA.names).combine_chunks()
    place = good.schema.get_field_index("service")
    no_text = pa.DictionaryArray.from_arrays(
        pa.array([], pa.int32()), pa.array([None], pa.string())
    )
    empty = good.slice(0, 0).set_column(place, good.schema.field("service"), no_text)
    taken = spans.checked(pa.concat_tables([good, empty]))
    assert taken.combine_chunks().to_pylist() == good.to_pylist()


def span_table(rows: int, name: str) -> pa.Table:
    row = {
        "trace_id": b"t" * 16,
        "span_id": b"s" * 8,
        "start_ns": 1,
        "end_ns": 2,
        "service": "shop",
        "name": name,
        "kind": 1,
        "status": 0,
        "received_ms": 3,
    }
    found = [{**row, "name": f"{name}{at}", "seq": at} for at in range(rows)]
    return pa.Table.from_pylist(found, schema=SPAN_CODED_READ_SCHEMA)


@pytest.mark.parametrize("size", [0, 100, 8 * 1024, 2 * 1024 * 1024])
def test_rounds_fit_into_any_room(size: int) -> None:
    """One that is too small, one that is full from the round before, one with space left."""
    room = Room(size)
    for name in ("GET", "POST"):
        room.clear()
        for rows in (1, 100, 3):
            spans = span_table(rows, name)
            again = decode(memoryview(b"".join(encode(Round(spans=spans), room)))).spans
            assert again is not None
            assert again.to_pylist() == spans.to_pylist()


def test_what_a_room_gave_out_stands_until_it_is_cleared() -> None:
    room = Room()
    tables = [span_table(rows, "GET") for rows in (5, 50, 2)]
    streams = [room.stream(table) for table in tables]
    for stream, table in zip(streams, tables, strict=True):
        assert pa.ipc.open_stream(pa.py_buffer(stream)).read_all().equals(table)
