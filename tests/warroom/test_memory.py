"""What the process holds, and what it may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from warroom.memory import releaser, resident_bytes, usable_bytes


def test_what_is_held_follows_what_is_allocated() -> None:
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


def test_giving_back_is_harmless() -> None:
    release = releaser()
    release()
    release()
