"""Operations that follow each other though none needs the other's answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from detectors.settings import require
from detectors.traces.gates import Gate, GateName
from detectors.traces.report import request_seconds
from detectors.traces.shape import KEY_SEPARATOR, Category
from detectors.traces.trace import NANOSECONDS, Trace

_MS = 1_000_000


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
    """Sequential reads under one parent; `independent` are those that could run together."""

    spans: tuple[int, ...]
    independent: tuple[int, ...]

    def saving_s(self, trace: Trace) -> float:
        """Time saved on the critical path: all but the longest."""
        paths = [trace.on_critical_path_ns([span]) / NANOSECONDS for span in self.independent]
        return sum(paths) - max(paths) if paths else 0.0


def chains(trace: Trace, category: Category, settings: ChainSettings) -> Iterator[Chain]:
    """For each parent its longest run of sequential reads, each of another form."""
    by_parent: dict[int, list[int]] = {}
    for span in range(trace.n):
        if trace.category[span] != category or trace.parent[span] < 0:
            continue
        if trace.duration_ns(span) >= settings.min_each_ms * _MS and trace.shape(span).reads:
            by_parent.setdefault(trace.parent[span], []).append(span)
    for spans in by_parent.values():
        run = _sequential(trace, spans)
        if len(run) > 1:
            yield Chain(tuple(run), tuple(_independent(trace, run)))


def _sequential(trace: Trace, spans: list[int]) -> list[int]:
    run: list[int] = []
    forms: set[int] = set()
    for span in spans:
        overlaps = run and trace.start_ns[span] < trace.end_ns[run[-1]]
        if trace.form[span] not in forms and not overlaps:
            run.append(span)
            forms.add(trace.form[span])
    return run


def _independent(trace: Trace, run: list[int]) -> list[int]:
    """The first, and all whose values were known before it; unknown values prove nothing."""
    first = trace.shape(run[0])
    known = set(first.key.split(KEY_SEPARATOR)) if first.key else set()
    kept = [run[0]]
    for span in run[1:]:
        key = trace.shape(span).key
        if key is not None and set(filter(None, key.split(KEY_SEPARATOR))) <= known:
            kept.append(span)
    return kept


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
    """Was the last word before this span, under the same parent, the start of a transaction?"""
    opened = False
    for sibling in trace.children[trace.parent[span]]:
        if trace.start_ns[sibling] > trace.start_ns[span]:
            break
        if trace.category[sibling] == Category.CONTROL:
            operation = trace.shape(sibling).operation
            if operation in {"BEGIN", "START"}:
                opened = True
            elif operation in {"COMMIT", "ROLLBACK", "END"}:
                opened = False
    return opened
