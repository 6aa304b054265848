"""The queue on disk: order, position, torn and flipped bytes, bounds; and the bytes in it."""

from __future__ import annotations

import os
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.forward.handover import HandOver
from collector.forward.request import compressed
from collector.forward.segment_log import KEPT_MS, Position, SegmentLog
from collector.forward.write_request import Encoder, Piece, metadata_request
from collector.relabel import Action, RelabelRule, compiled
from collector.remote_write.decode import Memory, decode, decompress
from store.model import (
    STALE_NAN_BITS,
    Exemplar,
    Labels,
    MetricMetadata,
    MetricType,
    RefSpace,
    SampleBatch,
    SeriesRefs,
)

NOW_MS = 1_790_000_000_000
MEGABYTE = 1 << 20


class Drops(Counter[str]):
    def __call__(self, reason: str, samples: int) -> None:
        self[reason] += samples


def open_log(
    directory: Path, drops: Drops | None = None, max_bytes: int = 64 * MEGABYTE
) -> SegmentLog:
    return SegmentLog(directory, max_bytes=max_bytes, dropped=Drops() if drops is None else drops)


def piece(number: int, size: int = 10, at_ms: int = NOW_MS) -> Piece:
    return Piece(number % 3, 3, 1, at_ms + number, bytes([number % 256]) * size)


def write(log: SegmentLog, *pieces: Piece) -> None:
    log.append(list(pieces), [p.payload for p in pieces])


def drain(log: SegmentLog) -> list[Piece]:
    found = []
    while (read := log.read()) is not None:
        found.append(read.piece)
    return found


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.segment"))


