"""Every kind of finding has its section, with all that a reader needs to judge it."""

import re

import pytest

from detectors.registry import DetectorSettings
from tests.docs.pages import text_of

PARTS = ("What", "Why", "Maths", "Parameters", "Example", "Known false alarms", "Reference")


def sections() -> dict[str, str]:
    """The text under each heading of the third level that names one kind."""
    parts = re.split(r"^### `?(\w+)`?$", text_of("docs/detectors.md"), flags=re.MULTILINE)
    return {
        kind: re.split(r"^##? ", text, maxsplit=1, flags=re.MULTILINE)[0]
        for kind, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def kinds() -> list[str]:
    return sorted(DetectorSettings().kinds())


@pytest.mark.parametrize("kind", kinds())
def test_a_kind_has_its_seven_parts(kind: str) -> None:
    text = sections()[kind]
    for part in PARTS:
        told = re.search(rf"\*\*{part}\.\*\*\s+\S", text)
        assert told, f"docs/detectors.md: {kind} lacks **{part}.**"
