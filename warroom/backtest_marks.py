"""Marked incidents for `warroom backtest`: a YAML or CSV file, or the incidents of the state."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from alerts.incident_log.repository import IncidentRepository
from store.documents import parse_document
from store.errors import BadInput
from store.sql import SessionFactory
from warroom.backtest_score import Mark

MAX_MARKS = 10_000
_MAX_BYTES = 4_000_000
_FIELDS = frozenset({"from", "to", "title", "service"})


def read_marks(path: Path) -> list[Mark]:
    """Marks of a file: CSV with a header line where the name ends so, else YAML.

    Raises:
        BadInput: The file cannot be read, or an entry makes no sense.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadInput(f"{path} is larger than {_MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"{path} cannot be read: {exc}", hint="see --incidents") from exc
    rows = _csv_rows(text) if path.suffix.lower() == ".csv" else _yaml_rows(text, path.name)
    marks = [_mark(row, f"{path.name}, entry {place}") for place, row in enumerate(rows, start=1)]
    if len(marks) > MAX_MARKS:
        raise BadInput(f"{path} has more than {MAX_MARKS} incidents")
    return marks


def marks_of_state(sessions: SessionFactory, start_ms: int, end_ms: int) -> list[Mark]:
    """The incidents that Warroom itself kept, which began between two times."""
    incidents = IncidentRepository(sessions).incidents(limit=MAX_MARKS)
    return [
        Mark(one.started_ms, one.resolved_ms or end_ms, one.title)
        for one in reversed(incidents)
        if start_ms <= one.started_ms <= end_ms
    ]


def _csv_rows(text: str) -> list[Mapping[str, Any]]:
    return [dict(row) for row in csv.DictReader(io.StringIO(text))]


def _yaml_rows(text: str, name: str) -> list[Mapping[str, Any]]:
    data = parse_document(text, name).data
    found = data.get("incidents") if isinstance(data, Mapping) else data
    if not isinstance(found, list) or not all(isinstance(row, Mapping) for row in found):
        raise BadInput(
            f"{name} is no list of incidents", hint="- {from: …, to: …, title: …, service: …}"
        )
    return found


def _mark(row: Mapping[str, Any], where: str) -> Mark:
    unknown = sorted(str(name) for name in row if name not in _FIELDS)
    if unknown:
        raise BadInput(f"{where} has {unknown[0]!r}", hint=_known(_FIELDS))
    start_ms, end_ms = (_time_ms(row.get(name), f"{where}: {name}") for name in ("from", "to"))
    if end_ms < start_ms:
        raise BadInput(f"{where} ends before it begins")
    return Mark(start_ms, end_ms, str(row.get("title") or ""), str(row.get("service") or ""))


def _time_ms(value: object, where: str) -> int:
    """YAML reads times itself; one without a zone is UTC."""
    try:
        if isinstance(value, datetime):
            at = value
        elif isinstance(value, date):
            at = datetime(value.year, value.month, value.day, tzinfo=UTC)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return round(value * 1_000)
        elif isinstance(value, str) and value.strip().isdecimal():
            return int(value) * 1_000
        else:
            at = datetime.fromisoformat(str(value).strip())
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return round(at.timestamp() * 1_000)
    except (ValueError, OverflowError) as exc:
        raise BadInput(f"{where} is {value!r}", hint="write 2026-11-27T10:00:00Z") from exc


def _known(names: Iterable[str]) -> str:
    return f"known here: {', '.join(sorted(names))}"
