"""Routes on the way to an order, told by the words in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def sells(route: str, words: Iterable[str]) -> bool:
    """Has the route one of the words, in singular or plural, and not as a part of another word?

    >>> sells("api/placeOrder", ["order"]), sells("borders/", ["order"])
    (True, False)
    """
    spaced = _CAMEL.sub(" ", route).lower()
    return any(_word(word).search(spaced) for word in words)


@lru_cache(maxsize=256)
def _word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z]){re.escape(word.lower())}s?(?![a-z])")
