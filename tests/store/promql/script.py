"""A small test language: `load` a store, `eval` at an instant, compare with the lines below.

    load 1m
      requests_total{route="/"} 0+60x10

    eval 5m sum by (route) (rate(requests_total[5m]))
      {route="/"} 1

`a+bxn` is n+1 values, `_` no sample, `stale` a staleness marker. `fail TEXT` below an eval expects
an error holding the text; `warn TEXT` and `info TEXT` an annotation; `ordered` the lines' order.
"""

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from store.durations import parse_duration_ms
from store.model import STALE_NAN_BITS, Labels
from store.promql.numbers_text import parse_number
from store.promql.parser import parse_selector_syntax
from store.promql.testing import MemoryReader

STALE = struct.unpack("<d", struct.pack("<Q", STALE_NAN_BITS))[0]


@dataclass
class Case:
    """One eval with the data that stands before it."""

    where: str
    reader: MemoryReader
    ts_ms: int
    expr: str
    expected: list[tuple[Labels, float]] = field(default_factory=list)
    scalar: float | None = None
    fails: str = ""
    notes: list[str] = field(default_factory=list)
    ordered: bool = False


def read_cases(path: Path) -> Iterator[Case]:
    """Every eval of a file, in order."""
    reader, step_ms = MemoryReader(), 0
    case: Case | None = None
    for number, raw in enumerate(path.read_text().splitlines(), start=1):
        line = raw.strip()
        word, _, rest = line.partition(" ")
        if not line or line.startswith("#"):
            continue
        if word in ("load", "eval") and case is not None:
            yield case
            case = None
        if word == "load":
            step_ms = parse_duration_ms(rest)
        elif word == "eval":
            at, _, expr = rest.partition(" ")
            case = Case(f"{path.stem}:{number}", reader, parse_duration_ms(at), expr)
        elif case is None:
            _put(reader, line, step_ms)
        else:
            _expect(case, word, rest, line)
    if case is not None:
        yield case


def _put(reader: MemoryReader, line: str, step_ms: int) -> None:
    name, text = _two(r"(.*?\}|\S+)\s+(.*)", line)
    values = list(_values(text))
    kept = [(place * step_ms, value) for place, value in enumerate(values) if value is not None]
    reader.put(labels_of(name), [ts for ts, _ in kept], [value for _, value in kept])


def _two(pattern: str, line: str) -> tuple[str, str]:
    found = re.match(pattern, line)
    assert found is not None, line
    return found.group(1), found.group(2)


def _values(text: str) -> Iterator[float | None]:
    for word in text.split():
        found = re.fullmatch(r"(_|-?[\d.e]+)(?:([+-][\d.e]+))?x(\d+)", word)
        if word in ("_", "stale"):
            yield None if word == "_" else STALE
        elif found is None:
            yield parse_number(word) if word != "-Inf" else -math.inf
        else:
            start, step, count = found.groups()
            for place in range(int(count) + (start != "_")):
                yield None if start == "_" else float(start) + place * float(step or 0)


def labels_of(text: str) -> Labels:
    if text == "{}":
        return Labels()
    selector = parse_selector_syntax(text)
    pairs = [(matcher.name, matcher.value) for matcher in selector.matchers]
    return Labels([*pairs, ("__name__", selector.name)])


def _expect(case: Case, word: str, rest: str, line: str) -> None:
    if word == "fail":
        case.fails = rest
    elif word in ("warn", "info"):
        case.notes.append(f"PromQL {'warning' if word == 'warn' else 'info'}: {rest}")
    elif word == "ordered":
        case.ordered = True
    elif not rest:
        case.scalar = float(word)
    else:
        name, value = _two(r"(.*\}|\S+)\s+(\S+)", line)
        case.expected.append((labels_of(name), float(value)))


def close(left: float, right: float) -> bool:
    return bool(np.isclose(left, right, rtol=1e-9, atol=1e-12, equal_nan=True))
