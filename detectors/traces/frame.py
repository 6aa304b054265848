"""Many traces at once, as columns: what every detector reads, computed once a micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectors.traces.columns import Columns, compact, ints
from detectors.traces.normaliser import Normaliser
from detectors.traces.operation_text import Texts, labels, own_statements
from detectors.traces.shape import Category, Shape
from detectors.traces.survey import Census, Rows, census, repeating, survey
from detectors.traces.tree import Tree
from detectors.traces.waiting import entries
from store.model import BoolArray, Int32Array, Int64Array

# What detectors read of `SPAN_READ_SCHEMA`. Resources and events can be longer than all of these.
COLUMNS = (
    "trace_id", "span_id", "parent_span_id", "start_ns", "end_ns", "service", "name", "kind",
    "status", "http_method", "http_route", "http_status", "url", "server_address", "db_system",
    "statement", "code_file", "code_line", "code_function", "attributes", "received_ms", "seq",
)  # fmt: skip
CLIENT, SERVER, CONSUMER = 3, 2, 5
MAX_DEPTH = 512
NO_SHAPE = -1
_ERROR, _SERVER_ERROR = 2, 500  # span status; HTTP statuses worth a retry, from there on …
_WORTH_A_RETRY = (408, 425, 429)  # … and these
_EMPTY_SHAPE = Shape("", Category.OTHER)
_LONGEST_NS = 2.0**62
# A table of so many numbers a row is quicker than sorting them.
_DENSE = 16
# Attribute names that say a span stands for more, or less, than one operation (`traces.loops`).
_MULTIPLE_MARKERS = r"composite|batch\.size|pipeline_length|resend_count"


@dataclass(frozen=True)
class SpanFrame:
    """The spans of some traces, sorted by trace and start; a span id appears once a trace.

    Attributes:
        columns: `COLUMNS` of the spans, in this order.
        offsets: Trace `i` owns rows `offsets[i]:offsets[i + 1]`.
        parent: Row of the parent, -1 where there is none or it is not here.
        orphan: The parent is named but not here.
        parent_key: A number that is equal for siblings, also where the parent is missing.
        shape: Place in `shapes`, -1 for spans without one.
        form: Equal for spans whose shapes differ only in their keys; -1 for spans without one.
        family: Equal for spans whose forms may be one (see `Shape.family`).
        stated: It has a statement or a URL of its own, not only a name.
    """

    columns: Columns
    offsets: Int64Array
    start_ns: Int64Array
    end_ns: Int64Array
    parent: Int64Array
    orphan: BoolArray
    parent_key: Int64Array
    kind: Int32Array
    failed: BoolArray
    service: Int32Array
    services: tuple[str, ...]
    shape: Int32Array
    shapes: tuple[Shape, ...]
    form: Int32Array
    family: Int32Array
    category: Int32Array
    multiple: BoolArray
    stated: BoolArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def entry_in_trace(self) -> Int64Array:
        """For each row the place, in its trace, of the span by which its request entered, or -1."""
        found: Int64Array = entries(self.entry, self.parent, MAX_DEPTH)
        return np.where(found >= 0, found - self.offsets[:-1][self.trace_of_row], -1)

    @cached_property
    def _rows(self) -> Rows:
        return Rows(
            start_ns=self.start_ns,
            end_ns=self.end_ns,
            parent=self.parent_in_trace,
            entry=self.entry_in_trace,
            parent_key=self.parent_key,
            orphan=self.orphan,
            odd=self.failed | self.multiple,
            kind=self.kind,
            service=self.service,
            category=self.category,
            shape=self.shape,
            form=self.form,
            family=self.family,
            server=self.server,
        )

    @cached_property
    def _surveyed(self) -> Int64Array:
        found: Int64Array = survey(self.offsets, self._rows, self.layered_forms, len(self.shapes))
        return found

    @cached_property
    def traits(self) -> list[int]:
        """What is rare in each trace, as bits (see `traces.survey`)."""
        found: list[int] = self._surveyed.tolist()
        return found

    @cached_property
    def _censuses(self) -> dict[int, Census]:
        return {}

    def census(self, at_least: int) -> Census:
        """What repeats so often, in traces that need no closer look."""
        known = self._censuses.get(at_least)
        if known is None:
            traits = self._surveyed.copy()
            counted = census(self.offsets, self._rows, traits, (at_least, len(self.shapes)))
            known = self._censuses[at_least] = Census(traits, *counted)
        return known

    @cached_property
    def operations(self) -> tuple[Int64Array, list[int]]:
        """Rows of queries, cache commands and calls, by their places in their traces.

        And where those of each trace begin, one more at the end.
        """
        asking = np.flatnonzero(
            (self.category >= Category.QUERY) & (self.category <= Category.CALL)
        )
        places = asking - self.offsets[:-1][self.trace_of_row[asking]]
        return places, np.searchsorted(asking, self.offsets).tolist()

    @cached_property
    def repeated(self) -> Int64Array:
        """Equal for rows of one trace that have entry, service and form in common."""
        wide = (self.entry_in_trace + 1) * (len(self.services) + 1) + self.service
        return wide * (len(self.shapes) + 1) + self.form

    @cached_property
    def server(self) -> Int64Array:
        """Equal for rows that tell the same of the server they ask."""
        address = self.columns.numbers("server_address").astype(np.int64) + 1
        return address * (len(self.columns.distinct("attributes")) + 1) + self.columns.numbers(
            "attributes"
        )

    @cached_property
    def begins(self) -> list[int]:
        """`offsets` as Python numbers."""
        found: list[int] = self.offsets.tolist()
        return found

    @cached_property
    def trace_of_row(self) -> Int64Array:
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @cached_property
    def parent_in_trace(self) -> Int64Array:
        """The place of each span's parent among the rows of its trace, or -1."""
        begins = self.offsets[:-1][self.trace_of_row]
        return np.where(self.parent >= 0, self.parent - begins, -1)

    @cached_property
    def duration_ns(self) -> Int64Array:
        return cast(Int64Array, np.maximum(self.end_ns - self.start_ns, 0))

    @cached_property
    def entry(self) -> BoolArray:
        """Rows where a request enters a service, or where a trace begins."""
        serving = (self.kind == SERVER) | (self.kind == CONSUMER)
        begins = (self.parent < 0) & ~self.orphan
        return cast(BoolArray, begins | serving)

    @cached_property
    def layered_forms(self) -> BoolArray:
        """For each form: do its queries have spans of more than one name? See `traces.layers`."""
        queries = self.category == Category.QUERY
        names, forms = self.columns.numbers("name")[queries], self.form[queries]
        name_of = np.zeros(len(self.shapes), dtype=np.int32)
        name_of[forms] = names
        layered = np.zeros(len(self.shapes), dtype=np.bool_)
        layered[forms[name_of[forms] != names]] = True
        return layered

    def values(self, column: str) -> list[Any]:
        """A column as Python values."""
        texts = self.columns.values(column)
        return [texts[number] for number in self.columns.numbers(column).tolist()]

    def traces_with(self, marked: BoolArray, at_least: int = 1) -> BoolArray:
        """For each trace: has it this many of the marked rows?"""
        counts = np.bincount(self.trace_of_row[marked], minlength=len(self))
        return counts >= at_least

    def time_per_trace_ns(self, marked: BoolArray) -> Int64Array:
        """For each trace, the summed duration of the marked rows."""
        sums = np.bincount(
            self.trace_of_row[marked], weights=self.duration_ns[marked], minlength=len(self)
        )
        return np.minimum(sums, _LONGEST_NS).astype(np.int64)

    def traces_repeating(self, marked: BoolArray, at_least: Int64Array) -> BoolArray:
        """For each trace: does one family occur as often as is asked of it, among marked rows?"""
        found: BoolArray = repeating(self.offsets, self.family, marked, at_least, len(self.shapes))
        return found


