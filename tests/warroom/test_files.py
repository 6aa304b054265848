"""What `warroom.yaml` and the files beside it say, as far as the composition root reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import ConfigError
from tests.warroom.world import IN_MEMORY, open_world, settings_of
from warroom.boards import read_boards
from warroom.watch import business_settings, detector_settings

BOARD = """
name: {name}
title: {title}
rows:
  - panels:
      - {{id: orders, kind: stat, title: Orders, query: orders}}
"""


def test_the_business_section_reaches_the_business_metrics(tmp_path: Path) -> None:
    text = """
business:
  currency: CHF
  time_zone: Europe/Zurich
  checkout_timeout: 45m
  calendar:
    - {name: black-friday, first: 2026-11-27, last: 2026-11-30}
    - {name: singles-day, first: 2026-11-11}
"""
    business = business_settings(settings_of(tmp_path, text))
    assert (business.currency, business.time_zone) == ("CHF", "Europe/Zurich")
    assert business.checkout_timeout_s == 2_700
    assert [(s.name, (s.last - s.first).days) for s in business.calendar] == [
        ("black-friday", 3),
        ("singles-day", 0),
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("business:\n  currency: EUR\n  curency: EUR\n", 3, "known here: currency"),
        ("business:\n  checkout_timeout: half an hour\n", 2, "write it like"),
        ("business:\n  currency: EUR\n  time_zone: Europe/Atlantis\n", 3, "Atlantis"),
        ("business:\n  currency: EUR\n  alpha: 7\n", 3, "alpha"),
    ],
)
def test_a_mistake_in_the_business_section_has_its_line(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        business_settings(settings_of(tmp_path, text))
    assert caught.value.line == line
    assert caught.value.file.endswith("warroom.yaml")


def test_a_mistake_in_the_detectors_section_has_its_line(tmp_path: Path) -> None:
    text = "detectors:\n  n_plus_one_query:\n    min_repetitons: 5\n"
    with pytest.raises(ConfigError, match="min_repetitons") as caught:
        detector_settings(settings_of(tmp_path, text))
    assert caught.value.line == 3


def test_own_boards_stand_beside_the_shipped_ones(tmp_path: Path) -> None:
    files = {"boards/own.yaml": BOARD.format(name="own", title="Own")}
    boards = read_boards(settings_of(tmp_path, "boards_dir: boards\n", files))
    assert set(boards) >= {"war-room", "business", "own"}
    assert boards["own"].board.panels[0].id == "orders"


def test_an_own_board_replaces_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    files = {"boards/wall.yaml": BOARD.format(name="war-room", title="Ours")}
    with open_world(tmp_path, f"{IN_MEMORY}boards_dir: boards\n", files) as world:
        assert world.get("/boards/war-room")["title"] == "Ours"
        names = [board["name"] for board in world.get("/boards")["boards"]]
        assert names.count("war-room") == 1


def test_a_mistake_in_an_own_board_has_its_file_and_line(tmp_path: Path) -> None:
    broken = BOARD.format(name="own", title="Own").replace("stat", "pie")
    settings = settings_of(tmp_path, "boards_dir: boards\n", {"boards/own.yaml": broken})
    with pytest.raises(ConfigError, match="kind") as caught:
        read_boards(settings)
    assert caught.value.file.endswith("own.yaml")
    assert caught.value.line == 6


def test_an_alertmanager_file_and_an_inline_one_exclude_each_other(tmp_path: Path) -> None:
    text = "alertmanager_file: a.yml\nalerting: {route: {receiver: x}}\n"
    with pytest.raises(ConfigError, match="not both") as caught:
        settings_of(tmp_path, text, {"a.yml": "route: {receiver: x}\n"})
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("rules.yml", "groups:\n  - name: a\n    rules:\n      - {alert: A, expr: 'sum(('}\n", "A"),
        ("slo.yml", "kind: SLO\n", "slo.yml"),
        ("alerts.yml", "route: {receiver: nobody}\nreceivers: []\n", "nobody"),
    ],
)
def test_a_mistake_in_a_file_stops_the_start_and_names_the_file(
    tmp_path: Path, file: str, text: str, words: str
) -> None:
    configuration = (
        f"{IN_MEMORY}rule_files: [rules.yml]\nslo_files: [slo.yml]\nalertmanager_file: alerts.yml\n"
    )
    files = {
        "rules.yml": "groups: []\n",
        "slo.yml": "",
        "alerts.yml": "route: {receiver: desk}\nreceivers: [{name: desk}]\n",
    }
    with (
        pytest.raises(ConfigError, match=words) as caught,
        open_world(tmp_path, configuration, {**files, file: text}),
    ):
        raise AssertionError("it started")
    assert Path(caught.value.file).name == file
