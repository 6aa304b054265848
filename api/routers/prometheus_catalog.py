"""What exists: series, labels, metadata and exemplars, as Prometheus's HTTP API lists them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from alerts.matchers import matches_all
from api.routers.prometheus_json import LIMIT_WARNING, encode, success
from api.routers.prometheus_parameters import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    Parameters,
    bad_parameter,
)
from store.errors import QueryError
from store.model import Exemplar, Labels, Matcher
from store.ports import ExemplarReader, MetadataReader, SeriesAdmin, SeriesCatalog
from store.promql.numbers import format_float, quoted, valid_label_name
from store.promql.parse import parse, parse_matchers, selector_matchers
from store.promql.syntax import Expr, VectorSelector, children

_MAX_SELECTORS = 1000
_WHOLE = re.compile(r"-?\d{1,9}", re.ASCII)
Matchers = tuple[Matcher, ...]


def _range(given: Parameters) -> tuple[int, int]:
    """Start and end; a range that ends before it starts holds nothing."""
    return given.time_ms("start", MIN_TIME_MS), given.time_ms("end", MAX_TIME_MS)


def _selectors(given: Parameters, *, named: bool = True) -> list[Matchers]:
    """The selectors of `match[]`; `named` errors name the parameter, as most of Prometheus's do."""
    selectors = []
    texts = given.all("match[]", "match")
    if len(texts) > _MAX_SELECTORS:
        raise bad_parameter("match[]", f"more than {_MAX_SELECTORS} selectors")
    for text in texts:
        try:
            selectors.append(parse_matchers(text))
        except QueryError as error:
            if not named:
                raise
            raise bad_parameter("match[]", error.message) from error
    return selectors


def _cut(found: list[str], limit: int) -> tuple[list[str], tuple[str, ...]]:
    if limit and len(found) > limit:
        return found[:limit], (LIMIT_WARNING,)
    return found, ()


def series(catalog: SeriesCatalog, given: Parameters) -> bytes:
    """/series: label sets that pass one of the selectors."""
    selectors = _selectors(given)
    if not selectors:
        raise QueryError("no match[] parameter provided", kind="bad_data")
    start_ms, end_ms = _range(given)
    limit = given.limit()
    ask = limit + 1 if limit else 0
    found: dict[Labels, None] = {}
    for matchers in selectors if start_ms <= end_ms else ():
        found.update(dict.fromkeys(catalog.series(matchers, start_ms, end_ms, limit=ask)))
    ordered = sorted(found)
    warnings = (LIMIT_WARNING,) if limit and len(ordered) > limit else ()
    kept = ordered[:limit] if limit else ordered
    return success(encode([labels.to_dict() for labels in kept]), warnings=warnings)


def label_names(catalog: SeriesCatalog, given: Parameters) -> bytes:
    """/labels."""
    return _names(given, lambda matchers, low, high, ask: catalog.label_names(
        matchers, low, high, limit=ask
    ))  # fmt: skip


def label_values(catalog: SeriesCatalog, name: str, given: Parameters) -> bytes:
    """/label/<name>/values; a UTF-8 name may come escaped with a `U__` prefix."""
    name = unescape(name)
    if not valid_label_name(name):
        raise QueryError(f"invalid label name: {quoted(name)}", kind="bad_data")
    return _names(given, lambda matchers, low, high, ask: catalog.label_values(
        name, matchers, low, high, limit=ask
    ))  # fmt: skip


def _names(given: Parameters, ask: Callable[[Matchers, int, int, int], list[str]]) -> bytes:
    selectors = _selectors(given, named=False) or [()]
    start_ms, end_ms = _range(given)
    limit = given.limit()
    found: set[str] = set()
    for matchers in selectors if start_ms <= end_ms else ():
        found.update(ask(matchers, start_ms, end_ms, limit + 1 if limit else 0))
    kept, warnings = _cut(sorted(found), limit)
    return success(encode(kept), warnings=warnings)


def unescape(name: str) -> str:
    """`U__http_2e_status` is `http.status` (Prometheus's "values" escaping)."""
    if not name.startswith("U__"):
        return name
    body = name[3:].replace("__", "\0")

    def character(found: re.Match[str]) -> str:
        code = int(found.group(1), 16)
        valid = code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
        return chr(code) if valid else "\ufffd"

    return re.sub(r"_([0-9a-fA-F]{1,6})_", character, body).replace("\0", "_")


def metadata(reader: MetadataReader, given: Parameters) -> bytes:
    """/metadata: by family, a list of type, help and unit."""
    limit, per_metric = given.at_most("limit"), given.at_most("limit_per_metric")
    families: dict[str, list[dict[str, str]]] = {}
    for item in reader.metadata(given.text("metric") or None):
        if 0 <= limit <= len(families) and item.family not in families:
            break
        known = families.setdefault(item.family, [])
        if per_metric <= 0 or len(known) < per_metric:
            known.append({"type": item.type.value, "help": item.help, "unit": item.unit})
    return success(encode(families))