def build_frame(spans: pa.Table, normaliser: Normaliser, tree: Tree | None = None) -> SpanFrame:
    """A frame of rows that have `COLUMNS`, in any order, duplicates of a span id included.

    The `tree` of these rows is made where it is not known.
    """
    spans = compact(spans.select(COLUMNS))
    tree = tree or Tree.of(spans)
    started = ints(spans, "start_ns")
    order = tree.order(started)
    columns = Columns(spans, order)
    place = np.full(len(spans) + 1, -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    parent = place[tree.parent[order]]
    trace, parent_key = tree.trace[order], tree.above[order]
    kind = columns.ints("kind").astype(np.int32)
    shape, shapes = _shapes(columns, normaliser, kind, parent_key)
    kinds = np.array([item.category for item in (*shapes, _EMPTY_SHAPE)], dtype=np.int32)
    starts = started[order]
    cuts = np.flatnonzero(np.diff(trace)) + 1
    edges = [0] if len(order) else []
    return SpanFrame(
        columns=columns,
        offsets=np.array([*edges, *cuts.tolist(), len(order)], dtype=np.int64),
        start_ns=starts,
        end_ns=np.maximum(columns.ints("end_ns"), starts),
        parent=parent,
        orphan=(parent_key >= 0) & (parent < 0),
        parent_key=parent_key,
        kind=kind,
        failed=_failed(columns),
        service=columns.numbers("service"),
        services=tuple(columns.values("service")[:-1]),
        shape=shape,
        shapes=shapes,
        form=_numbered([(item.category, item.text) for item in shapes])[shape],
        family=_numbered([(item.category, item.family or item.text) for item in shapes])[shape],
        category=kinds[shape],
        multiple=_multiple(columns),
        stated=columns.valid("statement") | columns.valid("url"),
    )


def _failed(columns: Columns) -> BoolArray:
    status = columns.ints("http_status")
    bad: BoolArray = status >= _SERVER_ERROR
    for worth in _WORTH_A_RETRY:
        bad |= status == worth
    bad |= columns.ints("status") == _ERROR
    return bad


def _multiple(columns: Columns) -> BoolArray:
    marked: Any = pc.match_substring_regex(columns.distinct("attributes"), _MULTIPLE_MARKERS)
    told = np.append(marked.to_numpy(zero_copy_only=False), False)
    found: BoolArray = told.astype(np.bool_)[columns.numbers("attributes")]
    return found


def _shapes(
    columns: Columns, normaliser: Normaliser, kind: Int32Array, parent_key: Int64Array
) -> tuple[Int32Array, tuple[Shape, ...]]:
    """The shape of each span; every distinct combination of its columns is normalised once.

    Shapes of different texts may be equal; `SpanFrame.form` tells.
    """
    system, systems = columns.numbers("db_system"), columns.values("db_system")
    statement, statements = columns.numbers("statement"), columns.values("statement")
    name, names = columns.numbers("name"), columns.values("name")
    url, urls = columns.numbers("url"), columns.values("url")
    method, methods = columns.numbers("http_method"), columns.values("http_method")
    host, hosts = columns.numbers("server_address"), columns.values("server_address")
    database = (system >= 0) | (statement >= 0)
    named = Texts(name, names[:-1])
    statement = own_statements(Texts(statement, statements[:-1]), named, database, parent_key)
    database |= statement >= 0
    told = labels(columns, statement, Texts(system, systems[:-1]), named)
    call = ~database & (kind == CLIENT)
    shape = np.full(len(columns), NO_SHAPE, dtype=np.int32)

    def of_database(row: int) -> Shape:
        of, label = systems[system[row]] or "", _at(told.distinct, told.numbers[row])
        if statement[row] >= 0:
            return normaliser.statement(of, statements[statement[row]], label)
        return normaliser.name(of, label or names[name[row]])

    def of_call(row: int) -> Shape:
        return normaliser.call(
            methods[method[row]] or "",
            urls[url[row]] or "",
            names[name[row]],
            hosts[host[row]] or "",
        )

    # A statement, where there is one, says all; the span's name only stands in for it.
    text = np.where(statement >= 0, statement, len(statements) + name)
    chosen, group, firsts = _distinct(database, (system, text, told.numbers))
    shape[chosen] = group
    found = [of_database(row) for row in firsts]
    chosen, group, firsts = _distinct(call, (method, url, host, np.where(url >= 0, -1, name)))
    shape[chosen] = group + len(found)
    found += [of_call(row) for row in firsts]
    return shape, tuple(found)


def _numbered(texts: Sequence[tuple[Category, str]]) -> Int32Array:
    """For each shape the number of its text; one more entry so that -1 maps to -1."""
    numbers: dict[tuple[Category, str], int] = {}
    found = [numbers.setdefault(text, len(numbers)) for text in texts]
    return np.array([*found, NO_SHAPE], dtype=np.int32)


def _at(values: Sequence[str], code: int) -> str:
    return values[code] if code >= 0 else ""


def _distinct(
    marked: BoolArray, columns: Sequence[Int32Array]
) -> tuple[Int64Array, Int64Array, list[int]]:
    """The marked rows, the number of each one's combination, and a row of each combination."""
    chosen = np.flatnonzero(marked)
    group, count = np.zeros(len(chosen), dtype=np.int64), min(len(chosen), 1)
    for column in columns:
        part = column[chosen].astype(np.int64) + 1
        width = int(part.max(initial=0)) + 1
        if width > 1:
            group, count = _ranked(group * width + part, count * width)
    first = np.empty(count, dtype=np.int64)
    first[group[::-1]] = chosen[::-1]  # of equal ones the last that is written stays
    return chosen, group, first.tolist()


def _ranked(numbers: Int64Array, below: int) -> tuple[Int64Array, int]:
    """The numbers without gaps, in the same order, and how many there are."""
    if below > _DENSE * len(numbers):
        distinct, ranks = np.unique(numbers, return_inverse=True)
        return ranks, len(distinct)
    here = np.zeros(below, dtype=np.bool_)
    here[numbers] = True
    rank = np.cumsum(here) - 1
    return rank[numbers], int(rank[-1]) + 1
