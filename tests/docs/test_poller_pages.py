"""Every poller has a page that says what it may ask, how it is written, and what comes of it."""

from __future__ import annotations

import re
from fnmatch import fnmatch

import pytest
import yaml

from collector.poll_registry import POLLERS
from tests.docs.pages import ROOT, blocks, headings, text_of

GRANT = {"Grant", "Key"}
DETECTORS = "What the detectors make of it"
# What the names of a poller's series begin with, and where else than in its own module they stand.
PREFIXES = {
    "aws": ("aws_",),
    "celery": ("celery_", "celery_events"),
    "cloudflare": ("cloudflare_",),
    "elasticsearch": ("elasticsearch_",),
    "host": ("node_",),
    "mysql": ("mysql_",),
    "pgbouncer": ("pgbouncer_",),
    "postgresql": ("pg_",),
    "proxysql": ("proxysql_",),
    "redis": ("redis_",),
}
# Their queries are their owner's, and so are the names.
ASKED_BY_NAME = {"datadog", "newrelic", "prometheus"}
LABELS = {"mysql_user", "redis_version", "redis_build_id", "redis_mode"}
MAX_LINES = 5


def section(kind: str, heading: str) -> str:
    page = text_of(f"docs/sources/{kind}.md")
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get(heading, "").strip()


def test_every_poller_is_held() -> None:
    assert PREFIXES.keys() | ASKED_BY_NAME == POLLERS.keys()


@pytest.mark.parametrize("kind", sorted(POLLERS))
def test_the_right_it_needs_and_no_more_is_told(kind: str) -> None:
    (heading,) = headings(f"docs/sources/{kind}.md") & GRANT
    assert len(section(kind, heading)) > 20


@pytest.mark.parametrize("kind", sorted(POLLERS))
def test_a_few_lines_of_configuration_are_enough(kind: str) -> None:
    page = ROOT / "docs" / "sources" / f"{kind}.md"
    entries = [
        entry
        for block in blocks("yaml")
        if block.page == page
        for entry in yaml.safe_load(block.text).get("pollers", ())
    ]
    assert entries
    assert {entry["type"] for entry in entries} == {kind}
    needed = [entry for entry in entries if len(entry) - 2 <= MAX_LINES]
    assert needed, "the shortest example has more than five fields beside type and name"


@pytest.mark.parametrize("kind", sorted(PREFIXES))
def test_every_name_that_stands_in_the_code_stands_on_the_page(kind: str) -> None:
    prefix, *further = PREFIXES[kind]
    places = [*(ROOT / "collector" / "pollers").rglob(f"{kind}.py")]
    places += (ROOT / "collector" / "pollers" / kind).glob("*.py")
    places += [ROOT / "collector" / "polling" / f"{name}.py" for name in further]
    code = "\n".join(path.read_text(encoding="utf-8") for path in places)
    names = set(re.findall(rf'"({prefix}[a-z0-9_]*[a-z0-9])"', code))
    patterns = set(re.findall(rf"`({prefix}[a-z0-9_*]+)", section(kind, "Series")))
    assert patterns
    told = {name for name in names for pattern in patterns if fnmatch(name, pattern)}
    # A histogram's own name is none of its series'.
    told |= {name for name in names if {f"{name}_bucket", f"{name}_sum"} <= patterns}
    assert names - told - LABELS == set()


@pytest.mark.parametrize("kind", sorted(POLLERS))
def test_what_the_detectors_make_of_it_is_told(kind: str) -> None:
    told = section(kind, DETECTORS)
    assert told
    assert "detectors.md#" in told or kind in ASKED_BY_NAME
