"""Takes secrets out of spans, events and logs before they are stored.

What is looked for: values of keys that name a secret (in JSON, Python's repr, headers, queries),
credentials in URLs, bearer tokens, and card numbers that pass the Luhn check. Only distinct texts
are looked at, a cheap search by Arrow finds those worth it, and what was found clean is remembered.
Series labels are left alone: two series could become one.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from collector.processors.contract import Processed
from store.model import Batch, EventBatch, LogBatch, SampleBatch, SpanBatch

MASK = "[redacted]"

_SPAN_COLUMNS = ("url", "statement", "status_message", "name", "attributes", "events", "resource")
_EVENT_COLUMNS = ("data",)
_LOG_COLUMNS = ("body", "event_name", "attributes", "resource")
_JSON_COLUMNS = frozenset({"attributes", "events", "resource", "data"})

_MAX_KNOWN_CHARS = 1_024
# What lies deeper is masked unseen; a recursion without end is an attack.
_MAX_DEPTH = 64
_KEY = r"(?:api|private|access|signing|encryption)[_\-]?key"
_SECRET_NAME = re.compile(
    rf"passw|passphrase|secret|credential|{_KEY}|(?:access|auth|refresh|id|session|csrf)[_\-]?token"
    r"(?!s)|token$|(?:^|[._\-])(?:pwd|authori[sz]ation|cookies?|cvv|cvc|card[_\-]?number)$",
    re.IGNORECASE,
)
# Their values hold spaces and semicolons, so all of the line is one.
_HEADER_NAME = re.compile(r"(?:authori[sz]ation|cookies?)$", re.IGNORECASE)
_ISSUERS = "23456"
_CARD = r"(?:\d[ \-]?){12,18}\d"
# RE2, for Arrow: finds candidates only. Over-matching costs time, never correctness.
_CANDIDATE = (
    rf"(?i)passw|passphrase|pwd|secret|token|{_KEY}|authori[sz]ation|cookie|"
    r"credential|bearer\s|basic\s|cvv|cvc|card[_\-]?number|://[^/\s\"]*@|" + _CARD
)
_SUSPECT = re.compile(_CANDIDATE)

# A name with the sign that gives it a value, in any quotes: of JSON, Python, headers, queries. The
# quotes of JSON inside JSON have backslashes.
_NAMED = re.compile(
    r"(?P<open>\\{0,7}+[\"'])?(?<![\w.\-])(?P<name>[\w.\-]++)(?P<close>\\{0,7}+[\"'])?"
    r"[ \t]*+(?:=>|={1,3}|:=?)[ \t]*+"
)
_QUOTE = re.compile(r"\\{0,7}+[\"']")
_QUOTED = {
    '"': re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL),
    "'": re.compile(r"'(?:[^'\\]|\\.|'')*+'", re.DOTALL),
}
_LINE = re.compile(r"[^\r\n]*+")
# A placeholder of a statement is no secret.
_WORD = re.compile(r"(?!%s|%\(|\?|\$\d|:\w)[^\s&;,'\"\\)}\]]++")
_BRACKET = re.compile(r"[\[{(\]})]")
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
            name: _coded(column)
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
            field = table.schema.field(name)
            cleaned: Any = pa.array(found, pa.string())
            if pa.types.is_dictionary(field.type):
                distinct = cleaned.dictionary_encode()  # two texts may have become one
                places = distinct.indices.take(encoded[name].indices)
                cleaned = pa.DictionaryArray.from_arrays(places, distinct.dictionary)
            else:
                cleaned = cleaned.take(encoded[name].indices)
            table = table.set_column(table.schema.get_field_index(name), field, cleaned)
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


def _coded(column: pa.ChunkedArray[Any]) -> Any:
    """The column with each text once."""
    if column.num_chunks == 1 and pa.types.is_dictionary(column.type):
        return column.chunk(0)
    array: Any = column.combine_chunks()
    return array if pa.types.is_dictionary(array.type) else array.dictionary_encode()


def redact_text(text: str) -> str:
    """A text with its secrets masked; one that is JSON stays so.

    >>> redact_text("https://bob@shop.example:pw@host/?token=abc&x=1")
    'https://[redacted]@host/?token=[redacted]&x=1'
    >>> redact_text("{'password': 'x', 'page': '/a'} Cookie: sessionid=x; lang=de")
    "{'password': '[redacted]', 'page': '/a'} Cookie: [redacted]"
    """
    return _text(text, 0)


def redact_json(text: str) -> str:
    """A JSON text with its secrets masked: valid JSON stays valid.

    The whole value of a name is masked, whatever it holds; true, false and null tell nothing.

    >>> redact_json('{"password":{"v":["x"]},"card":-4111111111111111,"at":1795384436683000008}')
    '{"password":"[redacted]","card":"[redacted]","at":1795384436683000008}'
    """
    return _json(text, 0) or _plain(text)


def _text(text: str, depth: int) -> str:
    if text[:1] in {"{", "["} and (found := _json(text, depth)):
        return found
    return _plain(text)


def _json(text: str, depth: int) -> str:
    """The masked JSON text, or nothing where it is no JSON."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ""
    masked = _masked(document, depth)
    return text if masked == document else orjson.dumps(masked).decode()


