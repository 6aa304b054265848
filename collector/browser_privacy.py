"""What browsers send, without what may name a person.

Left out: attributes whose names tell of a person, a session, an address or a device; mail
addresses; queries and fragments of URLs, wherever one stands, relative ones too: in messages and
stack traces as well. Ids in the paths of URLs become `{id}`. A text that says a name in plain words
is not known for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from collector.web_vitals import MAIL, page_template

MAX_DEPTH = 32
MAX_TEXT = 4096
# Of one document of spans; the SDK sends a few thousand.
MAX_VALUES = 100_000
# More than a mail address may have: one that a cut would halve is still known.
_BEYOND_CUT = 320
_CLIENT, _INTERNAL = 3, 1
_SERVICE = "service.name"
_SENDER = (_SERVICE, "service.namespace", "service.instance.id")

_WORDS_OF_PERSONS = (
    "account accounts anonymousid birthday birthdate clientip cookie cookies customer customers "
    "customerid deviceid dob email emails enduser fbclid familyname fax fingerprint firstname "
    "forwarded fullname gclid gender givenname iban ip ipaddr ipaddress ips jsessionid lastname "
    "latitude login logon longitude mail mails mailto mobilenumber msclkid msisdn nickname "
    "passport passwd password phone phones phonenumber phpsessid postalcode postcode "
    "querystring remoteaddr remoteip sessid session sessionid sessions sid sock ssn street "
    "surname tel telephone user useragent userid username users visitor visitorid visitors "
    "zipcode "
)
_PERSONAL_WORDS = frozenset(_WORDS_OF_PERSONS.split())
_PAIRS_OF_PERSONS = (
    "advertising_id anonymous_id birth_date client_geo client_id client_port device_id "
    "device_uuid distinct_id family_name first_name full_name given_name http_query last_name "
    "middle_name mobile_number nick_name page_query postal_code post_code query_string "
    "remote_addr remote_host request_query uri_query url_query zip_code "
)
_PERSONAL_PAIRS = frozenset(tuple(pair.split("_")) for pair in _PAIRS_OF_PERSONS.split())
_PERSONAL_ENDINGS = ("email", "username", "userid", "sessionid", "firstname", "lastname")
# An address is a person's, unless it is said to be a server's.
_OF_SERVERS = frozenset({"server", "destination", "host", "db"})
_WORDS = re.compile(r"[^\W\d_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# A query has quotes and brackets where they belong to it, not where the text closes its own.
_TAIL = r"(?:[^\s\"'<>()]|'(?=\w)|\([^\s()]*+\)?)*+"
_URL = re.compile(
    rf"(?i)\b([a-z][a-z0-9+.\-]{{1,20}}://)(?:[^\s/?#\"'<>@]*@)?([^\s?#\"'<>()]*)(?:[?#]{_TAIL})?"
)
_QUERY = re.compile(
    rf"(?<=[\w/.%~)\]\-])[?#](?=[\w%&~/\-\[]){_TAIL}|[?#&](?=[^\s=?#\"'<>]{{1,100}}=){_TAIL}"
)
_WHOLE_URL = re.compile(r"(?i)([a-z][a-z0-9+.\-]{1,20}://)(?:[^/?#@]*@)?([^/?#\s]*)([^\s?#]*)\S*")
_PATH = re.compile(r"/\S*")


def is_personal(key: str) -> bool:
    """Whether an attribute of this name may name a person.

    >>> is_personal("user_agent.original"), is_personal("sessionId"), is_personal("url.full")
    (True, True, False)
    >>> is_personal("network.peer.address"), is_personal("server.address")
    (True, False)
    """
    words = _WORDS.findall(_HUMP.sub("_", key[:256]).lower())
    return (
        any(word in _PERSONAL_WORDS or word.endswith(_PERSONAL_ENDINGS) for word in words)
        or any(pair in _PERSONAL_PAIRS for pair in pairwise(words))
        or _is_address(words)
    )


def _is_address(words: list[str]) -> bool:
    return any(
        word.endswith(("address", "addresses")) and before not in _OF_SERVERS
        for before, word in pairwise(["", *words])
    )


def plain_text(text: str, longest: int = MAX_TEXT) -> str:
    """A text, cut, whose URLs have neither user, query nor fragment, and without mail addresses.

    One that is a URL or path as a whole has no ids either.

    >>> plain_text("https://ann:pw@shop.example/orders/1234?token=x#top")
    'https://shop.example/orders/{id}'
    >>> plain_text("Failed to fetch cart?token=x of ann@example.com (twice)")
    'Failed to fetch cart of [mail] (twice)'
    """
    text = text[: longest + _BEYOND_CUT]
    whole = _WHOLE_URL.fullmatch(text)
    if whole:
        rest = page_template(whole[3]) if whole[3].strip("/") else ""
        text = f"{whole[1]}{whole[2]}{rest}"
    elif _PATH.fullmatch(text):
        text = page_template(text)
    else:
        text = _URL.sub(r"\1\2", text) if "://" in text else text
        text = _QUERY.sub("", MAIL.sub("[mail]", text))
    return MAIL.sub("[mail]", text)[:longest]


def plain_attributes(attributes: Mapping[str, Any], *, most: int, longest: int) -> dict[str, str]:
    """Attributes of an event or error as texts, without personal ones; bounded."""
    found: dict[str, str] = {}
    for key, value in attributes.items():
        if len(found) >= most:
            break
        if isinstance(value, (str, int, float)) and not is_personal(key):
            found[plain_text(key, 100)] = plain_text(str(value), longest)
    return found


def plain_spans(document: Mapping[str, Any], service: str) -> dict[str, Any]:
    """A document of OTLP/JSON spans, likewise, as spans of that service's pages.

    Anyone may post one, so what it says of its sender is not believed: the service is the app's,
    and a span is a client's or internal, never a request that a server took.

    Raises:
        ValueError: It is nested too deep, too large, or not of that shape.
    """
    found = _plain(document, 0, iter(range(MAX_VALUES)))
    for resource in _objects(found, "resourceSpans"):
        resource["resource"] = {"attributes": _identity(resource, service)}
        for scope in _objects(resource, "scopeSpans"):
            for span in _objects(scope, "spans"):
                of_client = span.get("kind") in (_CLIENT, str(_CLIENT), "SPAN_KIND_CLIENT")
                span["kind"] = _CLIENT if of_client else _INTERNAL
    return {"resourceSpans": found["resourceSpans"]}


def _identity(resource: Mapping[str, Any], service: str) -> list[Any]:
    told = resource.get("resource")
    kept = [
        attribute
        for attribute in (_objects(told, "attributes") if isinstance(told, dict) else ())
        if attribute.get("key") not in _SENDER
    ]
    return [*kept, {"key": _SERVICE, "value": {"stringValue": service}}]


def _objects(parent: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects.

    Raises:
        ValueError: It is none.
    """
    found = parent.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{name} must be a list of objects")
    return found


def _plain(value: Any, depth: int, left: Iterator[int]) -> Any:
    if depth > MAX_DEPTH or next(left, None) is None:
        raise ValueError("too deep or too large")
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, list):
        return [_plain(item, depth + 1, left) for item in value if not _names_a_person(item)]
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1, left) for key, item in value.items()}
    return value


def _names_a_person(item: Any) -> bool:
    """Whether it is an attribute (`{"key": …, "value": …}`) of a personal name."""
    if not isinstance(item, dict) or "value" not in item:
        return False
    key = item.get("key")
    return isinstance(key, str) and is_personal(key)
