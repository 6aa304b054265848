"""Reads `alertmanager.yml`, and says which routes take an alert."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from alerts.fields import Fields
from alerts.matchers import check, parse_matchers
from alerts.receiver_fields import Globals, SecretReader, secret
from alerts.receiver_files import parse_receiver
from alerts.route_tree import InhibitRule, Integration, Receiver, Route, Routing, route_key
from alerts.time_intervals import (
    TimeInterval,
    parse_days_of_month,
    parse_location,
    parse_months,
    parse_time_of_day,
    parse_weekdays,
    parse_years,
)
from store.documents import parse_document, without_secrets
from store.model import Labels, Matcher, MatchOp

__all__ = ["Route", "Routing", "default_routing", "parse_alertmanager", "receivers_of"]

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_FOREIGN_GLOBALS = (
    *("http_config", "victorops_api_url", "victorops_api_key", "victorops_api_key_file"),
    *("wechat_api_url", "wechat_api_secret", "wechat_api_corp_id", "telegram_api_url"),
    *("webex_api_url", "smtp_auth_identity", "smtp_auth_secret", "smtp_tls_config"),
)
_GLOBAL_TEXTS = (
    *("pagerduty_url", "slack_app_url", "opsgenie_api_url", "smtp_from", "smtp_smarthost"),
    *("smtp_hello", "smtp_auth_username"),
)
_GLOBAL_SECRETS = ("slack_api_url", "slack_app_token", "opsgenie_api_key", "smtp_auth_password")
_MAX_DEPTH = 32
_TWICE = "rename one of them"
_WHAT = "the Alertmanager configuration"


@dataclass(frozen=True, slots=True)
class _Inherited:
    key: str
    id: str
    receiver: str
    group_by: tuple[str, ...] | None
    group_wait_ms: int
    group_interval_ms: int
    repeat_interval_ms: int


@dataclass(frozen=True, slots=True)
class _Defined:
    receivers: dict[str, Receiver]
    intervals: dict[str, tuple[TimeInterval, ...]]


def _no_secrets(source: str, name: str) -> str:
    raise KeyError(f"{source} {name}")


def parse_alertmanager(text: str, file: str, *, read_secret: SecretReader = _no_secrets) -> Routing:
    """A routing of an Alertmanager configuration file.

    Args:
        text: The YAML.
        file: Its name, for errors.
        read_secret: Reads what `*_file` and `*_env` fields name.

    Raises:
        ConfigError: With file, line and what to write instead.
    """
    document = parse_document(text, file)
    return read_alertmanager(Fields(document, (), _WHAT), document.data, read_secret)


def read_alertmanager(top: Fields, data: Any, read_secret: SecretReader) -> Routing:
    """Likewise, of a part of a document; fields that `top` was told to ignore are another's.

    Args:
        top: The part.
        data: What stands there, to be shown without its secrets.
        read_secret: Reads what `*_file` and `*_env` fields name.

    Raises:
        ConfigError: With file, line and what to write instead.
    """
    top.ignore("templates")
    resolve_timeout_ms, shared = _globals(top.child("global", "global"), read_secret)
    receivers = _receivers(top, shared, read_secret)
    intervals = _intervals(top)
    root = top.child("route", "the route")
    if root is None:
        raise top.error("route", "a route is needed", hint="add route: {receiver: …}")
    _check_root(root)
    start = _Inherited("", "", "", (), 30_000, 300_000, 4 * 3_600_000)
    routing = Routing(
        route=_route(root, start, _Defined(receivers, intervals), []),
        receivers=receivers,
        inhibit_rules=tuple(
            _inhibit_rule(child) for child in top.children("inhibit_rules", "an inhibit rule")
        ),
        time_intervals=intervals,
        resolve_timeout_ms=resolve_timeout_ms,
        text=yaml.safe_dump(without_secrets(data), sort_keys=False),
    )
    top.done()
    return routing


def receivers_of(routing: Routing, labels: Labels) -> list[str]:
    """The receivers of an alert, in the order of the tree; as `amtool config routes test`."""
    return [route.receiver for route in routing.route.match(labels)]


def default_routing(integrations: tuple[Integration, ...] = ()) -> Routing:
    """What holds without a configuration: pages go out at once; tickets and infos stay on the wall.

    Only what is labelled `ticket` or `info` is kept back: an unknown severity reaches people.
    """
    group_by = ("alertname", "service", "route", "slo", "kpi")
    quiet = (check(Matcher("severity", MatchOp.REGEX, "ticket|info")),)
    child = Route(
        key=route_key("{}", quiet),
        receiver="wall-only",
        id=route_key("{}", quiet),
        matchers=quiet,
        group_by=group_by,
    )
    root = Route(
        key="{}",
        receiver="on-call",
        group_by=group_by,
        group_wait_ms=0,
        group_interval_ms=15_000,
        routes=(child,),
    )
    page = (Matcher("severity", MatchOp.EQUAL, "page"),)
    ticket = (Matcher("severity", MatchOp.EQUAL, "ticket"),)
    return Routing(
        route=root,
        receivers={
            "on-call": Receiver("on-call", integrations),
            "wall-only": Receiver("wall-only"),
        },
        inhibit_rules=(InhibitRule(page, ticket, ("alertname", "service", "slo")),),
    )


def _globals(fields: Fields | None, read: SecretReader) -> tuple[int, Globals]:
    if fields is None:
        return 300_000, Globals()
    timeout_ms = fields.duration_ms("resolve_timeout", 300_000)
    secrets = {name: secret(fields, name, read) for name in _GLOBAL_SECRETS}
    shared = Globals(
        texts={name: fields.string(name, "") for name in _GLOBAL_TEXTS},
        secrets={name: value for name, value in secrets.items() if value is not None},
        smtp_require_tls=fields.boolean("smtp_require_tls", default=True),
    )
    fields.ignore(*_FOREIGN_GLOBALS)
    fields.done()
    return timeout_ms, shared


def _receivers(top: Fields, shared: Globals, read: SecretReader) -> dict[str, Receiver]:
    receivers: dict[str, Receiver] = {}
    for child in top.children("receivers", "a receiver"):
        receiver = parse_receiver(child, shared, read)
        if receiver.name in receivers:
            raise child.error("name", f"the receiver {receiver.name!r} stands twice", hint=_TWICE)
        receivers[receiver.name] = receiver
    return receivers


def _check_root(root: Fields) -> None:
    for name in ("matchers", "match", "match_re"):
        if root.has(name):
            raise root.error(name, "the root route takes every alert; it must have no matchers")
    for name in ("mute_time_intervals", "active_time_intervals"):
        if root.has(name):
            raise root.error(name, f"the root route must not have {name}", hint="use a child route")
    if root.boolean("continue", default=False):
        raise root.error("continue", "the root route must not have continue")
    if not root.has("receiver"):
        raise root.error("receiver", "the root route needs a receiver")


def _route(
    fields: Fields,
    inherited: _Inherited,
    defined: _Defined,
    seen: list[str],
) -> Route:
    if len(fields.path) > 2 * _MAX_DEPTH:
        raise fields.error("routes", f"routes are nested deeper than {_MAX_DEPTH} levels")
    receiver = fields.string("receiver", inherited.receiver)
    if receiver not in defined.receivers:
        known = ", ".join(defined.receivers) or "none"
        raise fields.error(
            "receiver", f"the receiver {receiver!r} is not defined", hint=f"defined: {known}"
        )
    matchers = _matchers(fields, "matchers", "match", "match_re")
    own_id = route_key(inherited.id, matchers)
    twins = seen.count(own_id)
    seen.append(own_id)
    here = _Inherited(
        key=route_key(inherited.key, matchers),
        id=f"{own_id}#{twins}" if twins else own_id,
        receiver=receiver,
        group_by=_group_by(fields, inherited.group_by),
        group_wait_ms=fields.duration_ms("group_wait", inherited.group_wait_ms),
        group_interval_ms=_positive(fields, "group_interval", inherited.group_interval_ms),
        repeat_interval_ms=_positive(fields, "repeat_interval", inherited.repeat_interval_ms),
    )
    ids: list[str] = []
    route = Route(
        key=here.key,
        receiver=receiver,
        id=here.id,
        matchers=matchers,
        group_by=here.group_by,
        group_wait_ms=here.group_wait_ms,
        group_interval_ms=here.group_interval_ms,
        repeat_interval_ms=here.repeat_interval_ms,
        go_on=fields.boolean("continue", default=False),
        mute_time_intervals=_interval_names(fields, "mute_time_intervals", defined.intervals),
        active_time_intervals=_interval_names(fields, "active_time_intervals", defined.intervals),
        routes=tuple(
            _route(child, here, defined, ids) for child in fields.children("routes", "a route")
        ),
    )
    fields.done()
    return route


def _positive(fields: Fields, name: str, default: int) -> int:
    value = fields.duration_ms(name, default)
    if value == 0:
        raise fields.error(name, f"{name} must not be zero", hint="write it like 5m")
    return value


def _group_by(fields: Fields, inherited: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if not fields.has("group_by"):
        fields.ignore("group_by")
        return inherited
    names = fields.strings("group_by")
    if not names:
        # As Alertmanager: an empty list says nothing.
        return inherited
    if "..." in names:
        if len(names) > 1:
            raise fields.error("group_by", "'...' stands for all labels; name no others beside it")
        return None
    for name in names:
        if not _LABEL.fullmatch(name):
            raise fields.error("group_by", f"{name!r} is no label name")
    if len(set(names)) != len(names):
        raise fields.error("group_by", "a label stands twice in group_by")
    return names


def _interval_names(
    fields: Fields, name: str, intervals: dict[str, tuple[TimeInterval, ...]]
) -> tuple[str, ...]:
    names = fields.strings(name)
    for interval in names:
        if interval not in intervals:
            known = f"defined: {', '.join(intervals) or 'none'}"
            problem = f"the time interval {interval!r} is not defined"
            raise fields.error(name, problem, hint=known)
    return names


def _matchers(fields: Fields, new: str, equal: str, regex: str) -> tuple[Matcher, ...]:
    found: list[Matcher] = []
    for label, value in fields.text_mapping(equal).items():
        found.append(_checked(fields, equal, Matcher(label, MatchOp.EQUAL, value)))
    for label, value in fields.text_mapping(regex).items():
        # Anchored as Alertmanager writes it: the text is part of the group's key.
        anchored = Matcher(label, MatchOp.REGEX, f"^(?:{value})$")
        found.append(_checked(fields, regex, anchored))
    for text in fields.strings(new):
        try:
            found.extend(parse_matchers(text))
        except ValueError as exc:
            hint = "" if "write it like" in str(exc) else 'write it like severity="page"'
            raise fields.error(new, str(exc), hint=hint) from exc
    return tuple(found)


def _checked(fields: Fields, name: str, matcher: Matcher) -> Matcher:
    try:
        return check(matcher)
    except ValueError as exc:
        raise fields.error(name, str(exc)) from exc


def _inhibit_rule(fields: Fields) -> InhibitRule:
    rule = InhibitRule(
        source=_matchers(fields, "source_matchers", "source_match", "source_match_re"),
        target=_matchers(fields, "target_matchers", "target_match", "target_match_re"),
        equal=fields.strings("equal"),
        name=fields.string("name", ""),
    )
    fields.done()
    return rule


def _intervals(top: Fields) -> dict[str, tuple[TimeInterval, ...]]:
    found: dict[str, tuple[TimeInterval, ...]] = {}
    for section in ("mute_time_intervals", "time_intervals"):
        for child in top.children(section, "a time interval"):
            name = child.string("name")
            if name in found:
                raise child.error("name", f"the time interval {name!r} stands twice", hint=_TWICE)
            parts = child.children("time_intervals", "a time interval")
            found[name] = tuple(parse_interval(part) for part in parts)
            child.done()
    return found


def parse_interval(fields: Fields) -> TimeInterval:
    """One entry of a list of time intervals.

    Raises:
        ConfigError: A field is wrong.
    """
    times = []
    for part in fields.children("times", "a time range"):
        try:
            start = parse_time_of_day(part.string("start_time"))
            end = parse_time_of_day(part.string("end_time"))
        except ValueError as exc:
            raise part.error("start_time", str(exc)) from exc
        if start >= end:
            raise part.error("end_time", "end_time must be after start_time")
        part.done()
        times.append((start, end))
    parsers = {
        "weekdays": parse_weekdays,
        "days_of_month": parse_days_of_month,
        "months": parse_months,
        "years": parse_years,
    }
    ranges: dict[str, Any] = {}
    for name, parse in parsers.items():
        try:
            ranges[name] = tuple(parse(text) for text in fields.strings(name))
        except ValueError as exc:
            raise fields.error(name, f"{name}: {exc}") from exc
    try:
        location = parse_location(fields.string("location", "UTC"))
    except ValueError as exc:
        raise fields.error("location", str(exc)) from exc
    fields.done()
    return TimeInterval(times=tuple(times), location=location, **ranges)
