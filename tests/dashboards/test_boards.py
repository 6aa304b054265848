"""Board files: the shipped ones parse, and every mistake is named with its line and a way out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.boards import parse_board
from api.panels.registry import COMPUTE
from dashboards.boards import shipped_boards
from store.errors import ConfigError
from store.promql.parse import parse

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
    wall = {panel.kind for panel in boards["war-room"].panels}
    assert wall == set(COMPUTE) - {"table"}
    assert [p.kpi for p in boards["war-room"].rows[0].panels if p.kind == "stat"] == [
        "orders_per_minute",
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
    for text in shipped_boards().values():
        for panel in parse_board(text, "x").panels:
            exprs = [query.expr for query in panel.all_queries if query.expr]
            exprs += [panel.options["spark"]] if panel.kpi else []
            for expr in exprs:
                assert parse(expr) is not None


def test_a_board_keeps_what_was_written() -> None:
    board = parse_board(MINIMAL, "mine.yaml")
    stat, chart = board.panels
    assert (board.name, board.title, board.range_ms) == ("mine", "Mine", 1_800_000)
    assert (stat.id, stat.span, stat.unit, stat.kpi) == ("a", 4, "s", "order_rate")
    assert (chart.span, chart.all_queries[0].expr, chart.options) == (4, "up", {"limit": 3})


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("name: mine", "nam: mine", 1, "nam|name"),
        ("name: mine", "name: Mine Board", 1, "name"),
        ("range: 30m", "range: 30", 3, "range"),
        ("kind: stat", "kind: stats", 7, "did you mean 'stat'"),
        ("span: 4", "span: 13", 7, "span"),
        ("span: 4", "span: -1", 7, "span"),
        (", kpi: order_rate", ", queries: [{expr: a}]", 7, "kpi.*query|one .query"),
        (", kpi: order_rate", "", 7, "needs .kpi. or .query"),
        ("query: up,", "", 8, "needs .query"),
        ("kind: timeseries", "kind: alerts", 8, "takes no query"),
        ("id: b", "id: a", 1, "stand twice: a"),
        ("options: {limit: 3}", "options: 3", 8, "options"),
        ("query: up", "queries: up", 8, "queries"),
        ("title: Mine", "name: again", 2, "stands twice"),
        ("range: 30m", "rnge: 30m", 3, "did you mean 'range'"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_a_way_out(
    old: str, new: str, line: int, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_board(MINIMAL.replace(old, new), "boards/mine.yaml")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"boards/mine.yaml:{line}: ")


@pytest.mark.parametrize("text", ["", "[]", "rows: []\nname: x", "name: x", "- a\n---\n- b"])
def test_what_is_no_board_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_board(text, "x.yaml")


def test_a_board_is_bounded() -> None:
    with pytest.raises(ConfigError, match="characters"):
        parse_board("#" * 300_000, "x.yaml")
    panels = "\n".join(f"      - {{id: p{i}, kind: alerts}}" for i in range(41))
    with pytest.raises(ConfigError, match="40"):
        parse_board(f"name: x\ntitle: x\nrows:\n  - panels:\n{panels}\n", "x.yaml")


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
    except ConfigError as error:
        said = str(error)
    assert re.match(r"$|x\.yaml(:\d+)?: ", said)
