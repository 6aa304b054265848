"""The pages of the documentation: their code blocks, headings and links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from typing_extensions import override

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^(?:<!-- example: ?(?P<given>[\w, ]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A code block. `given` are the names that a marked example expects; None is no mark."""

    page: Path
    line: int
    language: str
    text: str
    given: tuple[str, ...] | None

    @override
    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def pages() -> tuple[Path, ...]:
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    return tuple(sorted([*found, *(ROOT / "examples").rglob("*.md")]))


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    return [block for page in pages() for block in _blocks(page) if block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        given = match["given"]
        names = None if given is None else tuple(re.findall(r"\w+", given))
        line = text.count("\n", 0, match.start("text")) + 1
        yield Block(page, line, match["language"], match["text"], names)


def without_blocks(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    return _LINK.findall(re.sub(r"`[^`\n]*`", "", without_blocks(page)))


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of the headings."""
    found = set()
    for heading in _HEADING.findall(without_blocks(page)):
        plain = re.sub(r"[^\w\- ]", "", heading.lower()).strip()
        found.add(plain.replace(" ", "-"))
    return found


def headings(name: str) -> set[str]:
    return set(_HEADING.findall(without_blocks(ROOT / name)))


def rows(name: str) -> dict[str, str]:
    """Every code word in the first column of a page's tables, with the rest of its row."""
    found = {}
    for line in without_blocks(ROOT / name).splitlines():
        if line.startswith("|"):
            first, _, rest = line.strip("|").partition("|")
            found.update(dict.fromkeys(re.findall(r"`([^`]+)`", first), rest.strip()))
    return found
