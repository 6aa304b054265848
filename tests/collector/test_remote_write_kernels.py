"""The compiled kernels, also as plain Python, where a read or write out of bounds would show."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.remote_write import hash_table, label_table, metadata_v2, scanner
from collector.wire import fields, hashes
from tests.collector.remote_write_bytes import (
    HistogramBody,
    RequestV2,
    field,
    labels_bytes,
    sample_bytes,
    series_bytes,
    varint,
)


@contextmanager
def plain_numba() -> Iterator[None]:
    """`njit` hands functions back as they are."""
    config: Any = numba.config
    before = config.DISABLE_JIT
    config.DISABLE_JIT = True
    try:
        yield
    finally:
        config.DISABLE_JIT = before


def plain(*modules: ModuleType) -> list[ModuleType]:
    """Copies of the modules that are not compiled; earlier copies stand in for their originals."""
    copies: dict[str, ModuleType] = {}
    with plain_numba():
        for module in modules:
            name, path = module.__name__, str(module.__file__)
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            copy = importlib.util.module_from_spec(spec)
            originals = {key: sys.modules[key] for key in (*copies, name)}
            sys.modules.update(copies, **{name: copy})
            try:
                spec.loader.exec_module(copy)
            finally:
                sys.modules.update(originals)
            copies[name] = copy
    return list(copies.values())


_, PLAIN_HASH, PLAIN_SCANNER, PLAIN_TABLE, PLAIN_LABELS, PLAIN_METADATA = plain(
    fields, hashes, scanner, hash_table, label_table, metadata_v2
)


PUBLISHED = (
    np.uint64(0),
    np.uint64(0),
    np.uint64(0x87C37B91114253D5),
    np.uint64(0x4CF5AD432745937F),
)


class Guarded:
    """An array that refuses places before its start as well as past its end."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, place: Any) -> Any:
        self._check(place)
        found = self.array[place]
        return Guarded(found) if isinstance(found, np.ndarray) else found

    def __setitem__(self, place: Any, value: Any) -> None:
        self._check(place)
        self.array[place] = value

    def _check(self, place: Any) -> None:
        first = place[0] if isinstance(place, tuple) else place
        if not isinstance(first, slice):
            assert 0 <= int(first) < len(self.array), f"{first} of {len(self.array)}"


def guarded(found: scanner.Found) -> scanner.Found:
    return scanner.Found(*(Guarded(array) for array in found))  # type: ignore[arg-type]


def corpus() -> list[tuple[int, bytes]]:
    pairs = [("__name__", "up"), ("job", "shop"), ("long", "x" * 140)]
    histogram = HistogramBody(1, 3, 1.5, spans=((0, 1),), deltas=(3,)).encoded()
    exemplar = field(3, field(1, b"\x0a\x01t\x12\x01x") + sample_bytes(1, 1.0))
    mixed = labels_bytes(pairs[:1]) + field(2, sample_bytes(5, 1.0)) + labels_bytes(pairs[1:])
    metadata = field(3, b"\x08\x01" + field(2, b"up"))
    v2 = RequestV2()
    v2.add(pairs, [(1, 1.0), (-5, 2.0)], v2.exemplar([("t", "x")], 1, 1.0), v2.metadata(1, "h"))
    v2.add(pairs[:1], [], field(3, histogram))
    unpacked = field(4, b"") + field(4, b"a") + field(5, b"\x08\x01\x08\x01" + field(2, b""))
    return [
        (1, b""),
        (1, series_bytes(pairs, [(1, 1.0), (-(2**62), float("nan"))])),
        (1, field(1, labels_bytes(pairs) + field(4, histogram) + exemplar) + metadata),
        (1, field(1, mixed)),
        (1, varint(99 << 3) + varint(7) + field(98, b"x") + varint(97 << 3 | 5) + b"1234"),
        (1, b"\x0a\x7f\x0a"),
        (1, b"\x0a\x02\x0a\x7f"),
        (1, b"\x0a\x04\x12\x02\x09\x00"),
        (1, b"\x0a" + b"\xff" * 9 + b"\x7f"),
        (1, field(1, b"\x0a" + b"\xff" * 9 + b"\x01")),
        (2, b""),
        (2, v2.encoded()),
        (2, unpacked),
        (2, field(5, b"\x08")),
        (2, field(5, field(1, b"\xff\xff"))),
    ]


