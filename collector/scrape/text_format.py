r"""Prometheus's text format and OpenMetrics text, fast when a page looks like the last one.

The text in front of a value names the series, so it serves as the key of a cache that maps it to
whatever the caller makes of a label set. A warm line costs one partition and one lookup.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from store.errors import BadInput, LimitExceeded
from store.histograms import NativeHistogram
from store.model import METRIC_NAME, MetricMetadata, MetricType

Series = TypeVar("Series")

MAX_CACHED = 200_000
MAX_EXEMPLARS = 1_000
MAX_LINE = 64 * 1024
# Of one page: what 64 MiB of ordinary lines hold. Shorter lines would take far more memory.
MAX_SAMPLES = 2_000_000
MAX_TIME_MS = 1 << 50
_STRING = r'"(?:[^"\\\n]++|\\.)*+"'
_LABEL_SET = re.compile(rf"\{{(?:[^\"{{}}\n]++|{_STRING})*+\}}")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(
    rf"\s*(?:([a-zA-Z_][a-zA-Z0-9_]*|{_STRING})\s*=\s*({_STRING})|({_STRING}))\s*(,|$)"
)
_LINE = re.compile(
    rf"({_NAME.pattern})?(?:[ \t]*+({_LABEL_SET.pattern}))?[ \t]++(\S++)"
    rf"(?:[ \t]++([^\s#]++))?[ \t]*+"
    rf"(?:#[ \t]++({_LABEL_SET.pattern})[ \t]++(\S++)(?:[ \t]++(\S++))?[ \t]*+)?"
)
_ENDED = re.compile(r"(?:\A|\n)# EOF\n?\Z")
_ESCAPE = re.compile(r'\\([\\"n])')
_TYPES = {kind.value: kind for kind in MetricType} | {
    "untyped": MetricType.UNKNOWN,
    "gaugehistogram": MetricType.HISTOGRAM,
    "info": MetricType.GAUGE,
    "stateset": MetricType.GAUGE,
}


@dataclass(frozen=True, slots=True)
class PageExemplar(Generic[Series]):
    """An exemplar of a page; `ts_ms` is None where the page gives none."""

    series: Series
    labels: dict[str, str]
    value: float
    ts_ms: int | None


@dataclass(frozen=True, slots=True)
class PageHistogram(Generic[Series]):
    """A native histogram of a page; `ts_ms` is None where the page gives none."""

    series: Series
    ts_ms: int | None
    histogram: NativeHistogram


@dataclass(slots=True)
class Page(Generic[Series]):
    """A parsed page as columns. A `ts_ms` of None means the time of the scrape."""

    series: list[Series] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    ts_ms: list[int | None] = field(default_factory=list)
    exemplars: list[PageExemplar[Series]] = field(default_factory=list)
    metadata: list[MetricMetadata] = field(default_factory=list)  # only what changed
    histograms: list[PageHistogram[Series]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.series) + len(self.histograms)


class PageParser(Generic[Series]):
    """Parses one target's pages. `make` turns a label set into what the columns hold."""

    def __init__(self, make: Callable[[dict[str, str]], Series]) -> None:
        self._make = make
        self._cache: dict[str, Series] = {}
        self._comments: set[str] = set()
        self._metadata: dict[str, MetricMetadata] = {}

    def parse(
        self, text: str, *, openmetrics: bool = False, page: Page[Series] | None = None
    ) -> Page[Series]:
        """A whole page. A `page` that was given holds, after an error, what came before it.

        Raises:
            BadInput: A line cannot be read, it says which; OpenMetrics does not end with `# EOF`.
            LimitExceeded: It has more lines than any page should.
        """
        page = Page() if page is None else page
        if text.count("\n") > MAX_SAMPLES:
            raise LimitExceeded(f"the page has more than {MAX_SAMPLES} lines", reason="page_size")
        cache = self._cache
        add_series, add_value, add_time = page.series.append, page.values.append, page.ts_ms.append
        changed: set[str] = set()
        if len(cache) > MAX_CACHED or len(self._comments) > MAX_CACHED:
            cache.clear()
            self._comments.clear()
        for number, line in enumerate(text.split("\n"), 1):
            head, _, tail = line.rpartition(" ")
            series = cache.get(head)
            if series is not None:
                add_value(_number(tail, number))
                add_series(series)
                add_time(None)
            elif line[:1] == "#":
                if line not in self._comments:
                    self._comment(line, changed)
            elif line and not line.isspace():
                self._slow(line, number, page, openmetrics=openmetrics)
        if openmetrics and not _ENDED.search(text):
            raise BadInput("the page does not end with # EOF", hint="it may be cut short")
        page.metadata.extend(self._metadata[family] for family in changed)
        return page

    def _slow(self, line: str, number: int, page: Page[Series], *, openmetrics: bool) -> None:
        match = _LINE.fullmatch(line.strip(" \t\r")) if len(line) <= MAX_LINE else None
        if match is None or not (match[1] or match[2]):
            raise _bad(number, line)
        key = line[: match.end(2) if match[2] else match.end(1)]
        series = self._cache.get(key)
        if series is None:
            series = self._make(_labels(match[1], match[2], number))
            # A leading blank would shift the match against the line; such lines stay uncached.
            if line[:1] not in " \t":
                self._cache[key] = series
        value = _number(match[3], number)
        at_ms = _time_ms(match[4], number, openmetrics=openmetrics)
        page.series.append(series)
        page.values.append(value)
        page.ts_ms.append(at_ms)
        if match[5] and len(page.exemplars) < MAX_EXEMPLARS:
            at = _time_ms(match[7], number, openmetrics=True)
            labels = _labels(None, match[5], number, named=False)
            page.exemplars.append(PageExemplar(series, labels, _number(match[6], number), at))

    def _comment(self, line: str, changed: set[str]) -> None:
        self._comments.add(line)
        parts = line.split(None, 3)
        if len(parts) < 3 or parts[1] not in ("TYPE", "HELP", "UNIT"):
            return
        kind, family = parts[1], parts[2].strip('"')
        rest = parts[3].strip() if len(parts) > 3 else ""
        held = self._metadata.get(family, MetricMetadata(family))
        if kind == "TYPE":
            held = MetricMetadata(
                family, _TYPES.get(rest, MetricType.UNKNOWN), held.help, held.unit
            )
        elif kind == "HELP":
            text = _ESCAPE.sub(_unescaped, rest)[:1024]
            held = MetricMetadata(family, held.type, text, held.unit)
        else:
            held = MetricMetadata(family, held.type, held.help, rest[:64])
        self._metadata[family] = held
        changed.add(family)


