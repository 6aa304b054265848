from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warroom.world import IN_MEMORY, RULES, SLO, World, open_world

CONFIGURATION = f"{IN_MEMORY}rule_files: [rules.yml]\nslo_files: [slo.yml]\n"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A service with one alerting rule and one SLO; nothing has happened yet."""
    with open_world(tmp_path, CONFIGURATION, {"rules.yml": RULES, "slo.yml": SLO}) as opened:
        yield opened
