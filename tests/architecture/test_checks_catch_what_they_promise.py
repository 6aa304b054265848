"""The checks of `make check`, each shown a planted fault in a copy of the tree."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.rooms import ROOMS, ROOT

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    skip = shutil.ignore_patterns("node_modules", "static", "web", "__pycache__", "*.nb?")
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = command
    return subprocess.run(
        [str(BIN / program), *arguments],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def planted(tree: Path, name: str, text: str) -> Path:
    path = tree / name
    path.write_text(f'"""Planted."""\n\n{text}', encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text", "contract"),
    [
        ("store/planted.py", "import detectors.finding\n", "Rooms point upstream only"),
        ("slos/planted.py", "import detectors.finding\n", "Rooms point upstream only"),
        ("api/planted.py", "import collector\n", "Only the composition root knows the collector"),
        ("alerts/planted.py", "import duckdb\n", "Database drivers live in store.backends"),
        ("alerts/planted.py", "import fastapi\n", "Web frameworks stay at the edges"),
        ("api/planted.py", "import apscheduler\n", "Only the composition root schedules"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    tree: Path, name: str, text: str, contract: str
) -> None:
    path = planted(tree, name, text)
    try:
        result = run(tree, "lint-imports", "--no-cache")
    finally:
        path.unlink()
    assert result.returncode != 0
    assert f"{contract} BROKEN" in result.stdout


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("import time\n\nNOW = time.time()\n", "TID251"),
        ("import os\n\nHOME = os.environ['HOME']\n", "TID251"),
        ("import datetime\n\nNOW = datetime.datetime.now()\n", "TID251"),
        ("print('debugging')\n", "T201"),
        ("try:\n    import json\nexcept Exception:\n    pass\n", "BLE001"),
    ],
)
def test_a_forbidden_habit_is_caught_by_the_linter(tree: Path, text: str, code: str) -> None:
    path = planted(tree, "alerts/planted.py", text)
    try:
        result = run(tree, "ruff", "check", "--no-cache", "--output-format", "concise", str(path))
    finally:
        path.unlink()
    assert result.returncode != 0
    assert code in result.stdout


def test_a_missing_annotation_is_caught_by_the_type_checker(tree: Path) -> None:
    path = planted(tree, "alerts/planted.py", "def grow(value):\n    return value + 1\n")
    try:
        result = run(tree, "mypy", "--cache-dir", str(tree / ".cache"), str(path))
    finally:
        path.unlink()
    assert result.returncode != 0
    assert "no-untyped-def" in result.stdout


def test_the_clean_tree_keeps_every_contract(tree: Path) -> None:
    result = run(tree, "lint-imports", "--no-cache")
    assert result.returncode == 0, result.stdout
