"""Many traces at once, as columns: what every detector reads, computed once a micro-batch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectors.traces.columns import codes, compact, ints, rows
from detectors.traces.normaliser import Normaliser
from detectors.traces.operation_text import Texts, labels, own_statements
from detectors.traces.shape import Category, Shape
from detectors.traces.tree import Tree
from store.model import BoolArray, Int32Array, Int64Array

# What detectors read of `SPAN_READ_SCHEMA`. Resources and events can be longer than all of these.
COLUMNS = (
    "trace_id", "span_id", "parent_span_id", "start_ns", "end_ns", "service", "name", "kind",
    "status", "http_method", "http_route", "http_status", "url", "server_address", "db_system",
    "statement", "code_file", "code_line", "code_function", "attributes", "received_ms", "seq",
)  # fmt: skip
CLIENT, SERVER, CONSUMER = 3, 2, 5
NO_SHAPE = -1
_ERROR, _SERVER_ERROR = 2, 500  # span status; HTTP statuses worth a retry, from there on …
_WORTH_A_RETRY = (408, 425, 429)  # … and these
_EMPTY_SHAPE = Shape("", Category.OTHER)
_LONGEST_NS = 2.0**62
# Attribute names that say a span stands for more, or less, than one operation (`traces.loops`).
_MULTIPLE_MARKERS = r"composite|batch\.size|pipeline_length|resend_count"


@dataclass(frozen=True)
class SpanFrame:
    """The spans of some traces, sorted by trace and start; a span id appears once a trace.

    Attributes:
        table: The spans, in this order: `COLUMNS`, texts as dictionaries.
        offsets: Trace `i` owns rows `offsets[i]:offsets[i + 1]`.
        parent: Row of the parent, -1 where there is none or it is not here.
        orphan: The parent is named but not here.
        parent_key: A number that is equal for siblings, also where the parent is missing.
        shape: Place in `shapes`, -1 for spans without one.
        form: Equal for spans whose shapes differ only in their keys; -1 for spans without one.
        family: Equal for spans whose forms may be one (see `Shape.family`).
        stated: It has a statement or a URL of its own, not only a name.
    """

    table: pa.Table
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
    def _coded(self) -> dict[str, tuple[Int32Array, list[Any]]]:
        return {}

    def coded(self, column: str) -> tuple[Int32Array, list[Any]]:
        """A column as numbers and the distinct values that they stand for; -1 is null."""
        known = self._coded.get(column)
        if known is None:
            numbers, values = codes(self.table[column])
            known = self._coded[column] = (numbers, [*values, None])
        return known

    @cached_property
    def layered_forms(self) -> frozenset[int]:
        """Forms of queries whose spans have more than one name (see `traces.layers`)."""
        queries = self.category == Category.QUERY
        numbers, names = self.coded("name")
        pairs = np.unique(self.form[queries].astype(np.int64) * len(names) + numbers[queries])
        forms, counts = np.unique(pairs // len(names), return_counts=True)
        return frozenset(forms[counts > 1].tolist())

    def value(self, column: str, row: int) -> Any:
        """A cell as a Python value."""
        numbers, values = self.coded(column)
        return values[numbers[row]]

    def values(self, column: str) -> list[Any]:
        """A column as Python values."""
        return self.table[column].to_pylist()

    @cached_property
    def _ids(self) -> dict[str, tuple[Any, str]]:
        return {}

    def ids(self, column: str, first: int, end: int) -> list[str]:
        """Ids of rows in hex, empty where null."""
        known = self._ids.get(column)
        if known is None:
            array: Any = self.table[column].cast(pa.large_binary()).combine_chunks()
            _, offsets, data = array.buffers()
            # All are distinct: one text for all of them takes no object a row.
            marks = 2 * np.frombuffer(offsets, dtype=np.int64)[array.offset :]
            known = self._ids[column] = (marks, bytes(data or b"").hex())
        marks, text = known
        return [text[low:high] for low, high in pairwise(marks[first : end + 1].tolist())]

    def traces_among(self, wanted: Collection[str]) -> frozenset[str]:
        """Those of the ids, in hex, whose spans are here."""
        if not wanted:
            return frozenset()
        ids: Any = pa.array([bytes.fromhex(one) for one in wanted], pa.binary())
        column: Any = self.table["trace_id"].cast(pa.binary())
        found: Any = pc.is_in(ids, value_set=pc.unique(column.combine_chunks()))
        return frozenset(one for one, here in zip(wanted, found.to_pylist(), strict=True) if here)

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

    def traces_repeating(self, marked: BoolArray, at_least: int) -> BoolArray:
        """For each trace: does one family occur this often among the marked rows?"""
        wide = self.trace_of_row[marked] * (len(self.shapes) + 1) + self.family[marked]
        keys, counts = np.unique(wide, return_counts=True)
        found = np.zeros(len(self), dtype=np.bool_)
        found[keys[counts >= at_least] // (len(self.shapes) + 1)] = True
        return found


def build_frame(spans: pa.Table, normaliser: Normaliser) -> SpanFrame:
    """A frame of rows that have `COLUMNS`, in any order, duplicates of a span id included."""
    spans = compact(spans.select(COLUMNS))
    tree = Tree.of(spans)
    order = tree.order(ints(spans, "start_ns"))
    place = np.full(len(spans) + 1, -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    parent = place[tree.parent[order]]
    trace, parent_key = tree.trace[order], tree.above[order]
    spans = rows(spans, order)
    shape, shapes = _shapes(spans, normaliser, parent_key)
    kinds = np.array([item.category for item in (*shapes, _EMPTY_SHAPE)], dtype=np.int32)
    service, services = codes(spans["service"])
    starts = ints(spans, "start_ns")
    cuts = np.flatnonzero(np.diff(trace)) + 1
    edges = [0] if len(spans) else []
    return SpanFrame(
        table=spans,
        offsets=np.array([*edges, *cuts.tolist(), len(spans)], dtype=np.int64),
        start_ns=starts,
        end_ns=np.maximum(ints(spans, "end_ns"), starts),
        parent=parent,
        orphan=(parent_key >= 0) & (parent < 0),
        parent_key=parent_key,
        kind=ints(spans, "kind").astype(np.int32),
        failed=_failed(spans),
        service=service,
        services=tuple(services),
        shape=shape,
        shapes=shapes,
        form=_numbered([(item.category, item.text) for item in shapes])[shape],
        family=_numbered([(item.category, item.family or item.text) for item in shapes])[shape],
        category=kinds[shape],
        multiple=_multiple(spans),
        stated=_stated(spans),
    )


def _failed(spans: pa.Table) -> BoolArray:
    status = ints(spans, "http_status")
    bad: BoolArray = (status >= _SERVER_ERROR) | np.isin(status, _WORTH_A_RETRY)
    bad |= ints(spans, "status") == _ERROR
    return bad


def _stated(spans: pa.Table) -> BoolArray:
    said: Any = pc.or_(spans["statement"].is_valid(), spans["url"].is_valid())
    return np.asarray(said.to_numpy(), dtype=np.bool_)


def _multiple(spans: pa.Table) -> BoolArray:
    texts, distinct = codes(spans["attributes"])
    marked: Any = pc.match_substring_regex(pa.array(distinct, pa.string()), _MULTIPLE_MARKERS)
    return np.append(marked.to_numpy(zero_copy_only=False), False)[texts]


def _shapes(
    spans: pa.Table, normaliser: Normaliser, parent_key: Int64Array
) -> tuple[Int32Array, tuple[Shape, ...]]:
    """The shape of each span; every distinct combination of its columns is normalised once.

    Shapes of different texts may be equal; `SpanFrame.form` tells.
    """
    kind = ints(spans, "kind")
    system, systems = codes(spans["db_system"])
    statement, statements = codes(spans["statement"])
    name, names = codes(spans["name"])
    url, urls = codes(spans["url"])
    method, methods = codes(spans["http_method"])
    host, hosts = codes(spans["server_address"])
    database = (system >= 0) | (statement >= 0)
    named = Texts(name, names)
    statement = own_statements(Texts(statement, statements), named, database, parent_key)
    database |= statement >= 0
    told = labels(spans, statement, Texts(system, systems), named)
    call = ~database & (kind == CLIENT)
    shape = np.full(len(spans), NO_SHAPE, dtype=np.int32)

    def of_database(row: int) -> Shape:
        of, label = _at(systems, system[row]), _at(told.distinct, told.numbers[row])
        if statement[row] >= 0:
            return normaliser.statement(of, statements[statement[row]], label)
        return normaliser.name(of, label or names[name[row]])

    def of_call(row: int) -> Shape:
        return normaliser.call(
            _at(methods, method[row]), _at(urls, url[row]), names[name[row]], _at(hosts, host[row])
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
    group = np.zeros(len(chosen), dtype=np.int64)
    first = np.zeros(0, dtype=np.int64)
    for column in columns:
        part = column[chosen].astype(np.int64) + 1
        combined = group * (int(part.max(initial=0)) + 1) + part
        _, first, group = np.unique(combined, return_index=True, return_inverse=True)
    return chosen, group, chosen[first].tolist()
