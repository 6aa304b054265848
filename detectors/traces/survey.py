"""One compiled pass over all traces of a frame: what is rare in each, and which shapes repeat.

Nobody need look, span by span, for what a trace does not have. Repeats are counted here only in
traces that have nothing that needs a closer look (`ASIDE`); `traces.loops` does so for the others.
"""

# ruff: noqa: C901, PLR0912, PLR0915 -- a compiled loop reads best in one piece.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from detectors.traces.waiting import timing, waited_ns
from store.model import BoolArray, Int32Array, Int64Array

WRAPPERS = 4
GAP_NS = 500_000
SEVERAL = -2
# What is rare in a trace, as bits. A span failed, or may stand for more or less than one operation;
ODD = 1
# a parent is named and not here; it is so and no request enters from outside by that span;
ORPHAN, TORN = 2, 4
# a request with a caller is served; it is unknown by which span the request of a span entered;
SERVED, ADRIFT = 8, 16
# an operation may say the same as one above it, or as one beside it; forms may be one loop;
NESTED, LAYERED, KINDRED = 32, 64, 128
# a transaction or a connection is opened; of too many requests to be counted here.
CONTROL, CROWDED = 256, 512
ASIDE = ODD | SERVED | ADRIFT | NESTED | LAYERED | KINDRED | CROWDED

_QUERY, _CACHE, _CALL, _CONTROL = 1, 2, 3, 4  # categories of `traces.shape`
_SERVER, _CONSUMER = 2, 5  # kinds of spans
_MOST_REQUESTS = 64


class Rows(NamedTuple):
    """Columns of a frame; `parent` and `entry` are places in the row's trace."""

    start_ns: Int64Array
    end_ns: Int64Array
    parent: Int64Array
    entry: Int64Array
    parent_key: Int64Array
    orphan: BoolArray
    odd: BoolArray
    kind: Int32Array
    service: Int32Array
    category: Int32Array
    shape: Int32Array
    form: Int32Array
    family: Int32Array
    server: Int64Array


class Repeats(NamedTuple):
    """Spans of one entry, service and form, ascending in start.

    Attributes:
        alike: They have one shape, and tell the same server.
        parent: The parent that they have in common; `SEVERAL` where they have several.
        timing: See `traces.trace.Timing`: covered, between, last, longest, and the two in the
            middle.
        path_ns: How long the request waited for them.
    """

    spans: tuple[int, ...]
    alike: tuple[bool, bool]
    parent: int
    timing: tuple[int, ...]
    path_ns: int


class Census:
    """The repeats of each trace that needs no closer look.

    Attributes:
        aside: For each trace: does it need one?
        found: For each trace: were repeats counted?
    """

    def __init__(
        self,
        traits: Int64Array,
        begins: Int64Array,
        groups: Int64Array,
        ends: Int64Array,
        members: Int64Array,
    ) -> None:
        self.aside: BoolArray = traits & ASIDE != 0
        self.found: BoolArray = np.diff(begins) > 0
        self._begins: list[int] = begins.tolist()
        self._groups: list[list[int]] = groups.tolist()
        self._ends: list[int] = ends.tolist()
        self._members: list[int] = members.tolist()

    def of(self, trace: int) -> Sequence[Repeats]:
        """In the order of their first spans."""
        found = []
        for group in range(self._begins[trace], self._begins[trace + 1]):
            spans = tuple(self._members[self._ends[group] : self._ends[group + 1]])
            shape, server, parent, path_ns, *took = self._groups[group]
            alike = (shape > 0, server > 0)
            found.append(Repeats(spans, alike, parent, tuple(took), path_ns))
        return found


@njit(cache=True, nogil=True)
def survey(offsets: Int64Array, rows: Rows, layered: BoolArray, families: int) -> Any:
    """What is rare in each trace; trace `i` owns rows `offsets[i]:offsets[i + 1]`.

    `layered` tells for each form whether several instrumentations may tell of it; there are at
    most so many `families`.
    """
    traits = np.zeros(len(offsets) - 1, dtype=np.int64)
    seen_in = np.full(families, -1, dtype=np.int64)
    form_of = np.zeros(families, dtype=np.int32)
    for trace in range(len(offsets) - 1):
        first, found = offsets[trace], 0
        for row in range(first, offsets[trace + 1]):
            category, family = rows.category[row], rows.family[row]
            if rows.odd[row]:
                found |= ODD
            if rows.orphan[row]:
                found |= ORPHAN
                if rows.kind[row] != _SERVER and rows.kind[row] != _CONSUMER:
                    found |= TORN
            if rows.kind[row] == _SERVER and rows.parent_key[row] >= 0:
                found |= SERVED
            if rows.entry[row] < 0:
                found |= ADRIFT
            if category == _CONTROL:
                found |= CONTROL
            if category < _QUERY or category > _CALL:
                continue
            if category == _QUERY:
                if layered[rows.form[row]]:
                    found |= LAYERED
            elif seen_in[family] != trace:
                seen_in[family], form_of[family] = trace, rows.form[row]
            elif form_of[family] != rows.form[row]:
                found |= KINDRED
            above = rows.parent[row]
            for turn in range(WRAPPERS):
                if above < 0 or rows.entry[first + above] == above:
                    break
                outer = rows.category[first + above]
                apart = rows.service[first + above] != rows.service[row]
                if outer >= _QUERY and outer <= _CALL and (not apart or turn == 0):
                    found |= NESTED
                if apart:
                    break
                above = rows.parent[first + above]
        traits[trace] = found
    return traits


