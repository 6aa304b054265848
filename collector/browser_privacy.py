"""What browsers send, without what may name a person.

Left out: addresses, user agents, users and sessions by the names of their attributes, mail
addresses, and queries and fragments of URLs, wherever one stands: in messages and stack traces too.
Ids in the paths of URLs become `{id}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from collector.web_vitals import page_template

MAX_DEPTH = 32
_PERSONAL = re.compile(
    r"(?i)(?:^|[._\-])(?:user[._\-]?agent|enduser|user|user[._\-]?(?:name|id)|e?mail|phone|session|"
    r"session[._\-]?id|client[._\-]?(?:ip|address|port|geo)|ip|sock|query|cookie|fingerprint)"
    r"(?:[._\-]|$)"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MAIL = re.compile(r"[\w.+\-]{1,64}@[\w\-]{1,63}(?:\.[\w\-]{1,63})+")
_URL = re.compile(
    r"(?i)\b([a-z][a-z0-9+.\-]{1,20}://)(?:[^\s/?#\"'<>@]*@)?([^\s?#\"'<>()]*)([?#][^\s\"'<>()]*)?"
)
_WHOLE_URL = re.compile(r"(?i)([a-z][a-z0-9+.\-]{1,20}://)(?:[^/?#@]*@)?([^/?#\s]*)(\S*)")
_PATH = re.compile(r"/\S*")


def is_personal(key: str) -> bool:
    """Whether an attribute of this name may name a person.

    >>> is_personal("user_agent.original"), is_personal("sessionId"), is_personal("url.full")
    (True, True, False)
    """
    return _PERSONAL.search(_HUMP.sub("_", key)) is not None


def plain_text(text: str) -> str:
    """A text whose URLs have neither user, query nor fragment; one that is a URL or path, no ids.

    >>> plain_text("https://ann:pw@shop.example/orders/1234?token=x#top")
    'https://shop.example/orders/{id}'
    >>> plain_text("Failed to fetch https://shop.example/cart?token=x (twice)")
    'Failed to fetch https://shop.example/cart (twice)'
    """
    whole = _WHOLE_URL.fullmatch(text)
    if whole:
        rest = page_template(whole[3]) if whole[3].strip("/?#") else ""
        return f"{whole[1]}{whole[2]}{rest}"
    if _PATH.fullmatch(text):
        return page_template(text)
    text = _URL.sub(r"\1\2", text)
    return _MAIL.sub("[mail]", text) if "@" in text else text


def plain_attributes(attributes: Mapping[str, Any], *, most: int, longest: int) -> dict[str, str]:
    """Attributes of an event or error as texts, without personal ones; bounded."""
    found: dict[str, str] = {}
    for key, value in attributes.items():
        if len(found) >= most:
            break
        if isinstance(value, (str, int, float)) and not is_personal(key):
            found[key[:100]] = plain_text(str(value)[:longest])
    return found


def plain_spans(value: Any, depth: int = 0) -> Any:
    """A document of OTLP/JSON spans, likewise: every list of attributes, every text.

    Raises:
        ValueError: It is nested too deep.
    """
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, list):
        return [plain_spans(item, depth + 1) for item in value if not _names_a_person(item)]
    if isinstance(value, dict):
        return {key: plain_spans(item, depth + 1) for key, item in value.items()}
    return value


def _names_a_person(item: Any) -> bool:
    """Whether it is an attribute (`{"key": …, "value": …}`) of a personal name."""
    if not isinstance(item, dict) or "value" not in item:
        return False
    key = item.get("key")
    return isinstance(key, str) and is_personal(key)
