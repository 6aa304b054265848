"""Board files: the shipped ones parse, and every mistake is named with its line and a way out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.boards import KINDS, BoardError, parse_board, shipped_boards

MINIMAL = """\
name: mine
title: Mine
range: 30m
rows:
  - title: One
    panels:
      - {id: a, kind: stat, title: A, unit: s, span: 4, kpi: order_rate}
      - {id: b, kind: timeseries, query: up, options: {limit: 3}}
"""


def test_the_shipped_boards_parse_and_carry_their_own_names() -> None:
    boards = {name: parse_board(text, f"{name}.yaml") for name, text in shipped_boards().items()}
    assert {"war-room", "business"} <= set(boards)
    for name, board in boards.items():
        assert board.name == name
    wall = {panel.kind for panel in boards["war-room"].panels()}
    assert wall == KINDS
    assert [p.kpi for p in boards["war-room"].rows[0].panels if p.kind == "stat"] == [
        "order_rate",
        "revenue_per_minute",
        "payment_success",
        "checkout_abandonment",
    ]


def test_every_row_of_the_shipped_boards_fills_whole_lines() -> None:
    for text in shipped_boards().values():
        for row in parse_board(text, "x").rows:
            width = sum(p.span for p in row.panels if "place" not in p.options)
            assert width % 12 == 0


def test_the_shipped_queries_are_promql() -> None:
    parser = pytest.importorskip("promql_parser")
    for text in shipped_boards().values():
        for panel in parse_board(text, "x").panels():
            exprs = [query.expr for query in panel.queries]
            exprs += [panel.options["spark"]] if panel.kpi else []
            for expr in exprs:
                assert parser.parse(expr) is not None


def test_a_board_keeps_what_was_written() -> None:
    board = parse_board(MINIMAL, "mine.yaml")
    stat, chart = board.panels()
    assert (board.name, board.title, board.range_ms) == ("mine", "Mine", 1_800_000)
    assert (stat.id, stat.span, stat.unit, stat.kpi) == ("a", 4, "s", "order_rate")
    assert (chart.span, chart.queries[0].expr, dict(chart.options)) == (4, "up", {"limit": 3})


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("name: mine", "nam: mine", 1, r"no key 'nam'.*did you mean 'name'"),
        ("name: mine", "name: Mine Board", 1, "does not fit a URL"),
        ("range: 30m", "range: 30", 3, "not a range.*15m"),
        ("range: 30m", "range: 90d", 3, "not a range"),
        ("kind: stat", "kind: stats", 7, "did you mean 'stat'"),
        ("span: 4", "span: 13", 7, "not a width.*1 to 12"),
        ("span: 4", "span: -1", 7, "not a width"),
        ("kpi: order_rate", "queries: [{expr: a}, {expr: b}]", 7, "shows one query"),
        (", kpi: order_rate", "", 7, "needs a source"),
        ("query: up,", "", 8, "needs a query"),
        ("kind: timeseries", "kind: alerts", 8, "takes no query"),
        ("id: b", "id: a", 5, "two panels have the id 'a'"),
        ("options: {limit: 3}", "options: 3", 8, "not a mapping"),
        ("query: up", "queries: up", 8, "not a list"),
        ("query: up", "query: [up]", 8, "text was expected"),
        ("title: Mine", "name: again", 2, "stands twice"),
        ("rows:", "row:", 4, "did you mean 'rows'"),
        ("range: 30m", "range: [", None, "not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_a_way_out(
    old: str, new: str, line: int | None, problem: str
) -> None:
    with pytest.raises(BoardError, match=problem) as caught:
        parse_board(MINIMAL.replace(old, new), "boards/mine.yaml")
    assert caught.value.file == "boards/mine.yaml"
    assert str(caught.value).startswith("boards/mine.yaml:")
    if line is not None:
        assert caught.value.line == line
        assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "[]", "rows: []\nname: x", "name: x", "- a\n---\n- b", "&a [*a]"]
)
def test_what_is_no_board_is_refused(text: str) -> None:
    with pytest.raises(BoardError):
        parse_board(text, "x.yaml")


def test_a_board_is_bounded() -> None:
    panels = "\n".join(f"      - {{id: p{i}, kind: alerts}}" for i in range(121))
    with pytest.raises(BoardError, match="may have 120"):
        parse_board(f"name: x\nrows:\n  - panels:\n{panels}\n", "x.yaml")
    with pytest.raises(BoardError, match="bytes"):
        parse_board("#" * 300_000, "x.yaml")


@given(st.text(max_size=400))
def test_any_text_is_a_board_or_a_named_mistake(text: str) -> None:
    _is_board_or_named_mistake(text)


@given(st.integers(0, len(MINIMAL) - 1), st.characters())
def test_one_wrong_character_is_a_board_or_a_named_mistake(place: int, char: str) -> None:
    text = MINIMAL[:place] + char + MINIMAL[place + 1 :]
    _is_board_or_named_mistake(text)


def _is_board_or_named_mistake(text: str) -> None:
    try:
        said = ""
        assert parse_board(text, "x.yaml").name
    except BoardError as error:
        said = str(error)
    assert re.match(r"$|x\.yaml(:\d+)?: ", said)
