"""What every test leaves as it found it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# A busy machine is no broken law: pytest's own timeout bounds each test.
_FOR_ALL = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("warroom", _FOR_ALL)
# A change is judged by its own faults: new examples are drawn by whoever runs the tests by hand.
settings.register_profile("ci", _FOR_ALL, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "warroom")


@pytest.fixture(autouse=True)
def logs_as_they_come() -> Iterator[None]:
    """A test that runs the service in this process sets its level of logs, for all after it."""
    yield
    structlog.reset_defaults()