def test_what_was_written_is_read_in_order_also_after_a_restart(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    write(log, *(piece(n) for n in range(5)))
    assert log.unread == 5
    assert drain(log) == [piece(n) for n in range(5)]
    write(log, piece(5))
    assert drain(log) == [piece(5)]
    log.close()
    again = open_log(tmp_path)
    assert again.unread == 6
    assert drain(again) == [piece(n) for n in range(6)]
    again.close()


def test_what_was_settled_is_not_read_again(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    write(log, *(piece(n) for n in range(5)))
    third = [log.read() for _ in range(3)][-1]
    assert third is not None
    log.settle(third.end)
    log.close()
    again = open_log(tmp_path)
    assert again.unread == 2
    assert drain(again) == [piece(3), piece(4)]
    write(again, piece(5))
    again.close()
    assert drain(open_log(tmp_path)) == [piece(3), piece(4), piece(5)]


def test_a_damaged_position_means_from_the_beginning(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    write(log, piece(0), piece(1))
    read = log.read()
    assert read is not None
    log.settle(read.end)
    log.close()
    (tmp_path / "position").write_bytes(b"\x01" * 20)
    assert drain(open_log(tmp_path)) == [piece(0), piece(1)]


@pytest.mark.parametrize("cut", [1, 9, 25, 33])
def test_a_torn_end_is_cut_and_the_rest_is_whole(tmp_path: Path, cut: int) -> None:
    log = open_log(tmp_path)
    write(log, *(piece(n) for n in range(3)))
    log.close()
    (file,) = segments(tmp_path)
    os.truncate(file, file.stat().st_size - cut)
    again = open_log(tmp_path)
    assert drain(again) == [piece(0), piece(1)]
    write(again, piece(7))
    assert drain(again) == [piece(7)]


def test_a_flipped_byte_costs_one_record_and_is_counted(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    write(log, *(piece(n) for n in range(3)))
    log.close()
    log = open_log(tmp_path)  # a start begins a new segment
    write(log, piece(3))
    log.close()
    first, _ = segments(tmp_path)
    raw = bytearray(first.read_bytes())
    raw[len(raw) // 3 + 30] ^= 0xFF
    first.write_bytes(raw)
    drops = Drops()
    again = open_log(tmp_path, drops)
    assert drain(again) == [piece(0), piece(2), piece(3)]
    assert drops == {"damaged": 1}
    assert again.unread == 0
    write(again, piece(4))
    assert drain(again) == [piece(4)]


@pytest.mark.parametrize("damaged", [(0,), (1,), (0, 1), (1, 2), (0, 3)])
def test_damage_within_the_last_segment_is_skipped_and_counted_and_a_torn_end_is_cut(
    tmp_path: Path, damaged: tuple[int, ...]
) -> None:
    log = open_log(tmp_path)
    write(log, *(piece(n) for n in range(6)))
    log.close()
    (file,) = segments(tmp_path)
    raw = bytearray(file.read_bytes())
    for number in damaged:
        raw[number * len(raw) // 6 + 30] ^= 0xFF
    file.write_bytes(raw[:-1])
    drops = Drops()
    again = open_log(tmp_path, drops)
    assert drain(again) == [piece(n) for n in range(5) if n not in damaged]
    assert drops == {"damaged": len(damaged)}


def test_a_header_that_cannot_be_costs_the_rest_of_its_segment_and_is_counted(
    tmp_path: Path,
) -> None:
    drops = Drops()
    log = open_log(tmp_path, drops)
    write(log, *(piece(n) for n in range(3)))
    (file,) = segments(tmp_path)
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 3)
        opened.write(b"\xff" * 4)
    assert drain(log) == [piece(0)]
    assert drops == {"damaged": 2}


def test_damage_found_while_it_runs_does_not_hide_what_comes_after(tmp_path: Path) -> None:
    drops = Drops()
    log = open_log(tmp_path, drops)
    write(log, piece(0), piece(1))
    (file,) = segments(tmp_path)
    with file.open("r+b") as opened:
        opened.seek(30)
        opened.write(b"\xff")
    assert drain(log) == [piece(1)]
    assert drops == {"damaged": 1}
    write(log, piece(2))
    assert drain(log) == [piece(2)]


def test_the_oldest_go_first_when_there_is_no_room_and_are_counted(tmp_path: Path) -> None:
    drops = Drops()
    log = open_log(tmp_path, drops, max_bytes=MEGABYTE)
    for number in range(40):
        write(log, piece(number, size=64 * 1024))
    assert log.bytes_on_disk <= MEGABYTE + 300 * 1024
    kept = drain(log)
    assert kept[-1] == piece(39, size=64 * 1024)
    assert drops == {"queue_full": 40 - len(kept)}
    assert 0 < len(kept) < 20


def test_settled_segments_are_removed_when_they_are_old(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_bytes=4 * MEGABYTE)
    for number in range(40):
        write(log, piece(number, size=128 * 1024, at_ms=NOW_MS + number * KEPT_MS))
    before = len(segments(tmp_path))
    while (read := log.read()) is not None:
        log.settle(read.end)
    assert before >= 3
    assert len(segments(tmp_path)) == 1


def test_recent_records_are_told_settled_or_not(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    write(log, piece(0), piece(5000))
    read = log.read()
    assert read is not None
    log.settle(read.end)
    assert list(log.recent(NOW_MS + 5000)) == [piece(5000).payload]
    assert len(list(log.recent(NOW_MS))) == 2


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_any_bytes_on_disk_can_be_opened(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, position: bytes
) -> None:
    directory = tmp_path_factory.mktemp("junk")
    (directory / "0000000001.segment").write_bytes(junk)
    (directory / "0000000002.segment").write_bytes(junk[::-1])
    (directory / "position").write_bytes(position)
    log = open_log(directory)
    drain(log)
    write(log, piece(1))
    assert drain(log)[-1:] == [piece(1)]
    log.close()


def test_the_hand_over_takes_no_more_than_its_bound_and_one_batch() -> None:
    def batch(rows: int) -> SampleBatch:
        return SampleBatch.of_rows(
            [(Labels.of(__name__="a"), NOW_MS + n, 1.0) for n in range(rows)]
        )

    handover = HandOver(max_samples=10, max_batches=3)
    assert handover.offer(batch(50))  # alone it always fits
    assert not handover.offer(batch(1))
    assert [len(b) for b in handover.take(0) or []] == [50]
    assert [handover.offer(batch(1)) for _ in range(4)] == [True, True, True, False]
    handover.close()
    assert len(handover.take(0) or []) == 3
    assert handover.take(0) is None
    assert not handover.offer(batch(1))


# -- the bytes of a request -------------------------------------------------

NAMES = st.text("abc_é", min_size=1, max_size=4)
SERIES = st.dictionaries(NAMES, NAMES, max_size=3).map(lambda d: Labels.of(d, __name__="m"))
TIMES = st.integers(0, 1 << 44)
ROWS = st.lists(st.tuples(SERIES, TIMES, st.floats()), max_size=30)


def decoded(pieces: list[Piece]) -> SampleBatch:
    found = decode(b"".join(p.payload for p in pieces), Memory())
    assert found is not None
    assert found.dropped == {}
    return found.batch


def rows_of(batch: SampleBatch) -> Counter[tuple[Labels, int, bytes]]:
    return Counter(
        (batch.series[place], at, struct.pack("<d", value))
        for place, at, value in zip(
            batch.series_index.tolist(), batch.ts_ms.tolist(), batch.values, strict=True
        )
    )


@given(ROWS, st.integers(1, 7), st.integers(1, 5))
def test_the_receiver_reads_what_the_encoder_wrote(
    rows: list[tuple[Labels, int, float]], max_samples: int, shards: int
) -> None:
    batch = SampleBatch.of_rows(rows)
    pieces = Encoder((), shards=shards, max_samples=max_samples).pieces(batch)
    assert all(0 < p.samples <= max_samples for p in pieces)
    assert sum(p.samples for p in pieces) == len(rows)
    assert rows_of(decoded(pieces)) == rows_of(batch)
    homes: dict[Labels, tuple[int, int]] = {}
    for one in pieces:
        part = decoded([one])
        assert one.newest_ms == max(batch.ts_ms)
        for place, at in zip(part.series_index.tolist(), part.ts_ms.tolist(), strict=True):
            labels = part.series[place]
            shard, last = homes.get(labels, (one.shard, -1))
            assert shard == one.shard
            assert at >= last  # in order of time across pieces
            homes[labels] = (shard, at)


@given(st.lists(st.floats(), min_size=1, max_size=30), st.integers(1, 7), st.integers(1, 5))
def test_one_sample_a_series_is_read_likewise_with_and_without_refs(
    values: list[float], max_samples: int, shards: int
) -> None:
    series = tuple(Labels.of(__name__="m", n=str(n)) for n in range(len(values)))
    count = len(values)
    refs = SeriesRefs(RefSpace(), np.arange(count, dtype=np.int32)[::-1] * 2, 2 * count, series)
    columns = np.arange(count, dtype=np.int32), np.full(count, NOW_MS), np.array(values)
    plain, numbered = SampleBatch(series, *columns), SampleBatch(series, *columns, series_refs=refs)
    encoder = Encoder((), shards=shards, max_samples=max_samples)
    pieces = encoder.pieces(plain)
    assert all(0 < p.samples <= max_samples for p in pieces)
    assert rows_of(decoded(pieces)) == rows_of(plain)
    assert encoder.pieces(numbered) == encoder.pieces(numbered) == pieces
    other = SeriesRefs(RefSpace(), np.arange(count, dtype=np.int32), count, series)
    assert encoder.pieces(replace(plain, series_refs=other)) == pieces


def test_a_staleness_marker_keeps_its_bits() -> None:
    stale = np.array([STALE_NAN_BITS], dtype=np.uint64).view(np.float64)
    batch = SampleBatch(
        (Labels.of(__name__="a"),), np.zeros(1, np.int32), np.array([NOW_MS]), stale
    )
    (one,) = Encoder((), shards=1, max_samples=10).pieces(batch)
    assert decoded([one]).values.view(np.uint64).tolist() == [STALE_NAN_BITS]


def test_relabelling_renames_drops_and_leaves_the_stored_batch_alone() -> None:
    rules = (
        RelabelRule(Action.DROP, ("__name__",), regex=compiled("go_.*")),
        RelabelRule(target_label="site", replacement="berlin", regex=compiled("(.*)")),
    )
    batch = SampleBatch.of_rows(
        [(Labels.of(__name__="go_x"), NOW_MS, 1.0), (Labels.of(__name__="hits"), NOW_MS, 2.0)]
    )
    pieces = Encoder(rules, shards=2, max_samples=10).pieces(batch)
    assert set(decoded(pieces).series) == {Labels.of(__name__="hits", site="berlin")}
    assert Encoder(rules[:1], shards=2, max_samples=10).final_labels(batch.series[0]) is None


def test_exemplars_go_with_their_series_when_they_are_wanted() -> None:
    labels = Labels.of(__name__="latency_bucket", le="1")
    exemplar = Exemplar(labels, Labels.of(trace_id="ab"), NOW_MS - 5, 0.5)
    batch = SampleBatch.of_rows([(labels, NOW_MS, 3.0)], exemplars=(exemplar,))
    sent = Encoder((), shards=1, max_samples=10, send_exemplars=True).pieces(batch)
    assert decoded(sent).exemplars == (exemplar,)
    assert decoded(Encoder((), shards=1, max_samples=10).pieces(batch)).exemplars == ()


def test_metadata_is_read_as_it_was_written() -> None:
    entries = (
        MetricMetadata("hits", MetricType.COUNTER, "Hits.", ""),
        MetricMetadata("wait_seconds", MetricType.HISTOGRAM, "Zeit für €.", "seconds"),
    )
    found = decode(decompress(compressed(metadata_request(entries))), Memory())
    assert found is not None
    assert found.batch.metadata == entries


def test_positions_order_by_segment_first() -> None:
    assert Position(1, 900) < Position(2, 0)
