"""Outgoing calls to shapes: ids in paths and values of queries are set aside."""

from __future__ import annotations

import re
from collections import Counter

from detectors.traces.shape import (
    KEY_SEPARATOR,
    LONG_LIST,
    MAX_STATEMENT_CHARS,
    Category,
    Shape,
    key_pattern,
)
from detectors.traces.vocabulary import PAGE_PARAMETERS

_VERSION = re.compile(r"v\d{1,2}(?:\.\d{1,2})?")
_CONNECT = re.compile(
    r"^(?:(?:tcp|tls|net|dns|http2?|socket)\W)?(?:connect|lookup|handshake|getaddrinfo|dial)\b"
    r"|^(?:PDO\w*|mysqli\w*|\w+Statement)::"
    r"|\b(?:pool|connection)\b.*\b(?:get|acquire|checkout|checkin|release)\b",
    re.IGNORECASE,
)
# What stands between the ids of a list, in a query or in a path.
_BETWEEN_IDS = re.compile(r"[,|;]|%(?:2C|7C|3B)", re.IGNORECASE)
# An address of one of many pods: which of them answers is not what was asked.
_ADDRESS = re.compile(r"(?!127\.)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])|\[[0-9a-fA-F:.]{3,}\]")
# Taking messages from a queue, or saying that they were taken.
_TAKES = re.compile(
    r"^(?:receive|poll|settle|n?ack) |\w (?:receive|poll|settle|n?ack)$|(?:^|[./])ReceiveMessage$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"[{<:*].*")
_BULK = re.compile(
    r"[/:.]_?(?i:bulk|batch|msearch|mget|multi)"
    r"(?:$|[/?:]|(?=[A-Z])|[_-]?(?i:get|read|write|update|create|insert|delete|fetch|load|query))"
    r"|[a-z](?:Batch|Bulk)(?:$|(?=[A-Z]))"
)


def normalise_call(method: str, url: str, name: str, host: str) -> Shape:
    """The shape of an outgoing call.

    Args:
        method: HTTP method; empty for other protocols.
        url: Full URL or path.
        name: The span's name: the shape where there is no URL (gRPC); the template of the URL,
            where the client knows it, tells which words in the path are ids.
        host: The server, for a URL that is only a path.

    >>> normalise_call("GET", "http://stock/items/17.json?page=2", "GET", "").text
    'GET stock/items/*.json?page'
    >>> normalise_call("GET", "http://10.42.0.7:8080/items/17", "GET", "").text
    'GET *:8080/items/*'
    """
    url = url[:MAX_STATEMENT_CHARS]
    method = method.upper()
    if not url:
        return _named(method, name)
    rest = url.split("://", 1)[-1] if "://" in url else f"{host}/{url.lstrip('/')}"
    rest, _, _ = rest.partition("#")
    path, _, query = rest.partition("?")
    authority, slash, path = path.partition("/")
    authority = _ADDRESS.sub("*", authority.rpartition("@")[2], count=1)
    values: list[str] = []
    pages: list[str] = []
    parts = path.split("/")
    segments = _segments(parts, values, pages, _ids_of_template(parts, name))
    names = sorted({pair.partition("=")[0] for pair in query.split("&") if pair})
    # "from" is a date elsewhere.
    paged = PAGE_PARAMETERS | {"from"} if {"size", "limit"} & set(names) else PAGE_PARAMETERS
    for key, _, value in (pair.partition("=") for pair in query.split("&") if pair):
        (pages if key.lower() in paged else values).append(value)
    text = f"{method} {authority}{slash}{'/'.join(segments)}"
    commas = max((len(_BETWEEN_IDS.findall(value)) for value in values), default=0)
    repeated = max(Counter(pair.partition("=")[0] for pair in query.split("&")).values())
    bulk = LONG_LIST if _BULK.search(f"/{path}") else 0
    return Shape(
        text=f"{text}?{'&'.join(names)}" if names else text,
        category=Category.CALL,
        operation=method,
        table=authority,
        key=KEY_SEPARATOR.join(values),
        offset=KEY_SEPARATOR.join(pages),
        paginated=bool(pages),
        list_size=max(bulk, commas + 1 if commas else 0, repeated if repeated > 1 else 0),
        family=_family(method, authority, segments),
    )


def _named(method: str, name: str) -> Shape:
    """A call without a URL is known by its span's name."""
    category = Category.CONTROL if _CONNECT.search(name) else Category.CALL
    parts = [
        part if _VERSION.fullmatch(part) else key_pattern(part)
        for part in re.split(r"([/. ])", name[:MAX_STATEMENT_CHARS])
    ]
    size = LONG_LIST if _BULK.search(f"/{name}") else 0
    text = f"{method} {''.join(parts)}".strip()
    takes = _TAKES.search(name) is not None
    return Shape(text, category, method or "CALL", list_size=size, waits=takes)


def request_name(name: str) -> str:
    """The name of a request without a route; of one that is named by its path without the ids.

    >>> request_name("GET /cart/17?step=2")
    'GET /cart/*'
    >>> request_name("shop.v1.Checkout/PlaceOrder")
    'shop.v1.Checkout/PlaceOrder'
    """
    method, blank, path = name.rpartition(" ")
    if not path.startswith("/"):
        return name
    parts = path.partition("?")[0].split("/")
    return f"{method}{blank}{'/'.join(_segments(parts, [], [], frozenset()))}"


def _ids_of_template(parts: list[str], name: str) -> frozenset[int]:
    """Places in a path where a template such as `GET /rates/{code}` has an id."""
    _, _, template = name.rpartition(" ")
    wanted = template.strip("/").split("/") if template.startswith("/") else []
    marked = [_PLACEHOLDER.fullmatch(word) is not None for word in wanted]
    first = len(parts) - len(wanted)
    if not any(marked) or first < 0:
        return frozenset()
    here = zip(parts[first:], wanted, marked, strict=True)
    if not all(mark or part == word for part, word, mark in here):
        return frozenset()
    return frozenset(first + place for place, mark in enumerate(marked) if mark)


def _segments(
    parts: list[str], values: list[str], pages: list[str], ids: frozenset[int]
) -> list[str]:
    segments = []
    for place, part in enumerate(parts):
        if place in ids:
            values.append(part)
            segments.append("*")
            continue
        page = place > 0 and parts[place - 1].lower() in {"page", "pages"} and part.isdigit()
        segments.append(_segment(part, pages if page else values))
    return segments


def _segment(part: str, values: list[str]) -> str:
    if not part or _VERSION.fullmatch(part) or part[0] in "<{:":
        return part
    stem, dot, extension = part.rpartition(".")
    if not dot or not extension.isalpha():
        stem, dot, extension = part, "", ""
    starred = key_pattern(stem)
    if starred != stem:
        values.append(part)
        # A slug with a number in it is one id, and so is one without beside it.
        starred = "*"
    return f"{starred}{dot}{extension}"


def _family(method: str, authority: str, segments: list[str]) -> str:
    """Equal for paths of the same length on one server that begin alike."""
    if len(segments) < 2:
        return ""
    return f"{method} {authority}/{segments[0]} {len(segments)}"
