from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warroom.units import duration_s, size_bytes

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}


@given(st.dictionaries(st.sampled_from(list(UNITS)), st.integers(0, 100), min_size=1))
def test_a_duration_is_the_sum_of_its_parts(parts: dict[str, int]) -> None:
    largest_first = sorted(parts, key=lambda unit: -UNITS[unit])
    text = "".join(f"{parts[unit]}{unit}" for unit in largest_first)
    assert duration_s(text) == pytest.approx(sum(n * UNITS[unit] for unit, n in parts.items()))


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "1.5h", "5sec", "1h30", "5S"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        duration_s(text)


def test_yes_is_neither_a_duration_nor_a_size() -> None:
    with pytest.raises(ValueError, match="no duration"):
        duration_s(True)
    with pytest.raises(ValueError, match="no size"):
        size_bytes(True)


@pytest.mark.parametrize(
    ("text", "size"),
    [("50GB", 50 * 10**9), ("1.5 kb", 1_500), ("2MiB", 2 * 2**20), ("7B", 7), (" 1TiB ", 2**40)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "50", "-1GB", "1PB", "1 G B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        size_bytes(text)


@given(st.text(max_size=20))
def test_no_text_breaks_them(text: str) -> None:
    for read in (duration_s, size_bytes):
        try:
            assert read(text) >= 0
        except ValueError:
            continue