def exemplars(reader: ExemplarReader, given: Parameters) -> bytes:
    """/query_exemplars: exemplars of every selector in an expression, by series.

    An expression without a selector has no answer at all.
    """
    start_ms, end_ms = _range(given)
    if end_ms < start_ms:
        raise QueryError("end timestamp must not be before start timestamp", kind="bad_data")
    try:
        tree = parse(given.text("query"))
    except QueryError as error:
        raise QueryError(error.message, kind="bad_data") from error
    selectors = list(_selectors_in(tree))
    if not selectors:
        return b""
    found: dict[Labels, list[Exemplar]] = {}
    for selector in selectors:
        for exemplar in reader.exemplars(selector_matchers(selector), start_ms, end_ms):
            mine = found.setdefault(exemplar.series, [])
            if exemplar not in mine:
                mine.append(exemplar)
    data = [
        {
            "seriesLabels": labels.to_dict(),
            "exemplars": [
                {
                    "labels": one.labels.to_dict(),
                    "value": format_float(one.value),
                    "timestamp": one.ts_ms / 1000,
                }
                for one in sorted(mine, key=lambda one: one.ts_ms)
            ],
        }
        for labels, mine in sorted(found.items(), key=lambda item: item[0].pairs)
    ]
    return success(encode(data))


def _selectors_in(node: Expr) -> Iterator[VectorSelector]:
    if isinstance(node, VectorSelector):
        yield node
    for child in children(node):
        yield from _selectors_in(child)


def delete(admin: SeriesAdmin, given: Parameters) -> bytes:
    """admin/tsdb/delete_series: nothing is answered when it is done."""
    selectors = _selectors(given)
    if not selectors:
        raise QueryError("no match[] parameter provided", kind="bad_data")
    start_ms, end_ms = _range(given)
    for matchers in selectors if start_ms <= end_ms else ():
        admin.delete_series(matchers, start_ms, end_ms)
    return b""


def rules(groups: dict[str, Any], given: Parameters) -> bytes:
    """/rules: groups and rules by `type`, `rule_name[]`, `rule_group[]`, `file[]` and `match[]`.

    Args:
        groups: The whole answer; it is not changed.
        given: `exclude_alerts` leaves out the alerts of each rule. `match[]` selects by the labels
            as they are written in the file. With `group_limit` the answer has so many groups and
            `groupNextToken`, which is the `group_next_token` of the next request.
    """
    most, token = _page(given)
    kind = given.text("type").lower()
    if kind not in _RULE_TYPES:
        raise bad_parameter("type", f"not supported value {quoted(kind)}")
    without_alerts = given.flag("exclude_alerts")
    names, chosen, files = (
        frozenset(given.all(name)) for name in ("rule_name[]", "rule_group[]", "file[]")
    )
    selectors = _selectors(given)
    narrowed = bool(names or selectors)
    kept = []
    for group in _from_token(groups["groups"], token):
        if (chosen and group["name"] not in chosen) or (files and group["file"] not in files):
            continue
        mine = [
            {key: value for key, value in rule.items() if key != "alerts" or not without_alerts}
            for rule in group["rules"]
            if _RULE_TYPES[kind] in ("", rule["type"])
            and (not names or rule["name"] in names)
            and (not selectors or _selected(rule["labels"], selectors))
        ]
        if mine or not narrowed:
            kept.append({**group, "rules": mine})
    answer = {**groups, "groups": kept[:most]}
    if most and len(kept) > most:
        answer["groupNextToken"] = _token(kept[most])
    return success(encode(answer))


def _page(given: Parameters) -> tuple[int | None, str]:
    """`group_limit`, None without one, and `group_next_token`."""
    text, token = given.text("group_limit"), given.text("group_next_token")
    if not text:
        if token:
            problem = "group_limit needs to be present in order to paginate over the groups"
            raise bad_parameter("group_next_token", problem)
        return None, ""
    if not _WHOLE.fullmatch(text):
        problem = f"group_limit needs to be a valid number: {quoted(text)}"
        raise bad_parameter("group_limit", problem)
    if int(text) <= 0:
        raise bad_parameter("group_limit", "group_limit needs to be greater than 0")
    return int(text), token


def _from_token(groups: list[dict[str, Any]], token: str) -> list[dict[str, Any]]:
    if not token:
        return groups
    for place, group in enumerate(groups):
        if _token(group) == token:
            return groups[place:]
    problem = f"invalid group_next_token {quoted(token)}. were rule groups changed?"
    raise bad_parameter("group_next_token", problem)


def _token(group: dict[str, Any]) -> str:
    return hashlib.sha256(f"{group['file']};{group['name']}".encode()).hexdigest()


def _selected(labels: dict[str, str], selectors: list[Matchers]) -> bool:
    own = Labels.of(labels)
    return any(matches_all(matchers, own) for matchers in selectors)


def targets(found: dict[str, Any], given: Parameters) -> bytes:
    """/targets: active ones, dropped ones, or (`state` left out) both; of one `scrapePool`."""
    state, pool = given.text("state").lower(), given.text("scrapePool")
    active = found["activeTargets"] if state in ("", "any", "active") else []
    dropped = found["droppedTargets"] if state in ("", "any", "dropped") else []
    if pool:
        active = [target for target in active if target.get("scrapePool") == pool]
        dropped = [target for target in dropped if target.get("scrapePool") == pool]
    return success(encode({**found, "activeTargets": active, "droppedTargets": dropped}))


_RULE_TYPES = {"": "", "alert": "alerting", "record": "recording"}
