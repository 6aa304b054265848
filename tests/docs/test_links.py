from pathlib import Path

import pytest

from tests.docs.pages import ROOT, anchors, links, pages

OUTSIDE = ("https://", "http://", "mailto:")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if link.startswith(OUTSIDE):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        for link in links(page):
            path = link.partition("#")[0]
            if path and not link.startswith(OUTSIDE) and path.endswith(".md"):
                waiting.append((page.parent / path).resolve())
    assert set(pages()) <= seen


def test_the_picture_of_the_wall_is_small_enough_to_load() -> None:
    picture = ROOT / "docs" / "images" / "wall.png"
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(head[16:20]) >= 1_200
    assert picture.stat().st_size < 400_000
