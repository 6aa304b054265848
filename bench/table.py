"""What a benchmark says: rows of values by target, rendered for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

OURS = "warroom"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of each target; a target that has none is absent."""

    what: str
    unit: str
    better: Literal["more", "less"]
    values: Mapping[str, float]

    def ratio(self, peer: str) -> float | None:
        """How many times better we are than the peer; below 1 is worse."""
        ours, theirs = self.values.get(OURS), self.values.get(peer)
        if not ours or not theirs:
            return None
        return ours / theirs if self.better == "more" else theirs / ours


@dataclass(frozen=True, slots=True)
class Table:
    """A benchmark's answer, and how busy the machine was."""

    name: str
    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    load_before: float = 0.0
    load_after: float = 0.0
    took_s: float = 0.0

    def during(self, before: float, after: float, took_s: float) -> Table:
        return replace(self, load_before=before, load_after=after, took_s=took_s)

    def as_json(self) -> dict[str, object]:
        rows = [
            {
                "what": row.what,
                "unit": row.unit,
                "better": row.better,
                "values": dict(row.values),
                "ratios": {
                    peer: row.ratio(peer) for peer in row.values if peer != OURS and row.ratio(peer)
                },
            }
            for row in self.rows
        ]
        return {
            "name": self.name,
            "title": self.title,
            "rows": rows,
            "notes": list(self.notes),
            "load": [self.load_before, self.load_after],
            "took_s": self.took_s,
        }


def markdown(table: Table, targets: Sequence[str]) -> str:
    """A table as Markdown; it reads well in a terminal too. Peers that are no server come last."""
    named = dict.fromkeys([*targets, *(name for row in table.rows for name in row.values)])
    present = [name for name in named if any(name in row.values for row in table.rows)]
    peers = [name for name in present if name != OURS]
    head = ["what", "unit", *present, *(f"× {peer}" for peer in peers)]
    lines = [head, *(_cells(row, present, peers) for row in table.rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    numeric = [place > 1 for place in range(len(head))]
    rule = [
        "-" * (width - 1) + (":" if right else "-")
        for width, right in zip(widths, numeric, strict=True)
    ]
    body = [lines[0], rule, *lines[1:]]
    text = [f"## {table.title}", ""]
    text += ["| " + " | ".join(_padded(line, widths, numeric)) + " |" for line in body]
    text += ["", *(f"- {note}" for note in table.notes)]
    text.append(
        f"- Load average {table.load_before:.1f} before, {table.load_after:.1f} after;"
        f" took {table.took_s:.0f} s."
    )
    return "\n".join(text) + "\n"


def _cells(row: Row, present: Sequence[str], peers: Sequence[str]) -> list[str]:
    values = [number(row.values[name]) if name in row.values else "" for name in present]
    ratios = [row.ratio(peer) for peer in peers]
    return [row.what, row.unit, *values, *map(_ratio, ratios)]


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return number(ratio) if ratio >= 100 else f"{ratio:.2f}"


def _padded(line: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> list[str]:
    return [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(line, widths, numeric, strict=True)
    ]


def number(value: float) -> str:
    """Three significant digits, thousands set apart.

    >>> number(1234567.0), number(12.345), number(0.01234)
    ('1,234,567', '12.3', '0.0123')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
