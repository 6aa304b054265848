"""Alertmanager's API v2, so that `amtool`, Grafana and Prometheus itself can talk to Warroom."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import re2
from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from alerts.dispatch import Snapshot, inhibitor_of
from alerts.engine import AlertEngine
from alerts.inhibition import Inhibitor
from alerts.matchers import matches_all, parse_matchers
from alerts.model import Alert, AlertState
from alerts.route_tree import Routing
from alerts.silences import Silence, silenced_by
from alerts.stages.mute import muted_by
from alerts.state import AlertRecord
from store.errors import BadInput
from store.model import Labels, Matcher, MatchOp
from store.timestamps import rfc3339

Json = dict[str, Any]
_MAX_POSTED = 10_000
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
Filters = Annotated[list[str], Query(max_length=64)]
Text = Annotated[str, Field(max_length=4096)]


class PostedAlert(BaseModel):
    """An alert as Prometheus sends it."""

    model_config = ConfigDict(extra="ignore")

    labels: dict[Text, Text] = Field(min_length=1, max_length=100)
    annotations: dict[Text, Annotated[str, Field(max_length=65_536)]] = Field(
        default_factory=dict, max_length=100
    )
    startsAt: datetime | None = None  # noqa: N815 - the wire's name
    endsAt: datetime | None = None  # noqa: N815
    generatorURL: Text = ""  # noqa: N815


class PostedMatcher(BaseModel):
    """A matcher of a posted silence."""

    name: Text
    value: Text
    isRegex: bool  # noqa: N815
    isEqual: bool = True  # noqa: N815


class PostedSilence(BaseModel):
    """A silence as amtool sends it; with an id it changes one that exists."""

    id: str | None = None
    matchers: list[PostedMatcher] = Field(max_length=64)
    startsAt: datetime  # noqa: N815
    endsAt: datetime  # noqa: N815
    createdBy: Text  # noqa: N815
    comment: Text


@dataclass(frozen=True, slots=True)
class _View:
    """One consistent look at everything."""

    snapshot: Snapshot
    routing: Routing
    inhibitor: Inhibitor
    now_ms: int

    def status(self, record: AlertRecord) -> Json:
        silences = silenced_by(self.snapshot.silences, record.labels, self.now_ms)
        inhibitor = self.inhibitor.inhibited_by(record.fingerprint, record.labels)
        inhibited = [] if inhibitor is None else [inhibitor]
        state = "suppressed" if silences or inhibited else "active"
        return {"state": state, "silencedBy": list(silences), "inhibitedBy": inhibited}

    def alert(self, record: AlertRecord, receivers: Iterable[str]) -> Json:
        ends_ms = record.resolved_ms
        if ends_ms is None:
            ends_ms = self.now_ms + self.routing.resolve_timeout_ms
        return {
            "annotations": record.annotations,
            "endsAt": rfc3339(ends_ms),
            "fingerprint": record.fingerprint,
            "receivers": [{"name": name} for name in receivers],
            "startsAt": rfc3339(record.starts_ms),
            "status": self.status(record),
            "updatedAt": rfc3339(self.now_ms),
            "generatorURL": record.generator_url,
            "labels": record.labels.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The filters that alerts and groups share."""

    matchers: tuple[Matcher, ...]
    receiver: re2._Regexp | None
    active: bool
    silenced: bool
    inhibited: bool

    def takes(self, record: AlertRecord, status: Json) -> bool:
        """A firing alert that passes every filter."""
        if record.state is not AlertState.FIRING or not matches_all(self.matchers, record.labels):
            return False
        if not self.active and status["state"] == "active":
            return False
        if not self.silenced and status["silencedBy"]:
            return False
        return self.inhibited or not status["inhibitedBy"]

    def reaches(self, receiver: str) -> bool:
        return self.receiver is None or self.receiver.fullmatch(receiver) is not None


