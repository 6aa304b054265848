"""`warroom findings` and `warroom compare`: what was found, its proof, and what was decided."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from store.errors import BadInput
from store.timestamps import rfc3339
from warroom.client import ask
from warroom.clock import system_now_ms
from warroom.units import duration_s

Json = dict[str, Any]
Show = Callable[[str], None]

_PATH = "/api/warroom/v1/findings"
_WIDTH = 80
_ID = 8
_WHOLE_ID = 32
_PAGE = 500
_MOST = 50_000
_MUCH_WORSE = 1.5
_LEAST_HOURS = 0.05
_LONG_S = 2.0
_LOOPS = frozenset({
    "n_plus_one_query", "n_plus_one_call", "n_plus_one_cache", "repeated_query", "paginated_loop",
})  # fmt: skip
ACTIONS = ("list", "show", "suppress", "reopen", "fixed", "proof")


def add_findings_arguments(parser: argparse.ArgumentParser) -> None:
    """`warroom findings`."""
    parser.add_argument("action", nargs="?", default="list", choices=ACTIONS)
    parser.add_argument("id", nargs="?", default="", help="of a finding, or how it begins")
    parser.add_argument("--status", default="", help="open, suppressed, fixed or regressed")
    parser.add_argument("--kind", default="", help="such as n_plus_one_query")
    parser.add_argument("--service", default="")
    parser.add_argument("--priority", default="", help="P0, P1 or P2")
    parser.add_argument("--limit", type=int, default=50, help="how many (default 50)")
    parser.add_argument("--reason", default="", help="why it is suppressed, reopened or fixed")
    parser.add_argument("--for", dest="duration", default="7d", help="suppress so long (7d)")
    parser.add_argument("--by", default="warroom findings", help="who says so")
    parser.add_argument("--json", action="store_true", help="the answer of the API")


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """`warroom compare`."""
    parser.add_argument("service")
    parser.add_argument("route", nargs="?", default="", help="one route (default: all)")
    parser.add_argument("--before", default="", help="FROM/TO or deploy:VERSION")
    parser.add_argument("--after", default="", help="FROM/TO or deploy:VERSION")
    parser.add_argument("--deploy", default="", help="before and after this version")
    parser.add_argument("--span", default="30m", help="at most so much of a deploy (30m)")
    parser.add_argument("--json", action="store_true", help="the answer of the API")


def findings(arguments: argparse.Namespace, show: Show) -> int:
    """List findings, show one with its proof, or decide about it.

    Raises:
        WarroomError: The service does not answer, or refuses.
    """
    if arguments.action == "list":
        return _list(arguments, show)
    if not arguments.id:
        raise BadInput(
            f"which finding? `warroom findings {arguments.action} ID`",
            hint="`warroom findings` lists them with their ids",
        )
    path = f"{_PATH}/{_whole_id(arguments)}"
    answer = _decide(arguments, path)
    if arguments.action == "proof":
        return _show(arguments, show, answer, comparison_lines(answer))
    if answer is None:
        answer = ask("GET", arguments.url, arguments.token, path)
    return _show(arguments, show, answer, finding_lines(answer, system_now_ms()))


def compare(arguments: argparse.Namespace, show: Show) -> int:
    """Compare two windows of a service.

    Raises:
        WarroomError: The service does not answer, or refuses.
    """
    names = ("service", "route", "before", "after", "deploy", "span")
    parameters = {name: value for name in names if (value := getattr(arguments, name))}
    path = "/api/warroom/v1/compare"
    answer = ask("GET", arguments.url, arguments.token, path, params=parameters)
    return _show(arguments, show, answer, comparison_lines(answer))


def _list(arguments: argparse.Namespace, show: Show) -> int:
    names = ("status", "kind", "service", "priority")
    parameters: Json = {name: value for name in names if (value := getattr(arguments, name))}
    wanted = max(1, min(arguments.limit, _MOST))
    answer: Json = {"findings": [], "next": None}
    for page in _pages(arguments, parameters, wanted):
        answer["findings"] += page["findings"]
        answer["next"] = page["next"]
    found = sorted(answer["findings"], key=lambda one: (not one["active"], one["priority"]))
    return _show(arguments, show, answer, list_lines(found, system_now_ms()))


def _decide(arguments: argparse.Namespace, path: str) -> Any:
    """Send a decision, or ask for the proof; None where there is nothing to send."""
    body: Json = {"by": arguments.by, "reason": arguments.reason}
    match arguments.action:
        case "proof":
            return ask("GET", arguments.url, arguments.token, f"{path}/before-after")
        case "suppress":
            until_ms = system_now_ms() + round(duration_s(arguments.duration) * 1_000)
            body["until"] = rfc3339(until_ms)
        case "reopen" | "fixed":
            pass
        case _:
            return None
    ask("POST", arguments.url, arguments.token, f"{path}/{arguments.action}", json=body)
    return None


def _whole_id(arguments: argparse.Namespace) -> str:
    """The id that begins so; ids are long, and a list shows how they begin."""
    given = str(arguments.id)
    if len(given) >= _WHOLE_ID:
        return given
    pages = _pages(arguments, {}, _MOST)
    every = (one["id"] for page in pages for one in page["findings"])
    matching = [one for one in every if one.startswith(given)]
    if given in matching or not matching:
        return given
    if len(matching) > 1:
        raise BadInput(f"{len(matching)} findings begin with {given!r}", hint="write more of it")
    return str(matching[0])


def _pages(arguments: argparse.Namespace, parameters: Json, most: int) -> Iterator[Json]:
    """Answers of the list, page by page, with so many findings at most."""
    after: Json = {}
    while most > 0:
        asked = {**parameters, "limit": min(most, _PAGE), **after}
        page: Json = ask("GET", arguments.url, arguments.token, _PATH, params=asked)
        yield page
        most -= len(page["findings"])
        if not page["next"]:
            return
        after = {"after": page["next"]}


def _show(arguments: argparse.Namespace, show: Show, answer: Any, lines: Iterator[str]) -> int:
    if arguments.json:
        show(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
        return 0
    for line in lines:
        show(line)
    return 0


def list_lines(found: list[Json], now_ms: int) -> Iterator[str]:
    """Two lines a finding, three where a fix is known; 80 columns at most."""
    for one in found:
        state = one["status"] if one["active"] or one["status"] != "open" else "ended"
        yield _cut(f"{one['priority']} {state:<10} {one['id'][:_ID]}  {one['title']}")
        facts = [_where(one), _place(one), f"seen {_ago(one['last_seen'], now_ms)}", _waste(one)]
        yield _cut(f"   {'  '.join(fact for fact in facts if fact)}")
        if one["fix"]:
            yield _cut(f"   fix: {' '.join(one['fix'].split())}")


def finding_lines(one: Json, now_ms: int) -> Iterator[str]:
    """One finding with its proof, its price, its fix and its history."""
    yield from _wrapped("", one["title"])
    yield f"{one['id']}"
    impact, evidence = one["impact"], one["evidence"]
    state = one["status"] + (", holds now" if one["active"] else ", not seen now")
    yield from _field("status", f"{state}; {one['confidence']:.0%} sure")
    level = impact.get("level", "")
    why = evidence["detail"].get("priority_reason", "")
    told = f"{one['priority']}: {level} impact, {one.get('effort', '')} effort"
    yield from _field("priority", f"{told} ({why})" if why else told)
    yield from _field("seen", _seen(one, now_ms))
    yield from _field("where", _where(one))
    yield from _field("code", _code(evidence["code"]))
    for place, text in enumerate(_statements(evidence)):
        yield from _field("statement" if place == 0 else "", text)
    repeats = evidence["repetitions"] if one["kind"] in _LOOPS else 0
    at_least = "" if one["complete"] else "at least "
    yield from _field("repeats", f"{at_least}{repeats} in one request" if repeats else "")
    yield from _field("impact", ", ".join(_impact(impact)))
    yield from _field("at worst", _worst(impact))
    yield from _field("proof", f"trace {evidence['trace_id']}" if evidence["trace_id"] else "")
    yield from _field("fix", one["fix"])
    suppression = one.get("suppression")
    if suppression:
        yield from _field(
            "accepted", f"until {_time(suppression['until'])}: {suppression['reason']}"
        )
    for entry in one.get("history", ()):
        detail = "" if entry["detail"].isdigit() else entry["detail"]
        line = f"{_time(entry['at'])} {entry['event']} by {entry['by']}"
        yield from _wrapped("  ", f"{line}: {detail}" if detail else line, hanging=4)


def comparison_lines(answer: Json) -> Iterator[str]:
    """A comparison as a table."""
    yield from _wrapped("", f"{answer['verdict']} ({_sure(answer)} sure): {answer['why']}")
    for name in ("before", "after"):
        side = answer[name]
        label = f", {side['label']}" if side["label"] else ""
        requests = f"{side['requests']:.0f} requests, {side['traces']} traces"
        times = f"{_time(side['from'])} to {_time(side['to'])[-8:]}"
        yield from _field(name, f"{times}{label}: {requests}")
    yield f"{'':<28}{'before':>10}{'after':>10}{'change':>8}  verdict"
    for one in answer["figures"]:
        change = "" if one["change"] is None else f"{one['change']:+.0%}"
        sign = "*" if one["decides"] else " "
        yield (
            f"{sign}{one['name']:<27}{_value(one['before'], one['unit']):>10}"
            f"{_value(one['after'], one['unit']):>10}{change:>8}  {one['verdict']}"
        )
    yield "* counts for the whole"


def _sure(answer: Json) -> str:
    """Nothing is certain, however many digits are rounded away."""
    most = 0.999
    return "over 99.9%" if answer["confidence"] > most else f"{answer['confidence']:.1%}"


def _where(one: Json) -> str:
    parts = [part for part in (one["service"], one["route"]) if part]
    return " ".join(dict.fromkeys(parts))


def _statements(evidence: Json) -> list[str]:
    """Each statement once, in the order of the request; else what stands for them."""
    found = list(dict.fromkeys(evidence.get("statements") or ()))
    return found or [evidence["statement"] or evidence["series"]]


def _place(one: Json) -> str:
    code = one["evidence"]["code"]
    if code and code["file"]:
        return f"{'/'.join(code['file'].split('/')[-3:])}:{code['line']}"
    return ""


def _waste(one: Json) -> str:
    hours = one["impact"]["wasted_hours_per_day"]
    return f"{hours:.1f} h a day wasted" if hours >= _LEAST_HOURS else ""


def _impact(impact: Json) -> Iterator[str]:
    if impact["wasted_seconds_per_request"]:
        yield f"{_took(impact['wasted_seconds_per_request'])} wasted a request"
    if impact.get("requests_hit_per_hour"):
        yield f"{impact['requests_hit_per_hour']:.0f} requests an hour"
    if impact["wasted_hours_per_day"] >= _LEAST_HOURS:
        yield f"{impact['wasted_hours_per_day']:.1f} hours a day"
    if impact.get("users_hit"):
        yield f"{_counted(impact['users_hit'], 'user')} hit"
    if impact["money_per_hour"]:
        yield f"{impact['money_per_hour']} {impact.get('currency', '')}".strip() + " an hour"


def _worst(impact: Json) -> str:
    """The worst request, where it is much worse than the usual one: a loop grows with the list."""
    worst = impact.get("worst_request")
    if not worst or worst["wasted_seconds"] < _MUCH_WORSE * impact["wasted_seconds_per_request"]:
        return ""
    told = f"{_took(worst['wasted_seconds'])} wasted at {worst['repetitions']} repeats"
    hours = worst["wasted_hours_per_day"]
    return f"{told}; {hours:.1f} hours a day if all were so" if hours >= _LEAST_HOURS else told


def _took(seconds: float) -> str:
    return f"{seconds * 1_000:.0f} ms" if seconds < _LONG_S else f"{seconds:.1f} s"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _seen(one: Json, now_ms: int) -> str:
    first, last = _ago(one["first_seen"], now_ms), _ago(one["last_seen"], now_ms)
    if one["occurrences"] == 1:
        return f"once, {last}"
    return f"{one['occurrences']} times, first {first}, last {last}"


def _code(code: Json | None) -> str:
    if not code:
        return ""
    if not code["file"] and code["inferred"]:
        return f"not in the spans; the nearest one around it is {code['function']}"
    inferred = " (nearest application span)" if code["inferred"] else ""
    place = f"{code['file']}:{code['line']}" if code["file"] else ""
    return f"{place} {code['function']}{inferred}".strip()


def _field(name: str, text: str) -> Iterator[str]:
    if text:
        yield from _wrapped(f"  {name:<10} ", text)


def _wrapped(indent: str, text: str, *, hanging: int = 0) -> Iterator[str]:
    """Lines of a text, further ones indented by `hanging` more."""
    after = len(indent) + hanging
    width = _WIDTH - after
    lines = textwrap.wrap(" ".join(text.split()), width, break_long_words=True, max_lines=12)
    for place, line in enumerate(lines):
        yield f"{indent if place == 0 else ' ' * after}{line}"


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "ratio":
        return f"{value:.1%}"
    if unit == "seconds":
        return f"{value * 1_000:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value:.3g}"


def _time(text: str) -> str:
    """RFC 3339 as short as people read it, in UTC."""
    return text[:19].replace("T", " ")


def _ago(text: str, now_ms: int) -> str:
    at = datetime.fromisoformat(text).astimezone(UTC)
    seconds = max(0.0, now_ms / 1_000 - at.timestamp())
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name} ago"
    return f"{seconds:.0f} s ago"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
