"""Forms that differ in one word only, where that word is an id that looks like a word.

`GET stock/items/red-shirt` and `GET stock/items/blue-jeans` are one loop, though no pattern tells
that a slug is an id. What tells it is that many of them stand in the same place of one request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from detectors.traces.shape import Category
from detectors.traces.trace import Trace

_FEWEST_FORMS = 3
_FEWEST_SPANS = 5
_NAMED_BY_IDS = frozenset({Category.CALL, Category.CACHE})
_SPLIT = re.compile(r"([/:.|?])")
_SLUG = re.compile(r"[-_.%~@+*]|\d|[a-z][A-Z]")
# These hold endpoints, not things: what comes behind them is no id.
_NO_COLLECTION = re.compile(
    r"(?:api|rest|rpc|services?|internal|public|private|gateway|bff|backend|status|address|v\d+)",
    re.IGNORECASE,
)


class Form(NamedTuple):
    """Where a form repeats: request, service, and the number of the form or a served route."""

    scope: int
    service: int
    form: int | str


class Joined(NamedTuple):
    """What may be one loop.

    Attributes:
        scope: The request that has it.
        lost: How many more it has, of which only the callee's spans are here.
        text: What its forms have in common; empty for one form.
    """

    scope: int
    spans: list[int]
    lost: int = 0
    text: str = ""


def joined(
    trace: Trace, members: dict[Form, list[int]], lost: Mapping[Form, int]
) -> Iterator[Joined]:
    """Each form with its spans; forms that are one loop together."""
    alike: dict[tuple[int, int, str], list[Form]] = {}
    for form, spans in members.items():
        category = trace.category[spans[0]]
        if category in _NAMED_BY_IDS:
            family = trace.shape(spans[0]).family
            if family:
                alike.setdefault((form.scope, form.service, family), []).append(form)
    taken: set[Form] = set()
    for forms in alike.values():
        if len(forms) >= _FEWEST_FORMS:
            for text, bucket in _buckets(trace, members, forms):
                free = [form for form in bucket if form not in taken]
                spans = sorted(span for form in free for span in members[form])
                more = sum(lost.get(form, 0) for form in free)
                if len(free) >= _FEWEST_FORMS and len(spans) + more >= _FEWEST_SPANS:
                    taken.update(free)
                    yield Joined(free[0].scope, spans, more, text)
    for form, spans in members.items():
        if form not in taken:
            yield Joined(form.scope, spans, lost.get(form, 0))


def _buckets(
    trace: Trace, members: dict[Form, list[int]], forms: Iterable[Form]
) -> list[tuple[str, list[Form]]]:
    """Forms whose texts are equal but for one part, the largest bucket first."""
    found: dict[tuple[int, str], list[tuple[Form, str, str]]] = {}
    for form in forms:
        text = trace.shape(members[form][0]).text
        parts = _SPLIT.split(text)
        for place in range(2, len(parts), 2):
            around = "".join([*parts[:place], "*", *parts[place + 1 :]])
            entry = (form, parts[place], parts[place - 2])
            found.setdefault((place, around), []).append(entry)
    by_size = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        (text, [form for form, _, _ in entries])
        for (_, text), entries in by_size
        if len(entries) >= _FEWEST_FORMS and _are_ids(trace, members, entries)
    ]


def _are_ids(
    trace: Trace, members: dict[Form, list[int]], entries: list[tuple[Form, str, str]]
) -> bool:
    """Are the words in this place ids? In a cache key any word may be one."""
    first = members[entries[0][0]][0]
    if trace.category[first] == Category.CACHE:
        return True
    served = {_served_route(trace, members[form][0]) for form, _, _ in entries} - {""}
    return len(served) == 1 if served else _look_like_ids(entries)


def _look_like_ids(entries: list[tuple[Form, str, str]]) -> bool:
    collection = entries[0][2].rpartition(" ")[2]
    if _NO_COLLECTION.fullmatch(collection):
        return False
    if collection.endswith("s") and len(collection) > 3:
        return True
    slugs = sum(_SLUG.search(word) is not None for _, word, _ in entries)
    return slugs >= 0.8 * len(entries)


def _served_route(trace: Trace, call: int) -> str:
    """The route by which the callee served a call; empty where it is not in the trace."""
    return next(
        (route for child in trace.children[call] if (route := trace.text("http_route", child))), ""
    )
