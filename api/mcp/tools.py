"""The tools: each is a question to Warroom's own HTTP API, so that both always agree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from api.mcp.traces import found_traces, summary_of_trace

Json = dict[str, Any]

_OWN = "/api/warroom/v1"
_CHANGES = frozenset({"deploy", "flag", "promotion", "config"})
_FROM = "start: RFC 3339, unix seconds, or relative such as now-1h (default: an hour ago)"
_TO = "end, in the same forms (default: now)"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a tool.

    Attributes:
        about: What it means, for the assistant.
        kind: JSON Schema's type.
        required: The question makes no sense without it.
        default: Sent when the assistant leaves it out.
        sent_as: Its name in the query string, when that differs.
        pattern: What it looks like as a whole, where it becomes a part of a path.
    """

    about: str
    kind: Literal["string", "integer", "number"] = "string"
    required: bool = False
    default: str | None = None
    sent_as: str | None = None
    pattern: str | None = None

    def schema(self) -> Json:
        """Itself as JSON Schema."""
        about: Json = {"type": self.kind, "description": self.about}
        return about if self.pattern is None else {**about, "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes:
        path: The path that is asked; `{name}` is filled from the argument of that name.
        shape: Makes the tool's answer of the path's; as it is, when None.
        arguments: By name; those that the path doesn't hold go to the query string.
    """

    name: str
    about: str
    path: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    shape: Callable[[Json], Json] | None = None

    def schema(self) -> Json:
        """The arguments as JSON Schema."""
        return {
            "type": "object",
            "properties": {name: argument.schema() for name, argument in self.arguments.items()},
            "required": [name for name, a in self.arguments.items() if a.required],
            "additionalProperties": False,
        }

    def question(self, given: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """Path and query string of a call.

        Raises:
            ValueError: An argument is missing, unknown or misshapen; the sentence is for the
                assistant.
        """
        unknown = sorted(set(given) - set(self.arguments))
        if unknown:
            known = ", ".join(self.arguments) or "none"
            raise ValueError(f"{self.name} knows no argument {unknown[0]!r}; it takes: {known}")
        path, query = self.path, dict[str, str]()
        for name, argument in self.arguments.items():
            value = given.get(name, argument.default)
            if value is None or value == "":
                if argument.required:
                    raise ValueError(f"{self.name} needs the argument {name!r}: {argument.about}")
                continue
            if argument.pattern and not re.fullmatch(argument.pattern, str(value)):
                raise ValueError(f"{str(value)[:64]!r} is no {argument.about}")
            if f"{{{name}}}" in path:
                path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
            else:
                query[argument.sent_as or name] = _sent(value)
        return path, query


def _sent(value: Any) -> str:
    """A value in a query string; assistants send an object where its JSON text is meant."""
    return json.dumps(value) if isinstance(value, (dict, list, bool)) else str(value)


# A dot, or two, would be another path.
_HEX = "[0-9a-fA-F]{1,64}"
_TRACE_ID = Argument("hexadecimal trace id", required=True, pattern=_HEX)


def _window() -> dict[str, Argument]:
    return {"from": Argument(_FROM, default="now-1h"), "to": Argument(_TO)}


def _changes_only(answer: Json) -> Json:
    events = [event for event in answer["events"] if event["kind"] in _CHANGES]
    return {"changes": events}


TOOLS = (
    Tool(
        "slo_status",
        "Every SLO as of the last tick: objective, error budget left, burn rates, which tiers fire",
        f"{_OWN}/slos",
    ),
    Tool(
        "alerts",
        "Alerts that are kept: state, labels, annotations, incident, who acknowledged",
        f"{_OWN}/alerts",
    ),
    Tool(
        "why_paged",
        "Why an alert paged or did not: each stage's decision with its reason",
        f"{_OWN}/alerts/{{fingerprint}}/why",
        {
            "fingerprint": Argument(
                "fingerprint of the alert, from `alerts`", required=True, pattern=_HEX
            )
        },
    ),
    Tool(
        "findings",
        "What the detectors found: kind, priority, evidence, impact and the fix",
        f"{_OWN}/findings",
        {
            "kind": Argument("such as n_plus_one_query or hit_rate_drop"),
            "service": Argument("service.name"),
            "status": Argument("open, suppressed, fixed or regressed", default="open"),
            "priority": Argument("P0, P1 or P2"),
            "limit": Argument("at most so many (1-500)", kind="integer", default="50"),
        },
    ),
    Tool(
        "query_promql",
        "A PromQL expression at one instant",
        "/api/v1/query",
        {
            "query": Argument("PromQL", required=True),
            "time": Argument("unix seconds or RFC 3339 (default: now)"),
            "limit": Argument("at most so many series", kind="integer", default="200"),
        },
    ),
    Tool(
        "query_promql_range",
        "A PromQL expression over a range of time",
        "/api/v1/query_range",
        {
            "query": Argument("PromQL", required=True),
            "start": Argument("unix seconds or RFC 3339", required=True),
            "end": Argument("unix seconds or RFC 3339", required=True),
            "step": Argument("seconds or a duration such as 1m", required=True),
            "limit": Argument("at most so many series", kind="integer", default="50"),
        },
    ),
    Tool(
        "search_traces",
        "Traces of a service: id, root, start, duration, spans, errors",
        "/jaeger/api/traces",
        {
            "service": Argument("service.name", required=True),
            "operation": Argument("name of a span"),
            "tags": Argument('JSON object of attributes, such as {"http.route": "/checkout"}'),
            "min_duration": Argument("such as 500ms", sent_as="minDuration"),
            "max_duration": Argument("such as 2s", sent_as="maxDuration"),
            "start_us": Argument("microseconds since 1970", kind="integer", sent_as="start"),
            "end_us": Argument("microseconds since 1970", kind="integer", sent_as="end"),
            "limit": Argument("at most so many (1-1500)", kind="integer", default="20"),
        },
        found_traces,
    ),
    Tool(
        "trace_summary",
        "One trace folded: time by service, spans that repeat, the slowest, the failed",
        "/jaeger/api/traces/{trace_id}",
        {"trace_id": _TRACE_ID},
        summary_of_trace,
    ),
    Tool(
        "explain_trace",
        "What the detectors say of one trace, and what they looked at but did not report, with why",
        f"{_OWN}/traces/{{trace_id}}/explain",
        {"trace_id": _TRACE_ID},
    ),
    Tool(
        "funnel",
        "The checkout funnel: sessions a step, conversion, median time",
        f"{_OWN}/business/funnel",
        {**_window(), "segment": Argument("key:value, such as device:mobile")},
    ),
    Tool(
        "abandonment",
        "Checkout abandonment by cohort; points marked provisional are not final",
        f"{_OWN}/business/abandonment",
        {
            **_window(),
            "step": Argument("seconds a point", kind="number", default="900"),
            "by": Argument("device, channel, country, returning or cause"),
        },
    ),
    Tool(
        "orders",
        "Orders and revenue against what was expected; revenue at risk",
        f"{_OWN}/business/orders",
        {**_window(), "step": Argument("seconds a point", kind="number", default="300")},
    ),
    Tool(
        "what_changed",
        "Deploys, flags, promotions and configuration changes in a window, newest first",
        f"{_OWN}/timeline",
        _window(),
        _changes_only,
    ),
    Tool(
        "timeline",
        "Everything that happened in a window: changes, findings, alerts, pages, notes",
        f"{_OWN}/timeline",
        _window(),
    ),
    Tool(
        "data_freshness",
        "Every source: state, delay, rate, what was dropped and why, how to mend it",
        f"{_OWN}/sources",
    ),
)