def _labels(
    name: str | None, label_set: str | None, number: int, *, named: bool = True
) -> dict[str, str]:
    labels: dict[str, str] = {}
    text = label_set[1:-1].rstrip(" \t,") if label_set else ""
    place = 0
    while place < len(text):
        match = _LABEL.match(text, place)
        if match is None:
            raise _bad(number, label_set or "")
        place = match.end()
        if match[3] is not None:
            name = _string(match[3])
            continue
        key = _string(match[1]) if match[1].startswith('"') else match[1]
        if not key:
            raise BadInput(f"line {number}: a label has no name")
        if key in labels:
            raise BadInput(f"line {number}: the label {key[:60]!r} stands twice")
        labels[key] = _string(match[2])
    if named:
        if not name:
            raise _bad(number, label_set or "")
        labels[METRIC_NAME] = name
    return labels


def _string(quoted: str) -> str:
    inner = quoted[1:-1]
    return _ESCAPE.sub(_unescaped, inner) if "\\" in inner else inner


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


def _number(text: str, number: int) -> float:
    try:
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    raise BadInput(f"line {number}: {text[:60]!r} is not a number")


def _time_ms(text: str | None, number: int, *, openmetrics: bool) -> int | None:
    if not text:
        return None
    value = _number(text, number) * (1000 if openmetrics else 1)
    if not math.isfinite(value) or abs(value) >= MAX_TIME_MS:
        raise BadInput(f"line {number}: {text[:60]!r} is not a timestamp")
    return round(value)


def _bad(number: int, line: str) -> BadInput:
    return BadInput(
        f"line {number}: {line[:80]!r} is not Prometheus text format",
        hint="check that the path serves metrics",
    )
