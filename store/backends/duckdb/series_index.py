"""Which series exist, in memory: labels to id, and postings from label pairs to ids.

Ids ascend and are never given twice, so every posting list is sorted by construction.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import re2

from store.errors import QueryError
from store.model import (
    Int32Array,
    Labels,
    Matcher,
    MatchOp,
    RefSpace,
    SampleBatch,
    SeriesRefs,
)

# As many as there may be rules: each asks the same at every tick.
_CACHED_SELECTIONS = 32_768
_CACHED_IDS = 8_000_000
_MOST_TO_EXTEND = 2048
NO_ID = -1
_NONE = array("i")

Predicate = Callable[[str], bool]


class SeriesIndex:
    """Maps labels to ids and matchers to ids. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._ids: dict[Labels, int] = {}
        self._labels: list[Labels | None] = []
        self._postings: dict[str, dict[str, array[int]]] = {}
        self._selections: OrderedDict[tuple[Matcher, ...], tuple[int, Int32Array]] = OrderedDict()
        self._selected = 0  # ids in all cached selections
        # Ids by the refs that receivers give; dropped when a series is removed.
        self._by_ref: WeakKeyDictionary[RefSpace, Int32Array] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def next_id(self) -> int:
        """The id that the next new series gets."""
        return len(self._labels)

    def skip_to(self, next_id: int) -> None:
        """Never give an id below this one again."""
        with self._lock:
            self._labels.extend([None] * (next_id - len(self._labels)))

    def id_of(self, labels: Labels) -> int | None:
        return self._ids.get(labels)

    def ids_of_batch(self, batch: SampleBatch) -> Int32Array:
        """The id of each of `batch.series`, `NO_ID` where it has none.

        Costs no Python work for a series whose ref was looked up before.
        """
        refs = batch.known_refs
        if refs is None:
            get = self._ids.get
            found = (get(labels, NO_ID) for labels in batch.series)
            return np.fromiter(found, dtype=np.int32, count=len(batch.series))
        by_ref = self._by_ref.get(refs.space)
        if by_ref is not None and refs.bound <= len(by_ref):
            ids: Int32Array = by_ref[refs.refs]
            if not len(ids) or ids.min() != NO_ID:
                return ids
        return self._learn(refs)

    def _learn(self, refs: SeriesRefs) -> Int32Array:
        with self._lock:
            by_ref = self._by_ref.get(refs.space)
            known = 0 if by_ref is None else len(by_ref)
            if by_ref is None or known < refs.bound:
                grown = np.full(max(refs.bound, 2 * known), NO_ID, dtype=np.int32)
                if by_ref is not None:
                    grown[:known] = by_ref
                by_ref = self._by_ref[refs.space] = grown
            ids: Int32Array = by_ref[refs.refs]
            for place in np.flatnonzero(ids == NO_ID).tolist():
                ids[place] = self._ids.get(refs.series[place], NO_ID)
            by_ref[refs.refs] = ids
            return ids

    def labels_of(self, ids: Iterable[int]) -> list[Labels]:
        """Labels by id; ids that are gone are left out."""
        known = self._labels
        return [labels for place in ids if (labels := known[place]) is not None]

    def unknown(self, series: Iterable[Labels]) -> list[Labels]:
        """Those that have no id yet."""
        known = self._ids
        return [labels for labels in series if labels not in known]

    def add(self, new: Sequence[tuple[int, Labels]]) -> None:
        """Add series with ids ascending from `next_id`."""
        with self._lock:
            for place, labels in new:
                if place > len(self._labels):
                    self.skip_to(place)
                # The caller's own object: a collector that keeps it finds it again by identity.
                self._labels.append(labels)
                self._ids[labels] = place
                for name, value in labels.pairs:
                    values = self._postings.get(name)
                    if values is None:
                        values = self._postings[name] = {}
                    ids = values.get(value)
                    if ids is None:
                        ids = values[value] = array("i")
                    ids.append(place)

    def remove(self, ids: Iterable[int]) -> None:
        gone = set(ids)
        with self._lock:
            touched: set[tuple[str, str]] = set()
            for place in gone:
                labels = self._labels[place]
                if labels is None:
                    continue
                touched.update(labels.pairs)
                del self._ids[labels]
                self._labels[place] = None
            for name, value in touched:
                self._shrink(name, value, gone)
            self._selections.clear()
            self._selected = 0
            # A look-up under way keeps the array that it holds; later ones begin anew.
            self._by_ref.clear()

    def _shrink(self, name: str, value: str, gone: set[int]) -> None:
        values = self._postings[name]
        kept = array("i", (place for place in values[value] if place not in gone))
        if kept:
            values[value] = kept
            return
        del values[value]
        if not values:
            del self._postings[name]

    def select(self, matchers: Sequence[Matcher]) -> Int32Array:
        """Ids of the series that pass every matcher, ascending.

        Raises:
            QueryError: A regular expression is not valid RE2.
        """
        key = tuple(matchers)
        with self._lock:
            seen = self._selections.get(key)
            now = len(self._labels)
            if seen is not None and now - seen[0] <= _MOST_TO_EXTEND:
                ids = self._extended(key, *seen) if now > seen[0] else seen[1]
            else:
                ids = self._search(key)
            self._remember(key, now, ids)
            return ids

    def _remember(self, key: tuple[Matcher, ...], now: int, ids: Int32Array) -> None:
        """Keep a selection, and let go of those that were asked for longest ago."""
        before = self._selections.pop(key, None)
        self._selections[key] = (now, ids)
        self._selected += len(ids) - (len(before[1]) if before else 0)
        while len(self._selections) > _CACHED_SELECTIONS or (
            self._selected > _CACHED_IDS and len(self._selections) > 1
        ):
            _, (_, gone) = self._selections.popitem(last=False)
            self._selected -= len(gone)

    def _extended(self, key: tuple[Matcher, ...], since: int, ids: Int32Array) -> Int32Array:
        fresh = self._passing(key, range(since, len(self._labels)))
        return np.concatenate([ids, np.asarray(fresh, dtype=np.int32)]) if fresh else ids

    def _passing(self, key: tuple[Matcher, ...], places: Iterable[int]) -> list[int]:
        """Those of these ids whose series pass every matcher."""
        tests = [(matcher.name, predicate(matcher)) for matcher in key]
        return [
            place
            for place in places
            if (labels := self._labels[place]) is not None
            and all(test(labels.get(name)) for name, test in tests)
        ]

    def _fewest(self, key: tuple[Matcher, ...]) -> array[int] | None:
        """The shortest list of ids that holds all that pass; None when no matcher names a value."""
        lists = [
            self._postings.get(matcher.name, {}).get(matcher.value, _NONE)
            for matcher in key
            if matcher.op is MatchOp.EQUAL and matcher.value
        ]
        return min(lists, key=len) if lists else None

    def _search(self, key: tuple[Matcher, ...]) -> Int32Array:
        few = self._fewest(key)
        if few is not None and len(few) <= _MOST_TO_EXTEND:
            # Looking at each of a few series is quicker than long lists of those that may be.
            return np.asarray(self._passing(key, few), dtype=np.int32)
        inside: list[Int32Array] = []
        outside: list[Int32Array] = []
        for matcher in sorted(key, key=lambda matcher: matcher.op is not MatchOp.EQUAL):
            ids, excluded = self._postings_of(matcher)
            (outside if excluded else inside).append(ids)
        inside.sort(key=len)
        found = inside[0] if inside else self._all()
        for ids in inside[1:]:
            found = np.intersect1d(found, ids, assume_unique=True)
        for ids in outside:
            found = np.setdiff1d(found, ids, assume_unique=True)
        return found

    def _postings_of(self, matcher: Matcher) -> tuple[Int32Array, bool]:
        """Ids to keep, or (True) ids to leave out.

        A matcher that passes the empty string passes every series without the label, so then the
        ids that fail are the short answer.
        """
        values = self._postings.get(matcher.name, {})
        if matcher.op is MatchOp.EQUAL and matcher.value:
            return _union([values[matcher.value]] if matcher.value in values else []), False
        if matcher.op is MatchOp.NOT_EQUAL and matcher.value:
            return _union([values[matcher.value]] if matcher.value in values else []), True
        test = predicate(matcher)
        passes_absent = test("")
        lists = [ids for value, ids in values.items() if test(value) is not passes_absent]
        return _union(lists), passes_absent

    def _all(self) -> Int32Array:
        return np.sort(np.fromiter(self._ids.values(), dtype=np.int32, count=len(self._ids)))

    def values_of(self, name: str, ids: Int32Array | None) -> list[str]:
        """Values that a label has among these ids, or among all; sorted."""
        with self._lock:
            values = self._postings.get(name, {})
            if ids is None:
                return sorted(values)
            found = {labels.get(name) for labels in self.labels_of(ids.tolist())}
        return sorted(found - {""})

    def names_of(self, ids: Int32Array) -> list[str]:
        """Label names among these ids, sorted."""
        found: set[str] = set()
        with self._lock:
            for labels in self.labels_of(ids.tolist()):
                found.update(name for name, _ in labels.pairs)
        return sorted(found)

    def label_pairs(self) -> int:
        """How many distinct pairs of a label and a value there are."""
        with self._lock:
            return sum(len(values) for values in self._postings.values())

    def cardinality(self, limit: int) -> dict[str, list[tuple[str, int]]]:
        """Largest metrics, labels and label pairs: `status/tsdb` in Prometheus."""
        with self._lock:
            metrics = [(v, len(ids)) for v, ids in self._postings.get("__name__", {}).items()]
            names = [(name, len(values)) for name, values in self._postings.items()]
            pairs = [
                (f"{name}={value}", len(ids))
                for name, values in self._postings.items()
                for value, ids in values.items()
            ]
            sizes = [
                (name, sum(len(value.encode()) * len(ids) for value, ids in values.items()))
                for name, values in self._postings.items()
            ]
        return {
            "seriesCountByMetricName": _largest(metrics, limit),
            "labelValueCountByLabelName": _largest(names, limit),
            "memoryInBytesByLabelName": _largest(sizes, limit),
            "seriesCountByLabelValuePair": _largest(pairs, limit),
        }


