"""`warroom report alerts`: how good the alerts were, asked of the running service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warroom.client import Print, ask

_PATH = "/api/warroom/v1/alerts/quality"


def report(url: str, token: str, since: str, until: str, show: Print) -> int:
    """Print the report of a span (`now-7d`, RFC 3339, …); answers with the exit code."""
    params = {name: text for name, text in (("from", since), ("to", until)) if text}
    for line in lines(ask("GET", url, token, _PATH, params=params)):
        show(line)
    return 0


def lines(told: Mapping[str, Any]) -> list[str]:
    """The report as text."""
    found = [
        f"{told['from']} to {told['to']}",
        f"pages       {told['pages']} for {told['incidents']} incidents",
        f"actionable  {_share(told['actionable'])}, ended by itself soon {_share(told['noise'])}",
        f"MTTD        {_span(told['mttd_s'])}, MTTA {_span(told['mtta_s'])}, "
        f"MTTR {_span(told['mttr_s'])}",
    ]
    found += [f"day         {day}  {count}" for day, count in told["pages_by_day"].items()]
    found += [f"receiver    {name}  {n}" for name, n in told["pages_by_receiver"].items()]
    for schedule, counts in told["pages_by_shift"].items():
        found += [f"shift       {schedule}/{user}  {count}" for user, count in counts.items()]
    found += [f"noisiest    {one['alert']}  {one['times']}" for one in told["noisiest"]]
    found += [f"flapping    {one['alert']}  {one['times']} in an hour" for one in told["flapping"]]
    return found


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"
