"""promql-parser, an independent parser of the same language, takes and refuses the same queries."""

import re

import promql_parser
import pytest

from store.errors import QueryError
from store.promql.parse import parse
from tests.store.promql.test_against_prometheus import QUERIES
from tests.store.promql.test_cases import CASES

# What promql-parser does not know, or accepts without looking.
GAPS = re.compile(
    r"</|>/|anchored|smoothed|\[[^\]]*[-+*/%^(]|\[[^\]]*:[^\]]*\+|offset -?\(|\d_\d|info\(|fill \("
)
TEXTS = list(dict.fromkeys([case.expr for case in CASES] + QUERIES))


def ours(text: str) -> bool:
    try:
        parse(text)
    except QueryError:
        return False
    return True


def theirs(text: str) -> bool:
    try:
        promql_parser.parse(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("text", [text for text in TEXTS if not GAPS.search(text)])
def test_both_parsers_take_or_refuse_a_query(text: str) -> None:
    assert ours(text) == theirs(text)


def test_most_queries_can_be_compared() -> None:
    assert sum(GAPS.search(text) is None for text in TEXTS) > 200
