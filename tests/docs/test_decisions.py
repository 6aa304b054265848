"""Each decision has its four parts, and the numbers in it are those of the code."""

import re
from pathlib import Path

import promql_parser
import pyarrow as pa
import pytest

from detectors.traces.survey import GAP_NS
from store.backends.duckdb import DuckDBStore
from store.errors import QueryError
from store.model import EVENT_SCHEMA, EventBatch, Labels, Matcher, MatchOp, SampleBatch
from store.promql.parse import parse
from store.promql.printer import format_expr
from tests.docs.pages import ROOT, text_of
from warroom.config import RetentionConfig

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
DAY_MS = 86_400_000
NOW_MS = 1_795_773_600_000


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_four_parts_and_its_number(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Choice",
        "Evidence",
        "Consequence",
    ]
    assert text.startswith(f"# {page.stem[:4]}: ")


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [page.stem[:4] for page in DECISIONS] == [
        f"{number:04}" for number in range(1, len(DECISIONS) + 1)
    ]


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_the_code_that_a_decision_names_exists(page: Path) -> None:
    named = re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)+(?:\.py|/)?)`", page.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    "text", ["rate(x[5m] anchored)", "x </ 1", "x[5m + step()]", "x offset (1m+1m)", "1_000"]
)
def test_the_other_parser_still_refuses_what_ours_reads(text: str) -> None:
    assert f"`{text}`" in text_of("docs/decisions/0002-own-promql-parser.md")
    assert format_expr(parse(text))
    with pytest.raises(ValueError, match=r"."):
        promql_parser.parse(text)


def test_the_other_parser_still_misreads_without_a_word() -> None:
    assert "0.000" in str(promql_parser.parse("x @ -10"))
    assert str(promql_parser.parse("x[5m:]")) == "x{}[5m]"
    assert format_expr(parse("x[5m:]")) == "x[5m:]"
    assert str(promql_parser.parse("1e999")) == "inf"
    with pytest.raises(QueryError, match=r"1:1"):
        parse("1e999")


def test_a_gap_between_repeats_counts_half_a_millisecond_at_most() -> None:
    assert GAP_NS == 500_000


def test_registries_lie_beside_their_plug_ins() -> None:
    for package in ("alerts/notifiers", "detectors/traces/shapes", "detectors/signals"):
        assert not (ROOT / package / "registry.py").exists()
        lines = (ROOT / package / "__init__.py").read_text("utf-8").strip().splitlines()
        assert len(lines) <= 1


def event(event_id: str, ts_ms: int) -> EventBatch:
    row = {
        "event_id": event_id,
        "source": "shop",
        "type": "purchase",
        "ts_ms": ts_ms,
        "bot": False,
        "test": False,
        "received_ms": ts_ms,
    }
    return EventBatch(pa.Table.from_pylist([row], schema=EVENT_SCHEMA))


def kept(path: Path, ages_d: tuple[int, ...], max_bytes: int) -> tuple[list[int], list[int]]:
    """The ages in days of the samples and events that retention leaves."""
    retention = RetentionConfig()
    with DuckDBStore.open(path) as store:
        for age in ages_d:
            ts_ms = NOW_MS - age * DAY_MS
            rows = [(Labels.of({"__name__": "up"}), ts_ms, 1.0)]
            store.append(SampleBatch.of_rows(rows)).result(timeout=60)
            store.append(event(str(age), ts_ms)).result(timeout=60)
        raw_ms, events_ms = round(retention.raw * 1_000), round(retention.events * 1_000)
        store.retain(NOW_MS, raw_ms, max_bytes, events_ms=events_ms)
        matchers = (Matcher("__name__", MatchOp.EQUAL, "up"),)
        samples = store.select(matchers, 0, NOW_MS).ts_ms.tolist()
        events = [row["ts_ms"] for row in store.events(0, NOW_MS + 1).to_pylist()]
    return [(NOW_MS - at) // DAY_MS for at in samples], [(NOW_MS - at) // DAY_MS for at in events]


def test_events_outlive_samples(tmp_path: Path) -> None:
    assert kept(tmp_path, (401, 399, 16, 14, 0), max_bytes=0) == ([14, 0], [399, 16, 14, 0])


def test_size_takes_samples_and_never_an_event(tmp_path: Path) -> None:
    assert kept(tmp_path, (399, 14), max_bytes=1) == ([], [399, 14])
