"""A small test language: `load` a store, `eval` at an instant, compare with the lines below.

    load 1m
      requests_total{route="/"} 0+60x10

    eval 5m sum by (route) (rate(requests_total[5m]))
      {route="/"} 1

`a+bxn` is n+1 values, `_` no sample, `stale` a staleness marker. `fail TEXT` below an eval expects
an error holding the text; `warn TEXT` and `info TEXT` an annotation; `ordered` the lines' order.
`{{count:3 sum:5 buckets:[1 2]}}` is a native histogram, as promqltest writes them; the hint of an
expected one is looked at where it is given.
"""

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from store.durations import parse_duration_ms
from store.histogram_sums import add
from store.histograms import Buckets, NativeHistogram, ResetHint
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
    expected: list[tuple[Labels, float | NativeHistogram]] = field(default_factory=list)
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
    name, text = _two(rf"{_SERIES}\s+(.*)", line)
    kept = [(place * step_ms, value) for place, value in enumerate(_values(text))]
    floats = [(ts, value) for ts, value in kept if isinstance(value, float)]
    histograms = [(ts, value) for ts, value in kept if isinstance(value, NativeHistogram)]
    if floats or not histograms:
        reader.put(labels_of(name), [ts for ts, _ in floats], [value for _, value in floats])
    if histograms:
        reader.put_histograms(labels_of(name), histograms)


def _two(pattern: str, line: str) -> tuple[str, str]:
    found = re.match(pattern, line)
    assert found is not None, line
    return found.group(1), found.group(2)


_SERIES = r"([^\s{]*(?:\{(?!\{).*?\})?)"
_HISTOGRAM = r"\{\{[^}]*\}\}"
_HISTOGRAMS = re.compile(rf"({_HISTOGRAM})(?:\+({_HISTOGRAM}))?(?:x(\d+))?|\S+")


def _values(text: str) -> Iterator[float | NativeHistogram | None]:
    for item in _HISTOGRAMS.finditer(text):
        if item.group(1):
            yield from _histograms(*item.groups())
        else:
            yield from _floats(item.group())


def _histograms(first: str, step: str | None, count: str | None) -> Iterator[NativeHistogram]:
    current = histogram_of(first)
    for _ in range(int(count or 0) + 1):
        yield current
        if step is not None:
            current = add(current, histogram_of(step)).histogram


def histogram_of(text: str) -> NativeHistogram:
    parts = dict(re.findall(r"(\w+):(\[[^\]]*\]|\S+)", text[2:-2]))

    def numbers(name: str) -> tuple[float, ...]:
        return tuple(map(float, parts.get(name, "[]")[1:-1].split()))

    def side(name: str, offset: str) -> Buckets:
        counts, first = numbers(name), int(parts.get(offset, 0))
        return Buckets(tuple(range(first, first + len(counts))), counts)

    return NativeHistogram(
        schema=int(parts.get("schema", 0)),
        zero_threshold=float(parts.get("z_bucket_w", 0)),
        zero_count=float(parts.get("z_bucket", 0)),
        count=float(parts.get("count", 0)),
        sum=float(parts.get("sum", 0)),
        positive=side("buckets", "offset"),
        negative=side("n_buckets", "n_offset"),
        custom_values=numbers("custom_values"),
        reset_hint=ResetHint[parts.get("hint", "unknown").upper()],
    )


def _floats(text: str) -> Iterator[float | None]:
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
        name, value = _two(rf"{_SERIES}\s+({_HISTOGRAM}|\S+)$", line)
        wanted = histogram_of(value) if value.startswith("{{") else float(value)
        case.expected.append((labels_of(name), wanted))


def same(left: NativeHistogram, right: NativeHistogram) -> bool:
    """Whether two histograms are one, but for rounding; hints count where the right has one."""
    left, right = left.compact(), right.compact()
    if right.reset_hint is not ResetHint.UNKNOWN and left.reset_hint is not right.reset_hint:
        return False
    return _layout(left) == _layout(right) and all(map(close, _numbers(left), _numbers(right)))


def _layout(found: NativeHistogram) -> tuple[object, ...]:
    return found.schema, found.custom_values, found.positive.indexes, found.negative.indexes


def _numbers(found: NativeHistogram) -> tuple[float, ...]:
    numbers = (found.zero_threshold, found.zero_count, found.count, found.sum)
    return (*numbers, *found.positive.counts, *found.negative.counts)


def close(left: float, right: float) -> bool:
    return bool(np.isclose(left, right, rtol=1e-9, atol=1e-12, equal_nan=True))