CORPUS = corpus()


def mutated(body: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes replaced, cut or repeated."""
    place = st.integers(0, len(body))
    return st.builds(
        lambda a, b, junk: body[: min(a, b)] + junk + body[max(a, b) :],
        place,
        place,
        st.binary(max_size=12),
    )


messages = st.sampled_from(CORPUS).flatmap(
    lambda entry: st.tuples(st.just(entry[0]), mutated(entry[1]) | st.binary(max_size=80))
)


def scans_alike(version: int, data: bytes, room: Sequence[int]) -> None:
    view = np.frombuffer(data, dtype=np.uint8)
    compiled, by_hand = scanner.sized(room), scanner.sized(room)
    code = scanner.scan(view, compiled, version)
    with np.errstate(over="ignore"):
        assert PLAIN_SCANNER.scan(Guarded(view), guarded(by_hand), version) == code
    if code == fields.OK:
        counts = compiled.counts.tolist()
        kept = scanner.cut(compiled, [min(pair) for pair in zip(counts, room, strict=True)])
        other = scanner.cut(by_hand, [min(pair) for pair in zip(counts, room, strict=True)])
        assert by_hand.counts.tolist() == counts
        for one, two in zip(kept, other, strict=True):
            assert np.array_equal(one, two)


@pytest.mark.parametrize(("version", "data"), CORPUS)
def test_the_corpus_is_scanned_within_bounds(version: int, data: bytes) -> None:
    for room in ([0] * 6, [1] * 6, [9] * 6):
        scans_alike(version, data, room)
    for end in range(len(data)):
        scans_alike(version, data[:end], [2] * 6)


@settings(max_examples=400)
@given(messages, st.lists(st.integers(0, 4), min_size=6, max_size=6))
def test_any_message_is_scanned_within_bounds(message: tuple[int, bytes], room: list[int]) -> None:
    scans_alike(*message, room)


# Two vectors of the reference implementation: both seeds 0, its own multipliers.
@pytest.mark.parametrize(
    ("text", "high", "low"),
    [
        (b"", 0, 0),
        (
            b"The quick brown fox jumps over the lazy dog",
            0xE34BBC7BBC071B6C,
            0x7A433CA9C49A9347,
        ),
    ],
)
def test_the_hash_is_murmur3(text: bytes, high: int, low: int) -> None:
    data = np.frombuffer(text, dtype=np.uint8)
    found = hashes.hash_bytes(data, 0, len(data), PUBLISHED)
    assert [int(half) for half in found] == [high, low]


def test_each_key_has_seeds_and_odd_multipliers_of_its_own() -> None:
    keys = [hashes.new_key() for _ in range(20)]
    assert len({int(part) for key in keys for part in key}) == 80
    assert all(int(part) % 2 for key in keys for part in key[2:])
    data = np.frombuffer(b"sixteen bytes are a block", dtype=np.uint8)
    alike = [(*PUBLISHED[:2], *key[2:]) for key in keys]
    assert len({hashes.hash_bytes(data, 0, len(data), key) for key in alike}) == 20


@settings(max_examples=150)
@given(st.binary(max_size=70), st.integers(0, 2**64 - 1), st.data())
def test_bytes_are_hashed_within_bounds(text: bytes, seed: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    view = np.frombuffer(text, dtype=np.uint8)
    key = (np.uint64(seed), np.uint64(seed ^ 1), *hashes.new_key()[2:])
    with np.errstate(over="ignore"):
        by_hand = PLAIN_HASH.hash_bytes(Guarded(view), start, end, key)
    compiled = hashes.hash_bytes(view, start, end, key)
    assert [int(half) for half in by_hand] == [int(half) for half in compiled]


@settings(max_examples=150)
@given(st.lists(st.integers(-2, 5), max_size=12), st.data())
def test_references_are_hashed_within_bounds(places: list[int], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(places)), max_size=3)))
    bounds = [0, *cuts, len(places)]
    series = np.array(list(pairwise(bounds)), dtype=np.int64)
    references = np.array(places, dtype=np.int64)
    symbols = np.arange(8, dtype=np.uint64).reshape(4, 2)
    one, two = np.zeros((len(series), 2), np.uint64), np.zeros((len(series), 2), np.uint64)
    key = hashes.new_key()
    with np.errstate(over="ignore"):
        by_hand = PLAIN_HASH.hash_references(
            Guarded(references), Guarded(series), Guarded(symbols), key, Guarded(two)
        )
    assert hashes.hash_references(references, series, symbols, key, one) == by_hand
    assert np.array_equal(one, two)


few_hashes = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=40)


@settings(max_examples=150)
@given(few_hashes, few_hashes)
def test_a_table_finds_what_was_added_and_nothing_else(
    added: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    """Keys that share a slot, and keys that share a half, are told apart."""
    distinct = list(dict.fromkeys(added))
    table = hash_table.HashTable()
    for first in range(0, len(distinct), 7):
        part = distinct[first : first + 7]
        values = np.arange(first, first + len(part), dtype=np.int32)
        table.add(np.array(part, dtype=np.uint64).reshape(-1, 2), values)
    wanted = [distinct.index(key) if key in distinct else -1 for key in asked]
    hashes = np.array(asked, dtype=np.uint64).reshape(-1, 2)
    found, missing = table.find(hashes)
    assert found.tolist() == wanted
    assert missing == wanted.count(-1)
    arrays = table._arrays
    out = np.zeros(len(asked), dtype=np.int32)
    look_up = PLAIN_TABLE._look_up
    tables = (Guarded(arrays.slots), Guarded(arrays.keys), Guarded(arrays.values))
    assert look_up(Guarded(hashes), *tables, Guarded(out)) == missing
    assert out.tolist() == wanted


def test_a_table_grows_and_keeps_what_it_has() -> None:
    table = hash_table.HashTable()
    keys = np.random.default_rng(1).integers(0, 2**63, (5_000, 2), dtype=np.uint64)
    for first in range(0, 5_000, 500):
        table.add(keys[first : first + 500], np.arange(first, first + 500, dtype=np.int32))
    assert len(table) == 5_000
    found, missing = table.find(keys)
    assert (found.tolist(), missing) == (list(range(5_000)), 0)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(-3, 6), st.integers(0, 1)), max_size=30))
def test_distinct_series_are_numbered_as_they_come(rows: list[tuple[int, int]]) -> None:
    refs = np.array([ref for ref, _ in rows], dtype=np.int32)
    items = np.array([count for _, count in rows], dtype=np.int64)
    order = list(dict.fromkeys(ref for ref, count in rows if ref >= 0 and count))
    wanted = [order.index(ref) if ref >= 0 and count else -1 for ref, count in rows]
    for distinct, wrap in ((label_table._distinct, np.asarray), (PLAIN_LABELS._distinct, Guarded)):
        places, out = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)
        seen = hash_table.slots_for(len(rows))
        count = distinct(wrap(refs), wrap(items), wrap(seen), wrap(places), wrap(out))
        assert out[:count].tolist() == order
        assert places.tolist() == wanted


@settings(max_examples=200)
@given(st.binary(max_size=24), st.data())
def test_metadata_is_read_within_bounds(text: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    view = np.frombuffer(text, dtype=np.uint8)
    one, two = np.zeros(4, np.int64), np.zeros(4, np.int64)
    with np.errstate(over="ignore"):
        by_hand = PLAIN_METADATA._said(Guarded(view), start, end, Guarded(two))
    assert metadata_v2._said(view, start, end, one) == by_hand
    assert one.tolist() == two.tolist()


def test_a_read_past_the_end_would_show() -> None:
    view = Guarded(np.zeros(3, dtype=np.uint8))
    with np.errstate(over="ignore"), pytest.raises(AssertionError, match="3 of 3"):
        PLAIN_HASH.hash_bytes(view, 0, 4, PUBLISHED)
    with pytest.raises(AssertionError, match="-1 of 3"):
        view[-1]
    assert not hasattr(PLAIN_SCANNER.scan, "py_func")
