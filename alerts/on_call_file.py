"""Reads the section `on_call:` of `warroom.yaml`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from alerts.fields import Fields
from alerts.on_call.model import OnCall, Override, Policy, Rotation, Schedule, Step, User
from alerts.on_call.who import instant_ms
from alerts.route_tree import Receiver
from alerts.routing import parse_interval
from alerts.time_intervals import parse_location, parse_time_of_day, parse_weekdays

MAX_TURN_DAYS = 60
MAX_STEPS = 32
MAX_REPEAT = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_TURNS = {"day": 1, "week": 7}
_DAYS = re.compile(r"([1-9][0-9]?)d")


def parse_on_call(fields: Fields, receivers: Mapping[str, Receiver]) -> OnCall:
    """Users, schedules and policies; every name that is used must be defined.

    Raises:
        ConfigError: With file, line and what to write instead.
    """
    users: dict[str, User] = {}
    for child in fields.children("users", "a user"):
        user = _user(child, receivers)
        _once(child, user.name, users)
        users[user.name] = user
    schedules: dict[str, Schedule] = {}
    for child in fields.children("schedules", "a schedule"):
        schedule = _schedule(child, users)
        _once(child, schedule.name, schedules)
        schedules[schedule.name] = schedule
    policies: dict[str, Policy] = {}
    for child in fields.children("escalation_policies", "an escalation policy"):
        policy = _policy(child, schedules, users)
        _once(child, policy.name, policies)
        policies[policy.name] = policy
    fields.done()
    return OnCall(users, schedules, policies)


def _once(fields: Fields, name: str, known: Collection[str]) -> None:
    if name in known:
        raise fields.error("name", f"the name {name!r} stands twice")


def _name(fields: Fields) -> str:
    name = fields.string("name")
    if not _NAME.fullmatch(name):
        raise fields.error("name", f"{name!r} is no name", hint="letters, digits, - _ and .")
    return name


def _user(fields: Fields, receivers: Mapping[str, Receiver]) -> User:
    user = User(_name(fields), fields.strings("receivers"))
    if not user.receivers:
        raise fields.error("receivers", f"nothing reaches the user {user.name!r}")
    for name in user.receivers:
        _known(fields, "receivers", "receiver", name, receivers)
        if receivers[name].escalation_policy:
            raise fields.error(
                "receivers", f"the receiver {name!r} has an escalation policy itself"
            )
    fields.done()
    return user


def _known(fields: Fields, field: str, what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        defined = ", ".join(sorted(known)) or "none"
        raise fields.error(field, f"the {what} {name!r} is not defined", hint=f"defined: {defined}")


def _schedule(fields: Fields, users: Collection[str]) -> Schedule:
    name = _name(fields)
    try:
        zone = parse_location(fields.string("time_zone", "UTC"))
    except ValueError as exc:
        raise fields.error("time_zone", str(exc)) from exc
    rotations = tuple(_rotation(c, users) for c in fields.children("rotations", "a rotation"))
    overrides = tuple(_override(c, users, zone) for c in fields.children("overrides", "overrides"))
    if not rotations and not overrides:
        raise fields.error("rotations", f"nobody is ever on call by the schedule {name!r}")
    fields.done()
    return Schedule(name, zone, rotations, overrides)


def _rotation(fields: Fields, users: Collection[str]) -> Rotation:
    names = fields.strings("users")
    if not names:
        raise fields.error("users", "a rotation needs users")
    for name in names:
        _known(fields, "users", "user", name, users)
    turn_days = _turn_days(fields)
    starts = _time(fields, "starts")
    rotation = Rotation(
        names,
        _hand_over(fields, starts),
        turn_days,
        tuple(parse_interval(c) for c in fields.children("restrictions", "a restriction")),
    )
    fields.done()
    return rotation


def _turn_days(fields: Fields) -> int:
    text = fields.string("every", "week")
    days = _DAYS.fullmatch(text)
    turn = int(days[1]) if days else _TURNS.get(text, 0)
    if not 0 < turn <= MAX_TURN_DAYS:
        hint = f"write day, week or days such as 14d (at most {MAX_TURN_DAYS}d)"
        raise fields.error("every", f"{text!r} is no length of a turn", hint=hint)
    return turn


def _hand_over(fields: Fields, starts: datetime) -> datetime:
    """The first hand-over at or after `starts`: `09:00`, or `monday 09:00`."""
    text = fields.string("hand_over", f"{starts:%H:%M}").strip().lower()
    weekday, _, clock = text.rpartition(" ")
    try:
        minute = parse_time_of_day(clock)
        wanted = parse_weekdays(weekday)[0] if weekday else None
    except ValueError as exc:
        hint = "write it like '09:00' or 'monday 09:00'"
        raise fields.error("hand_over", str(exc), hint=hint) from exc
    first = starts.replace(hour=0, minute=0) + timedelta(minutes=minute)
    if first < starts:
        first += timedelta(days=1)
    if wanted is not None:
        first += timedelta(days=(wanted - first.isoweekday()) % 7)
    return first


def _override(fields: Fields, users: Collection[str], zone: str) -> Override:
    user = fields.string("user")
    _known(fields, "user", "user", user, users)
    start, end = _time(fields, "from"), _time(fields, "until")
    override = Override(user, instant_ms(start, zone), instant_ms(end, zone))
    if override.end_ms <= override.start_ms:
        raise fields.error("until", "until must be after from")
    fields.done()
    return override


def _time(fields: Fields, name: str) -> datetime:
    """A date, or a date with a time, by the wall clock of the schedule."""
    text = str(fields.raw(name) or "")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is not None:
        hint = "write it like 2026-11-23 09:00, in the schedule's time zone"
        raise fields.error(name, f"{name!r} needs a date and time", hint=hint)
    return at.replace(second=0, microsecond=0)


def _policy(fields: Fields, schedules: Collection[str], users: Collection[str]) -> Policy:
    policy = Policy(
        _name(fields),
        tuple(_step(child, schedules, users) for child in fields.children("steps", "a step")),
        fields.integer("repeat", 0),
    )
    if not 0 < len(policy.steps) <= MAX_STEPS:
        raise fields.error("steps", f"a policy needs 1 to {MAX_STEPS} steps")
    if policy.repeat > MAX_REPEAT:
        raise fields.error("repeat", f"at most {MAX_REPEAT} repeats")
    if policy.repeat and sum(step.delay_ms for step in policy.steps) == 0:
        raise fields.error("repeat", "a policy without any delay cannot repeat")
    fields.done()
    return policy


def _step(fields: Fields, schedules: Collection[str], users: Collection[str]) -> Step:
    step = Step(
        fields.duration_ms("delay", 0), fields.strings("schedules"), fields.strings("users")
    )
    if not step.schedules and not step.users:
        raise fields.error("users", "a step tells nobody", hint="give schedules or users")
    for name in step.schedules:
        _known(fields, "schedules", "schedule", name, schedules)
    for name in step.users:
        _known(fields, "users", "user", name, users)
    fields.done()
    return step
