"""The append log by itself: frames in, frames out, and what damage to its bytes costs."""

import errno
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from store.backends.duckdb import append_log
from store.backends.duckdb.append_log import DiskLog, segments_of
from store.backends.duckdb.coded import coded
from store.backends.duckdb.head import Columns
from store.backends.duckdb.log_reading import read_segment, read_segments
from store.backends.duckdb.rounds import BadRound, Room, Round, decode, encode, numbered
from store.errors import StoreUnavailable
from store.model import (
    EVENT_SCHEMA,
    SPAN_CODED_READ_SCHEMA,
    SPAN_CODED_SCHEMA,
    SPAN_SCHEMA,
    STALE_NAN_BITS,
    Exemplar,
    Labels,
    MetricMetadata,
    MetricType,
)

LOG_ID = 77


def log_at(directory: Path, last: int = 0, segment_bytes: int = 4096) -> DiskLog:
    return DiskLog(directory / "log", LOG_ID, last, segment_bytes)


def found(directory: Path) -> list[tuple[int, bytes]]:
    return [
        (frame.number, bytes(frame.payload))
        for segment in read_segments(directory / "log")
        for frame in segment.frames
    ]


payloads = st.lists(st.lists(st.binary(max_size=3000), max_size=4), min_size=1, max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=payloads, sizes=st.sampled_from([64, 1000, 100_000]))
def test_what_was_appended_is_read_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, frames: list[list[bytes]], sizes: int
) -> None:
    directory = tmp_path_factory.mktemp("log")
    log = log_at(directory, segment_bytes=sizes)
    numbers = [log.append(parts) for parts in frames]
    log.close()
    assert numbers == list(range(1, len(frames) + 1))
    assert found(directory) == [
        (number, b"".join(parts)) for number, parts in zip(numbers, frames, strict=True)
    ]
    assert all(segment.log_id == LOG_ID for segment in read_segments(directory / "log"))


