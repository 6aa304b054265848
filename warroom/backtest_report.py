"""The report of `warroom backtest`, for people (80 columns) and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from store.timestamps import rfc3339
from warroom.backtest_score import DAY_MS, Episode, Figures, Mark, by_unit, figures, hits, missed

STATE_FILE = "state.db"
_NAME = 34
_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Report:
    """What was replayed, against what, and what fired.

    Attributes:
        source: Where `marks` are from; empty where none could be read.
    """

    start_ms: int
    end_ms: int
    step_ms: int
    source: str
    marks: tuple[Mark, ...]
    episodes: Sequence[Episode]

    @property
    def days(self) -> float:
        return (self.end_ms - self.start_ms) / DAY_MS

    @property
    def rows(self) -> list[Figures]:
        return by_unit(self.episodes, self.marks, self.days)

    @property
    def total(self) -> Figures:
        return figures("all together", self.episodes, self.marks, self.days)


def as_json(report: Report, failures: Mapping[str, str]) -> dict[str, Any]:
    """Everything, with times in RFC 3339."""
    return {
        "from": rfc3339(report.start_ms),
        "to": rfc3339(report.end_ms),
        "step_seconds": report.step_ms / 1_000,
        "days": report.days,
        "incidents_from": report.source or None,
        "incidents": [_mark_json(mark) for mark in report.marks],
        "missed": [_mark_json(mark) for mark in missed(report.episodes, report.marks)],
        "total": asdict(report.total),
        "units": [asdict(row) for row in report.rows],
        "alerts": [_episode_json(episode, report.marks) for episode in report.episodes],
        "failures": dict(failures),
    }


def as_text(report: Report, failures: Mapping[str, str], *, listed: bool) -> Iterator[str]:
    """The same, to read."""
    yield (
        f"{_minute(report.start_ms)} to {_minute(report.end_ms)} UTC: {report.days:.2f} days, "
        f"a tick each {report.step_ms / 1_000:g} s"
    )
    yield _against(report)
    yield ""
    yield f"{'rule or detector':<{_NAME}} alerts pages  a day right prec. found  delay"
    for row in (*report.rows, report.total):
        yield _row(row, len(report.marks))
    for mark in missed(report.episodes, report.marks):
        yield _cut(f"missed: {_minute(mark.start_ms)} {mark.title}")
    for unit, error in sorted(failures.items()):
        yield _cut(f"failed: {unit}: {error}")
    if listed:
        yield ""
        for episode in report.episodes:
            yield from _listed(episode, report.marks)


def _against(report: Report) -> str:
    if not report.source:
        return f"incidents were not read: no {STATE_FILE} in use here; give --incidents FILE"
    return f"against {len(report.marks)} marked incidents ({report.source})"


def _row(row: Figures, marks: int) -> str:
    precision = "-" if row.precision is None else f"{row.precision:.0%}"
    found = f"{row.found}/{marks}" if marks else "-"
    return (
        f"{_cut(row.unit, _NAME):<{_NAME}} {row.alerts:>6} {row.pages:>5} {row.pages_a_day:>6.1f} "
        f"{row.right:>5} {precision:>5} {found:>5} {_delay(row.delay_s):>6}"
    )


def _listed(episode: Episode, marks: Sequence[Mark]) -> Iterator[str]:
    sign = "page" if episode.pages else episode.severity
    right = "" if not marks else ("  right" if _is_right(episode, marks) else "  false")
    ended = "still firing" if episode.ended_ms is None else f"to {_second(episode.ended_ms)}"
    yield _cut(f"{_second(episode.fired_ms)} {sign:<6} {episode.unit}, {ended}{right}")
    yield _cut(f"    {episode.title}")


def _is_right(episode: Episode, marks: Sequence[Mark]) -> bool:
    return any(hits(episode, mark) for mark in marks)


def _delay(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f}s" if seconds < 120 else f"{seconds / 60:.0f}m"


def _cut(text: str, width: int = _WIDTH) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _minute(at_ms: int) -> str:
    return rfc3339(at_ms)[:16].replace("T", " ")


def _second(at_ms: int) -> str:
    return rfc3339(at_ms)[5:19].replace("T", " ")


def _mark_json(mark: Mark) -> dict[str, Any]:
    return {
        "from": rfc3339(mark.start_ms),
        "to": rfc3339(mark.end_ms),
        "title": mark.title,
        "service": mark.service,
    }


def _episode_json(episode: Episode, marks: Sequence[Mark]) -> dict[str, Any]:
    return {
        "unit": episode.unit,
        "title": episode.title,
        "service": episode.service,
        "severity": episode.severity,
        "pages": episode.pages,
        "fired_at": rfc3339(episode.fired_ms),
        "ended_at": rfc3339(episode.ended_ms) if episode.ended_ms is not None else None,
        "right": _is_right(episode, marks) if marks else None,
    }
