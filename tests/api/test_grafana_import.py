"""Grafana's dashboards as boards: what is taken over, and that everything else is said."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.boards import board_yaml, parse_board
from api.grafana.importing import import_dashboard
from store.errors import WarroomError
from warroom.cli import main

Json = dict[str, Any]


def panel(kind: str, expr: str = "up", **fields: Any) -> Json:
    target = {"refId": "A", "expr": expr, "legendFormat": "{{job}}"}
    return {"id": 1, "type": kind, "title": "P", "targets": [target], **fields}


def dashboard(*panels: Json, **fields: Any) -> Json:
    return {"title": "Shop: API", "panels": list(panels), "schemaVersion": 39, **fields}


def variable(name: str, value: Any, kind: str = "query", **fields: Any) -> Json:
    return {"name": name, "type": kind, "current": {"value": value}, **fields}


def templated(expr: str, *variables: Json) -> Json:
    return dashboard(panel("timeseries", expr), templating={"list": list(variables)})


def expr_of(document: Json) -> str:
    return import_dashboard(document).board.panels[0].all_queries[0].expr


def told(document: Json) -> str:
    return "; ".join(f"{x.where}: {x.what}" for x in import_dashboard(document).not_taken_over)


def test_the_three_kinds_become_panels_with_unit_width_and_legend() -> None:
    unit = {"defaults": {"unit": "percentunit"}}
    imported = import_dashboard(
        dashboard(
            panel("timeseries", gridPos={"x": 0, "y": 0, "w": 12}, fieldConfig=unit),
            panel("stat", gridPos={"x": 12, "y": 0, "w": 6}),
            panel("table", gridPos={"x": 18, "y": 0, "w": 24}),
            time={"from": "now-6h", "to": "now"},
        )
    )
    board = imported.board
    assert (board.name, board.title, board.range) == ("shop-api", "Shop: API", "6h")
    assert [(p.kind, p.span, p.id) for p in board.panels] == [
        ("timeseries", 6, "p"),
        ("stat", 3, "p-2"),
        ("table", 12, "p-3"),
    ]
    assert board.panels[0].unit == "ratio"
    assert board.panels[0].queries[0].name == "{{job}}"
    assert imported.not_taken_over == ()
    assert parse_board(board_yaml(board), "x.yaml") == board


def test_rows_open_and_collapsed_keep_their_panels() -> None:
    inner = panel("stat") | {"title": "Inner"}
    rows = [
        {"type": "row", "title": "One", "gridPos": {"y": 0}, "panels": []},
        panel("stat", gridPos={"y": 1}),
        {"type": "row", "title": "Two", "gridPos": {"y": 9}, "collapsed": True, "panels": [inner]},
    ]
    board = import_dashboard(dashboard(*rows)).board
    assert [(row.title, len(row.panels)) for row in board.rows] == [("One", 1), ("Two", 1)]


@pytest.mark.parametrize(
    ("expr", "values", "shown"),
    [
        ('up{job="$job"}', [variable("job", "a")], 'up{job="a"}'),
        ('up{job=~"${job:regex}"}', [variable("job", ["a", "b.c"])], r'up{job=~"(a|b\\.c)"}'),
        ('up{job=~"[[job]]"}', [variable("job", "$__all")], 'up{job=~".*"}'),
        ('up{job=~"$job"}', [variable("job", ["All"], allValue="x.+")], 'up{job=~"x.+"}'),
        ("rate(a[$window])", [variable("window", "", "interval", query="2m,5m")], "rate(a[2m])"),
        ("rate(a[$__rate_interval])", [], "rate(a[5m])"),
        ("increase(a[$__range])", [], "increase(a[1h])"),
        # Several values, or all of them, where one was written.
        ('up{a="b",job="$job"}', [variable("job", ["a", "b"])], 'up{a="b",job=~"(a|b)"}'),
        ('up{job!="$job"}', [variable("job", ["a", "b"])], 'up{job!~"(a|b)"}'),
        ('up{job="$job"}', [variable("job", None, includeAll=True)], 'up{job=~".*"}'),
        # Saved without a value, as in a dashboard that was made to be shared.
        ('up{job = "$job"}', [variable("job", None)], 'up{job =~ ".*"}'),
        ('up{job=~"$job"}', [{"name": "job", "type": "query", "current": {}}], 'up{job=~".*"}'),
        # Saved as nothing: series without the label.
        ('up{cluster="$cluster"}', [variable("cluster", "")], 'up{cluster=""}'),
        # A search field that was left empty finds all.
        ('up{pod=~"$search.*"}', [variable("search", "", "textbox", query="")], 'up{pod=~".*"}'),
        (
            "rate(a[$window])",
            [variable("window", "$__auto_interval_window", "interval", query="1m,5m", auto=True)],
            "rate(a[5m])",
        ),
    ],
)
def test_variables_are_replaced_by_their_saved_values(
    expr: str, values: list[Json], shown: str
) -> None:
    assert expr_of(templated(expr, *values)) == shown


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (dashboard(panel("stat"), panel("piechart")), "kind piechart"),
        (dashboard(panel("stat"), panel("stat", datasource={"type": "loki"})), "not Prometheus"),
        (dashboard(panel("stat"), panel("stat", expr="rate(")), "no PromQL"),
        (dashboard(panel("stat"), panel("stat", expr='up{a="$b"}')), r"\$b has no single value"),
        (dashboard(panel("stat", transformations=[{"id": "x"}])), "transformations"),
        (dashboard(panel("stat", fieldConfig={"overrides": [{}]})), "overrides"),
        (dashboard(panel("gauge")), "shown as a figure"),
        (dashboard(panel("stat"), links=[{}]), "links"),
        (dashboard(panel("stat"), annotations={"list": [{"name": "Deploys"}]}), "Deploys"),
        (templated("up", variable("job", "a")), "choosing job"),
        (templated('up{job="$job"}', variable("job", None)), "values of job: .* all are shown"),
        (
            dashboard(panel("stat"), {"id": 2, "libraryPanel": {"uid": "u", "name": "Shared"}}),
            "the library panel Shared: export the dashboard with it",
        ),
        (dashboard(panel("stat", repeat="job")), "repetition by a variable"),
        (
            templated('up{job="$job:80"}', variable("job", ["a", "b"]))
            | {"panels": [panel("stat"), panel("stat", 'up{job="$job:80"}')]},
            r"\$job has no single value",
        ),
    ],
)
def test_what_is_left_behind_is_said(document: Json, reason: str) -> None:
    assert re.search(reason, told(document))


def test_a_library_panel_that_was_exported_too_is_taken_over() -> None:
    model = panel("timeseries", "rate(a[5m])") | {"title": "Model"}
    elements = {"u": {"uid": "u", "name": "Shared", "kind": 1, "model": model}}
    named = {"id": 7, "gridPos": {"w": 24}, "libraryPanel": {"uid": "u", "name": "Shared"}}
    board = import_dashboard({**dashboard(named), "__elements": elements}).board
    (shown,) = board.panels
    assert (shown.kind, shown.title, shown.span) == ("timeseries", "Model", 12)
    assert shown.all_queries[0].expr == "rate(a[5m])"


def test_titles_and_legends_say_what_was_chosen() -> None:
    document = templated("up", variable("job", ["a", "b"]), variable("zone", "$__all"))
    document["panels"] = [
        {
            "type": "row",
            "title": "$job",
            "panels": [panel("timeseries") | {"title": "${zone} $nobody"}],
        }
    ]
    board = import_dashboard(document).board
    assert board.rows[0].title == "a + b"
    assert board.panels[0].title == "all $nobody"


def test_the_unit_of_an_older_graph_is_kept() -> None:
    graph = panel("graph", yaxes=[{"format": "percentunit"}, {"format": "short"}])
    board = import_dashboard(dashboard(graph, panel("singlestat", format="bytes"))).board
    assert [one.unit for one in board.panels] == ["ratio", "bytes"]


def test_thresholds_from_good_to_bad_are_kept() -> None:
    steps = [("green", None), ("orange", 0.5), ("red", 0.9)]
    listed = [{"color": color, "value": value} for color, value in steps]
    config = {"defaults": {"thresholds": {"mode": "absolute", "steps": listed}}}
    board = import_dashboard(dashboard(panel("stat", fieldConfig=config))).board
    assert board.panels[0].options == {"warn_above": 0.5, "crit_above": 0.9}


@pytest.mark.parametrize(
    "document",
    [{}, {"panels": []}, {"elements": {}}, {"panels": "x"}, dashboard(panel("text"))],
)
def test_what_is_no_dashboard_is_refused(document: Json) -> None:
    with pytest.raises(WarroomError):
        import_dashboard(document)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
WORDS = """panels rows type title targets expr refId gridPos w y x templating list name current
value fieldConfig defaults unit thresholds steps color mode time from datasource collapsed
libraryPanel uid model __elements yaxes format includeAll allValue"""
keys = st.sampled_from(WORDS.split())
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)


@given(st.dictionaries(keys, anything, max_size=8), st.lists(anything, max_size=3))
def test_any_document_is_a_valid_board_or_an_explained_refusal(
    document: Json, panels: list[Any]
) -> None:
    real = panel("timeseries") | (panels[0] if panels and isinstance(panels[0], dict) else {})
    board = None
    with contextlib.suppress(WarroomError):
        board = import_dashboard({**document, "panels": [*panels, real]}).board
    assert board is None or parse_board(board_yaml(board), "x.yaml") == board


def test_the_command_prints_the_board_and_what_it_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "grafana.json"
    source.write_text(json.dumps({"dashboard": dashboard(panel("stat"), panel("heatmap"))}))
    assert main(["board", "import", str(source), "--name", "mine"]) == 0
    printed = capsys.readouterr()
    assert parse_board(printed.out, "x.yaml").name == "mine"
    assert "not taken over: P: a panel of the kind heatmap" in printed.err
    target = tmp_path / "mine.yaml"
    assert main(["board", "import", str(source), "--out", str(target)]) == 0
    assert parse_board(target.read_text(), "x.yaml").panels[0].kind == "stat"
    source.write_text("{")
    assert main(["board", "import", str(source)]) == 1
    assert "no JSON" in capsys.readouterr().err
