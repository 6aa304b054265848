"""Operations that follow each other though none needs the other's answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from detectors.settings import require
from detectors.traces.gates import Gate, GateName, just
from detectors.traces.report import request_seconds
from detectors.traces.shape import Category, Shape, identifies, is_primary
from detectors.traces.trace import NANOSECONDS, Trace

_MS = 1_000_000
_LOOP = 5  # so many of one form are a loop, which has detectors of its own
_PARTITIONS = 3
_LONG = 10  # values in a list
_MAIN_SHARE, _MAIN = 0.25, 3  # part of the longest member; times `min_each_ms`
_SCHEMA = re.compile(r"""(?:[`"\[]?\b\w+[`"\]]?\.)+(?=[`"\[]?\w)|(?<=[a-z])_?\d[\d_]*\b""")
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "UPSERT"})
_MAX_CHAIN = 64
_SIGNS_IN = re.compile(r"token|oauth|login|signin|/auth\b|session|csrf|handshake", re.IGNORECASE)
# Tables in which it is looked up who asks.
_WHO_ASKS = re.compile(r"user|account|customer|member|credential|api_?key", re.IGNORECASE)
# A statement, or a name such as "PDO::beginTransaction" and "sql.tx.commit".
_OPENS = re.compile(r"(?:^|::|\.)(?:begin|start)", re.IGNORECASE)
_CLOSES = re.compile(r"(?:^|::|\.)(?:commit|roll_?back|end\b|abort)", re.IGNORECASE)
_DATA = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """When a chain is worth telling.

    Attributes:
        min_saving_ms: Least saving if all ran at the same time.
        min_saving_share: Least part of the request that would be saved, from 0 to 1.
        min_each_ms: Shorter operations are not part of a chain.
    """

    min_saving_ms: float = 100.0
    min_saving_share: float = 0.1
    min_each_ms: float = 10.0

    def __post_init__(self) -> None:
        require(self.min_saving_ms > 0, "min_saving_ms", "above 0", self.min_saving_ms)
        share = self.min_saving_share
        require(0 <= share < 1, "min_saving_share", "from 0 to below 1", share)
        require(self.min_each_ms >= 0, "min_each_ms", "0 or more", self.min_each_ms)


@dataclass(frozen=True, slots=True)
class Chain:
    """Sequential reads of one request; `independent` are those that could run together."""

    spans: tuple[int, ...]
    independent: tuple[int, ...]

    def saving_s(self, trace: Trace) -> float:
        """Time saved on the critical path: all but the longest."""
        return _saving_s(trace, self.independent)

    def main(self, trace: Trace, settings: ChainSettings) -> tuple[int, ...]:
        """The members that say which chain it is.

        A short one is part of the chain in one request and too short for it in the next.
        """
        paths_ms = [trace.on_critical_path_ns([span]) / _MS for span in self.independent]
        least_ms = min(_MAIN_SHARE * max(paths_ms), _MAIN * settings.min_each_ms)
        told = zip(self.independent, paths_ms, strict=True)
        return tuple(span for span, path_ms in told if path_ms >= least_ms)


def _saving_s(trace: Trace, spans: tuple[int, ...]) -> float:
    paths = [trace.on_critical_path_ns([span]) / NANOSECONDS for span in spans]
    return sum(paths) - max(paths) if paths else 0.0


def chains(trace: Trace, category: Category, settings: ChainSettings) -> Iterator[Chain]:
    """For each request its sequential reads, whatever spans wrap them."""
    counts = Counter(
        (trace.entry[span], trace.service[span], trace.form[span]) for span in trace.operations
    )
    requests: dict[tuple[int, int], list[int]] = {}
    for span in trace.operations:
        request = (trace.entry[span], trace.service[span])
        if trace.category[span] != category or counts[*request, trace.form[span]] >= _LOOP:
            continue
        long_enough = trace.duration_ns(span) >= just(settings.min_each_ms * _MS)
        if long_enough and trace.shape(span).reads and trace.entry[span] != span:
            requests.setdefault(request, []).append(span)
    for spans in requests.values():
        run = _sequential(trace, _not_partitioned(trace, spans))
        if len(run) > 1:
            yield Chain(tuple(run), _independent(trace, run))


def _not_partitioned(trace: Trace, spans: list[int]) -> list[int]:
    """Without those that differ only in schema or table number: one for each tenant or shard."""
    bare = {span: _SCHEMA.sub("", trace.shape(span).text) for span in spans}
    texts: dict[str, set[str]] = {}
    for span, text in bare.items():
        texts.setdefault(text, set()).add(trace.shape(span).text)
    return [span for span in spans if len(texts[bare[span]]) < _PARTITIONS]


def _sequential(trace: Trace, spans: list[int]) -> list[int]:
    """Each that begins when the one before it has ended; a question asked twice counts once."""
    run: list[int] = []
    asked: set[tuple[int, str | None]] = set()
    for span in spans:
        question = (trace.form[span], trace.shape(span).key)
        overlaps = run and trace.start_ns[span] < trace.end_ns[run[-1]]
        if question not in asked and not overlaps and not trace.failed[span]:
            run.append(span)
            asked.add(question)
    return run[:_MAX_CHAIN]


def _independent(trace: Trace, run: list[int]) -> tuple[int, ...]:
    """The members that save the most together: what they ask with was known to the first of them.

    Known are the values in the request's own URL, and those that were used until then. What is not
    known may have come from an answer; unknown values of keys prove nothing.
    """
    known, writes = _Known(), _writes(trace, run)
    request = trace.entry[run[0]]
    if request >= 0:
        known.see_url(trace.text("url", request))
    best: tuple[int, ...] = ()
    best_s = -1.0
    for place, first in enumerate(run):
        shape = trace.shape(first)
        known.see(shape)
        if _signs_in(shape):
            continue
        after = [
            span
            for span in run[place + 1 :]
            if known.answers(trace.shape(span)) and not _written(trace, writes, first, span)
        ]
        together = (first, *after)
        saving_s = _saving_s(trace, together)
        if saving_s > best_s:
            best, best_s = together, saving_s
    return best


def _writes(trace: Trace, run: list[int]) -> list[int]:
    """What the same request wrote."""
    entry, service = trace.entry[run[0]], trace.service[run[0]]
    return [
        span
        for span in trace.operations
        if trace.entry[span] == entry
        and trace.service[span] == service
        and trace.shape(span).operation in _WRITES
    ]


def _written(trace: Trace, writes: list[int], first: int, later: int) -> bool:
    """Was the later read's table written between the two? It could not have been read before."""
    table = trace.shape(later).table
    return any(
        trace.shape(write).table == table
        and trace.start_ns[first] < trace.start_ns[write] < trace.start_ns[later]
        for write in writes
    )


class _Known:
    """Values, and columns whose values are known though their texts do not tell them."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._columns: set[str] = set()

    def see_url(self, url: str) -> None:
        self._values.update(re.split(r"[/?&=#.,;]+", url))

    def see(self, shape: Shape) -> None:
        self._values.update(_bare(value) for value in shape.values or ())
        for column in shape.columns:
            self._columns.add(_place(shape, column))
            if is_primary(column):
                self._columns.add(f"{_row(shape)}_id")

    def answers(self, shape: Shape) -> bool:
        """Could this have been asked already?"""
        if _signs_in(shape):
            return False
        values = shape.values
        if values is not None:
            return all(self._holds(_bare(value)) for value in values)
        if shape.category == Category.CALL or shape.compares_more or not shape.operation:
            return False
        if not shape.columns and "?" not in shape.text:
            return False  # a name, or a command without its text
        if shape.list_size >= _LONG:
            return False  # nobody writes so long a list by hand: an answer had these
        wanted = [_place(shape, column) for column in shape.columns if identifies(column)]
        return all(column in self._columns for column in wanted)

    def _holds(self, value: str) -> bool:
        """A word without a digit is a constant of the code; an id is data."""
        return value in self._values or _DATA.search(value) is None or value in {"0", "1"}


def _signs_in(shape: Shape) -> bool:
    """Is it asked who asks? All the rest waits for that. A cart's column `session` is no login."""
    query = shape.category == Category.QUERY and shape.table
    text = shape.table if query and not _WHO_ASKS.search(shape.table) else shape.text
    return _SIGNS_IN.search(text) is not None


def _place(shape: Shape, column: str) -> str:
    """A primary key says nothing without its table."""
    return f"{column}@{_row(shape)}" if is_primary(column) else column


def _row(shape: Shape) -> str:
    """What a row of the table is called: `shop_products` holds a product."""
    word = shape.table.rpartition(".")[2].rpartition("_")[2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _bare(value: str) -> str:
    return value.strip("'\"")


def chain_gates(trace: Trace, chain: Chain, settings: ChainSettings) -> Iterator[Gate]:
    """Why a chain may not be reported."""
    yield Gate(GateName.DEPENDENT, len(chain.independent), 2)
    inside = sum(_in_transaction(trace, span) for span in chain.independent)
    yield Gate(GateName.IN_TRANSACTION, inside, 1, below=True)
    saving_s = chain.saving_s(trace)
    yield Gate(GateName.MIN_SAVING, saving_s * 1_000, settings.min_saving_ms)
    request_s = request_seconds(trace, chain.spans[0])
    if request_s > 0:
        yield Gate(GateName.MIN_SAVING_SHARE, saving_s / request_s, settings.min_saving_share)


def _in_transaction(trace: Trace, span: int) -> bool:
    """Was the last word before this span, in the same request, the start of a transaction?"""
    if trace.category[span] != Category.QUERY:
        return False
    opened = False
    for other in range(span):
        if trace.category[other] != Category.CONTROL:
            continue
        same = trace.entry[other] == trace.entry[span]
        if same and trace.service[other] == trace.service[span]:
            words = trace.shape(other).text
            if _OPENS.search(words):
                opened = True
            elif _CLOSES.search(words) and " TO " not in words.upper():
                opened = False
    return opened
