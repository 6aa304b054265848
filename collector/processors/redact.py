"""Takes secrets out of spans, events and logs before they are stored.

What is looked for: values of keys that name a secret, credentials in URLs and query strings,
bearer tokens, and card numbers that pass the Luhn check. Only distinct texts are looked at, a
cheap search by Arrow finds those worth it, and what was found clean is remembered. Series labels
are left alone: two series could become one.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from collector.processors.contract import Processed
from store.model import Batch, EventBatch, LogBatch, SampleBatch, SpanBatch

MASK = "[redacted]"

_SPAN_COLUMNS = ("url", "statement", "status_message", "name", "attributes", "events", "resource")
_EVENT_COLUMNS = ("data",)
_LOG_COLUMNS = ("body", "attributes", "resource")
_JSON_COLUMNS = frozenset({"attributes", "events", "resource", "data"})

_MASKED_NAME = (
    r"(?:[\w.\-]*(?:passw(?:or)?d|passwd|passphrase|secret|api[_\-]?key|private[_\-]?key|"
    r"access[_\-]?token|auth[_\-]?token|refresh[_\-]?token|id[_\-]?token|session[_\-]?token|"
    r"csrf[_\-]?token|credential)[\w.\-]*|pwd|token|authorization|proxy-authorization|"
    r"set-cookie|cookie|http\.request\.header\.(?:authorization|cookie)|cvv|cvc|"
    r"card[_\-]?number)"
)
_MAX_KNOWN_CHARS = 1_024
_ISSUERS = "23456"
_CARD = r"(?:\d[ \-]?){12,18}\d"
# RE2, for Arrow: finds candidates only. Over-matching costs time, never correctness.
_CANDIDATE = (
    r"(?i)passw|passphrase|pwd|secret|token|api[_\-]?key|private[_\-]?key|authorization|cookie|"
    r"credential|bearer |cvv|cvc|card[_\-]?number|://[^/\s\"]*@|" + _CARD
)

_JSON_STRING = re.compile(
    rf'("(?:{_MASKED_NAME})"\s*:\s*)(?:"(?:[^"\\]|\\.)*"|-?\d[\d.eE+\-]*|\[(?:"(?:[^"\\]|\\.)*"|[^\[\]"])*+\])',
    re.IGNORECASE,
)
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"')
_ASSIGNMENT = re.compile(
    rf"(?<![\w.\-])((?:{_MASKED_NAME})\s*=\s*)('(?:[^'\\]|\\.|'')*'|(?!%s|%\(|\?|\$\d|:\w)[^\s&;,'\"\\)]+)",
    re.IGNORECASE,
)
# JSON inside a JSON string, such as a captured request body.
_NESTED_JSON_STRING = re.compile(
    rf'(\\"(?:{_MASKED_NAME})\\"\s*:\s*)\\"(?:[^"\\]|\\\\\\.)*\\"', re.IGNORECASE
)
_USERINFO = re.compile(r"(://)[^/\s\"?#]+@")
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=\-]{8,}", re.IGNORECASE)
_CARD_NUMBER = re.compile(rf"(?<![\w.])({_CARD})(?![\w.])")


class Redact:
    """A processor that masks secrets; it never drops.

    Args:
        max_known: Clean texts remembered, from one batch to the next.
    """

    def __init__(self, *, max_known: int = 50_000) -> None:
        self._clean: set[str] = set()
        self._max_known = max_known

    def __call__(self, batch: Batch) -> Processed:
        if isinstance(batch, SampleBatch):
            return Processed(batch, {})
        if isinstance(batch, SpanBatch):
            return Processed(SpanBatch(self._redacted(batch.table, _SPAN_COLUMNS)), {})
        if isinstance(batch, LogBatch):
            return Processed(LogBatch(self._redacted(batch.table, _LOG_COLUMNS)), {})
        return Processed(EventBatch(self._redacted(batch.table, _EVENT_COLUMNS)), {})

    def _redacted(self, table: pa.Table, columns: tuple[str, ...]) -> pa.Table:
        encoded = {
            name: column.combine_chunks().dictionary_encode()
            for name in columns
            if (column := table.column(name)).null_count < len(column)
        }
        texts: dict[str, list[Any]] = {
            name: array.dictionary.to_pylist() for name, array in encoded.items()
        }
        suspects = self._suspects(texts)
        for name, found in texts.items():
            places = [place for place, text in enumerate(found) if text in suspects]
            if not places:
                continue
            redact = redact_json if name in _JSON_COLUMNS else redact_text
            for place in places:
                found[place] = redact(str(found[place]))
            cleaned = pa.array(found, pa.string()).take(encoded[name].indices)
            table = table.set_column(
                table.schema.get_field_index(name), table.schema.field(name), cleaned
            )
        return table

    def _suspects(self, texts: dict[str, list[Any]]) -> set[str]:
        """Texts that may hold a secret; all that is new is searched at once."""
        clean = self._clean
        new = list({text for found in texts.values() for text in found if text not in clean})
        if not new:
            return set()
        suspect = pc.match_substring_regex(pa.array(new, pa.string()), _CANDIDATE)
        places: list[Any] = pc.indices_nonzero(suspect).to_pylist()
        suspects = {new[place] for place in places}
        # Another thread may be searching too: replacing the set is safe, clearing it is not.
        if len(clean) + len(new) > self._max_known:
            clean = self._clean = set()
        short = (text for text in new if len(text) <= _MAX_KNOWN_CHARS and text not in suspects)
        clean.update(islice(short, self._max_known))
        return suspects


def redact_text(text: str) -> str:
    """A text with its secrets masked.

    >>> redact_text("https://bob@shop.example:pw@host/?token=abc&x=1")
    'https://[redacted]@host/?token=[redacted]&x=1'
    """
    return _plain(_JSON_STRING.sub(rf'\1"{MASK}"', text))


def redact_json(text: str) -> str:
    """A JSON text with its secrets masked; what was valid JSON stays so.

    >>> redact_json('{"password":"x","card":4111111111111111,"time_ns":1795384436683000008}')
    '{"password":"[redacted]","card":"[redacted]","time_ns":1795384436683000008}'
    """
    text = _JSON_STRING.sub(rf'\1"{MASK}"', text)
    parts, place = [], 0
    for string in _JSON_TOKEN.finditer(text):
        parts.append(_CARD_NUMBER.sub(_masked_number, text[place : string.start()]))
        parts.append(f'"{_plain(string[0][1:-1])}"')
        place = string.end()
    parts.append(_CARD_NUMBER.sub(_masked_number, text[place:]))
    return "".join(parts)


def _plain(text: str) -> str:
    text = _NESTED_JSON_STRING.sub(rf'\1\\"{MASK}\\"', text)
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _ASSIGNMENT.sub(rf"\1{MASK}", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    return _CARD_NUMBER.sub(_masked_card, text)


def is_card_number(digits: str) -> bool:
    """Whether a run of digits may be a payment card's: an issuer's first digit, the Luhn check.

    Times in milliseconds to nanoseconds begin with 1, which no issuer of payment cards does; one
    in ten of them would pass the check.

    >>> is_card_number("4111111111111111"), is_card_number("4111111111111112")
    (True, False)
    >>> is_card_number("1795384436683000008")
    False
    """
    if digits[0] not in _ISSUERS:
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _masked_card(match: re.Match[str]) -> str:
    if not is_card_number(re.sub(r"\D", "", match[1])):
        return match[1]
    return MASK


def _masked_number(match: re.Match[str]) -> str:
    masked = _masked_card(match)
    return f'"{masked}"' if masked == MASK else masked