def test_segments_go_once_the_database_has_their_frames(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    for _ in range(10):
        log.append([bytes(1500)])
    assert len(segments_of(tmp_path / "log")) == 5
    log.drop(5)
    assert [number for number, _ in found(tmp_path)] == [5, 6, 7, 8, 9, 10]
    assert log.bytes_used() == 3 * 4096
    log.drop(10)  # the segment that is written to stays
    assert [number for number, _ in found(tmp_path)] == [9, 10]
    log.empty()
    assert not (tmp_path / "log").exists()


def test_a_new_log_goes_on_in_new_segments(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    log.append([b"a"])
    log.close()
    again = log_at(tmp_path, last=1)
    again.append([b"b"])
    again.close()
    assert found(tmp_path) == [(1, b"a"), (2, b"b")]
    assert len(segments_of(tmp_path / "log")) == 2


class _Failing(DiskLog):
    """A log on a disk that refuses at a chosen step, after half of the bytes were written."""

    refuse = False

    @override
    def _sync(self) -> None:
        if self.refuse:
            os.pwrite(self._fd, b"\xff" * 10, self._offset + 5)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super()._sync()


def test_a_failed_write_leaves_nothing_behind_and_writing_goes_on(tmp_path: Path) -> None:
    log = _Failing(tmp_path / "log", LOG_ID, 0, 4096)
    log.append([b"one"])
    log.refuse = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="No space") as raised:
            log.append([b"lost"])
        assert "free space" in str(raised.value)
    log.refuse = False
    assert log.append([b"two"]) == 2
    log.close()
    assert found(tmp_path) == [(1, b"one"), (2, b"two")]
    assert [segment.cut for segment in read_segments(tmp_path / "log")] == [0, 0]


def test_a_directory_without_rights_is_said_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the directory should be")
    log = log_at(tmp_path)
    with pytest.raises(StoreUnavailable, match="log"):
        log.append([b"x"])
    (tmp_path / "log").unlink()
    assert log.append([b"x"]) == 1
    log.close()
    told = append_log.refused(OSError(errno.EROFS, "Read-only file system"), tmp_path)
    assert "writable" in str(told)


def written(directory: Path, frames: Sequence[bytes]) -> Path:
    log = log_at(directory, segment_bytes=20_000)
    for payload in frames:
        log.append([payload])
    log.close()
    (path,) = segments_of(directory / "log")
    return path


def test_a_torn_tail_costs_only_the_frame_it_tears(tmp_path: Path) -> None:
    frames = [bytes([n]) * 100 for n in range(1, 21)]
    path = written(tmp_path, frames)
    content = path.read_bytes().rstrip(b"\0")
    step = append_log.FRAME.size + 100
    for end in range(append_log.SEGMENT.size, len(content), 7):
        path.write_bytes(content[:end])
        segment = read_segment(path)
        whole = (end - append_log.SEGMENT.size) // step
        assert [bytes(frame.payload) for frame in segment.frames] == frames[:whole]
        assert segment.damaged == 0
        torn = (end - append_log.SEGMENT.size) % step
        assert segment.cut <= torn


def test_a_flipped_byte_costs_one_frame_and_is_counted(tmp_path: Path) -> None:
    frames = [bytes([n]) * 100 for n in range(1, 21)]
    path = written(tmp_path, frames)
    content = path.read_bytes()
    step = append_log.FRAME.size + 100
    dice = random.Random(5)
    for _ in range(300):
        at = dice.randrange(append_log.SEGMENT.size + step * 20)
        flipped = bytearray(content)
        flipped[at] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        segment = read_segment(path)
        numbers = [frame.number for frame in segment.frames]
        if at < append_log.SEGMENT.size:
            assert numbers == list(range(1, 21))
            continue
        hit = (at - append_log.SEGMENT.size) // step + 1
        assert numbers == [n for n in range(1, 21) if n != hit]
        assert (segment.damaged or segment.cut) > 0
        assert all(bytes(f.payload) == frames[f.number - 1] for f in segment.frames)


@settings(max_examples=150)
@given(content=st.binary(max_size=400))
def test_no_bytes_break_the_reader(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "segment-0000000001"
    path.write_bytes(content)
    assert read_segment(path).frames == []


def span_table(count: int) -> pa.Table:
    row = {
        "trace_id": b"t" * 16,
        "span_id": b"s" * 8,
        "start_ns": 1,
        "end_ns": 2,
        "service": "shop",
        "name": "GET\0ä",
        "kind": 1,
        "status": 0,
        "received_ms": 3,
    }
    return pa.Table.from_pylist([row] * count, schema=SPAN_SCHEMA)


def event_table() -> pa.Table:
    row = {
        "event_id": "1",
        "source": "web",
        "type": "purchase",
        "ts_ms": 1,
        "bot": False,
        "test": False,
        "received_ms": 1,
    }
    return pa.Table.from_pylist([row], schema=EVENT_SCHEMA)


def full_round() -> Round:
    up = Labels.of(__name__="up", path="ä\0\n")
    values = np.array([1.5, np.nan, -0.0])
    values.view(np.int64)[1] = STALE_NAN_BITS
    return Round(
        fresh={up: 7, Labels(): 8},
        columns=Columns(
            np.array([7, 8, 7], dtype=np.int32),
            np.array([1, -(2**62), 2**62], dtype=np.int64),
            values.view(np.int64),
        ),
        metadata={"up": MetricMetadata("up", MetricType.GAUGE, "Is up.", "bool")},
        exemplars=[(7, Exemplar(up, Labels.of(trace_id="x"), 5, 0.1))],
        spans=numbered(coded(span_table(3), SPAN_CODED_SCHEMA), 11),
        events=numbered(event_table(), 4),
    )


def test_spans_that_an_older_version_logged_in_full_are_read() -> None:
    spans = numbered(span_table(3), 11)
    again = decode(memoryview(b"".join(encode(Round(spans=spans), Room())))).spans
    assert again is not None
    assert again.schema == SPAN_CODED_READ_SCHEMA
    assert again.to_pylist() == spans.to_pylist()


def test_a_logged_text_that_is_not_among_its_texts_is_refused() -> None:
    texts = pa.DictionaryArray.from_arrays(
        pa.array([0, 0, 7], pa.int32()), pa.array(["shop"]), safe=False
    )
    good = numbered(coded(span_table(3), SPAN_CODED_SCHEMA), 11)
    place = good.schema.get_field_index("service")
    bad = good.set_column(place, good.schema.field("service"), texts)
    with pytest.raises(BadRound):
        decode(memoryview(b"".join(encode(Round(spans=bad), Room()))))


def test_a_round_survives_its_bytes() -> None:
    done = full_round()
    again = decode(memoryview(b"".join(encode(done, Room()))))
    assert (again.fresh, again.metadata, again.exemplars) == (
        done.fresh,
        done.metadata,
        done.exemplars,
    )
    assert done.columns is not None
    assert again.columns is not None
    for name in ("series", "ts_ms", "bits"):
        assert getattr(again.columns, name).tolist() == getattr(done.columns, name).tolist()
    assert (again.spans, again.events) == (done.spans, done.events)


@settings(max_examples=300)
@given(data=st.data())
def test_a_round_of_other_bytes_is_refused_by_name_or_read(data: st.DataObject) -> None:
    content = bytearray(b"".join(encode(full_round(), Room())))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    with suppress(BadRound):
        assert isinstance(decode(memoryview(bytes(content[:cut]))), Round)