def router(engine: AlertEngine, now: Callable[[], int]) -> APIRouter:
    """`/api/v2/…` over the engine; `now` answers in milliseconds."""
    routes = APIRouter(prefix="/api/v2", tags=["alertmanager"])
    started_ms = now()
    _add_alerts(routes, engine, now)
    _add_silences(routes, engine, now)

    @routes.get("/status")
    async def status() -> Json:
        return {
            "cluster": {"name": "warroom", "status": "disabled", "peers": []},
            "config": {"original": engine.routing.text},
            "uptime": rfc3339(started_ms),
            "versionInfo": {
                "branch": "",
                "buildDate": "",
                "buildUser": "warroom",
                "goVersion": "",
                "revision": "",
                "version": "0.25.0",
            },
        }

    @routes.get("/receivers")
    async def receivers() -> list[Json]:
        return [{"name": name} for name in sorted(engine.routing.receivers)]

    return routes


def _add_alerts(routes: APIRouter, engine: AlertEngine, now: Callable[[], int]) -> None:
    @routes.get("/alerts")
    async def list_alerts(
        filter: Filters = [],  # noqa: A002, B006 - the wire's name; FastAPI copies it
        receiver: str = "",
        active: bool = True,  # noqa: FBT001, FBT002
        silenced: bool = True,  # noqa: FBT001, FBT002
        inhibited: bool = True,  # noqa: FBT001, FBT002
    ) -> Response:
        try:
            wanted = _Wanted(_matchers(filter), _pattern(receiver), active, silenced, inhibited)
        except BadInput as exc:
            return _bad(exc)
        view = await run_in_threadpool(_look, engine, now())
        return JSONResponse(_alerts(view, wanted))

    @routes.get("/alerts/groups")
    async def list_groups(
        filter: Filters = [],  # noqa: A002, B006
        receiver: str = "",
        active: bool = True,  # noqa: FBT001, FBT002
        silenced: bool = True,  # noqa: FBT001, FBT002
        inhibited: bool = True,  # noqa: FBT001, FBT002
    ) -> Response:
        try:
            wanted = _Wanted(_matchers(filter), _pattern(receiver), active, silenced, inhibited)
        except BadInput as exc:
            return _bad(exc)
        view = await run_in_threadpool(_look, engine, now())
        return JSONResponse(_groups(view, wanted))

    @routes.post("/alerts")
    async def post_alerts(posted: list[PostedAlert]) -> Response:
        try:
            alerts = _all_posted(posted)
            await run_in_threadpool(engine.post, alerts, now())
        except BadInput as exc:
            return _bad(exc)
        return Response(status_code=200)


def _add_silences(routes: APIRouter, engine: AlertEngine, now: Callable[[], int]) -> None:
    @routes.get("/silences")
    async def list_silences(filter: Filters = []) -> Response:  # noqa: A002, B006
        try:
            matchers = _matchers(filter)
        except BadInput as exc:
            return _bad(exc)
        silences = await run_in_threadpool(engine.silences)
        return JSONResponse([_silence(s, now()) for s in silences if _covers(s, matchers)])

    @routes.post("/silences")
    async def post_silence(posted: PostedSilence) -> Response:
        at_ms = now()
        try:
            made = await run_in_threadpool(engine.set_silence, _silence_of(posted, at_ms), at_ms)
        except BadInput as exc:
            return _bad(exc, status=404 if exc.message.endswith("not found") else 400)
        return JSONResponse({"silenceID": made})

    @routes.get("/silence/{silence_id}")
    async def get_silence(silence_id: UUID) -> Response:
        for silence in await run_in_threadpool(engine.silences):
            if silence.id == str(silence_id):
                return JSONResponse(_silence(silence, now()))
        return Response(status_code=404)

    @routes.delete("/silence/{silence_id}")
    async def delete_silence(silence_id: UUID) -> Response:
        found = await run_in_threadpool(engine.expire_silence, str(silence_id), now())
        return Response(status_code=200 if found else 404)


def _look(engine: AlertEngine, now_ms: int) -> _View:
    snapshot, routing = engine.snapshot(), engine.routing
    return _View(snapshot, routing, inhibitor_of(snapshot.records, routing), now_ms)


def _alerts(view: _View, wanted: _Wanted) -> list[Json]:
    answer = []
    for record in view.snapshot.records.values():
        receivers = [route.receiver for route in view.routing.route.match(record.labels)]
        if any(map(wanted.reaches, receivers)) and wanted.takes(record, view.status(record)):
            answer.append(view.alert(record, receivers))
    return sorted(answer, key=lambda alert: str(alert["fingerprint"]))


