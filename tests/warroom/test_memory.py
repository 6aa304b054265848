"""What the process holds, and what it may."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from warroom.memory import releaser, resident_bytes, usable_bytes


def test_what_is_held_follows_what_is_allocated() -> None:
    gc.collect()  # or it could free something else between the two looks
    before = resident_bytes()
    held = np.ones(8_000_000)
    assert resident_bytes() - before > held.nbytes * 0.8


@pytest.mark.parametrize(
    ("text", "expected"), [("1000000\n", 1_000_000), ("max\n", None), ("", None)]
)
def test_a_container_may_use_no_more_than_it_was_given(
    tmp_path: Path, text: str, expected: int | None
) -> None:
    file = tmp_path / "memory.max"
    file.write_text(text, encoding="ascii")
    machine = usable_bytes(())
    assert machine > 10**8
    assert usable_bytes((tmp_path / "missing", file)) == (expected or machine)


def test_what_was_freed_is_given_back_and_what_is_used_is_not() -> None:
    """Blocks below the C library's mmap threshold stay in its heap when they are freed.

    Of every thousand one is kept, so that the heap cannot simply become shorter from its end.
    """
    release = releaser()
    blocks = [bytearray(b"x" * 32_000) for _ in range(6_000)]
    kept = blocks[::1_000] + blocks[-1:]
    full = resident_bytes()
    del blocks
    release()
    assert full - resident_bytes() > 100_000_000
    assert all(block == b"x" * 32_000 for block in kept)


class _Ring:
    """Holds itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_what_only_the_collector_can_free_is_freed() -> None:
    ring = _Ring()
    alive = weakref.ref(ring)
    was_on = gc.isenabled()
    gc.disable()
    try:
        del ring
        assert alive() is not None
        releaser()()
        assert alive() is None
    finally:
        if was_on:
            gc.enable()
