"""YAML with line numbers: the quick parser and PyYAML's own say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from store import documents
from store.documents import Document, parse_documents
from store.errors import ConfigError

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for room in ("alerts", "detectors", "dashboards", "docs", "examples", "slos", "tests")
    for pattern in ("*.yml", "*.yaml")
    for path in (ROOT / room).rglob(pattern)
    if "node_modules" not in path.parts
)
PIECES = [
    "a", "b: 1", "- ", "  ", "\n", "\n  ", ": ", "? ", "[", "]", "{", "}", ", ", "#", " # x", "&a ",
    "*a", "!t ", "|\n  x", ">-\n  y", "'q'", '"d\\n"', "---\n", "...\n", "%", "@", "\t", "é", "\r",
    "\u2028", "a!=b", "{{ $x }}", "2026-11-27", "0x1f", "<<: *a", "~",
]  # fmt: skip


def outcome(text: str) -> list[Document] | str:
    try:
        return parse_documents(text, "x.yml")
    except ConfigError as exc:
        return str(exc)


def slowly(text: str) -> list[Document] | str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "QUICK", False)
        return outcome(text)


def test_the_quick_parser_is_there() -> None:
    assert documents.QUICK


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_of_ours_is_read_the_same_by_both_parsers(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = outcome(text)
    assert repr(found) == repr(slowly(text))


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_text_is_read_or_refused_the_same_by_both_parsers(text: str) -> None:
    assert repr(outcome(text)) == repr(slowly(text))


_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_VALUES, st.booleans())
def test_any_data_comes_back_with_the_same_lines_from_both_parsers(value: Any, flow: bool) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    assert repr(outcome(text)) == repr(slowly(text))


@pytest.mark.parametrize("text", ["[" * 20_000, "- " * 20_000, "{a: " * 2_000])
def test_nesting_without_end_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_documents(text, "deep.yml")


def test_a_bomb_of_aliases_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_VALUES", 10_000)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 10,000 values"):
        parse_documents("\n".join(lines), "bomb.yml")