def _largest(counts: list[tuple[str, int]], limit: int) -> list[tuple[str, int]]:
    return sorted(counts, key=lambda count: (-count[1], count[0]))[:limit]


def _union(lists: Sequence[array[int]]) -> Int32Array:
    if not lists:
        return np.empty(0, dtype=np.int32)
    merged = np.concatenate([np.array(ids, dtype=np.int32) for ids in lists])
    if len(lists) > 1:
        merged.sort()  # a series has one value a label: the lists are disjoint
    return merged


def predicate(matcher: Matcher) -> Predicate:
    """A test of a label's value; an absent label is the empty string.

    Raises:
        QueryError: The regular expression is not valid RE2.
    """
    wanted = matcher.value
    match matcher.op:
        case MatchOp.EQUAL:
            return lambda value: value == wanted
        case MatchOp.NOT_EQUAL:
            return lambda value: value != wanted
        case MatchOp.REGEX:
            fullmatch = _compiled(wanted).fullmatch
            return lambda value: fullmatch(value) is not None
        case MatchOp.NOT_REGEX:
            fullmatch = _compiled(wanted).fullmatch
            return lambda value: fullmatch(value) is None


def _compiled(pattern: str) -> re2._Regexp[str]:
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as exc:
        raise QueryError(
            f"invalid regular expression {pattern!r}: {exc}",
            kind="bad_data",
            hint="matchers take RE2 syntax, anchored at both ends",
        ) from exc
