"""What must hold before a sale, derived from what the service knows; each with its mend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from business_metrics.calendar import SaleDay

Json = dict[str, Any]
_DAY_MS = 86_400_000
_WEEK_MS = 7 * _DAY_MS
_LOAD_TEST_MS = 30 * _DAY_MS


class State(StrEnum):
    """Done, to do, or not known."""

    OK = "ok"
    TODO = "todo"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the checklist: what is so, and what to do when it should be otherwise."""

    id: str
    title: str
    state: State
    fact: str
    mend: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the checklist is derived from; times are unix milliseconds.

    Attributes:
        slos: As `GET /slos` lists them.
        receivers: Those with somebody behind them; `drilled` says when each last took a drill.
        load_tests: As `api.readiness.stages` judged them, the latest first.
        rollup_ms: How long 5-minute roll-ups are kept.
        on_disk: The service keeps its data on disk, so a backup makes sense.
    """

    now_ms: int
    slos: Sequence[Json]
    receivers: Sequence[str]
    drilled: Mapping[str, int]
    sources: Sequence[Json]
    deadman: bool
    backup_ms: int | None
    on_disk: bool
    rollup_ms: int
    events_ms: int
    last_sale: SaleDay | None
    last_sale_ms: int | None
    next_sale: SaleDay | None
    load_tests: Sequence[Json]
    target_multiple: float


def checklist(facts: Facts) -> list[Item]:
    """Every line, in the order in which to mend them."""
    return list(_items(facts))


def _items(facts: Facts) -> Iterator[Item]:
    yield _slos(facts)
    yield _sources(facts)
    yield _routes(facts)
    yield _deadman(facts)
    yield _load_test(facts)
    yield _calendar(facts)
    yield _retention(facts)
    yield _backup(facts)


def _slos(facts: Facts) -> Item:
    blind = [slo["name"] for slo in facts.slos if slo["state"] == "no_data"]
    if not facts.slos:
        state, fact = State.TODO, "no SLO is defined"
    elif blind:
        state, fact = State.TODO, f"{len(blind)} of {len(facts.slos)} without data: {_few(blind)}"
    else:
        state, fact = State.OK, f"{len(facts.slos)} defined, all with data"
    mend = "name files of OpenSLO or Sloth under slo_files; check their queries in Explore"
    return Item("slos", "SLOs are defined and measured", state, fact, mend)


def _sources(facts: Facts) -> Item:
    late = [source["name"] for source in facts.sources if source["state"] != "ok"]
    if not facts.sources:
        state, fact = State.TODO, "nothing has arrived yet"
    elif late:
        state, fact = State.TODO, f"{len(late)} of {len(facts.sources)} not fresh: {_few(late)}"
    else:
        state, fact = State.OK, f"all {len(facts.sources)} fresh"
    return Item(
        "sources", "Every source is fresh", state, fact, "the page Sources has a remedy for each"
    )


def _routes(facts: Facts) -> Item:
    title = "Every way to people was tried within a day"
    mend = "warroom drill severity=page, and so on for each route"
    if not facts.receivers:
        fact = "no receiver has anybody behind it: nobody would be paged"
        return Item("routes", title, State.TODO, fact, "name receivers under alerting")
    fresh_ms = facts.now_ms - _DAY_MS
    untried = [name for name in facts.receivers if facts.drilled.get(name, 0) < fresh_ms]
    if untried:
        fact = f"not tried in 24 hours: {_few(untried)}"
        return Item("routes", title, State.TODO, fact, mend)
    return Item("routes", title, State.OK, f"{_few(facts.receivers)} took a drill", mend)


def _deadman(facts: Facts) -> Item:
    state = State.OK if facts.deadman else State.TODO
    fact = "pings go out while Warroom can page" if facts.deadman else "nobody watches the watcher"
    return Item(
        "deadman", "A dead-man's switch is set", state, fact, "alerting: {deadman: {url: …}}"
    )


def _load_test(facts: Facts) -> Item:
    wanted = f"{facts.target_multiple:g}×"
    title = f"A load test held every SLO at {wanted}"
    mend = "post the test's summary to /api/warroom/v1/loadtests with its stages"
    if not facts.load_tests:
        return Item("load_test", title, State.TODO, "no load test is recorded", mend)
    # Only the newest counts: the shop has changed since the others.
    newest = max(facts.load_tests, key=lambda test: _ended_ms(test) or 0)
    at_ms = _ended_ms(newest)
    if at_ms is None:
        return Item("load_test", title, State.UNKNOWN, "the test says no time of its own", mend)
    day = f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}"
    state, fact = _held(newest, facts.target_multiple)
    if facts.now_ms - at_ms > _LOAD_TEST_MS:
        state, fact = State.TODO, f"{fact}; that is over 30 days ago: test again"
    return Item("load_test", title, state, f"the newest, of {day}: {fact}", mend)


def _held(test: Json, wanted: float) -> tuple[State, str]:
    best = test["held_up_to"]
    if best is not None and best >= wanted:
        return State.OK, f"held up to {best:g}×"
    if best is not None:
        return State.TODO, f"held up to {best:g}× only"
    if all(stage["held"] is None for stage in test["stages"]):
        return State.UNKNOWN, "no SLO had data during it"
    return State.TODO, "no stage held every SLO"


def _ended_ms(test: Json) -> int | None:
    told = [test.get("ended_at"), *(stage.get("to") for stage in test["stages"])]
    told.append(test.get("started_at"))
    text = next((text for text in told if text), None)
    return round(datetime.fromisoformat(text).timestamp() * 1000) if text else None


def _told(name: str) -> str:
    """A sale's key as a name: `black-friday` is Black Friday; what is written otherwise stays."""
    is_key = name == name.lower() and " " not in name
    return name.replace("-", " ").replace("_", " ").title() if is_key else name


def _calendar(facts: Facts) -> Item:
    sale = facts.next_sale
    state = State.OK if sale else State.TODO
    fact = f"{_told(sale.name)} on {sale.first.isoformat()}" if sale else "no sale day lies ahead"
    mend = "business: {calendar: [{name: Black Friday, first: …}]}: baselines follow it"
    return Item("calendar", "The sale stands in the calendar", state, fact, mend)


def _retention(facts: Facts) -> Item:
    title = "The last sale is still there to compare with"
    mend = "store: {retention: {rollup_5m: 400d, events: 400d}}"
    if facts.last_sale is None or facts.last_sale_ms is None:
        fact = "the calendar names no earlier sale"
        return Item("retention", title, State.UNKNOWN, fact, "add last year's days to the calendar")
    age_ms = facts.now_ms - facts.last_sale_ms
    kept_ms = min(facts.rollup_ms, facts.events_ms)
    name = _told(facts.last_sale.name)
    days = f"{name} was {age_ms // _DAY_MS} days ago; {kept_ms // _DAY_MS} days are kept"
    state = State.OK if kept_ms > age_ms else State.TODO
    return Item("retention", title, state, days, mend)


def _backup(facts: Facts) -> Item:
    title = "There is a backup of this week"
    mend = "warroom backup --to DIR, from cron or a timer"
    if not facts.on_disk:
        return Item("backup", title, State.UNKNOWN, "this service keeps its data in memory", mend)
    if facts.backup_ms is None:
        return Item("backup", title, State.TODO, "no backup was ever made of it", mend)
    age_ms = facts.now_ms - facts.backup_ms
    state = State.OK if age_ms <= _WEEK_MS else State.TODO
    hours = age_ms // 3_600_000
    fact = f"the latest is {hours // 24} days old" if hours >= 48 else f"{hours} hours old"
    return Item("backup", title, state, fact, mend)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