@njit(cache=True, nogil=True)
def repeating(
    offsets: Int64Array, family: Int32Array, marked: BoolArray, at_least: Int64Array, families: int
) -> Any:
    """For each trace: does one family occur as often as is asked of it among the marked rows?"""
    found = np.zeros(len(offsets) - 1, dtype=np.bool_)
    seen_in = np.full(families, -1, dtype=np.int64)
    counts = np.zeros(families, dtype=np.int64)
    for trace in range(len(offsets) - 1):
        for row in range(offsets[trace], offsets[trace + 1]):
            if not marked[row]:
                continue
            number = family[row]
            if seen_in[number] != trace:
                seen_in[number] = trace
                counts[number] = 0
            counts[number] += 1
            if counts[number] >= at_least[trace]:
                found[trace] = True
                break
    return found


@njit(cache=True, nogil=True)
def census(offsets: Int64Array, rows: Rows, traits: Int64Array, least: tuple[int, int]) -> Any:
    """Repeats of each trace that is not `ASIDE`; one of too many requests gets that trait instead.

    `least` says how many repeats are told, and how many forms there may be. See `Census` for the
    answer: where the groups of each trace begin, facts of each group, where its members begin, and
    the members.
    """
    at_least, forms = least
    most = 0
    for trace in range(len(offsets) - 1):
        most = max(most, offsets[trace + 1] - offsets[trace])
    size = len(rows.form)
    begins = np.zeros(len(offsets), dtype=np.int64)
    groups = np.empty((size // at_least + 1, 10), dtype=np.int64)
    ends = np.zeros(size // at_least + 2, dtype=np.int64)
    members = np.empty(size, dtype=np.int64)
    seen_in, head = np.full(forms, -1, dtype=np.int64), np.empty(forms, dtype=np.int64)
    first_of, count = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
    following, group_of = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
    told = np.empty(most, dtype=np.int64)
    groups_told, members_told = 0, 0
    for trace in range(len(offsets) - 1):
        begins[trace] = groups_told
        if traits[trace] & ASIDE:
            continue
        first, size = offsets[trace], offsets[trace + 1] - offsets[trace]
        found, crowded = 0, False
        for place in range(size):
            row = first + place
            group_of[place] = -1
            if rows.category[row] < _QUERY or rows.category[row] > _CALL:
                continue
            form = rows.form[row]
            if seen_in[form] != trace:
                seen_in[form], head[form] = trace, -1
            group, steps = head[form], 0
            while group >= 0:
                other = first_of[group]
                if (
                    rows.entry[other] == rows.entry[row]
                    and rows.service[other] == rows.service[row]
                ):
                    break
                group = following[group]
                steps += 1
            if steps > _MOST_REQUESTS:
                crowded = True
                break
            if group < 0:
                group = found
                first_of[group], count[group] = row, 0
                following[group], head[form] = head[form], group
                found += 1
            count[group] += 1
            group_of[place] = group
        if crowded:
            traits[trace] |= CROWDED
            continue
        before = groups_told
        for group in range(found):
            told[group] = -1
            if count[group] >= at_least:
                told[group] = members_told
                members_told += count[group]
                groups_told += 1
                ends[groups_told] = members_told
        if groups_told == before:
            continue
        for place in range(size):
            group = group_of[place]
            if group >= 0 and told[group] >= 0:
                members[told[group]] = place
                told[group] += 1
        own = slice(first, first + size)
        waited = waited_ns(
            rows.parent[own], rows.service[own], rows.start_ns[own], rows.end_ns[own]
        )
        for group in range(before, groups_told):
            spans = members[ends[group] : ends[group + 1]]
            one = first + spans[0]
            one_shape, one_server, parent, path_ns = 1, 1, rows.parent[one], 0
            for place in spans:
                row = first + place
                if rows.shape[row] != rows.shape[one]:
                    one_shape = 0
                if rows.server[row] != rows.server[one]:
                    one_server = 0
                if rows.parent[row] != parent:
                    parent = SEVERAL
                path_ns += max(waited[place], 0)
            fact = groups[group]
            fact[0], fact[1], fact[2], fact[3] = one_shape, one_server, parent, path_ns
            fact[4], fact[5], fact[6], fact[7], fact[8], fact[9] = timing(
                rows.start_ns, rows.end_ns, spans + first, GAP_NS
            )
    begins[-1] = groups_told
    return begins, groups[:groups_told], ends[: groups_told + 1], members[:members_told]