def _groups(view: _View, wanted: _Wanted) -> list[Json]:
    found: dict[tuple[str, Labels, str], list[Json]] = {}
    for record in view.snapshot.records.values():
        if not wanted.takes(record, view.status(record)):
            continue
        matched = view.routing.route.match(record.labels)
        for route in matched:
            if not wanted.reaches(route.receiver):
                continue
            receivers = [other.receiver for other in matched]
            alert = view.alert(record, receivers)
            muted = muted_by(route, view.routing.time_intervals, view.now_ms)
            alert["status"]["mutedBy"] = [] if muted is None else list(muted[1])
            key = (route.receiver, route.group_labels(record.labels), route.id)
            found.setdefault(key, []).append(alert)
    return [
        {"labels": labels.to_dict(), "receiver": {"name": receiver}, "alerts": alerts}
        for (receiver, labels, _), alerts in sorted(found.items(), key=lambda item: item[0])
    ]


def _all_posted(posted: list[PostedAlert]) -> list[tuple[Alert, int | None, int | None]]:
    if len(posted) > _MAX_POSTED:
        raise BadInput(f"more than {_MAX_POSTED} alerts at once")
    return [_posted(alert) for alert in posted]


def _posted(alert: PostedAlert) -> tuple[Alert, int | None, int | None]:
    for name in (*alert.labels, *alert.annotations):
        if not _LABEL.fullmatch(name):
            raise BadInput(f"invalid label name {name!r}")
    labels = Labels.of(alert.labels)
    if not labels:
        raise BadInput("at least one label pair required")
    made = Alert(
        labels=labels,
        annotations=dict(alert.annotations),
        source="api",
        generator_url=alert.generatorURL,
    )
    return made, _ms(alert.startsAt), _ms(alert.endsAt)


def _ms(at: datetime | None) -> int | None:
    # Go sends the year 1 for "not set".
    if at is None or at.year < 1970:
        return None
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


def _silence_of(posted: PostedSilence, now_ms: int) -> Silence:
    return Silence(
        id=posted.id or "",
        matchers=tuple(_matcher(matcher) for matcher in posted.matchers),
        starts_ms=_ms(posted.startsAt) or 0,
        ends_ms=_ms(posted.endsAt) or 0,
        created_by=posted.createdBy,
        comment=posted.comment,
        updated_ms=now_ms,
    )


def _matcher(matcher: PostedMatcher) -> Matcher:
    if matcher.isRegex:
        op = MatchOp.REGEX if matcher.isEqual else MatchOp.NOT_REGEX
    else:
        op = MatchOp.EQUAL if matcher.isEqual else MatchOp.NOT_EQUAL
    return Matcher(matcher.name, op, matcher.value)


def _silence(silence: Silence, now_ms: int) -> Json:
    return {
        "id": silence.id,
        "status": {"state": str(silence.state(now_ms))},
        "updatedAt": rfc3339(silence.updated_ms),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": rfc3339(silence.ends_ms),
        "startsAt": rfc3339(silence.starts_ms),
        "matchers": [
            {
                "name": matcher.name,
                "value": matcher.value,
                "isRegex": matcher.op in {MatchOp.REGEX, MatchOp.NOT_REGEX},
                "isEqual": matcher.op in {MatchOp.EQUAL, MatchOp.REGEX},
            }
            for matcher in silence.matchers
        ],
    }


def _covers(silence: Silence, wanted: tuple[Matcher, ...]) -> bool:
    """Alertmanager's filter of silences: each wanted matcher against the silence's values."""
    values = Labels((matcher.name, matcher.value) for matcher in silence.matchers)
    return matches_all(wanted, values)


def _matchers(texts: Iterable[str]) -> tuple[Matcher, ...]:
    try:
        return tuple(matcher for text in texts for matcher in parse_matchers(text))
    except ValueError as exc:
        raise BadInput(f"bad matcher format: {exc}") from exc


def _pattern(text: str) -> re2._Regexp | None:
    if not text:
        return None
    try:
        return re2.compile(text)
    except re2.error as exc:
        raise BadInput(f"failed to parse receiver param: {exc}") from exc


def _bad(exc: BadInput, *, status: int = 400) -> JSONResponse:
    return JSONResponse(exc.message, status)
