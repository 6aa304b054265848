from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import Warroom


@pytest.fixture
def warroom(tmp_path: Path) -> Iterator[Warroom]:
    service = Warroom(tmp_path)
    yield service
    service.stop()
