from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warroom.world import IN_MEMORY, RULES, SLO, World, open_world

CONFIGURATION = f"{IN_MEMORY}rule_files: [rules.yml]\nslo_files: [slo.yml]\n"
FILES = {"rules.yml": RULES, "slo.yml": SLO}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A service with one alerting rule and one SLO; nothing has happened yet."""
    with open_world(tmp_path, CONFIGURATION, FILES) as opened:
        yield opened


@pytest.fixture(scope="module")
def still_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same, shared by tests that change nothing."""
    with open_world(tmp_path_factory.mktemp("still"), CONFIGURATION, FILES) as opened:
        yield opened
