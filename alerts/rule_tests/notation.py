"""The notation of input series: `0+10x5 _ _x3 stale NaN`.

`a+bxn` is n+1 values, `axn` is a value n+1 times, `_` no sample, `_xn` n times no sample.
Source: https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from alerts.rule_evaluation import STALE_NAN
from store.errors import QueryError
from store.model import METRIC_NAME, Labels, MatchOp
from store.promql.numbers_text import parse_number
from store.promql.parse import parse
from store.promql.syntax import VectorSelector

MAX_VALUES = 1_000_000
_MAX_TEXT = 1_000_000
_NUMBER = r"(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[iI][nN][fF]|[nN][aA][nN])"
_REPEATED = re.compile(
    rf"(?P<first>[-+]?{_NUMBER})(?:(?P<sign>[-+])(?P<step>{_NUMBER}))?(?:x(?P<times>\d{{1,9}}))?"
)
_BLANK = re.compile(r"_(?:x(\d{1,9}))?")


def parse_values(text: str) -> list[float | None]:
    """The values of a series, one for each interval from the start; None is no sample.

    >>> parse_values("1+2x2 _x2 -1")
    [1.0, 3.0, 5.0, None, None, -1.0]

    Raises:
        ValueError: The text is no such notation, or stands for over `MAX_VALUES` values.
    """
    if len(text) > _MAX_TEXT:
        raise ValueError(f"the values are longer than {_MAX_TEXT} characters")
    values: list[float | None] = []
    for word in text.split():
        if word.startswith("{{"):
            raise ValueError(
                "native histograms are not part of this version; write the buckets as series"
            )
        for value in _item(word):
            values.append(value)
            if len(values) > MAX_VALUES:
                raise ValueError(f"more than {MAX_VALUES} values in one series")
    return values


def _item(word: str) -> Iterator[float | None]:
    if word == "stale":
        yield STALE_NAN
        return
    blank = _BLANK.fullmatch(word)
    if blank is not None:
        yield from [None] * min(int(blank[1] or 1), MAX_VALUES + 1)
        return
    found = _REPEATED.fullmatch(word)
    if found is None or (found["step"] and not found["times"]):
        raise ValueError(f"{word!r} is no value; write it like 5, 0+10x5, _, _x3 or stale")
    value = _signed(found["first"])
    step = _signed(f"{found['sign']}{found['step']}") if found["step"] else 0.0
    for _ in range(min(int(found["times"] or 0), MAX_VALUES) + 1):
        yield value
        value += step


def _signed(text: str) -> float:
    value = parse_number(text.lstrip("+-"))
    return -value if text.startswith("-") else value


def parse_series(text: str) -> Labels:
    """The labels of `name{label="value"}`; `{}` and an empty text have none.

    Raises:
        ValueError: The text names no single series.
    """
    if re.fullmatch(r"\s*(\{\s*\})?\s*", text):
        return Labels()
    try:
        selector = parse(text)
    except QueryError as exc:
        raise ValueError(f"{text!r} is no series: {exc.message}") from exc
    plain = isinstance(selector, VectorSelector) and selector.at is None
    if not isinstance(selector, VectorSelector) or not plain:
        raise ValueError(f'{text!r} is no series; write it like up{{job="shop"}}')
    found = {METRIC_NAME: selector.name} if selector.name else {}
    for matcher in selector.matchers:
        if matcher.op is not MatchOp.EQUAL:
            raise ValueError(f"{text!r}: a series has labels with =, not {matcher.op}")
        found[matcher.name] = matcher.value
    return Labels.of(found)
