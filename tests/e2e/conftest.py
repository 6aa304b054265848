from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import PagerDuty, Warroom


@pytest.fixture
def warroom(tmp_path: Path) -> Iterator[Warroom]:
    service = Warroom(tmp_path)
    yield service
    service.stop()


@pytest.fixture
def pagerduty() -> Iterator[PagerDuty]:
    double = PagerDuty()
    double.start()
    yield double
    double.stop()