def _masked(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value, depth + 1) if _SUSPECT.search(value) else value
    if isinstance(value, bool) or value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        return MASK if is_card_number(str(abs(value))) else value
    if depth > _MAX_DEPTH:
        return MASK
    if isinstance(value, list):
        return [_masked(item, depth + 1) for item in value]
    return {
        _plain(key) if _SUSPECT.search(key) else key: (
            MASK if _is_secret(key, item) else _masked(item, depth + 1)
        )
        for key, item in value.items()
    }


def _is_secret(key: str, value: Any) -> bool:
    told = value is not None and not isinstance(value, bool)
    return told and _SECRET_NAME.search(key) is not None


def _plain(text: str) -> str:
    text = _without_named(text)
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    return _CARD_NUMBER.sub(_masked_card, text)


def _without_named(text: str) -> str:
    """The text without the values of names that tell of a secret, in one pass."""
    parts: list[str] = []
    kept, place = 0, 0
    while found := _NAMED.search(text, place):
        place = found.end()
        if not _SECRET_NAME.search(found["name"]):
            continue
        begin, end = _value(text, found)
        if end > begin:
            parts += (text[kept:begin], MASK)
            kept = place = end
    return "".join((*parts, text[kept:]))


def _value(text: str, found: re.Match[str]) -> tuple[int, int]:
    """Where the value of a name is, without its quotes; one that was cut lasts to the end."""
    begin = found.end()
    if quote := _QUOTE.match(text, begin):
        return quote.end(), _end_of_quoted(text, begin, quote[0])
    if found["open"] and not found["close"]:
        # Such as -H "Authorization: Token x": the quotes are around both.
        end = text.find(found["open"], begin)
        if end >= 0 and "\n" not in text[begin:end]:
            return begin, end
    if _HEADER_NAME.search(found["name"]) and ":" in found[0]:
        line = _LINE.match(text, begin)
        return begin, line.end() if line else begin
    if text[begin : begin + 1] in {"{", "[", "("}:
        return begin, _end_of_brackets(text, begin)
    word = _WORD.match(text, begin)
    return begin, word.end() if word else begin


def _end_of_quoted(text: str, begin: int, quote: str) -> int:
    if len(quote) == 1:
        whole = _QUOTED[quote].match(text, begin)
        return whole.end() - 1 if whole else len(text)
    place = begin + len(quote)
    while (end := text.find(quote, place)) >= 0 and text[end - 1] == "\\":
        place = end + len(quote)
    return end if end >= 0 else len(text)


def _end_of_brackets(text: str, begin: int) -> int:
    depth = 0
    for bracket in _BRACKET.finditer(text, begin):
        depth += 1 if bracket[0] in "[{(" else -1
        if depth == 0:
            return bracket.end()
    return len(text)


def is_card_number(digits: str) -> bool:
    """Whether a run of digits may be a payment card's: an issuer's first digit, the Luhn check.

    Times in milliseconds to nanoseconds begin with 1, which no issuer of payment cards does; one
    in ten of them would pass the check.

    >>> is_card_number("4111111111111111"), is_card_number("4111111111111112")
    (True, False)
    >>> is_card_number("1795384436683000008")
    False
    """
    if not 13 <= len(digits) <= 19 or digits[0] not in _ISSUERS:
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
