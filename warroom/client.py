"""Commands that ask a running service over its HTTP API."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from store.errors import BadInput, WarroomError
from warroom.clock import system_now_ms
from warroom.units import duration_s

Print = Callable[[str], None]
_TIMEOUT_S = 30.0
# A large store takes minutes to copy.
_COPY_TIMEOUT_S = 3_600.0


class Unreachable(WarroomError):
    """The service did not answer."""

    permanent = False


class Refused(WarroomError):
    """The service answered with an error."""


@dataclass(frozen=True, slots=True)
class SilenceRequest:
    """What to silence, for how long, and why."""

    matchers: tuple[str, ...]
    duration: str
    comment: str
    created_by: str


def ask(method: str, url: str, token: str, path: str, **options: Any) -> Any:
    """Ask a service and read its JSON.

    Raises:
        Unreachable: Nobody answers there.
        Refused: It answers with an error.
    """
    secret = token or os.environ.get("WARROOM_TOKEN", "")  # noqa: TID251  # a secret, not a setting
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    options.setdefault("timeout", _TIMEOUT_S)
    try:
        answer = httpx.request(method, f"{url}{path}", headers=headers, **options)
    except httpx.HTTPError as exc:
        raise Unreachable(
            f"no answer from {url}: {exc}", hint="is `warroom serve` running? see --url"
        ) from exc
    if answer.is_error:
        raise Refused(f"{answer.status_code} from {path}: {_reason(answer)}")
    return answer.json()


def _reason(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.text.strip()[:500]
    error = body.get("error", "") if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]


def save_board(url: str, token: str, name: str, text: str) -> None:
    """Save a new board.

    Raises:
        WarroomError: No answer, or a refusal: such as that there is a board of this name.
    """
    path = f"/api/warroom/v1/boards/{name}"
    ask("PUT", url, token, path, content=text.encode())


def post_load_test(url: str, token: str, told: dict[str, str], summary: bytes) -> dict[str, Any]:
    """Keep a load test's summary; answers its record.

    Raises:
        WarroomError: No answer, or a refusal.
    """
    path = "/api/warroom/v1/loadtests"
    made: dict[str, Any] = ask("POST", url, token, path, params=told, content=summary)
    return made


def query(url: str, token: str, expr: str, time: str, show: Print) -> int:
    """Print an instant query's answer, a line a series."""
    form = {"query": expr, **({"time": time} if time else {})}
    data = ask("POST", url, token, "/api/v1/query", data=form)["data"]
    if data["resultType"] in {"scalar", "string"}:
        show(str(data["result"][1]))
        return 0
    for series in data["result"]:
        metric = series["metric"]
        inner = ", ".join(f'{k}="{v}"' for k, v in sorted(metric.items()) if k != "__name__")
        values = [series["value"]] if "value" in series else series.get("values", [])
        cells = [series["histogram"]] if "histogram" in series else series.get("histograms", [])
        values += [[at, f"{{count:{h['count']}, sum:{h['sum']}}}"] for at, h in cells]
        told = " ".join(f"{value} @{at}" for at, value in values)
        show(f"{metric.get('__name__', '')}{{{inner}}} => {told}")
    return 0


def slos(url: str, token: str, show: Print) -> int:
    """Print each SLO with its state and what is left of its budget."""
    for slo in ask("GET", url, token, "/api/warroom/v1/slos")["slos"]:
        left = slo["error_budget_remaining"]
        budget = "no data" if left is None else f"{left:.1%} of the budget left"
        show(f"{slo['state']:<10} {slo['name']:<32} {slo['objective']:.3%}  {budget}")
        if slo["statement"]:
            show(f"{'':<10} {slo['statement']}")
    return 0


def silence(url: str, token: str, request: SilenceRequest, show: Print) -> int:
    """Make a silence and print its id."""
    now = datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(
        milliseconds=system_now_ms()
    )
    body = {
        "matchers": [_matcher(text) for text in request.matchers],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(seconds=duration_s(request.duration))).isoformat(),
        "comment": request.comment,
        "createdBy": request.created_by,
    }
    show(ask("POST", url, token, "/api/v2/silences", json=body)["silenceID"])
    return 0


def snapshot(url: str, token: str) -> str:
    """Let the service copy its data; returns the name of the directory below `snapshots`."""
    path = "/api/v1/admin/tsdb/snapshot"
    return str(ask("POST", url, token, path, timeout=_COPY_TIMEOUT_S)["data"]["name"])


def _matcher(text: str) -> dict[str, Any]:
    for operator, is_regex, is_equal in (
        ("!~", True, False),
        ("=~", True, True),
        ("!=", False, False),
        ("=", False, True),
    ):
        name, found, value = text.partition(operator)
        if found and name:
            unquoted = value.strip('"')
            return {"name": name, "value": unquoted, "isRegex": is_regex, "isEqual": is_equal}
    raise BadInput(f"{text!r} is no matcher", hint="write it like alertname=OrderRateDrop")
